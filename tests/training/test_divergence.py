"""A member whose numbers stop being finite keeps its last finite agent, is named, and touches no other."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

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

STARTS, AT = 5, 3
HOW = Interaction(INTERVAL, 1, False)
HELD = {"epsilon": 0.5, "learning_starts": STARTS, "replay_capacity": 200}


@dataclasses.dataclass(frozen=True)
class Breaks(DDQN):
    """Double DQN whose gradient step number `AT` is not finite in one place, which its loss does not tell."""

    loss_tells: ClassVar[bool] = False
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
    agent = Breaks((4,), 1e-2, 4, 0.9, target_network_frequency=5, where=where, **HELD)
    return World(probe(Sentinel, SENTINEL_LIMIT), agent, HOW)


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
    run, curve = play(world(where), Interact(3 * INTERVAL))
    assert int(run.diverged) == STARTS + 1 + AT  # one step is taken for each row beyond them
    assert np.isnan(curve).all() and curve.shape == (3,)
    assert int(run.counters.gradient_steps) == AT
    assert int(run.counters.env_steps) == 3 * INTERVAL
    assert bool(finite(run.agent)) and int(run.agent.steps) == AT


@pytest.mark.parametrize("where", ["loss", "parameters", "target", "moments"])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been_taken(where: str) -> None:
    uniform = Collect(40, 0, 2)
    kept, _ = play(world(where), uniform, Fit(AT + 4))
    healthy, _ = play(world(), uniform, Fit(AT))
    for a, b in zip(jax.tree.leaves(kept.agent), jax.tree.leaves(healthy.agent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # XLA fuses two programs differently
    assert int(kept.diverged) == 0 and int(healthy.diverged) == -1
    assert differ(play(world(), uniform, Fit(AT + 4))[0].agent, healthy.agent)


@dataclasses.dataclass(frozen=True)
class Steep(DDQN):
    """Double DQN whose gradient step number `AT` is along a slope like this, with a finite loss."""

    slope: float = 0.0

    def learn(self, state: DDQNState, batch: Transition, key: jax.Array) -> tuple[DDQNState, jax.Array]:
        steep = jnp.where(state.steps == AT, jnp.float32(self.slope), 0.0)

        @jax.custom_jvp
        def bend(q: jax.Array) -> jax.Array:
            return q

        bend.defjvp(lambda primals, tangents: (primals[0], tangents[0] * (1.0 + steep)))

        class Bent(DDQN):
            def values(self, params: Any, obs: jax.Array) -> jax.Array:
                return bend(DDQN.values(self, params, obs))

        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(DDQN)}
        return Bent(**settings).learn(state, batch, key)


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), 1e25])
def test_a_loss_tells_of_gradients_that_are_not_finite_or_whose_squares_are_not(slope: float) -> None:
    """What would overflow in Adam's second moment alone: 1e25 squared."""
    env = probe(Sentinel, SENTINEL_LIMIT)

    def fitted(slope: float, steps: int) -> Run:
        agent = Steep((4,), 1e-2, 4, 0.9, target_network_frequency=5, slope=slope, **HELD)
        return play(World(env, agent, HOW), Collect(40, 0, 2), Fit(steps))[0]

    kept, healthy = fitted(slope, AT + 4), fitted(0.0, AT)
    assert int(kept.diverged) == 0 and bool(finite(kept.agent))
    for a, b in zip(jax.tree.leaves(kept.agent), jax.tree.leaves(healthy.agent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_before_it_diverges_the_curve_is_that_of_a_healthy_run() -> None:

    def late(where: str) -> World:
        agent = dataclasses.replace(world(where).agent, learning_starts=INTERVAL + 2)
        return dataclasses.replace(world(where), agent=agent)

    sick, healthy = (play(late(where), Interact(4 * INTERVAL)) for where in ("loss", "nowhere"))
    assert np.isfinite(healthy[1]).all()
    assert np.isnan(sick[1]).tolist() == [False, True, True, True]
    assert sick[1][0] == healthy[1][0]
    assert int(sick[0].diverged) == INTERVAL + 2 + 1 + AT


def test_what_pretraining_broke_stays_broken_online() -> None:
    run, curve = play(world("loss"), Collect(40, 0, 2), Fit(AT + 1), Forget(), Interact(2 * INTERVAL))
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


def test_absurd_learning_rates_leave_finite_parameters() -> None:
    """Double DQN went on with infinite weights, and SAC with NaN actions."""
    for name, agent in (
        ("cartpole", DDQN((16,), 1e30, 8, **HELD)),
        ("pendulum", SAC((16,), 1e30, 8, **HELD)),
    ):
        env = load(name).environment()
        run, curve = play(World(env, agent.for_game(env.action_space), HOW), Interact(2 * INTERVAL))
        assert bool(finite(run.agent)), env.name
        assert 0 <= int(run.diverged) <= STARTS + 3
        assert np.isnan(curve).all()


def test_an_evaluation_that_is_not_finite_is_divergence() -> None:
    """Weights may be finite and their products not: SAC's mode is then NaN, and so is what it earns."""
    env = load("pendulum").environment()
    agent = SAC((16, 16), 1e-3, 8, **HELD | {"learning_starts": 1000})  # nothing is learned
    sac = World(env, agent.for_game(env.action_space), HOW)

    @jax.jit
    def program() -> tuple[Run, jax.Array]:
        run = sac.begin(jax.random.key(0), jax.random.key(0))
        actor = jax.tree.map(lambda x: x * jnp.float32(1e25), run.agent.actor)
        return Interact(2 * INTERVAL)(run._replace(agent=run.agent._replace(actor=actor)), sac, None)

    run, curve = program()
    assert bool(finite(run.agent)) and np.isnan(curve).all()
    assert int(run.diverged) == INTERVAL
