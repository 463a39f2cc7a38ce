"""The laws of docs/architecture.md that hold to the bit."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, Sentinel, probe
from populations import INTERVAL, MEMBERS, PRIOR_ROWS, Population, assert_same, differ, member, numbers

from loro_jax import keys
from loro_jax.agents import DDQN
from loro_jax.keys import Purpose
from loro_jax.tasks import load
from loro_jax.training import population as populations
from loro_jax.training.phases import Collect, Fit, Forget, Interact, Load
from loro_jax.training.population import Layout, Programs, Progress, begin, pieces, train
from loro_jax.training.world import Interaction, World
from loro_jax.types import Arm, Knowledge, Phase, Run

UNIFORM = Collect(steps=40, episodes=0, evaluations=2)


@dataclasses.dataclass(frozen=True)
class Sentence:
    """Phases in one program."""

    phases: tuple[Phase, ...]

    def __call__(self, run: Run, world: World, known: Any) -> tuple[Run, jax.Array]:
        records = []
        for phase in self.phases:
            run, record = phase(run, world, known)
            records.append(jnp.asarray(record))
        return run, jnp.concatenate(records)


def test_interact_a_then_b_is_interact_a_plus_b(population: Population) -> None:
    once, curve = population.play(Interact(3 * INTERVAL))
    pieces, curves = population.play(Interact(INTERVAL), Interact(INTERVAL), Interact(INTERVAL))
    assert_same(pieces, once)
    np.testing.assert_array_equal(curves, curve)
    assert differ(once.agent, population.begun.agent)


@pytest.mark.parametrize("steps", [(5, 5, 5), pytest.param((4, 11), marks=pytest.mark.slow)], ids=repr)
def test_fit_a_then_b_is_fit_a_plus_b(population: Population, steps: tuple[int, ...]) -> None:
    loaded, _ = population.play(UNIFORM)
    once, _ = population.play(Fit(sum(steps)), runs=loaded)
    pieces, _ = population.play(*map(Fit, steps), runs=loaded)
    assert_same(pieces, once)
    assert differ(once.agent, loaded.agent)


def test_loading_and_fitting_nothing_change_nothing(population: Population) -> None:
    assert_same(population.play(Load(0), Fit(0))[0], population.begun)


@pytest.mark.slow
def test_no_rows_and_no_gradient_steps_are_pure_rl(population: Population) -> None:
    """Within one program too, where a compiler might reorder sums."""
    pure, curve = population.play(Interact(INTERVAL), Interact(INTERVAL))
    loro, same = population.play(Sentence((Load(0), Fit(0), Forget(), Interact(2 * INTERVAL))))
    assert_same(loro, pure)
    np.testing.assert_array_equal(same, curve)


def test_data_forgotten_before_any_gradient_step_is_as_if_never_loaded(population: Population) -> None:
    pure, curve = population.play(Interact(INTERVAL), Interact(INTERVAL))
    loro, same = population.play(Load(PRIOR_ROWS), Fit(0), Forget(), Interact(INTERVAL), Interact(INTERVAL))
    np.testing.assert_array_equal(same, curve)
    assert_same((loro.agent, loro.game, loro.obs), (pure.agent, pure.game, pure.obs))
    held = 2 * INTERVAL
    assert_same(
        jax.tree.map(lambda x: x[:, :held], loro.replay.storage),
        jax.tree.map(lambda x: x[:, :held], pure.replay.storage),
    )


def test_data_kept_or_fitted_does_matter(population: Population) -> None:
    """What the two laws above compare could differ."""
    pure, _ = population.play(Interact(INTERVAL), Interact(INTERVAL))
    kept, _ = population.play(Load(PRIOR_ROWS), Interact(INTERVAL), Interact(INTERVAL))
    fitted, _ = population.play(Load(PRIOR_ROWS), Fit(5), Forget(), Interact(INTERVAL), Interact(INTERVAL))
    assert differ(pure.agent, kept.agent) and differ(pure.agent, fitted.agent)


def standard(hidden: tuple[int, ...] | None = None) -> World:
    """The default protocol's network and batch, whose products' shapes decide how sums are ordered."""
    task = load("cartpole")
    agent = dataclasses.replace(task.protocol("standard").agent, learning_starts=10, replay_capacity=100)
    if hidden is not None:
        agent = dataclasses.replace(agent, hidden=hidden)
    return World(task.environment(), agent, Interaction(INTERVAL, 1, False))


ALL_PHASES = Sentence((UNIFORM, Fit(4), Forget(), Interact(2 * INTERVAL)))


@pytest.fixture(scope="module")
def two() -> tuple[Run, np.ndarray]:
    """The first two members of the default protocol's world, with nobody else that counts."""
    return outcome(standard(), Layout(2, 2), 2)


