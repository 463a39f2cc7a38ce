"""The doors of `Interact` and `Fit`: laws, known answers, and what is counted."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import INTERVAL, PRIOR_ROWS, assert_same, differ

from loro_jax.agents import DDQN, SAC
from loro_jax.agents.ddqn import best, slot, soft_value
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.tasks import load
from loro_jax.tasks.words import Field, at, sided
from loro_jax.training import memory
from loro_jax.training.arms import Plan, build, check_agent, check_budget, check_doors, consults
from loro_jax.training.guidance import (
    Chosen,
    Conservative,
    HalfPrior,
    JumpStart,
    Kl,
    Proposals,
    Soft,
    Tutor,
    counts,
    mixed_return,
    swept,
)
from loro_jax.training.phases import AsPrior, Collect, Evaluate, Fit, Forget, Interact, Load
from loro_jax.training.population import Layout, Programs, begin, parted
from loro_jax.training.world import Interaction, World
from loro_jax.types import Among, Arm, Knowledge, Phase, Run, Transition

HOW = Interaction(INTERVAL, 1, False)
COMMON: dict[str, Any] = {
    "hidden": (8,), "batch_size": 8, "learning_starts": 10, "replay_capacity": 200, "epsilon": 0.3,
    "learning_rate": 1e-2,
}  # fmt: skip


def coded(task: str) -> Coding:
    """Two texts a number of the observation, below and above nought; every cell of a lake."""
    env = load(task).environment()
    if env.states:
        cell = Field("cell", tuple(map(str, range(env.states))), lambda obs: obs.argmax())
        return Coding((cell,))
    return Coding(tuple(sided(f"o{i}", at(i)) for i in range(env.observation_shape[0])))


def table(task: str, said: Any) -> Knowledge:
    """What is known where the answers about every text are what `said` gives for its digits, (n, *action)."""
    coding, world = coded(task), world_of(task)
    digits = np.indices(coding.sizes, np.int32).reshape(len(coding.sizes), -1).T
    actions = np.stack([np.asarray(said(d)) for d in digits])
    kind = np.int32 if actions.dtype.kind == "i" else np.float32
    answers = Answers(coding, digits, actions.astype(kind), np.ones(len(digits), bool), {}).table()
    rows = jax.tree.map(lambda x: jnp.zeros((PRIOR_ROWS, *x.shape), x.dtype), world.example)
    return Knowledge(rows, answers)


@functools.cache
def world_of(task: str) -> World:
    env = load(task).environment()
    kind = DDQN if hasattr(env.action_space, "n") else SAC
    agent = kind(**COMMON).for_game(env.action_space)
    return World(env, agent, HOW, coded(task))


LAYOUT = Layout(2, 2)


@functools.cache
def programs(task: str) -> Programs:
    return Programs(world_of(task), LAYOUT)


def play(task: str, known: Knowledge, *phases: Phase) -> tuple[Run, np.ndarray]:
    """Four seeds after the phases, and their records."""
    runs = begin(world_of(task), LAYOUT, 0, 4, False, known=known, phases=phases)
    records = [np.zeros((4, 0), np.float32)]
    for phase in phases:
        runs, record = programs(task)(phase, runs, known)
        records.append(record)
    return runs, np.concatenate(records, axis=1)


def everything(task: str) -> Knowledge:
    """Every action, about every text, in turn."""
    n = world_of(task).environment.action_space.n  # type: ignore[union-attr]
    return table(task, lambda _: np.arange(4) % n)


def still(task: str) -> Knowledge:
    """One answer that the game has, about every text."""
    space = world_of(task).environment.action_space
    return table(task, lambda _: np.zeros((4, *space.shape), np.int32 if hasattr(space, "n") else np.float32))


def learned(run: Run) -> Any:
    return run.agent, run.replay, run.obs, run.game


@pytest.mark.slow
@pytest.mark.parametrize("task", ["cartpole", "frozen_lake"])
def test_a_support_of_all_actions_is_none(task: str) -> None:
    """To the bit, where each is one slot."""
    known = everything(task)
    free, curve = play(task, known, Interact(2 * INTERVAL))
    n = world_of(task).environment.action_space.n  # type: ignore[union-attr]
    all_, same = play(task, known, Interact(2 * INTERVAL, support=Proposals(k=n)))
    np.testing.assert_array_equal(same, curve)
    assert_same(learned(all_), learned(free))
    few, _ = play(task, known, Interact(2 * INTERVAL, support=Proposals(k=1)))
    assert differ(few.agent, free.agent)
    assert (np.asarray(all_.guidance.consulted.consultations) == 2 * INTERVAL).all()


@pytest.mark.parametrize("task", ["cartpole", "frozen_lake"])
@pytest.mark.slow
def test_a_support_is_kept_to(task: str) -> None:
    """By exploring and by evaluation; k is swept within one program."""
    known = table(task, lambda digits: np.array([1, 0, 1, 1]))
    before = len(programs(task).compiled)
    for k, allowed in ((1, {1}), (2, {0, 1})):
        run, _ = play(task, known, Interact(2 * INTERVAL, support=Proposals(k=k)))
        actions = np.asarray(run.replay.storage.action)[:, : 2 * INTERVAL]
        assert set(np.unique(actions)) == allowed
    assert len(programs(task).compiled) <= before + 1


@pytest.mark.parametrize("task", ["cartpole", "pendulum"])
@pytest.mark.slow
def test_an_override_that_is_never_asked_is_none(task: str) -> None:
    """A traced probability of nought; within 1e-6, as programs differ."""
    known = still(task)
    free, curve = play(task, known, Interact(2 * INTERVAL))
    never, same = play(task, known, Interact(2 * INTERVAL, override=Tutor(first=0.0, last=0.0)))
    np.testing.assert_allclose(same, curve, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), never.agent, free.agent)
    assert all((np.asarray(v) == 0).all() for v in counts(never.guidance).values())


@pytest.mark.parametrize("task", ["cartpole", "pendulum"])
@pytest.mark.slow
def test_a_tutor_that_is_always_asked_acts_alone(task: str) -> None:
    known = still(task)
    run, _ = play(task, known, Interact(2 * INTERVAL, override=Tutor(first=1.0, last=1.0)))
    assert (np.asarray(run.replay.storage.action)[:, : 2 * INTERVAL] == 0).all()
    told = {k: np.asarray(v) for k, v in counts(run.guidance).items()}
    assert (told["advice_draws"] == 2 * INTERVAL).all() and (told["advice_reuses"] == 0).all()


@pytest.mark.parametrize(
    "reuses", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 3]
)
def test_advice_is_taken_again_so_often(reuses: int) -> None:
    """In a lake where only one way is advised: a hand count of each seed's visits to each cell."""
    known = table("frozen_lake", lambda digits: np.array([0, 3, 3, 0]))
    run, _ = play("frozen_lake", known, Interact(2 * INTERVAL, override=Tutor(1.0, 1.0, reuses=reuses)))
    cells = np.asarray(run.replay.storage.obs)[:, : 2 * INTERVAL].argmax(axis=2)
    taken = np.asarray(run.replay.storage.action)[:, : 2 * INTERVAL]
    for seed in range(4):
        draws = 0
        for cell in np.unique(cells[seed]):
            visits = np.flatnonzero(cells[seed] == cell)
            for i in range(0, len(visits), reuses + 1):
                draws += 1
                assert len(set(taken[seed, visits[i : i + reuses + 1]])) == 1  # one draw, and its reuses
        assert int(run.guidance.memory.draws[seed]) == draws
        assert int(run.guidance.memory.reuses[seed]) == 2 * INTERVAL - draws


