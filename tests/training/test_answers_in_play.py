"""Every seed plays its own LLM episodes: what is drawn, what is counted, and what is charged."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from loro_jax.analysis.tables import render_markdown
from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.language import players, prompts, tables
from loro_jax.records.results import Result
from loro_jax.running import trainer
from loro_jax.running.command import summarise
from loro_jax.running.experiment import Experiment, knowledge, prepare_experiment
from loro_jax.running.store import Nowhere, Store
from loro_jax.tasks import load
from loro_jax.tasks.reference import preferences
from loro_jax.tasks.words import Field, at, sided
from loro_jax.training import memory
from loro_jax.training.arms import Plan
from loro_jax.training.guidance import Answering, counts
from loro_jax.training.phases import Collect, Interact
from loro_jax.types import Arm, Knowledge, Run

SMALL = {"hidden": (8,), "batch_size": 8, "fit_steps": 10, "learning_starts": 20, "eval_episodes": 1}
SEEDS, TAU = 6, 4


def written(task_name: str, prompt: str, folder: pathlib.Path, samples: int = 3, unread: float = 0.0) -> Any:
    """A table of the task's reference policy, as a survey writes one; some answers cannot be read."""
    task = load(task_name)
    env = task.environment()
    text = prompts.load(task, prompt)
    coding = tables.coding_of(task, text.text)
    seen = players.observations(env, players.uniform(env), 40, seed=0)
    rng = np.random.default_rng(0)

    def policy(obs: np.ndarray) -> np.ndarray:
        wanted = preferences(task, obs)
        said = wanted.argmax(axis=1) if wanted.dtype == bool else wanted
        said = np.repeat(said[:, None], samples, axis=1)
        lost = rng.random(said.shape[:2]) < unread
        return np.where(
            lost.reshape(*lost.shape, *(1,) * (said.ndim - 2)), -1 if wanted.dtype == bool else np.nan, said
        )

    found = answers.from_policy(policy, coding, seen, "perfect")
    card = {
        "environment": task.name, "model": {"name": "reference"},
        "prompt": {"name": prompt, "text": text.text}, "name": "perfect",
    }  # fmt: skip
    found = dataclasses.replace(found, card=card)
    tables.save(found, task, folder)
    return folder


def prepared(
    folder: pathlib.Path, task: str = "cartpole", arms: Any = ("pure_rl", "loro"), **more: Any
) -> Experiment:
    settings = {"budget": 3000, "tau": TAU} | SMALL | more
    protocol = load(task).protocol("standard").replace(**settings)
    return prepare_experiment(load(task), protocol, arms, SEEDS, 0, answers=str(folder))


def trained(e: Experiment, store: Any = None) -> Result:
    return trainer.run(e, store or Nowhere(), Console(quiet=True))[0]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return written("frozen_lake", "map", tmp_path_factory.mktemp("lake") / "perfect", unread=0.2)


@pytest.fixture(scope="module")
def pole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Bad enough that seeds' episodes take different times."""
    return written("cartpole", "cot", tmp_path_factory.mktemp("pole") / "perfect", unread=0.6)


def collected(e: Experiment, steps: int, episodes: int) -> tuple[Run, np.ndarray, Knowledge, Any]:
    """One seed's own LLM episodes."""
    world = e.world_of(e.arms[0])
    known = knowledge(e, world)
    key = jax.random.key(7)
    phase = Collect(steps, episodes, episodes, Answering())
    run, record = jax.jit(lambda: phase(world.begin(key, key, known), world, known))()
    return run, np.asarray(record), known, world


def held(run: Run) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[: int(run.replay.insertions)], run.replay.storage)


