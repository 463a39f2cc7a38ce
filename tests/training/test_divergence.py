"""A member whose numbers stop being finite keeps its last finite agent, is named, and touches no other."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, Sentinel, probe
from populations import INTERVAL, PRIOR_ROWS, Population, assert_same, differ, member, numbers

from loro_jax.agents import DDQN, SAC
from loro_jax.agents.ddqn import DDQNState
from loro_jax.tasks import load
from loro_jax.training.phases import Collect, Fit, Forget, Interact, Load, finite
from loro_jax.training.world import Interaction, World
from loro_jax.types import Phase, Run, Transition

STARTS, AT = INTERVAL + 2, 3
"""Rows before an agent that breaks learns, and its gradient step that does."""
HOW = Interaction(INTERVAL, 1, False)
HELD = {"epsilon": 0.5, "learning_starts": 5, "replay_capacity": 200}


PLACES = ("nowhere", "loss", "parameters", "target", "moments")


@dataclasses.dataclass(frozen=True)
class Breaks(DDQN):
    """Double DQN whose gradient step `AT` is not finite in one of `PLACES`, which its loss does not tell."""

    loss_tells: ClassVar[bool] = False
    where: Any = ()
    """A flag for each place, traced: one program tells all of them."""

    def learn(self, state: DDQNState, batch: Transition, key: jax.Array) -> tuple[DDQNState, jax.Array]:
        after, loss = super().learn(state, batch, key)

        def broken(tree: Any, place: str) -> Any:
            here = (state.steps == AT) & self.where[PLACES.index(place)]

            def one(x: jax.Array) -> jax.Array:
                return jnp.where(here, jnp.full_like(x, jnp.inf), x)

            return jax.tree.map(lambda x: one(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

        after = after._replace(
            params=broken(after.params, "parameters"),
            target=broken(after.target, "target"),
            optimiser=broken(after.optimiser, "moments"),
        )
        return after, broken(loss, "loss")


def begun(world: World, *phases: Phase) -> tuple[Run, jax.Array]:
    """The phases one after the other, and their records side by side."""
    run, records = world.begin(jax.random.key(0), jax.random.key(0)), []
    for phase in phases:
        run, record = phase(run, world, None)
        records.append(record)
    return run, jnp.concatenate([jnp.zeros(0), *records])


def play(world: World, *phases: Phase) -> tuple[Run, np.ndarray]:
    """The phases in one program."""
    run, curve = jax.jit(lambda: begun(world, *phases))()
    return run, np.asarray(curve)


@functools.partial(jax.jit, static_argnums=0)
def side_by_side(phase: Phase | None, runs: Run | None) -> tuple[Run, jax.Array]:
    """One phase, or the start, for an agent that breaks in each of `PLACES`."""

    def one(where: jax.Array, run: Run | None) -> tuple[Run, jax.Array]:
        agent = Breaks((4,), 1e-2, 4, 0.9, target_network_frequency=5, where=where, **HELD)
        agent = dataclasses.replace(agent, learning_starts=STARTS)
        world = World(probe(Sentinel, SENTINEL_LIMIT), agent, HOW)
        return begun(world) if phase is None else phase(run, world, None)

    return jax.vmap(one)(jnp.eye(len(PLACES), dtype=bool), runs)


@functools.cache
def everywhere(*phases: Phase) -> tuple[Run, jax.Array]:
    """What comes of the phases, each a program, for an agent that breaks in each of `PLACES`."""
    if not phases:
        return side_by_side(None, None)
    runs, curves = everywhere(*phases[:-1])
    runs, records = side_by_side(phases[-1], runs)
    return runs, jnp.concatenate([curves, records], axis=1)


def breaking(where: str, *phases: Phase) -> tuple[Run, np.ndarray]:
    """What comes of the phases with an agent that breaks there."""
    run, curve = everywhere(*phases)
    index = PLACES.index(where)
    return jax.tree.map(lambda x: x[index], run), np.asarray(curve)[index]


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES[1:])
def test_the_last_finite_agent_is_kept_and_the_curve_is_nan_from_there(where: str) -> None:
    run, curve = breaking(where, Interact(4 * INTERVAL))
    assert int(run.diverged) == STARTS + 1 + AT  # one step is taken for each row beyond them
    assert np.isnan(curve).tolist() == [False, True, True, True]
    assert int(run.counters.gradient_steps) == AT
    assert int(run.counters.env_steps) == 4 * INTERVAL
    assert bool(finite(run.agent)) and int(run.agent.steps) == AT


def assert_close(a: Any, b: Any) -> None:
    """Equal but for rounding: XLA fuses two programs differently."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("where", PLACES[1:])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been_taken(where: str) -> None:
    uniform = Collect(40, 0, 2)
    kept, _ = breaking(where, uniform, Fit(AT + 4))
    healthy, _ = breaking("nowhere", uniform, Fit(AT))
    assert_close(kept.agent, healthy.agent)
    assert int(kept.diverged) == 0 and int(healthy.diverged) == -1
    assert differ(breaking("nowhere", uniform, Fit(AT + 4))[0].agent, healthy.agent)