def test_a_tutors_share_falls_as_the_paper_says() -> None:
    """P0 - (t / theta)(P0 - P1), by hand."""
    tutor = Tutor(first=1.0, last=0.1, decay_steps=1000)
    for t, p in ((0, 1.0), (500, 0.55), (1000, 0.1), (5000, 0.1)):
        assert float(tutor.probability(jnp.int32(t))) == pytest.approx(p)


@pytest.mark.parametrize(
    "phase",
    [
        Interact(3 * INTERVAL, override=Tutor(decay_steps=50, reuses=2)),
        Interact(3 * INTERVAL, override=JumpStart(start=8, stages=4)),
        Interact(3 * INTERVAL, support=Proposals(k=2, own=True)),
    ],
    ids=["tutor", "jsrl", "proposals"],
)
@pytest.mark.slow
def test_interact_a_then_b_is_interact_a_plus_b(phase: Interact) -> None:
    """Decays read the steps taken, never a phase's own length."""
    known = table("cartpole", lambda digits: np.array([0, 1, 1, -1]))
    once, curve = play("cartpole", known, phase)
    piece = dataclasses.replace(phase, steps=INTERVAL)
    pieces, curves = play("cartpole", known, piece, piece, piece)
    assert_same(pieces, once)
    np.testing.assert_array_equal(curves, curve)