@pytest.mark.parametrize("name", ["lake", pytest.param("pole", marks=pytest.mark.slow)])
def test_a_seed_takes_the_answers_about_what_it_sees(name: str, request: pytest.FixtureRequest) -> None:
    """Row by row against the table as NumPy reads it, and every count recounted."""
    folder = request.getfixturevalue(name)
    e = prepared(folder, {"lake": "frozen_lake", "pole": "cartpole"}[name])
    table = e.answers
    assert table is not None
    run, record, _, world = collected(e, 4 * e.plan.limit, 4)
    rows = held(run)
    obs = rows.obs
    if world.environment.indexed:
        obs = np.eye(world.environment.states, dtype=np.float32)[obs]
    digits = np.asarray(answers.digits_of(table.coding)(obs))
    at = table.nearest(digits)
    said = table.actions[at]
    readable = (said != -1).all(axis=1)
    assert (rows.action[readable, None] == said[readable]).any(axis=1).all()
    own = (table.digits[at] == digits).all(axis=1)
    counted = {k: int(v) for k, v in counts(run.guidance).items()}
    assert counted["consultations"] == len(rows.action) == int(run.counters.prior_steps)
    assert counted["first_met"] == len(np.unique(at))
    assert counted["nearest"] == (~own).sum()
    lost = (said == -1).all(axis=1)  # in such rows the draw is uniform for certain
    assert lost.sum() <= counted["random_draws"] <= (~readable).sum()
    ends = np.flatnonzero(rows.terminated | rows.truncated)
    assert len(ends) == 4
    np.testing.assert_allclose(np.add.reduceat(rows.reward, [0, *(ends[:-1] + 1)]), record)


def test_each_of_the_answers_is_drawn_alike() -> None:
    """Of three, one of which cannot be read: chi-squared with 3 degrees of freedom, error rate 1e-4."""
    from loro_jax.data.answers import Found
    from loro_jax.training.guidance import drawn

    coding = answers.Coding((sided("side", at(0)),))
    said = np.array([[[0, 3, -1]]], np.int32)[0]
    table = Answers(coding, np.zeros((1, 1), np.int32), said, np.ones(1, bool), {}).table()
    env, obs = load("frozen_lake").environment(), jnp.eye(16)[0]
    keys = jax.random.split(jax.random.key(0), 12_000)
    found = Found(jnp.int32(0), jnp.bool_(True))
    taken = jax.jit(jax.vmap(lambda key: drawn(table, found, env, obs, key)))(keys)
    actions = np.bincount(np.asarray(taken.action), minlength=4)
    expected = np.array([5, 1, 1, 5]) * 1000.0  # a third each of 0, 3 and any of four
    assert ((actions - expected) ** 2 / expected).sum() < 21.1
    assert np.asarray(taken.readable).mean() == pytest.approx(2 / 3, abs=0.02)


