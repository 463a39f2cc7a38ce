"""The tutor beside agents with a policy, its rules of reuse, and what is kept by exact state."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import assert_same, differ

from loro_jax.agents import A2C, DDQN, PPO
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.tasks import load
from loro_jax.tasks.words import Field
from loro_jax.training.arms import check_agent, check_doors
from loro_jax.training.guidance import Tutor, counts
from loro_jax.training.phases import Interact, Phase
from loro_jax.training.population import Layout, Programs, begin
from loro_jax.training.world import Interaction, World
from loro_jax.types import Arm, Knowledge, Run

INTERVAL = 40
LAYOUT = Layout(2, 2)
ROOMY = {"learning_starts": 10, "batch_size": 8, "hidden": (8,), "replay_capacity": 400}
AGENTS: dict[str, Any] = {
    "a2c": A2C(hidden=(8,), games=4, rollout=5),
    "ppo": PPO(hidden=(8,), games=4, rollout=10, minibatches=2, epochs=2),
    "ddqn": DDQN(**ROOMY),  # type: ignore[arg-type]
}
CELL = Coding((Field("cell", tuple(map(str, range(16))), lambda obs: obs.argmax()),))
HALF = Coding((Field("half", ("upper", "lower"), lambda obs: obs.argmax() // 8),))


@functools.cache
def programs(agent: str, coding: Coding = CELL) -> Programs:
    env = load("frozen_lake").environment(slippery=False)
    return Programs(World(env, AGENTS[agent], Interaction(INTERVAL, 1, False), coding), LAYOUT)


def known(said: list[int], coding: Coding = CELL) -> Knowledge:
    """The same answers about every text, four of them in turn."""
    digits = np.arange(coding.sizes[0], dtype=np.int32)[:, None]
    actions = np.tile(np.resize(np.array(said, np.int32), 4), (len(digits), 1))
    answers = Answers(coding, digits, actions, np.ones(len(digits), bool), {}).table()
    rows = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), programs("a2c", coding).world.example)
    return Knowledge(rows, answers)


def play(agent: str, told: Knowledge, *phases: Phase, coding: Coding = CELL) -> tuple[Run, np.ndarray]:
    p = programs(agent, coding)
    runs = begin(p.world, LAYOUT, 0, 4, False, known=told, phases=phases)
    records = []
    for phase in phases:
        runs, record = p(phase, runs, told)
        records.append(record)
    return runs, np.concatenate(records, axis=1)


@pytest.mark.parametrize("agent", ["a2c", pytest.param("ppo", marks=pytest.mark.slow)])
@pytest.mark.parametrize("enters", ["naive", "mixture"])
def test_a_tutor_that_is_never_asked_is_the_student_alone(agent: str, enters: Any) -> None:
    told = known([0, 1, 2, 3])
    free, curve = play(agent, told, Interact(3 * INTERVAL))
    never, same = play(agent, told, Interact(3 * INTERVAL, override=Tutor(0.0, 0.0, enters=enters)))
    np.testing.assert_array_equal(same, curve)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), never.agent, free.agent)
    assert all((np.asarray(v) == 0).all() for v in counts(never.guidance).values())


@pytest.mark.parametrize("agent", ["a2c", pytest.param("ppo", marks=pytest.mark.slow)])
def test_one_that_is_always_asked_acts_alone_in_every_game(agent: str) -> None:
    run, _ = play(agent, known([2]), Interact(2 * INTERVAL, override=Tutor(1.0, 1.0)))
    assert (np.asarray(run.replay.storage.action) == 2).all()
    told = {k: np.asarray(v) for k, v in counts(run.guidance).items()}
    assert (told["advice_draws"] == 2 * INTERVAL).all() and (told["consultations"] == 2 * INTERVAL).all()


def counted(runs: Run, places: np.ndarray, taken: np.ndarray, reuses: int) -> None:
    """A draw and its reuses are one action in each place, (seeds, steps); and as many as are counted."""
    for seed in range(len(places)):
        draws = 0
        for place in np.unique(places[seed]):
            visits = np.flatnonzero(places[seed] == place)
            for i in range(0, len(visits), reuses + 1):
                draws += 1
                assert len(set(taken[seed, visits[i : i + reuses + 1]])) == 1
        assert int(runs.guidance.memory.draws[seed]) == draws
        assert int(runs.guidance.memory.reuses[seed]) == places.shape[1] - draws


def test_games_side_by_side_share_one_memory() -> None:
    """One draw and three reuses of each cell, counted over all games in the order of their steps: each run of
    four takes one action."""
    phase = Interact(INTERVAL, override=Tutor(1.0, 1.0, reuses=3))
    agent = dataclasses.replace(AGENTS["a2c"], games=4, rollout=10)  # all of an interval lies in the rollout
    world = World(programs("a2c").world.environment, agent, Interaction(INTERVAL, 1, False), CELL)
    told = known([0, 1, 2, 3])
    runs, _ = Programs(world, LAYOUT)(
        phase, begin(world, LAYOUT, 0, 4, False, known=told, phases=(phase,)), told
    )
    cells = np.asarray(runs.replay.storage.obs).argmax(axis=2)
    taken = np.asarray(runs.replay.storage.action)
    counted(runs, cells, taken, 3)
    assert len(np.unique(taken)) == 4


def test_interact_a_then_b_is_interact_a_plus_b() -> None:
    phase = Interact(3 * INTERVAL, override=Tutor(decay_steps=60, reuses=2, enters="cloned"))
    once, curve = play("a2c", known([0, 1, 2, 3]), phase)
    pieces = [dataclasses.replace(phase, steps=INTERVAL)] * 3
    several, same = play("a2c", known([0, 1, 2, 3]), *pieces)
    assert_same(several, once)
    np.testing.assert_array_equal(same, curve)


def test_which_rows_were_advised_is_kept_in_their_order() -> None:
    """At P = 1 all of them, at 0.5 those that are the tutor's action alone where the student never would."""
    run, _ = play("a2c", known([0]), Interact(INTERVAL, override=Tutor(1.0, 1.0, enters="masked")))
    assert (np.asarray(run.guidance.memory.chances) == 1).all()
    run, _ = play("a2c", known([0]), Interact(INTERVAL, override=Tutor(0.5, 0.5, enters="masked")))
    chances, action = np.asarray(run.guidance.memory.chances), np.asarray(run.replay.storage.action)
    assert set(np.unique(chances).tolist()) == {0.0, 0.5}
    assert (action[chances > 0] == 0).all() and (action[chances == 0] != 0).any()
    asked = int(np.asarray(run.guidance.consulted.consultations).sum())
    assert 40 < asked < 120  # of 160 at a half; binomial, beyond 6 standard deviations