def outcome(world: World, layout: Layout, members: int) -> tuple[Run, np.ndarray]:
    start = functools.partial(begin, world, layout, 0, members, False)
    runs = jax.jit(start, compiler_options=populations.options())()
    known = Knowledge(jax.tree.map(lambda x: x[None], world.example))
    program = populations.advance.lower(ALL_PHASES, world, layout, runs, known)
    return program.compile(populations.options())(runs, known)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "block", "members"), [(2, 3, 5), (2, 8, 17)])
def test_a_member_does_not_depend_on_how_many_run_beside_it(
    two: tuple[Run, np.ndarray], devices: int, block: int, members: int
) -> None:
    many = outcome(standard(), Layout(devices, block), members)
    for index in range(2):
        assert_same(member(many, index), member(two, index))
    assert differ(member(two[0].agent, 0), member(two[0].agent, 1))


@pytest.mark.parametrize("hidden", [(8,), (64, 64), (256, 256)])
@pytest.mark.parametrize("members", [1, 2, 3, 4, 5, 9, 16, 17, 256])
def test_layouts_stay_among_the_blocks_that_give_the_same_bits(members: int, hidden: tuple[int, ...]) -> None:
    layout = populations.layout(members, hidden)
    assert 2 <= layout.block <= 8
    assert layout.devices == 2  # however few the members: one device alone rounds differently
    assert layout.padded(members) >= members
    assert layout.padded(members) % (layout.devices * layout.block) == 0
    assert layout.padded(members) - members < layout.devices * layout.block


