"""PPO against rlax, and against hand-worked numbers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from scipy import stats

from loro_jax.agents import PPO
from loro_jax.agents.on_policy import NEVER, Rollout, advantages
from loro_jax.agents.ppo import clipped
from loro_jax.errors import UserError
from loro_jax.spaces import Box, Discrete
from loro_jax.types import Among, Guided, Transition

AGENT = PPO(hidden=(16,), games=2, rollout=6, epochs=2, minibatches=3)
SHAPE, ACTIONS = (3,), Discrete(4)


def rows(agent: PPO, seed: int = 0) -> Transition:
    """A rollout of noise, some of whose steps end an episode."""
    rng, b = np.random.default_rng(seed), agent.batch_size
    numbers = [rng.normal(size=(b, *SHAPE)), rng.normal(size=b), rng.normal(size=(b, *SHAPE))]
    obs, reward, after = (jnp.asarray(x, jnp.float32) for x in numbers)
    ends = rng.integers(5, size=b)
    action = jnp.asarray(rng.integers(4, size=b), jnp.int32)
    return Transition(obs, action, reward, after, jnp.asarray(ends == 0), jnp.asarray(ends == 1))


def test_advantages_are_those_of_rlax_where_nothing_ends() -> None:
    rng = np.random.default_rng(0)
    reward, value = (jnp.asarray(rng.normal(size=n), jnp.float32) for n in (9, 10))
    no, discount = jnp.zeros(9, bool), jnp.full(9, 0.97)
    ours = advantages(reward, discount, value[:-1], value[1:], no, no, 0.9)
    theirs = rlax.truncated_generalized_advantage_estimation(reward, discount, 0.9, value)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_an_episode_takes_nothing_from_the_next_one() -> None:
    """Episodes that end after steps 3 (terminated) and 6 (truncated) are three sequences of rlax's."""
    rng = np.random.default_rng(1)
    reward, value, after = (jnp.asarray(rng.normal(size=9), jnp.float32) for _ in range(3))
    terminated, truncated = jnp.arange(9) == 3, jnp.arange(9) == 6
    # Within an episode the state after a step is the one before the next.
    after = jnp.where(terminated | truncated | (jnp.arange(9) == 8), after, jnp.roll(value, -1))
    discount = jnp.full(9, 0.97)
    ours = advantages(reward, discount, value, after, terminated, truncated, 0.9)
    theirs = []
    for first, last in ((0, 3), (4, 6), (7, 8)):
        part = slice(first, last + 1)
        factor = jnp.where(terminated[part], 0.0, discount[part])
        values = jnp.concatenate([value[part], after[last : last + 1]])
        theirs.append(rlax.truncated_generalized_advantage_estimation(reward[part], factor, 0.9, values))
    np.testing.assert_allclose(ours, jnp.concatenate(theirs), rtol=1e-5)


def test_one_step_by_hand() -> None:
    """Lambda 0: r + 0.5 V' - V = 1 + 1 - 3 = -1, and 1 - 3 = -2 where it terminated."""
    one = jnp.ones(2)
    found = advantages(one, 0.5 * one, 3 * one, 2 * one, jnp.array([False, True]), jnp.zeros(2, bool), 0.0)
    np.testing.assert_allclose(found, [-1.0, -2.0])


def test_the_objective_and_its_gradient_are_those_of_rlax() -> None:
    rng = np.random.default_rng(2)
    log_prob, before, advantage = (jnp.asarray(rng.normal(size=64), jnp.float32) for _ in range(3))

    def ours(log_prob: jax.Array) -> jax.Array:
        return -jax.vmap(lambda *x: clipped(*x, epsilon=0.2))(log_prob, before, advantage).mean()

    def theirs(log_prob: jax.Array) -> jax.Array:
        loss = rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob - before), advantage, 0.2)
        return jnp.asarray(loss)

    for of, wanted in zip(
        jax.value_and_grad(ours)(log_prob), jax.value_and_grad(theirs)(log_prob), strict=True
    ):
        np.testing.assert_allclose(of, wanted, rtol=1e-5, atol=1e-7)