@pytest.mark.slow
def test_the_guide_takes_the_first_steps_of_every_episode() -> None:
    known = table("cartpole", lambda digits: np.array([1, 1, 1, 1]))
    run, _ = play("cartpole", known, Interact(INTERVAL, override=JumpStart(start=5, stages=5)))
    rows = jax.tree.map(lambda x: np.asarray(x)[:, :INTERVAL], run.replay.storage)
    for seed in range(4):
        ends = np.flatnonzero(rows.terminated[seed] | rows.truncated[seed])
        for start in (0, *(ends + 1)):
            assert (rows.action[seed, start : start + 5] == 1).all()
        steps = sum(
            min(5, end - start) for start, end in zip((0, *(ends + 1)), (*(ends + 1), INTERVAL), strict=True)
        )
        assert int(run.guidance.memory.guide_steps[seed]) == steps
    assert (
        np.asarray(run.guidance.memory.guided) == 4
    ).all()  # the first evaluation is as good as any before


@pytest.mark.slow
def test_a_penalty_of_no_weight_is_none() -> None:
    known = everything("cartpole")
    load_ = Collect(40, 0, 2)
    free, _ = play("cartpole", known, load_, Fit(8))
    none, _ = play("cartpole", known, load_, Fit(8, penalty=Conservative(0.0)))
    some, _ = play("cartpole", known, load_, Fit(8, penalty=Conservative(5.0)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), none.agent, free.agent)
    assert differ(some.agent, free.agent)


@pytest.mark.slow
@pytest.mark.parametrize("phase", [Fit(8), Interact(2 * INTERVAL)], ids=repr)
def test_a_penalty_of_no_weight_is_none_of_continuous_actions(phase: Any) -> None:
    known = still("pendulum")
    before = (Load(PRIOR_ROWS),)
    free, none, some = (
        play("pendulum", known, *before, dataclasses.replace(phase, penalty=penalty))[0]
        for penalty in (None, Conservative(0.0), Conservative(5.0))
    )
    chex.assert_trees_all_close(none.agent, free.agent, rtol=1e-5, atol=1e-6)
    assert differ(some.agent, free.agent)


def test_the_conservative_penalty_by_hand() -> None:
    """CQL(H): log(e^1 + e^2 + e^4) - 2 for the data's second action; then of the first and the data's."""
    q = jnp.array([1.0, 2.0, 4.0])
    row = Transition(*(jnp.float32(0),) * 6)._replace(action=jnp.int32(1))
    whole = np.log(np.exp(1) + np.exp(2) + np.exp(4)) - 2
    assert float(Conservative(2.0)(q, row, None)) == pytest.approx(2 * whole, rel=1e-6)
    among = Among(counts=jnp.array([3, 0, 0]))
    part = np.log(np.exp(1) + np.exp(2)) - 2
    assert float(Conservative(1.0)(q, row, among)) == pytest.approx(part, rel=1e-6)
    gradient = jax.grad(lambda q: Conservative(1.0)(q, row, among))(q)
    assert np.isfinite(gradient).all() and float(gradient[2]) == 0