@dataclasses.dataclass(frozen=True)
class Steep(DDQN):
    """Double DQN whose gradient step number `AT` is along a slope like this, with a finite loss."""

    slope: Any = ()
    """One number, (1,), traced: one program tells all slopes."""

    def learn(self, state: DDQNState, batch: Transition, key: jax.Array) -> tuple[DDQNState, jax.Array]:
        steep = jnp.where(state.steps == AT, self.slope[0], jnp.float32(0.0))

        @jax.custom_jvp
        def bend(q: jax.Array, steep: jax.Array) -> jax.Array:
            return q

        bend.defjvp(lambda primals, tangents: (primals[0], tangents[0] * (1.0 + primals[1])))

        class Bent(DDQN):
            def values(self, params: Any, obs: jax.Array) -> jax.Array:
                return bend(DDQN.values(self, params, obs), steep)

        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(DDQN)}
        return Bent(**settings).learn(state, batch, key)


SLOPES = (float("nan"), float("inf"), 1e25)


@functools.cache
def fitted(steps: int) -> Run:
    """Collected and fitted in one program, side by side for each of `SLOPES` and for no slope."""

    def one(slope: jax.Array) -> Run:
        agent = Steep((4,), 1e-2, 4, 0.9, target_network_frequency=5, slope=slope, **HELD)
        world = World(probe(Sentinel, SENTINEL_LIMIT), agent, HOW)
        return begun(world, Collect(40, 0, 2), Fit(steps))[0]

    return jax.jit(jax.vmap(one))(jnp.array([*SLOPES, 0.0], jnp.float32)[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("slope", SLOPES)
def test_a_loss_tells_of_gradients_that_are_not_finite_or_whose_squares_are_not(slope: float) -> None:
    """What would overflow in Adam's second moment alone: 1e25 squared."""
    kept = jax.tree.map(lambda x: x[SLOPES.index(slope)], fitted(AT + 4))
    healthy = jax.tree.map(lambda x: x[-1], fitted(AT))
    assert int(kept.diverged) == 0 and bool(finite(kept.agent))
    assert int(healthy.diverged) == -1
    assert_close(kept.agent, healthy.agent)


@pytest.mark.slow
def test_before_it_diverges_the_curve_is_that_of_a_healthy_run() -> None:
    sick, healthy = (breaking(where, Interact(4 * INTERVAL)) for where in ("loss", "nowhere"))
    assert np.isfinite(healthy[1]).all()
    assert np.isnan(sick[1][1:]).all()
    assert sick[1][0] == healthy[1][0]


@pytest.mark.slow
def test_what_pretraining_broke_stays_broken_online() -> None:
    run, curve = breaking("loss", Collect(40, 0, 2), Fit(AT + 4), Forget(), Interact(4 * INTERVAL))
    assert np.isfinite(curve[:2]).all() and np.isnan(curve[2:]).all()
    assert int(run.diverged) == 0 and int(run.counters.gradient_steps) == AT


def test_a_diverged_member_changes_no_other_and_is_named(population: Population) -> None:
    """One NaN in one reward of member 1's replay, found by the first batch that holds it."""
    healthy, curve = population.play(Load(PRIOR_ROWS), Fit(8), Interact(INTERVAL), Interact(INTERVAL))
    loaded, _ = population.play(Load(PRIOR_ROWS))
    storage = loaded.replay.storage
    sick = loaded._replace(
        replay=loaded.replay._replace(storage=storage._replace(reward=storage.reward.at[1, 3].set(jnp.nan)))
    )
    sick, sick_curve = population.play(Fit(8), Interact(INTERVAL), Interact(INTERVAL), runs=sick)
    assert np.asarray(sick.diverged >= 0).tolist() == [False, True, False, False]
    assert (
        np.isnan(sick_curve[1, -1]) and np.isfinite(numbers(jax.tree.leaves(sick.agent.params)[0])[1]).all()
    )
    for index in (0, 2, 3):
        assert_same(member(sick, index), member(healthy, index))
        np.testing.assert_array_equal(sick_curve[index], curve[index])


def absurd(name: str, agent: Any) -> Any:
    """Two evaluation intervals of an agent that learns with an absurd rate after the first; SAC's actor
    starts out multiplied by what the program is given."""
    env = load(name).environment()
    world = World(env, agent.for_game(env.action_space), HOW)

    @jax.jit
    def program(scale: jax.Array) -> tuple[Run, jax.Array]:
        run, _ = begun(world)
        if isinstance(agent, SAC):
            actor = jax.tree.map(lambda x: x * scale, run.agent.actor)
            run = run._replace(agent=run.agent._replace(actor=actor))
        return Interact(2 * INTERVAL)(run, world, None)

    return program


LATE = HELD | {"learning_starts": STARTS}


@functools.cache
def absurd_sac() -> Any:
    return absurd("pendulum", SAC((16,), 1e30, 8, **LATE))


@pytest.mark.slow
def test_absurd_learning_rates_leave_finite_parameters() -> None:
    """Double DQN went on with infinite weights, and SAC with NaN actions."""
    for program in (absurd("cartpole", DDQN((16,), 1e30, 8, **LATE)), absurd_sac()):
        run, curve = program(jnp.float32(1.0))
        assert bool(finite(run.agent))
        assert STARTS < int(run.diverged) <= STARTS + 3
        assert np.isnan(curve).tolist() == [False, True]


@pytest.mark.slow
def test_an_evaluation_that_is_not_finite_is_divergence() -> None:
    """Weights may be finite and their products not: SAC's mode is then NaN, and so is what it earns."""
    run, curve = absurd_sac()(jnp.float32(1e25))  # nothing is learned before the first evaluation
    assert bool(finite(run.agent)) and np.isnan(curve).all()
    assert int(run.diverged) == INTERVAL and int(run.counters.gradient_steps) == 0