def test_the_loss_is_the_sum_of_rlaxs_parts() -> None:
    state = AGENT.init(jax.random.key(0), SHAPE, ACTIONS)
    batch = rows(AGENT)
    rng = np.random.default_rng(3)
    before, advantage, target = (jnp.asarray(rng.normal(size=12), jnp.float32) for _ in range(3))
    agent = dataclasses.replace(AGENT, normalise_advantages=False)
    ours = agent.loss((state.actor, state.critic), Rollout(batch, None, before, advantage, target, None))
    logits = agent.log_probs(state.actor, batch.obs)
    taken = logits[jnp.arange(12), batch.action]
    theirs = rlax.clipped_surrogate_pg_loss(jnp.exp(taken - before), advantage, agent.clip)
    theirs += agent.value_weight * jnp.mean((agent.values(state.critic, batch.obs) - target) ** 2)
    theirs -= agent.entropy_weight * stats.entropy(np.exp(logits), axis=1).mean()
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_an_update_of_one_step_follows_the_gradient() -> None:
    """One epoch, one minibatch, no clipping of gradients: Adam's first step is one learning rate long."""
    agent = dataclasses.replace(AGENT, epochs=1, minibatches=1, max_gradient_norm=0.0)
    state = agent.init(jax.random.key(0), SHAPE, ACTIONS)
    after, loss = agent.learn(state, rows(agent), jax.random.key(1))
    moved = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), (after.actor, after.critic), (state.actor, state.critic)
    )
    lengths = np.array(jax.tree.leaves(moved))
    assert np.isfinite(loss) and after.updates == 1
    assert (lengths <= agent.learning_rate * 1.01).all() and (lengths > 0.9 * agent.learning_rate).any()


def test_what_is_not_legal_is_never_taken_and_never_learned() -> None:
    state = AGENT.init(jax.random.key(0), SHAPE, ACTIONS)
    legal = Among(counts=jnp.array([0, 1, 0, 1], jnp.int32))
    obs = jnp.ones(SHAPE)
    keys = jax.random.split(jax.random.key(0), 500)
    taken = jax.vmap(lambda k: AGENT.explore(state, obs, k, legal))(keys)
    assert set(np.unique(taken).tolist()) == {1, 3} and int(AGENT.act(state, obs, legal)) in (1, 3)
    logs = AGENT.log_probs(state.actor, obs[None], Among(counts=jnp.array([[0, 1, 0, 1]], jnp.int32)))[0]
    assert (logs[jnp.array([0, 2])] <= NEVER / 2).all() and np.exp(logs).sum() == pytest.approx(1)
    batch = rows(AGENT)._replace(action=jnp.ones(12, jnp.int32))
    now = Among(counts=jnp.tile(legal.counts, (12, 1)))  # type: ignore[arg-type]
    after, loss = AGENT.learn(state, batch, jax.random.key(1), Guided(now=now))
    assert np.isfinite(loss)
    bias = [s.actor["params"]["Dense_1"]["bias"] for s in (state, after)]
    moved = np.asarray(bias[0] != bias[1])
    assert moved.tolist() == [False, True, False, True]


def test_a_step_that_is_not_finite_says_so() -> None:
    state = AGENT.init(jax.random.key(0), SHAPE, ACTIONS)
    batch = rows(AGENT)
    _, loss = AGENT.learn(state, batch._replace(reward=batch.reward.at[0].set(jnp.inf)), jax.random.key(1))
    assert not np.isfinite(loss)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"minibatches": 5}, "must divide games times rollout"),
        ({"games": 0}, "games"),
        ({"gae_lambda": 1.5}, "gae_lambda"),
        ({"clip": -1.0}, "clip"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        dataclasses.replace(AGENT, **settings)  # type: ignore[arg-type]


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(UserError, match="PPO cannot choose"):
        AGENT.for_game(Box((-1.0,), (1.0,)))