def test_the_best_the_slot_and_the_soft_value_by_hand() -> None:
    values = jnp.array([1.0, 3.0, 2.0])
    counts_ = Among(counts=jnp.array([2, 0, 1]))
    assert int(best(values, None)) == 1 and int(best(values, counts_)) == 2
    drawn = [int(slot(3, key, counts_)) for key in jax.random.split(jax.random.key(0), 300)]
    assert set(drawn) == {0, 2} and abs(drawn.count(0) - 200) < 40  # five standard deviations of 8.2
    logs = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    by_hand = 0.5 * np.log(0.5 * np.exp(2) + 0.25 * np.exp(6) + 0.25 * np.exp(4))
    assert float(soft_value(values, logs, jnp.float32(0.5))) == pytest.approx(by_hand, rel=1e-6)
    assert float(soft_value(values, logs + 7, jnp.float32(0.5))) == pytest.approx(by_hand, rel=1e-5)
    assert float(soft_value(values, logs, jnp.float32(1e-3))) == pytest.approx(3.0, abs=2e-3)
    far = jnp.array([0.0, -jnp.inf, 0.0])
    assert int(best(values, Among(log_weights=far, soft=jnp.float32(0.1)))) == 2


@pytest.mark.slow
def test_half_of_every_batch_is_prior_data() -> None:
    known = everything("cartpole")
    run, _ = play("cartpole", known, Load(PRIOR_ROWS), Interact(INTERVAL, batches=HalfPrior()))
    one = jax.tree.map(lambda x: x[0], run)
    storage = one.replay.storage
    storage = storage._replace(reward=jnp.arange(storage.reward.shape[0], dtype=jnp.float32))
    one = one._replace(replay=one.replay._replace(storage=storage))
    rows = np.concatenate([
        np.asarray(HalfPrior().sample(one, jax.random.key(i), 9).reward)[None] for i in range(200)
    ])  # fmt: skip
    assert (rows[:, :4] < PRIOR_ROWS).all()
    assert (rows[:, 4:] >= PRIOR_ROWS).all() and (rows[:, 4:] < PRIOR_ROWS + INTERVAL).all()
    assert len(np.unique(rows)) > 0.9 * (PRIOR_ROWS + INTERVAL)


@pytest.mark.slow
def test_a_batch_rule_is_any_agents() -> None:
    """SAC learns by it, and otherwise than without."""
    known = still("pendulum")
    half, curve = play("pendulum", known, Load(PRIOR_ROWS), Interact(2 * INTERVAL, batches=HalfPrior()))
    free, _ = play("pendulum", known, Load(PRIOR_ROWS), Interact(2 * INTERVAL))
    assert np.isfinite(curve).all() and differ(half.agent, free.agent)


def test_an_answer_that_cannot_be_read_is_an_action_drawn_once_by_each_seed() -> None:
    known = table("frozen_lake", lambda digits: np.array([-1, -1, 2]))
    world = world_of("frozen_lake")
    runs = begin(world, LAYOUT, 0, 4, False, known=known)
    slots = np.asarray(jax.vmap(lambda run: Proposals(k=3).rows(run, world, known))(runs))
    assert (slots.sum(axis=2) == 3).all() and (slots[:, :, 2] >= 1).all()
    again = np.asarray(jax.vmap(lambda run: Proposals(k=3).rows(run, world, known))(runs))
    np.testing.assert_array_equal(slots, again)
    assert any((slots[0] != slots[i]).any() for i in range(1, 4))


def test_each_seed_may_take_answers_of_its_own() -> None:
    """k of n, without replacement, each as likely; the first k are the same for all."""
    known = table("frozen_lake", lambda digits: np.array([0, 1, 2, 3]))
    world = world_of("frozen_lake")
    runs = begin(world, LAYOUT, 0, 4, False, known=known)
    own = np.asarray(jax.vmap(lambda run: Proposals(k=2, own=True).rows(run, world, known))(runs))
    assert (own.sum(axis=2) == 2).all() and own.max() == 1 and (own[0] != own[1]).any()
    assert (own.sum(axis=(0, 1)) > 10).all()  # of 4 seeds x 16 cells x 2 draws, 32 expected each
    first = np.asarray(jax.vmap(lambda run: Proposals(k=2).rows(run, world, known))(runs))
    assert (first[:, :, :2] == 1).all() and (first[:, :, 2:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "phase"),
    [
        ("frozen_lake", Interact(2 * INTERVAL)),
        ("pendulum", Interact(2 * INTERVAL)),
        ("pendulum", Fit(30)),
    ],
    ids=repr,
)
def test_learning_rates_are_swept_within_one_program(task: str, phase: Any) -> None:
    """The agent's own, given by a phase, is the agent's own; within 1e-6, as programs differ."""
    known = still(task)
    before = (Load(PRIOR_ROWS),) if isinstance(phase, Fit) else ()
    own, _ = play(task, known, *before, phase)
    compiled = len(programs(task).compiled)
    given = [
        play(task, known, *before, dataclasses.replace(phase, learning_rate=rate))[0]
        for rate in (COMMON["learning_rate"], 0.1)
    ]
    assert len(programs(task).compiled) == compiled + 1
    chex.assert_trees_all_close(given[0].agent, own.agent, rtol=1e-6, atol=1e-6)
    assert differ(given[1].agent, own.agent)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), 1e31])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    arm = Arm("mine", (Interact(INTERVAL, learning_rate=rate),), "")
    with pytest.raises(UserError, match="mine: learning_rate must be positive, at most 1e30"):
        check_agent(arm, SAC())


