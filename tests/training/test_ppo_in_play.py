"""PPO within a sentence: laws to the bit, what is counted, and what it is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import Endless, TwoSteps, probe
from populations import assert_same, differ

from loro_jax.agents import PPO
from loro_jax.errors import UserError
from loro_jax.tasks import load
from loro_jax.training.arms import check_agent
from loro_jax.training.guidance import HalfPrior, JumpStart, Tutor
from loro_jax.training.phases import Fit, Interact
from loro_jax.training.population import Layout, Programs, begin
from loro_jax.training.world import Interaction, World
from loro_jax.types import Arm, Knowledge, Phase, Run

INTERVAL = 40
AGENT = PPO(hidden=(8,), games=4, rollout=5, epochs=2, minibatches=2, learning_rate=1e-2)
WORLD = World(load("cartpole").environment(), AGENT, Interaction(INTERVAL, 1, False))
LAYOUT = Layout(2, 2)
PROGRAMS = Programs(WORLD, LAYOUT)
KNOWN = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), WORLD.example))


def play(*phases: Phase, seeds: int = 4) -> tuple[Run, np.ndarray]:
    runs = begin(WORLD, LAYOUT, 0, seeds, False)
    records = []
    for phase in phases:
        runs, record = PROGRAMS(phase, runs, KNOWN)
        records.append(record)
    return runs, np.concatenate(records, axis=1)


def test_interact_a_then_b_is_interact_a_plus_b() -> None:
    once, curve = play(Interact(3 * INTERVAL))
    pieces, curves = play(*[Interact(INTERVAL)] * 3)
    assert_same(pieces, once)
    np.testing.assert_array_equal(curves, curve)
    assert differ(once.agent, begin(WORLD, LAYOUT, 0, 4, False).agent)


def test_every_step_of_every_game_is_counted() -> None:
    """Six updates of four gradient steps in 120 environment steps, whichever game they were of."""
    run, _ = play(Interact(3 * INTERVAL))
    assert np.asarray(run.counters.env_steps).tolist() == [3 * INTERVAL] * 4
    assert np.asarray(run.counters.gradient_steps).tolist() == [6 * 4] * 4
    assert np.asarray(run.agent.updates).tolist() == [6] * 4
    assert run.obs.shape == (4, 4, 4)
    obs = np.asarray(run.obs)
    assert len(np.unique(obs.reshape(16, 4), axis=0)) == 16  # no two games of any seeds are the same


@pytest.mark.slow
@pytest.mark.parametrize(
    ("game", "limit", "best"), [(TwoSteps, 5, 0), (Endless, 2, 1)], ids=["two", "endless"]
)
def test_probes(game: type, limit: int, best: int) -> None:
    """The action that pays is learned; and in a game that only the limit ends, its value: 1 / (1 - 0.5)."""
    env = probe(game, limit)
    agent = PPO(hidden=(16,), games=4, rollout=10, learning_rate=5e-3, discount=0.5, entropy_weight=0.0)
    world, key = World(env, agent.for_game(env.action_space), Interaction(40, 1, False)), jax.random.key(0)
    run = jax.jit(lambda: Interact(6000)(world.begin(key, key), world, KNOWN)[0])()
    obs = jnp.ones((1, 1)) if game is Endless else jnp.eye(2)
    chosen = jnp.argmax(agent.log_probs(run.agent.actor, obs), axis=1)
    assert chosen[-1] == best
    if game is Endless:
        assert float(agent.values(run.agent.critic, obs)[0]) == pytest.approx(2.0, abs=0.1)


def test_what_it_cannot_be_told_is_refused() -> None:
    for phases, says in (
        ((Fit(3), Interact(INTERVAL)), "learns from its own play"),
        ((Interact(INTERVAL, override=JumpStart()),), "several games, in which JumpStart is not at home"),
        ((Interact(INTERVAL, batches=HalfPrior()),), "takes no batch rule"),
        ((Interact(INTERVAL, override=Tutor(rule="q_change")),), "needs action values"),
    ):
        with pytest.raises(UserError, match=says):
            check_agent(Arm("mine", phases, ""), AGENT)
    check_agent(Arm("mine", (Interact(INTERVAL),), ""), AGENT)