def test_a_member_never_sees_anothers_state(population: Population) -> None:
    """Poison in member 1's weights, game and replay stays there."""
    healthy, curve = population.play(Interact(INTERVAL))
    start = population.start()

    def poison(x: jax.Array) -> jax.Array:
        return x.at[1].set(jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x

    sick = start._replace(
        agent=jax.tree.map(poison, start.agent),
        replay=jax.tree.map(poison, start.replay),
        obs=poison(start.obs),
    )
    sick, sick_curve = population.play(Interact(INTERVAL), runs=sick)
    assert np.isnan(numbers(jax.tree.leaves(sick.agent.params)[0])[1]).all()
    for index in (0, 2, 3):
        assert_same(member(sick, index), member(healthy, index))
        np.testing.assert_array_equal(sick_curve[index], curve[index])


def test_members_differ_from_the_start(population: Population) -> None:
    for a in range(MEMBERS):
        for b in range(a):
            one, other = member(population.begun, a), member(population.begun, b)
            assert differ(one.key, other.key) and differ(one.obs, other.obs)
            assert differ(one.agent.params, other.agent.params)


def test_shared_pretraining_shares_the_network_and_nothing_else(population: Population) -> None:
    shared = begin(population.world, population.layout, 0, MEMBERS, True)
    for index in range(MEMBERS):
        assert_same(member((shared.agent, shared.fit_key), index), member((shared.agent, shared.fit_key), 0))
    assert_same((shared.key, shared.obs), (population.begun.key, population.begun.obs))
    fitted, _ = population.play(Load(PRIOR_ROWS), Fit(5), runs=shared)
    assert_same(member(fitted.agent, MEMBERS - 1), member(fitted.agent, 0))


@pytest.mark.slow
def test_a_seed_starts_alike_in_every_arm(population: Population) -> None:
    """The first network, the first state, and every later fresh episode that begins at the same step."""
    how = dataclasses.replace(population.world.interaction, reset_each_interval=True)
    world = dataclasses.replace(population.world, interaction=how)
    programs = Programs(world, population.layout)
    pure, mixed = population.start(), population.play(Load(PRIOR_ROWS))[0]
    collected = population.play(UNIFORM)[0]
    for run in (mixed, collected):
        assert_same((run.agent, run.game, run.obs), (pure.agent, pure.game, pure.obs))
    ends = [programs(Interact(INTERVAL), run, population.known)[0] for run in (pure, mixed, collected)]
    for run in ends[1:]:
        assert_same((run.game, run.obs), (ends[0].game, ends[0].obs))
        assert differ(run.agent, ends[0].agent)


def test_a_row_begins_with_the_very_bits_that_the_one_before_ended_with(population: Population) -> None:
    """Compiled, a value may be computed twice with two roundings; `Environment.step` sees to it."""
    for phase in (UNIFORM, Interact(3 * INTERVAL)):
        run, _ = population.play(phase)
        rows = jax.tree.map(lambda x: np.asarray(x)[:, :40], run.replay.storage)
        goes_on = ~(rows.terminated | rows.truncated)[:, :-1]
        np.testing.assert_array_equal(rows.obs[:, 1:][goes_on], rows.next_obs[:, :-1][goes_on])


def test_no_two_draws_of_the_population_share_a_key() -> None:
    """Purposes, members and the steps of a long run, all at once."""
    members, steps = 16, 2000

    def all_draws(index: jax.Array) -> jax.Array:
        key = keys.of_seed(0, index)
        return jnp.stack([
            jax.vmap(lambda step, p=p: jax.random.key_data(keys.fold(key, p, step)))(jnp.arange(steps))
            for p in Purpose
        ])  # fmt: skip

    data = np.asarray(jax.jit(jax.vmap(all_draws))(jnp.arange(members)))
    flat = data.reshape(-1, data.shape[-1])
    assert len(flat) == members * steps * len(Purpose)
    assert len(np.unique(flat, axis=0)) == len(flat)
    other_seed = np.asarray(jax.random.key_data(keys.fold(keys.of_seed(1, 0), Purpose.INIT)))
    assert not (flat == other_seed).all(-1).any()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {"gradient_steps": 3, "n_step": 2, "epsilon_decay_steps": 20},
            id="scheduled",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_key_is_used_twice_in_a_run(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key that reaches a random function while one member collects, fits, plays and is evaluated."""
    used: list[tuple[int, ...]] = []

    def watched(function: Any) -> Any:
        def call(key: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
            jax.debug.callback(
                lambda data: used.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key)
            )
            return function(key, *args, **kwargs)

        return call

    for name in ("uniform", "randint", "bits", "normal", "choice", "categorical", "bernoulli", "permutation"):
        monkeypatch.setattr(jax.random, name, watched(getattr(jax.random, name)))
    agent = DDQN(
        (4,),
        1e-3,
        4,
        0.9,
        0.5,
        learning_starts=3,
        replay_capacity=100,
        target_network_frequency=5,
        **settings,
    )
    world = World(probe(Sentinel, SENTINEL_LIMIT), agent, Interaction(10, 2, False))
    collect, most = Collect(12, 0, 1), Collect(3 * SENTINEL_LIMIT, 2, 2)  # which keeps fewer than it plays
    played, fitted = Interact(20), Fit(3)
    sentence = (
        collect, most, fitted, collect, played, played, fitted, Forget(), most, played, collect,
    )  # fmt: skip

    @functools.partial(jax.jit, static_argnums=0)
    def advanced(phase: Phase, run: Run) -> Run:
        return phase(run, world, None)[0]

    run = jax.jit(lambda: world.begin(keys.of_seed(0, 0), keys.of_seed(0, 0)))()
    for phase in sentence:
        run = advanced(phase, run)
    finished = jax.block_until_ready(run)
    jax.effects_barrier()
    assert int(finished.counters.env_steps) == 60
    assert len(used) > 12 * 2 + 60 * 3  # collecting draws actions and starts, playing explores too
    twice = [key for key, times in collections.Counter(used).items() if times > 1]
    assert not twice, f"{len(twice)} keys of {len(used)} draws were used more than once"


@dataclasses.dataclass(frozen=True)
class CountedInteract(Interact):
    """`Interact` that counts how often a compiler asks what it does."""

    traces: ClassVar[collections.Counter[int]] = collections.Counter()

    def __call__(self, run: Run, world: World, known: Any) -> tuple[Run, jax.Array]:
        self.traces[self.steps] += 1
        return super().__call__(run, world, known)


@dataclasses.dataclass(frozen=True)
class CountedFit(Fit):
    traces: ClassVar[collections.Counter[int]] = collections.Counter()

    def __call__(self, run: Run, world: World, known: Any) -> tuple[Run, Any]:
        self.traces[self.steps] += 1
        return super().__call__(run, world, known)


def test_arms_share_one_compilation_for_each_shape(population: Population) -> None:
    """Three arms in nine pieces of two shapes: two programs, each traced once."""
    CountedInteract.traces.clear()
    CountedFit.traces.clear()
    arms = (
        Arm("pure_rl", (CountedInteract(3 * INTERVAL),), ""),
        Arm("loro", (Load(PRIOR_ROWS), CountedFit(8), Forget(), CountedInteract(2 * INTERVAL)), ""),
        Arm("mix", (Load(PRIOR_ROWS), CountedInteract(2 * INTERVAL)), ""),
    )
    programs = Programs(population.world, population.layout)
    for arm in arms:
        sentence = pieces(arm, INTERVAL, fit_piece=4)
        start = Progress(0, population.start(), np.zeros((MEMBERS, 0), np.float32))
        end = train(sentence, programs, start, population.known)
        assert end.records.shape == (MEMBERS, 3 if arm.name == "pure_rl" else 2)
    assert CountedInteract.traces == {INTERVAL: 1}
    assert CountedFit.traces == {4: 1}
    assert set(programs.compiled) == {CountedInteract(INTERVAL), CountedFit(4), Load(PRIOR_ROWS), Forget()}