@pytest.mark.slow
def test_a_number_has_the_type_of_its_place() -> None:
    """A weight of 1 is one of 1.0, and shares the program of 0.5."""
    known = everything("frozen_lake")
    before = len(programs("frozen_lake").compiled)
    for weight in (1, 0.5, 2, 0.25):
        play("frozen_lake", known, Load(PRIOR_ROWS), Fit(4, penalty=Conservative(weight)))
    assert len(programs("frozen_lake").compiled) <= before + 2  # that of `Load` too
    with pytest.raises(UserError, match=r"Proposals: k is a whole number that 32 bits hold, not 2\.5"):
        parted(Fit(4, support=Proposals(k=2.5)))


@dataclasses.dataclass(frozen=True)
class Unmarked:
    weight: float = 1.0

    def __call__(self, q: jax.Array, t: Transition, among: Among | None) -> jax.Array:
        return self.weight * q.sum()


def test_a_door_that_is_not_marked_is_one_line() -> None:
    with pytest.raises(UserError, match=r"Fit: penalty = Unmarked.* is no number .* under @swept"):
        parted(Fit(4, penalty=Unmarked()))


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Interact(INTERVAL, support=Proposals(k=0)), "Proposals has k = 0, of 4 answers about each text"),
        (Interact(INTERVAL, support=Proposals(k=5)), "Proposals has k = 5, of 4 answers about each text"),
        (Interact(INTERVAL, support=Proposals(k=None)), "Proposals has k = None, of 4 answers"),  # type: ignore
        (Interact(INTERVAL, penalty=Kl(prior=Proposals(k=2, temperature=0.1))), "no penalty explores by"),
        (Interact(INTERVAL, support=Proposals(k=1, temperature=0.0)), "temperature = 0.0, which must be"),
        (Interact(INTERVAL, support=Soft(temperature=-1.0)), "temperature = -1.0, which must be positive"),
        (Interact(INTERVAL, support=Soft(smoothing=0)), "smoothing = 0, which must be positive"),
        (Interact(INTERVAL, override=Tutor(decay_steps=0)), "decay_steps = 0, which must be positive"),
        (Interact(INTERVAL, override=Tutor(first=1.5)), "first = 1.5 and last = 0.1, which are no prob"),
        (Interact(INTERVAL, override=Tutor(reuses=-1)), "Tutor has reuses = -1"),
        (Interact(INTERVAL, override=JumpStart(stages=0)), "JumpStart has stages = 0"),
        (Interact(INTERVAL, penalty=Conservative(weight=-1)), "Conservative has weight = -1"),
        (Fit(4, penalty=Conservative(samples=0)), "Conservative has samples = 0"),
        (AsPrior(Interact(INTERVAL, support=Proposals(k=0))), "Proposals has k = 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(phase: Phase, says: str) -> None:
    said = np.zeros((2, 4), np.int32)
    table = Answers(Coding((sided("s", at(0)),)), np.array([[0], [1]]), said, np.ones(2, bool), {})
    with pytest.raises(UserError, match=f"mine: {says}|mine: .*{says}"):
        check_doors(Arm("mine", (phase,), ""), table)


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Interact(INTERVAL, support=Proposals), "is no support"),
        (Interact(INTERVAL, support=5), "mine: 5 is no support"),
        (Interact(INTERVAL, override=Conservative()), "is no override"),
        (Interact(INTERVAL, batches=True), "mine: True is no batches"),
    ],
)
def test_what_is_no_door_is_refused(phase: Phase, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_doors(Arm("mine", (phase,), ""), None)


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Fit(4, learning_rate="1e-3"), "learning_rate = '1e-3' is no number"),
        (Fit(4, support=Proposals(k="3")), "k = '3' is no number"),
        (Fit(4, support=Proposals(k=[1])), "Fit: k is one number, not several"),
        (Fit(4, learning_rate=1e-60), "learning_rate = 1e-60 is beyond what float32 holds"),
        (Fit(4, penalty=Conservative(float("nan"))), "Conservative: weight is a finite number, not nan"),
        (Interact(INTERVAL, override=Tutor(decay_steps=2**40)), "decay_steps is a whole number that 32 bits"),
        (Interact(INTERVAL, override=JumpStart(tolerance=float("inf"))), "tolerance is a finite number"),
    ],
)
def test_numbers_that_no_program_takes_are_refused(phase: Phase, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_doors(Arm("mine", (phase,), ""), None)


PLAN = Plan(load("cartpole").protocol("standard"), 100, 200, 200)


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ((AsPrior(Load(100, 200)), Interact(9800)), "mine: AsPrior is of an Interact, not of Load"),
        ((Collect(200, 0, 0), Interact(10_000)), "is charged nothing; evaluations is at least 1"),
        ((Collect(0, 0, 1), Interact(9800)), "mine: Collect takes whole steps, not 0"),
        ((Fit(-10), Interact(10_000)), "mine: Fit takes whole steps, not -10"),
        ((Interact(10_000.0),), "mine: Interact takes whole steps, not 10000.0"),  # type: ignore[arg-type]
        ((Interact(10_000, batches=HalfPrior()),), "samples prior rows, and no phase before puts any in"),
        ((Load(101, 200), Interact(9800)), "mine loads 101 rows of 100: plan.load"),
        ((Fit(3), Evaluate(0)), "mine: Evaluate plays at least one episode"),
    ],
)
def test_sentences_that_cannot_be_are_refused(sentence: tuple[Phase, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_budget(Arm("mine", sentence, "", "llm"), PLAN)


def test_with_answers_there_is_one_learning_online_and_nothing_is_loaded() -> None:
    plan = dataclasses.replace(PLAN, answers=True, samples=4)
    two = (plan.load, Interact(plan.online - 200), Interact(200))
    with pytest.raises(UserError, match="mine: where each seed is charged what its own LLM episodes take"):
        check_budget(Arm("mine", two, "", "llm"), plan)
    with pytest.raises(UserError, match=r"mine: with --answers each seed plays: plan\.load"):
        check_budget(Arm("mine", (Load(100, 200), Interact(9800)), "", "llm"), plan)


def test_a_phase_within_a_phase_opens_its_doors() -> None:
    arm = Arm("mine", (AsPrior(Interact(INTERVAL, support=Proposals())), Interact(INTERVAL)), "")
    assert consults(arm)
    with pytest.raises(UserError, match="mine has a support"):
        check_agent(arm, SAC())
    two = (Interact(INTERVAL, override=Tutor()), Interact(INTERVAL, override=JumpStart()))
    with pytest.raises(UserError, match="mine has overrides of several kinds"):
        check_doors(Arm("mine", two, ""), None)


@swept()
@dataclasses.dataclass(frozen=True)
class Halves:
    """An override that takes no action of the game."""

    def begin(self, world: World, known: Knowledge) -> tuple[()]:
        return ()

    def choose(self, run: Run, world: World, known: Knowledge, action: jax.Array, key: jax.Array) -> Chosen:
        return Chosen(action.astype(jnp.float32) / 2, run.guidance)


def test_an_overrides_action_is_one_of_the_game() -> None:
    with pytest.raises(UserError, match=r"Halves takes an action of shape \(\) and type float32; the game's"):
        play("cartpole", everything("cartpole"), Interact(INTERVAL, override=Halves()))


def test_prior_rows_that_were_dropped_are_not_sampled() -> None:
    plan = Plan(load("cartpole").protocol("standard"), 100, 200, 200)
    sentence = (plan.load, Forget(), Interact(plan.online, batches=HalfPrior()))
    with pytest.raises(UserError, match="mine samples prior rows after Forget"):
        check_budget(Arm("mine", sentence, "", "llm"), plan)


@pytest.mark.slow
def test_what_could_not_be_read_is_counted_of_a_support() -> None:
    """Where the pole leans one way one of the first two answers cannot be read."""
    known = table("cartpole", lambda digits: np.array([1, -1 if digits[2] else 0, 0, 1]))
    run, _ = play("cartpole", known, Interact(2 * INTERVAL, support=Proposals(k=2)))
    leans = np.asarray(run.replay.storage.obs)[:, : 2 * INTERVAL, 2] > 0
    counted = np.asarray(run.guidance.consulted.random_draws)
    np.testing.assert_array_equal(counted, leans.sum(axis=1))
    run, _ = play("cartpole", known, Interact(2 * INTERVAL, support=Proposals(k=1)))
    assert (np.asarray(run.guidance.consulted.random_draws) == 0).all()


@pytest.mark.slow
def test_a_temperature_explores_by_slots() -> None:
    """Three slots of one action and one of the other: nearly all of the play at any Q is by slots where the
    temperature is great; error rate 1e-6 (five standard deviations of a binomial)."""
    known = table("cartpole", lambda digits: np.array([1, 1, 1, 0]))
    run, _ = play("cartpole", known, Interact(10 * INTERVAL, support=Proposals(k=4, temperature=1e6)))
    share = np.asarray(run.replay.storage.action)[:, : 10 * INTERVAL].mean()
    # epsilon 0.3 draws a slot uniformly as well
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / (4 * 10 * INTERVAL)) ** 0.5


@pytest.mark.slow
def test_guide_and_learner_together() -> None:
    """Of no guided step the return is the learner's, of the limit's the guide's; h falls only where they are
    as good as they were."""
    task = load("cartpole")
    known = table("cartpole", lambda digits: np.full(4, int(digits[2])))  # to where the pole leans
    world = world_of("cartpole")
    run = jax.tree.map(lambda x: x[0], begin(world, LAYOUT, 0, 4, False, known=known))
    many = dataclasses.replace(world, interaction=dataclasses.replace(HOW, eval_episodes=200))

    def together(h: int, greedy: Any) -> float:
        found = jax.jit(lambda: mixed_return(run, many, known, jnp.int32(h), greedy))()
        return float(found)

    left, limit = lambda obs: jnp.int32(0), task.environment().limit
    assert together(0, left) == pytest.approx(9.35, abs=0.2)  # always left, by Gymnasium
    guide = lambda obs: (obs[2] > 0).astype(jnp.int32)  # noqa: E731
    assert together(limit, left) == pytest.approx(together(0, guide), abs=3)
    assert together(0, left) < together(10, left) < together(limit, left)
    started = JumpStart(start=20, stages=10).begin(world, known)
    start = JumpStart(start=20, stages=10)
    first = start.evaluated(started, run, many, known, guide)
    assert int(first.guided) == 18 and float(first.best) > 30
    worse = start.evaluated(first._replace(guided=jnp.int32(0)), run, many, known, left)
    assert int(worse.guided) == 0 and float(worse.best) == float(first.best)
    stays = start.evaluated(first._replace(best=jnp.float32(1e6)), run, many, known, guide)
    assert int(stays.guided) == 18


def test_what_a_seed_remembers_is_counted_as_memory() -> None:
    """But for a few counts."""
    known = everything("cartpole")
    world = dataclasses.replace(world_of("cartpole"), texts=len(known.answers.asked))
    runs = begin(world, LAYOUT, 0, 4, False, known=known, phases=(Interact(INTERVAL, override=Tutor()),))
    assert 0 <= memory.size(runs) / 4 - memory.of_seed(world) <= 64


def test_agents_without_the_doors_are_refused() -> None:
    plan = Plan(load("pendulum").protocol("standard"), 1, 200, 200, answers=True)
    for name, door in (("dqn_prior", "support"), ("cql_prior", "support")):
        (arm,) = build((name,), plan)
        with pytest.raises(UserError, match=f"{name} has a {door}, which the agent sac does not take"):
            check_agent(arm, SAC())
        check_agent(arm, DDQN())


def test_a_score_that_is_not_there_is_asked_for() -> None:
    known = everything("cartpole")
    with pytest.raises(UserError, match="these answers were not scored"):
        play("cartpole", known, Interact(INTERVAL, support=Soft(scored=True)))


# What value iteration says of the lake


def lake_rows() -> list[tuple[int, int, int, float, bool]]:
    """(state, action, next state, reward, terminated) of Gymnasium's table; outcomes are alike likely."""
    gymnasium = pytest.importorskip("gymnasium")
    outcomes = gymnasium.make("FrozenLake-v1", is_slippery=True).unwrapped.P
    ends = {s for s in outcomes if all(o[3] for a in outcomes[s].values() for o in a)}
    return [
        (s, a, int(after), float(reward), bool(done))
        for s, actions in outcomes.items()
        if s not in ends
        for a, several in actions.items()
        for _, after, reward, done in several
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_values_are_those_of_value_iteration(kind: str) -> None:
    """Kept to two proposals a cell, or soft by the answers' shares: Q within 0.03 of the fixed point."""
    rng = np.random.default_rng(1)
    said = {cell: np.repeat(rng.integers(0, 4, 2), 2) for cell in range(16)}
    discount, temperature, rows = 0.9, 0.05, lake_rows()
    slots = np.array([np.bincount(said[c], minlength=4) for c in range(16)])
    prior = (slots + 0.5) / (slots + 0.5).sum(axis=1, keepdims=True)
    q = np.zeros((16, 4))
    for _ in range(500):
        if kind == "hard":
            value = np.where(slots > 0, q, -np.inf).max(axis=1)
        else:
            value = temperature * np.log((prior * np.exp(q / temperature)).sum(axis=1))
        q = np.zeros((16, 4))
        for s, a, after, reward, done in rows:
            q[s, a] += (reward + discount * value[after] * (not done)) / 3
    free = np.zeros((16, 4))
    for _ in range(500):
        best_, free = free.max(axis=1), np.zeros((16, 4))
        for s, a, after, reward, done in rows:
            free[s, a] += (reward + discount * best_[after] * (not done)) / 3
    assert np.abs(free - q).max() > 0.1  # what is asked for is not what all actions are worth

    support = Proposals(k=4) if kind == "hard" else Soft(temperature=temperature)
    env = load("frozen_lake").environment()
    agent = DDQN(
        (64,), 2e-3, 256, discount, learning_starts=0, replay_capacity=200, target_network_frequency=50
    )
    world = World(env, agent.for_game(env.action_space), Interaction(200, 1, False), coded("frozen_lake"))
    s, a, after, reward, done = (np.array(column) for column in zip(*rows, strict=True))
    data = Transition(
        np.eye(16, dtype=np.float32)[s], a, reward.astype(np.float32), np.eye(16, dtype=np.float32)[after],
        done, np.zeros(len(done), bool),
    )  # fmt: skip
    known = Knowledge(world.rows(data), table("frozen_lake", lambda digits: said[int(digits[0])]).answers)
    key = jax.random.key(0)

    @jax.jit
    def run() -> Run:
        loaded, _ = Load(len(rows))(world.begin(key, key, known), world, known)
        return Fit(30_000, support=support)(loaded, world, known)[0]

    states = jnp.arange(16) if world.environment.indexed else jnp.eye(16)
    values = np.asarray(world.agent.values(run().agent.params, states))  # type: ignore[attr-defined]
    assert np.abs(values - q)[np.unique(s)].max() < 0.03


def test_proposals_are_named_as_runs_name_them() -> None:
    """Identities of published runs hold these texts."""
    assert repr(Proposals(k=5)) == "Proposals(k=5, own=False, temperature=None)"
    assert repr(Proposals(3, True, 0.1, 0.2)) == "Proposals(k=3, own=True, temperature=0.1, epsilon=0.2)"
