"""The learner's settings in a population: they do what they say there, and keep the laws."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from populations import INTERVAL, MEMBERS, Population, assert_same, differ, member, small

from loro_jax.agents import DDQN
from loro_jax.errors import UserError
from loro_jax.tasks import load
from loro_jax.training import replay
from loro_jax.training.arms import check_agent
from loro_jax.training.guidance import HalfPrior
from loro_jax.training.phases import Interact, Load
from loro_jax.training.population import Programs, begin
from loro_jax.training.world import World
from loro_jax.types import Arm, Run

ALL: dict[str, Any] = {
    "epsilon_start": 1.0, "epsilon": 0.0, "epsilon_decay_steps": 2 * INTERVAL, "gradient_steps": 2,
    "learning_rate_decay_steps": 2 * INTERVAL, "learning_rate_end": 1e-3, "n_step": 3, "polyak": 0.5,
    "layer_norm": True, "reward_scale": 0.5,
}  # fmt: skip


def with_settings(**settings: Any) -> Population:
    """The small population, its agent with settings."""
    base = small()
    agent = dataclasses.replace(base.world.agent, **settings)
    world = World(base.world.environment, agent, base.world.interaction)
    begun = begin(world, base.layout, seed=0, seeds=MEMBERS, shared_pretraining=False)
    return Population(world, base.layout, Programs(world, base.layout), base.known, begun)


@pytest.fixture(scope="module")
def scheduled() -> Population:
    return with_settings(**ALL)


@pytest.mark.slow
def test_schedules_go_on_over_phases(scheduled: Population) -> None:
    """Interact(a) · Interact(b) = Interact(a + b): a schedule reads what was played, not a phase's length."""
    once, curve = scheduled.play(Interact(3 * INTERVAL))
    pieces, curves = scheduled.play(*[Interact(INTERVAL)] * 3)
    assert_same(pieces, once)
    np.testing.assert_array_equal(curves, curve)


@pytest.mark.slow
def test_gradient_steps_are_counted(scheduled: Population) -> None:
    runs, _ = scheduled.play(Interact(INTERVAL))
    ready = INTERVAL - scheduled.world.agent.learning_starts  # the replay must exceed them
    assert runs.counters.gradient_steps.tolist() == [2 * ready] * MEMBERS


@pytest.mark.slow
def test_a_member_depends_on_its_own_key_alone(scheduled: Population) -> None:
    runs, _ = scheduled.play(Interact(2 * INTERVAL))
    elsewhere = begin(
        scheduled.world, scheduled.layout, seed=0, seeds=MEMBERS, shared_pretraining=False, first=2
    )
    others, _ = scheduled.play(Interact(2 * INTERVAL), runs=elsewhere)
    assert_same(member(runs, 2), member(others, 0))


@pytest.mark.slow
def test_epsilon_falls_from_uniform_play_to_none() -> None:
    """Of the steps stored, as many leave the greedy action as epsilon says: all but chance at first, none
    after. The network does not change (nothing is learned from so few rows)."""
    steps = 4 * INTERVAL
    played = with_settings(
        epsilon_start=1.0, epsilon=0.0, epsilon_decay_steps=2 * INTERVAL, learning_starts=steps,
        replay_capacity=200,
    )  # fmt: skip
    runs, _ = played.play(*[Interact(INTERVAL)] * 4)

    def greedy(run: Run) -> jax.Array:
        return jax.vmap(played.world.agent.act, (None, 0))(run.agent, run.replay.storage.obs)

    left = np.asarray(jax.vmap(greedy)(runs) != runs.replay.storage.action)[:, :steps]
    assert not left[:, 2 * INTERVAL :].any()
    first, second = left[:, :INTERVAL].mean(), left[:, INTERVAL : 2 * INTERVAL].mean()
    assert first > second > 0  # epsilon / 2 on average: 0.375 and 0.125


@pytest.mark.slow
def test_a_learning_rate_that_has_fallen_to_nothing_learns_nothing() -> None:
    played = with_settings(learning_rate_decay_steps=INTERVAL, learning_rate_end=0.0)
    before, _ = played.play(Interact(INTERVAL))
    after, _ = played.play(Interact(INTERVAL), runs=before)
    assert differ(before.agent.params, played.begun.agent.params)
    assert_same(after.agent.params, before.agent.params)
    assert (after.counters.gradient_steps > before.counters.gradient_steps).all()


@pytest.mark.slow
def test_a_phases_learning_rate_is_where_the_schedule_begins() -> None:
    """With the same start, in the agent or in the phase, the same is learned; with another, another."""
    decay = {"learning_rate_decay_steps": 2 * INTERVAL}
    agents, _ = with_settings(learning_rate=1e-2, **decay).play(Interact(INTERVAL))
    other = with_settings(learning_rate=5e-2, **decay)
    phases, _ = other.play(Interact(INTERVAL, learning_rate=1e-2))
    plain, _ = other.play(Interact(INTERVAL))
    for a, b in zip(jax.tree.leaves(agents.agent.params), jax.tree.leaves(phases.agent.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert differ(plain.agent.params, agents.agent.params)


@pytest.mark.slow
def test_half_prior_batches_stand_for_several_steps(scheduled: Population) -> None:
    """The rows that the rule chooses, each with what follows it in the replay."""
    runs, _ = scheduled.play(Load(20), Interact(INTERVAL, batches=HalfPrior()))
    run: Run = jax.tree.map(lambda x: x[0], runs)
    key = jax.random.key(5)
    rows = HalfPrior().rows(run, key, 16)
    assert (rows[:8] < 20).all() and (rows[8:] >= 20).all()
    np.testing.assert_array_equal(HalfPrior().sample(run, key, 16).obs, replay.at(run.replay, rows).obs)


def test_what_cannot_be_told_is_refused() -> None:
    class Deaf(DDQN):
        def learn(self, state: Any, batch: Any, key: Any) -> Any:  # type: ignore[override]
            return super().learn(state, batch, key)

    class Rowless:
        def sample(self, run: Any, key: Any, size: int) -> Any: ...

    arm = Arm("mine", (Interact(200),), "")
    for setting in ("n_step", "learning_rate_decay_steps"):
        with pytest.raises(UserError, match=f"^{setting}: the agent ddqn has a `learn` that takes no"):
            check_agent(arm, Deaf(**{setting: 2}))
    with pytest.raises(UserError, match=r"^n_step: mine's Rowless does not say `rows`"):
        check_agent(Arm("mine", (Interact(200, batches=Rowless()),), ""), DDQN(n_step=2))


def test_a_protocol_says_whose_llm_episodes_there_are() -> None:
    """With "answers" every seed plays its own by the task's table, unless episodes are named."""
    from loro_jax.running.experiment import prepare_experiment

    task = dataclasses.replace(load("cartpole"), answers="qwen2.5-coder-0.5b-instruct-rate")
    protocol = task.protocol("standard@1").replace(llm="answers")
    own = prepare_experiment(task, protocol, ("pure_rl", "loro"), 2, 0)
    assert own.answers is not None and own.identity["episodes"] is None and own.identity["answers"]
    alone = prepare_experiment(task, protocol, ("pure_rl", "random_policy"), 2, 0)
    assert alone.answers is None and "answers" not in alone.identity
    named = prepare_experiment(task, protocol, ("loro",), 2, 0, task.episodes)
    assert named.answers is None and named.identity["episodes"]["name"] == task.episodes
    with pytest.raises(UserError, match=r"standard@1 lets every seed play .* cartpole has no table for that"):
        prepare_experiment(dataclasses.replace(task, answers=""), protocol, ("loro",), 2, 0)