def test_the_ways_of_entering_are_different_and_one_program_serves_all_numbers() -> None:
    told, before = known([0, 2]), len(programs("a2c").compiled)
    agents = {}
    for enters in ("naive", "mixture", "masked", "cloned"):
        phase = Interact(2 * INTERVAL, override=Tutor(0.6, 0.6, enters=enters))  # type: ignore[arg-type]
        agents[enters] = play("a2c", told, phase)[0].agent
    names = list(agents)
    assert all(differ(agents[a], agents[b]) for a in names for b in names if a < b)
    many = len(programs("a2c").compiled)
    other, _ = play(
        "a2c", told, Interact(2 * INTERVAL, override=Tutor(0.6, 0.6, enters="cloned", weight=0.1))
    )
    assert differ(other.agent, agents["cloned"]) and len(programs("a2c").compiled) == many
    assert many <= before + 4


@pytest.mark.slow
def test_advice_that_decays_is_taken_again_by_a_power_of_its_share() -> None:
    """After n times with probability share^n: at a half it is taken 1 + 1/2 + 1/8 + ... times again."""
    told = known([0, 1, 2, 3])

    def played(share: float) -> tuple[int, int]:
        rule = Tutor(1.0, 1.0, rule="decay", share=share)
        memory = play("ddqn", told, Interact(8 * INTERVAL, override=rule))[0].guidance.memory
        return int(np.asarray(memory.draws).sum()), int(np.asarray(memory.reuses).sum())

    draws, _ = played(1.0)
    assert draws <= 4 * 16  # a draw a cell and seed
    draws, reuses = played(0.0)  # 0^0 = 1: the first time is certain
    assert abs(draws - reuses) <= 4 * 16
    draws, reuses = played(0.5)
    expected = sum(0.5 ** (n * (n - 1) // 2) for n in range(1, 12))  # 1.64 reuses a draw
    # 1,280 steps and some 480 draws, a reuse count's standard deviation below 1: beyond 5 standard errors.
    assert abs(reuses / draws - expected) < 0.25


def test_advice_is_taken_again_while_its_value_grows() -> None:
    """By hand: a state of a student who values the last advice more, or less, than as it was drawn."""
    world, told = programs("ddqn").world, known([1])
    tutor = Tutor(1.0, 1.0, rule="q_change")
    key = jax.random.key(0)
    run = world.begin(key, key, told, (Interact(INTERVAL, override=tutor),))
    action = jnp.int32(3)
    first = tutor.choose(run, world, told, action, key).guidance
    cell = int(run.obs.argmax()) if run.obs.ndim else int(run.obs)
    value = float(world.agent.values_of(run.agent, run.obs)[1])  # type: ignore[attr-defined]
    assert int(first.memory.draws) == 1 and float(first.memory.values[cell]) == pytest.approx(value)
    for then, reuses in ((value - 0.1, 1), (value + 0.1, 0), (value, 0)):
        values = first.memory.values.at[cell].set(then)
        again = run._replace(guidance=first._replace(memory=first.memory._replace(values=values)))
        memory = tutor.choose(again, world, told, action, key).guidance.memory
        assert int(memory.reuses) == reuses and int(memory.draws) == 2 - reuses
        # The value that it is held against stays that of the draw.
        assert float(memory.values[cell]) == pytest.approx(then if reuses else value)


def test_advice_may_be_kept_by_exact_state() -> None:
    """Where a text stands for eight cells: one draw and two reuses for all of them, or for each."""
    told, steps = known([0, 1, 2, 3], HALF), 2 * INTERVAL
    for by, of in (("text", 8), ("state", 1)):
        tutor = Tutor(1.0, 1.0, reuses=2, by=by)  # type: ignore[arg-type]
        run, _ = play("ddqn", told, Interact(steps, override=tutor), coding=HALF)
        cells = np.asarray(run.replay.storage.obs)[:, :steps].argmax(axis=2)
        counted(run, cells // of, np.asarray(run.replay.storage.action)[:, :steps], 2)


def test_runs_name_a_tutor_as_they_did() -> None:
    assert repr(Tutor()) == "Tutor(first=1.0, last=0.1, decay_steps=5000, reuses=0)"
    assert repr(Tutor(rule="decay", share=0.3)).endswith("reuses=0, rule='decay', share=0.3)")


@pytest.mark.parametrize(
    ("tutor", "agent", "states", "says"),
    [
        (Tutor(rule="q_change"), "ppo", 0, "needs action values"),
        (Tutor(enters="masked"), "ddqn", 0, "enters = 'masked' is for agents that learn from their own play"),
        (Tutor(by="state"), "ddqn", 0, "games of numbered states"),
    ],
)
def test_what_does_not_go_together_is_refused(tutor: Tutor, agent: str, states: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_agent(Arm("mine", (Interact(INTERVAL, override=tutor),), ""), AGENTS[agent], states=states)
    check_agent(Arm("mine", (Interact(INTERVAL, override=Tutor()),), ""), AGENTS[agent])


@pytest.mark.parametrize(
    ("tutor", "says"),
    [
        (Tutor(share=1.5), "share = 1.5, which is no probability"),
        (Tutor(weight=-1.0), "weight = -1.0"),
        (Tutor(rule="often"), "rule = 'often'"),  # type: ignore[arg-type]
        (Tutor(enters="loud"), "enters = 'loud'"),  # type: ignore[arg-type]
    ],
)
def test_numbers_that_mean_nothing_are_refused(tutor: Tutor, says: str) -> None:
    digits = np.arange(16, dtype=np.int32)[:, None]
    answers = Answers(CELL, digits, np.zeros((16, 2), np.int32), np.ones(16, bool), {})
    with pytest.raises(UserError, match=says):
        check_doors(Arm("mine", (Interact(INTERVAL, override=tutor),), ""), answers)
