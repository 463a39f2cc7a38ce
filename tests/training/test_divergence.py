"""A member whose numbers stop being finite keeps its last finite agent, is named, and touches no other."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, Sentinel, probe
from populations import CHUNK, PRIOR_ROWS, Population, assert_same, differ, member, numbers

from loro_jax.agents import DDQN, SAC
from loro_jax.agents.ddqn import DDQNState
from loro_jax.spaces import Box
from loro_jax.tasks import make
from loro_jax.training.phases import Collect, Fit, Forget, Interact, Load, finite
from loro_jax.training.world import Interaction, World
from loro_jax.types import Phase, Run, Transition

WARMUP, AT = 5, 3
HOW = Interaction(0.5, 20, 1, 1, WARMUP, 200, False, False)


@dataclasses.dataclass(frozen=True)
class Breaks(DDQN):
    """Double DQN whose gradient step number `AT` is not finite in one place."""

    where: Literal["nowhere", "loss", "parameters", "target", "moments"] = "nowhere"

    def learn(self, state: DDQNState, batch: Transition, key: jax.Array) -> tuple[DDQNState, jax.Array]:
        after, loss = super().learn(state, batch, key)

        def broken(tree: Any) -> Any:
            def one(x: jax.Array) -> jax.Array:
                return jnp.where(state.steps == AT, jnp.full_like(x, jnp.inf), x)

            return jax.tree.map(lambda x: one(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

        if self.where == "loss":
            return after, broken(loss)
        if self.where == "parameters":
            return after._replace(params=broken(after.params)), loss
        if self.where == "target":
            return after._replace(target=broken(after.target)), loss
        if self.where == "moments":
            return after._replace(optimiser=broken(after.optimiser)), loss
        return after, loss


def world(where: Any = "nowhere") -> World:
    return World(probe(Sentinel, SENTINEL_LIMIT), Breaks((4,), 1e-2, 4, 0.9, 5, where=where), HOW)


def play(world: World, *phases: Phase) -> tuple[Run, np.ndarray]:
    """The phases in one program, and their records side by side."""

    @jax.jit
    def program() -> tuple[Run, list[jax.Array]]:
        run, records = world.begin(jax.random.key(0), jax.random.key(0)), []
        for phase in phases:
            run, record = phase(run, world, None)
            records.append(record)
        return run, records

    run, records = program()
    return run, np.concatenate([np.asarray(r) for r in records])


@pytest.mark.parametrize("where", ["loss", "parameters", "target", "moments"])
def test_the_last_finite_agent_is_kept_and_the_curve_is_nan_from_there(where: str) -> None:
    run, curve = play(world(where), Interact(3 * CHUNK))
    assert int(run.diverged) == WARMUP + 1 + AT  # one step is taken for each beyond the warm-up
    assert np.isnan(curve).all() and curve.shape == (3,)
    assert int(run.counters.gradient_steps) == AT
    assert int(run.counters.env_steps) == 3 * CHUNK
    assert bool(finite(run.agent)) and int(run.agent.steps) == AT


@pytest.mark.parametrize("where", ["loss", "parameters", "target", "moments"])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been_taken(where: str) -> None:
    uniform = Collect(40, 0, 2)
    kept, _ = play(world(where), uniform, Fit(AT + 4))
    healthy, _ = play(world(), uniform, Fit(AT))
    assert_same(kept.agent, healthy.agent)
    assert int(kept.diverged) == 0 and int(healthy.diverged) == -1
    assert differ(play(world(), uniform, Fit(AT + 4))[0].agent, healthy.agent)


def test_before_it_diverges_the_curve_is_that_of_a_healthy_run() -> None:
    late = dataclasses.replace(HOW, warmup=CHUNK + 2)
    sick, healthy = (
        play(dataclasses.replace(world(w), interaction=late), Interact(4 * CHUNK))
        for w in ("loss", "nowhere")
    )
    assert np.isfinite(healthy[1]).all()
    assert np.isnan(sick[1]).tolist() == [False, True, True, True]
    assert sick[1][0] == healthy[1][0]
    assert int(sick[0].diverged) == CHUNK + 2 + 1 + AT


def test_what_pretraining_broke_stays_broken_online() -> None:
    run, curve = play(world("loss"), Collect(40, 0, 2), Fit(AT + 1), Forget(), Interact(2 * CHUNK))
    assert np.isfinite(curve[:2]).all() and np.isnan(curve[2:]).all()
    assert int(run.diverged) == 0 and int(run.counters.gradient_steps) == AT


def test_a_diverged_member_changes_no_other_and_is_named(population: Population) -> None:
    """One NaN in one reward of member 1's replay, found by the first batch that holds it."""
    healthy, curve = population.play(Load(PRIOR_ROWS), Fit(8), Interact(CHUNK), Interact(CHUNK))
    loaded, _ = population.play(Load(PRIOR_ROWS))
    storage = loaded.replay.storage
    sick = loaded._replace(
        replay=loaded.replay._replace(storage=storage._replace(reward=storage.reward.at[1, 3].set(jnp.nan)))
    )
    sick, sick_curve = population.play(Fit(8), Interact(CHUNK), Interact(CHUNK), runs=sick)
    assert np.asarray(sick.diverged >= 0).tolist() == [False, True, False, False]
    assert (
        np.isnan(sick_curve[1, -1]) and np.isfinite(numbers(jax.tree.leaves(sick.agent.params)[0])[1]).all()
    )
    for index in (0, 2, 3):
        assert_same(member(sick, index), member(healthy, index))
        np.testing.assert_array_equal(sick_curve[index], curve[index])


def test_absurd_learning_rates_leave_finite_parameters() -> None:
    """Double DQN went on with infinite weights, and SAC with NaN actions."""
    pendulum = make("pendulum")
    assert isinstance(pendulum.action_space, Box)
    for env, agent in (
        (make("cartpole"), DDQN((16,), 1e30, 8)),
        (pendulum, SAC(pendulum.action_space, (16,), 1e30, 8)),
    ):
        run, curve = play(World(env, agent, HOW), Interact(2 * CHUNK))
        assert bool(finite(run.agent)), env.name
        assert 0 <= int(run.diverged) <= WARMUP + 3
        assert np.isnan(curve).all()


def test_an_evaluation_that_is_not_finite_is_divergence() -> None:
    """Weights may be finite and their products not: SAC's mode is then NaN, and so is what it earns."""
    env = make("pendulum")
    assert isinstance(env.action_space, Box)
    how = dataclasses.replace(HOW, warmup=1000)  # nothing is learned
    sac = World(env, SAC(env.action_space, (16, 16), 1e-3, 8), how)

    @jax.jit
    def program() -> tuple[Run, jax.Array]:
        run = sac.begin(jax.random.key(0), jax.random.key(0))
        actor = jax.tree.map(lambda x: x * jnp.float32(1e25), run.agent.actor)
        return Interact(2 * CHUNK)(run._replace(agent=run.agent._replace(actor=actor)), sac, None)

    run, curve = program()
    assert bool(finite(run.agent)) and np.isnan(curve).all()
    assert int(run.diverged) == CHUNK