@pytest.mark.slow
def test_every_seed_is_charged_its_own_episodes(pole: pathlib.Path) -> None:
    """Its curve: the mean return of its episodes for the intervals that they took, then what it learned."""
    e = prepared(pole, arms=("loro", "mix", "pure_rl"))
    found = trained(e)
    interval, evaluations = e.protocol.schedule.eval_interval, e.protocol.schedule.evaluations
    for arm in ("loro", "mix"):
        curve, steps = found.curves[arm], found.counters[arm]["prior_steps"]
        assert curve.shape == (SEEDS, evaluations) and np.isfinite(curve).all()
        charged = -(-steps // interval)
        assert len(set(charged.tolist())) > 1
        for seed in range(SEEDS):
            first = curve[seed, : charged[seed]]
            # CartPole's return is its length: of four episodes the mean is a quarter of their steps.
            np.testing.assert_allclose(first, steps[seed] / TAU, rtol=1e-6)
        free = found.llm_free[arm]
        assert free.shape[1] <= evaluations - charged.max()
        for seed in range(SEEDS):
            np.testing.assert_array_equal(curve[seed, charged[seed] :][: free.shape[1]], free[seed])
        assert (found.counters[arm]["consultations"] == steps).all()
        np.testing.assert_array_equal(found.counters[arm]["env_steps"], interval * (evaluations - charged))
    assert (
        "consultations" not in found.counters["pure_rl"]
        or (found.counters["pure_rl"]["consultations"] == 0).all()
    )
    np.testing.assert_array_equal(found.counters["loro"]["prior_steps"], found.counters["mix"]["prior_steps"])


@pytest.mark.slow
def test_a_seed_charged_its_own_has_the_mean_of_its_episodes(pole: pathlib.Path) -> None:
    """Also where they take as many intervals as there are episodes."""
    e = prepared(pole)
    world = e.world_of(e.arms[0])
    known, key = knowledge(e, world), jax.random.key(7)

    def record(own: bool) -> np.ndarray:
        phase = Collect(4 * e.plan.limit, 4, 4, Answering(), own)
        return np.asarray(jax.jit(lambda: phase(world.begin(key, key, known), world, known)[1])())

    each = record(False)
    assert len(set(each.tolist())) > 1
    np.testing.assert_allclose(record(True), each.mean(), rtol=1e-6)


@pytest.mark.slow
def test_charged_by_episodes_all_pay_the_same(lake: pathlib.Path) -> None:
    e = prepared(lake, "frozen_lake", ("loro", "llm_policy"), charge="episodes")
    found = trained(e)
    assert found.curves["loro"].shape == (SEEDS, e.protocol.schedule.evaluations)
    assert ((found.curves["loro"][:, :TAU] == 0) | (found.curves["loro"][:, :TAU] == 1)).all()
    assert len(found.flat["llm_policy"]) == 2000


@pytest.mark.slow
def test_arms_without_a_model_are_what_they_are_without_answers(lake: pathlib.Path) -> None:
    e = prepared(lake, "frozen_lake", ("pure_rl",))
    plain = prepare_experiment(load("frozen_lake"), e.protocol, ("pure_rl",), SEEDS, 0)
    np.testing.assert_array_equal(trained(e).curves["pure_rl"], trained(plain).curves["pure_rl"])


@pytest.mark.long
@pytest.mark.slow
def test_a_seed_does_not_depend_on_the_others_charges(pole: pathlib.Path) -> None:
    """Two seeds alone train as long as they need, and groups in turn: curves, counters and policies."""
    e = dataclasses.replace(prepared(pole, arms=("loro",)), save_policies=True, seeds=24)
    whole, few = trained(e), trained(dataclasses.replace(e, seeds=2))
    least = memory.needed(e.world, memory.divide(e.world, e.seeds).layout, 16)
    waves = dataclasses.replace(e, memory_limit=least)
    assert memory.divide(e.world, e.seeds, least).waves > 1
    width = min(whole.llm_free["loro"].shape[1], few.llm_free["loro"].shape[1])
    for part, seeds in ((few, 2), (trained(waves), e.seeds)):
        np.testing.assert_array_equal(part.curves["loro"], whole.curves["loro"][:seeds])
        free = part.llm_free["loro"][:, :width]
        np.testing.assert_array_equal(free, whole.llm_free["loro"][:seeds, :width])
        np.testing.assert_array_equal(part.diverged["loro"], whole.diverged["loro"][:seeds])
        for name, values in whole.counters["loro"].items():
            np.testing.assert_array_equal(part.counters["loro"][name], values[:seeds], err_msg=name)
        for name, values in whole.policies["loro"].items():
            np.testing.assert_array_equal(part.policies["loro"][name], values[:seeds], err_msg=name)


@pytest.mark.slow
def test_an_arm_that_learns_offline_is_a_flat_line_of_seeds(lake: pathlib.Path) -> None:
    """Without a cumulative return; and one whose loss was not finite is named and counts as random play."""
    e = prepared(lake, "frozen_lake", ("pure_rl", "cql", "cql_prior"))
    found = trained(e)
    for arm in ("cql", "cql_prior"):
        assert found.flat[arm].shape == (SEEDS,) and np.isfinite(found.flat[arm]).all()
        assert (found.counters[arm]["env_steps"] == 0).all() and arm not in found.curves
        assert (found.counters[arm]["gradient_steps"] == e.protocol.prior.fit_steps).all()
    told = summarise(e, found)
    assert set(told["arms"]["cql"]) & {"cumulative_return", "final_return"} == {"final_return"}
    lost = {**found.flat, "cql": np.where(np.arange(SEEDS) == 2, np.nan, found.flat["cql"])}
    worse = summarise(e, dataclasses.replace(found, flat=lost, random_return=0.01))
    assert worse["diverged"] == {"cql": [{"seed": 2, "env_step": 0}]} and "cql" in render_markdown(worse)


@pytest.mark.slow
def test_each_seed_may_choose_among_answers_of_its_own(tmp_path: pathlib.Path) -> None:
    """Five of twelve."""
    folder = written("cartpole", "cot", tmp_path / "perfect", samples=12, unread=0.6)
    first, own = (
        prepare_experiment(
            load("cartpole"), prepared(folder).protocol, ("dqn_prior",), SEEDS, 0, answers=str(folder),
            proposals=proposals,
        )
        for proposals in ("first", "own")
    )  # fmt: skip
    assert "proposals" not in first.identity["answers"] and own.identity["answers"]["proposals"] == "own"
    assert (trained(first).curves["dqn_prior"] != trained(own).curves["dqn_prior"]).any()


@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 4, -1])
def test_killed_and_resumed_is_uninterrupted(
    pole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Also in what is trained beyond the sentence."""
    from loro_jax.training import population

    e = prepared(pole, arms=("loro",))
    whole = trained(e)
    sentence = len(population.pieces(e.arms[0], e.protocol.schedule.eval_interval))
    stop_at = sentence + 1 if place < 0 else place
    train, reached = population.train, []

    def stopped(*given: Any) -> Any:
        after = given[4]

        def stop(progress: population.Progress) -> None:
            monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0 if progress.done == stop_at else 1e9)
            after(progress)
            if progress.done == stop_at:
                reached.append(progress.done)
                raise trainer.Interrupted

        return train(*given[:4], stop)

    with monkeypatch.context() as patched:
        patched.setattr(population, "train", stopped)
        with Store(tmp_path, e.identity, False) as store, pytest.raises(trainer.Interrupted):
            trained(e, store)
    assert reached == [stop_at]
    with Store(tmp_path, e.identity, True) as store:
        again = trained(e, store)
    np.testing.assert_array_equal(again.curves["loro"], whole.curves["loro"])
    for name, values in whole.counters["loro"].items():
        np.testing.assert_array_equal(again.counters["loro"][name], values)


@pytest.mark.long
@pytest.mark.slow
def test_continuous_actions_are_answered_too(tmp_path: pathlib.Path) -> None:
    folder = written("pendulum", "cot", tmp_path / "perfect", unread=0.1)
    e = prepared(folder, "pendulum", ("loro",), budget=2000)
    found = trained(e)
    assert np.isfinite(found.curves["loro"]).all()
    assert (found.counters["loro"]["random_draws"] > 0).all()


def test_a_good_table_plays_well(tmp_path: pathlib.Path) -> None:
    """The reference as a table, coarser than its observations: 2,000 episodes."""
    e = prepared(written("cartpole", "cot", tmp_path / "perfect"), arms=("llm_policy",))
    assert e.prior is not None and e.prior.returns.mean() > 150
    assert e.prior.mean_steps == pytest.approx(e.prior.returns.mean(), rel=1e-5)


def test_what_cannot_be_is_refused_in_one_line(lake: pathlib.Path) -> None:
    from loro_jax.errors import UserError

    task = load("frozen_lake")
    protocol = task.protocol("standard")
    for given, says in (
        ({"answers": str(lake), "dataset": "x"}, "no episodes at 'x'"),
        ({"answers": "nobody"}, "no answers are called 'nobody' for frozen_lake"),
    ):
        with pytest.raises(UserError, match=says):
            prepare_experiment(task, protocol, ("loro",), SEEDS, 0, **given)
    with pytest.raises(UserError, match="answers about 'frozen_lake', not about 'cliff_walking'"):
        other = load("cliff_walking")
        prepare_experiment(other, other.protocol("standard"), ("loro",), SEEDS, 0, answers=str(lake))
    with pytest.raises(UserError, match="answers about 'frozen_lake', not about 'cliff_walking'"):
        table = tables.read(lake, task)
        prepare_experiment(other, other.protocol("standard"), ("loro",), SEEDS, 0, answers=table)
    with pytest.raises(UserError, match="the answers' texts are not those of frozen_lake's words"):
        rows = Field("row", ("1", "2"), lambda obs: 0)
        strange = dataclasses.replace(table, coding=answers.Coding((rows, *table.coding.fields[1:])))
        prepare_experiment(task, protocol, ("loro",), SEEDS, 0, answers=strange)
    large = task.protocol("standard").replace(game={"layout": "8x8"})
    with pytest.raises(UserError, match="frozen_lake's words read observations of shape"):
        prepare_experiment(task, large, ("tutor",), SEEDS, 0, answers=str(lake))
    still = task.protocol("standard").replace(game={"slippery": False})
    told = prepare_experiment(task, still, ("pure_rl", "tutor"), SEEDS, 0, answers=str(lake)).warnings
    assert told == ("the answers were given without the parameters that the game has here (slippery=False)",)
    with pytest.raises(UserError, match="mine looks a model's answers up: name --answers"):
        plays = Collect(200, 1, 1, Answering())
        mine = Arm("mine", (plays, Interact(protocol.schedule.budget - 200)), "")
        prepare_experiment(task, task.protocol("standard@1"), (lambda plan: mine,), SEEDS, 0)
    with pytest.raises(UserError, match="--proposals is first or own, not 'mine'"):
        prepare_experiment(task, protocol, ("loro",), SEEDS, 0, answers=str(lake), proposals="mine")
    with pytest.raises(UserError, match="twice: where each seed is charged what its own LLM episodes take"):

        def twice(plan: Plan) -> Arm:
            rest = Interact(plan.protocol.schedule.budget - 2 * plan.prior)
            return Arm("twice", (plan.load, plan.uniform, rest), "", "llm")

        prepare_experiment(task, protocol, (twice,), SEEDS, 0, answers=str(lake))
    for departure in ("shared_pretraining", "limits_terminal"):
        with pytest.raises(UserError, match="is for episodes that were played: name them"):
            prepare_experiment(
                task, protocol.replace(**{departure: True}), ("loro",), SEEDS, 0, answers=str(lake)
            )
    with pytest.raises(UserError, match="half_batches samples all prior rows: --replay-capacity must be"):
        few = protocol.replace(replay_capacity=501)
        prepare_experiment(task, few, ("half_batches",), SEEDS, 0, answers=str(lake))
    protocol = task.protocol("standard@1")  # which names none
    with pytest.raises(UserError, match="dqn_prior looks a model's answers up: name --answers"):
        prepare_experiment(task, protocol, ("dqn_prior",), SEEDS, 0)
    with pytest.raises(UserError, match="loro_chained is the released pipeline's"):
        prepare_experiment(
            task, protocol.replace(chained_repeats=2), ("loro_chained",), SEEDS, 0, answers=str(lake)
        )


def test_the_sentence_names_who_plays(lake: pathlib.Path) -> None:
    e = prepared(lake, "frozen_lake")
    assert "player=Answering()" in e.identity["arms"]["loro"][0]
    assert e.identity["answers"]["arrays_sha256"] and e.identity["episodes"] is None
    assert isinstance(e.arms[1].phases[-1], Interact)
