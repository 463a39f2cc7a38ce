"""The KL term to a prior: by hand, against SciPy, and where its weight is nothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import assert_same
from scipy import stats

from loro_jax.agents import DDQN, PPO
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.tasks import load
from loro_jax.tasks.words import at, sided
from loro_jax.training.arms import check_agent
from loro_jax.training.guidance import Kl, Proposals, Soft
from loro_jax.training.phases import Interact
from loro_jax.training.world import Interaction, World
from loro_jax.types import Among, Arm, Knowledge, Run, Transition

ROW = Transition(*(jnp.float32(0),) * 6)
LOGS = jax.nn.log_softmax(jnp.array([0.3, -1.0, 0.8, 0.1]))
COUNTS = jnp.array([3, 0, 1, 1], jnp.int32)


def test_forward_is_scipys_divergence() -> None:
    """The policy against (3.5, 0.5, 1.5, 1.5) / 7."""
    found = Kl(2.0, smoothing=0.5)(LOGS, ROW, None, Among(counts=COUNTS))
    assert found == pytest.approx(2 * stats.entropy(np.exp(LOGS), np.array([3.5, 0.5, 1.5, 1.5])), rel=1e-5)


def test_reverse_is_the_mean_over_the_answers() -> None:
    found = Kl(2.0, estimator="reverse")(LOGS, ROW, None, Among(counts=COUNTS))
    logs = np.asarray(LOGS)
    assert found == pytest.approx(-2 * (3 * logs[0] + logs[2] + logs[3]) / 5, rel=1e-5)


@pytest.mark.parametrize("estimator", ["forward", "reverse"])
def test_what_there_is_not_takes_no_part(estimator: str) -> None:
    """As if the game had the three legal actions alone; and nothing pulls at the other."""
    legal = jnp.array([True, False, True, True])
    kl = Kl(1.0, estimator=estimator)  # type: ignore[arg-type]
    few = jnp.array([0, 2, 3])

    def all_four(logits: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(jnp.where(legal, logits, -1e9))
        return kl(logs, ROW, Among(counts=legal.astype(jnp.int32)), Among(counts=jnp.array([3, 4, 1, 1])))

    def three(logits: jax.Array) -> jax.Array:
        return kl(jax.nn.log_softmax(logits), ROW, None, Among(counts=COUNTS[few]))

    logits = jnp.array([0.3, -1.0, 0.8, 0.1])
    (a, by_all), (b, by_three) = jax.value_and_grad(all_four)(logits), jax.value_and_grad(three)(logits[few])
    assert a == pytest.approx(float(b), rel=1e-5)
    np.testing.assert_allclose(by_all[few], by_three, rtol=1e-4, atol=1e-6)
    assert by_all[1] == 0 and np.isfinite(by_all).all()


CODING = Coding(tuple(sided(f"o{i}", at(i)) for i in range(4)))


def played(penalty: Kl | None, steps: int = 80) -> Run:
    env = load("cartpole").environment()
    agent = PPO(hidden=(8,), games=4, rollout=10, minibatches=2).for_game(env.action_space)
    world = World(env, agent, Interaction(40, 1, False), CODING)
    digits = np.indices(CODING.sizes, np.int32).reshape(4, -1).T
    said = np.zeros((len(digits), 4), np.int32)
    table = Answers(CODING, digits, said, np.ones(len(digits), bool), {}).table()
    rows = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), world.example)
    known, key = Knowledge(rows, table), jax.random.key(0)

    @jax.jit
    def run(penalty: Kl | None) -> Run:
        return Interact(steps, penalty=penalty)(world.begin(key, key, known), world, known)[0]

    return run(penalty)


def test_a_weight_of_nothing_is_ppo() -> None:
    """Within 1e-6 where it is in the program; a great one keeps the policy at the answers."""
    free = played(None)
    assert_same(played(None).agent, free.agent)
    for estimator in ("forward", "reverse"):
        near = played(Kl(0.0, Proposals(4), estimator=estimator))  # type: ignore[arg-type]
        for a, b in zip(jax.tree.leaves(near.agent), jax.tree.leaves(free.agent), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    env = load("cartpole").environment()
    agent = PPO(hidden=(8,), games=4, rollout=10, minibatches=2).for_game(env.action_space)
    obs = jnp.zeros((1, 4))
    kept = played(Kl(50.0, Proposals(4), smoothing=0.01), 2000)
    loose = played(None, 2000)
    left = [float(jnp.exp(agent.log_probs(run.agent.actor, obs))[0, 0]) for run in (kept, loose)]
    assert left[0] > max(0.6, left[1])


def test_numbers_that_cannot_be_are_refused() -> None:
    assert "weight = -1.0" in Kl(-1.0).refuses(None)
    assert "estimator" in dataclasses.replace(Kl(), estimator="other").refuses(None)  # type: ignore[arg-type]
    table = Answers(CODING, np.zeros((1, 4), int), np.zeros((1, 4), int), np.ones(1, bool), {})
    assert "k = 9, of 4 answers about each text" in Kl(prior=Proposals(9)).refuses(table)
    assert "smoothing = 0.0, which must be positive" in Kl(prior=Proposals(3), smoothing=0.0).refuses(table)
    assert not Kl(prior=Proposals(3)).refuses(table)
    with pytest.raises(UserError, match="does not count answers"):
        played(Kl(prior=Soft()))


def test_an_agent_without_a_policy_is_refused() -> None:
    env = load("cartpole").environment()
    arm = Arm("mine", (Interact(40, penalty=Kl()),), "")
    check_agent(arm, PPO().for_game(env.action_space))
    with pytest.raises(UserError, match="told a policy's probabilities: ddqn has none"):
        check_agent(arm, DDQN().for_game(env.action_space))


def test_an_epsilon_is_for_those_who_explore_by_one() -> None:
    env = load("cartpole").environment()
    arm = Arm("mine", (Interact(40, support=Proposals(epsilon=0.2)),), "")
    check_agent(arm, DDQN().for_game(env.action_space))
    with pytest.raises(UserError, match="has an epsilon, which the agent ppo does not explore by"):
        check_agent(arm, PPO().for_game(env.action_space))
