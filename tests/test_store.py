"""Interrupted and resumed equals uninterrupted, to the bit, through the real store and its checkpoints."""

from __future__ import annotations

import gc
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from populations import CHUNK, MEMBERS, PRIOR_ROWS, Population, assert_same

from loro_jax.errors import UserError
from loro_jax.phases import Fit, Forget, Interact, Load
from loro_jax.population import Progress, train
from loro_jax.results import write_json
from loro_jax.store import Store

SENTENCE = [Load(PRIOR_ROWS), Fit(4), Forget(), *[Interact(CHUNK)] * 3]
IDENTITY = {"benchmark": "cartpole", "protocol": {"budget": 60, "tau": 1}, "seeds": MEMBERS}


class Stopped(Exception):
    pass


def start(population: Population) -> Progress:
    return Progress(0, population.start(), np.zeros((MEMBERS, 0), np.float32))


def interrupted(population: Population, folder: pathlib.Path, after: int, every: bool = True) -> Store:
    """A store in which training stopped after so many pieces, with a checkpoint at each or at the last."""
    store = Store(folder, IDENTITY, resume=False)

    def keep(progress: Progress) -> None:
        if every or progress.done == after:
            store.checkpoint("loro", progress, seconds=10.0 * progress.done)
        if progress.done == after:
            raise Stopped

    with pytest.raises(Stopped):
        train(SENTENCE, population.programs, start(population), population.data, keep)
    return store


def resume(population: Population, folder: pathlib.Path) -> tuple[int, Progress]:
    """-> the piece it went on from, and the end."""
    found = Store(folder, IDENTITY, resume=True).restore("loro", population.start())
    assert found is not None
    begun = found[0].done
    return begun, train(SENTENCE, population.programs, found[0], population.data)


@pytest.fixture(scope="module")
def uninterrupted(population: Population) -> Progress:
    return train(SENTENCE, population.programs, start(population), population.data)


@pytest.mark.parametrize("after", [1, 2, 4, 6])
def test_resumed_is_uninterrupted(
    population: Population, uninterrupted: Progress, tmp_path: pathlib.Path, after: int
) -> None:
    """Stopped after loading (no curve yet), within pretraining, online, and at the very end."""
    interrupted(population, tmp_path, after, every=False)
    begun, end = resume(population, tmp_path)
    assert begun == after
    assert_same(end.runs, uninterrupted.runs)
    np.testing.assert_array_equal(end.records, uninterrupted.records)


@pytest.fixture
def orbax_leaves_reads_behind() -> Iterator[None]:
    """Where one array cannot be read, orbax drops its other reads without awaiting them.

    They are collected here, so that their warnings, which the test ignores, reach no other test.
    """
    yield
    gc.collect()


damaged = pytest.mark.usefixtures("orbax_leaves_reads_behind")
unraisable = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited:RuntimeWarning"
)


def files(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted((f for f in step.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def halve(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def invert(file: pathlib.Path) -> None:
    file.write_bytes(bytes(255 - b for b in file.read_bytes()))


def cut_short(step: pathlib.Path) -> None:
    for file in files(step):
        halve(file)


def garble(step: pathlib.Path) -> None:
    for file in files(step):
        invert(file)


def blank(step: pathlib.Path) -> None:
    for file in files(step):
        file.write_bytes(b"")


def drop_runs(step: pathlib.Path) -> None:
    shutil.rmtree(step / "runs")


def drop_records(step: pathlib.Path) -> None:
    shutil.rmtree(step / "records")


def hollow(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


@damaged
@unraisable
@pytest.mark.parametrize("damage", [cut_short, garble, blank, drop_runs, drop_records, hollow])
def test_a_damaged_checkpoint_costs_no_more_than_the_work_since_the_one_before(
    population: Population,
    uninterrupted: Progress,
    tmp_path: pathlib.Path,
    damage: Callable[[pathlib.Path], None],
) -> None:
    interrupted(population, tmp_path, after=5)
    folder = tmp_path / "checkpoints" / "loro"
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["4", "5"]
    damage(folder / "5")
    begun, end = resume(population, tmp_path)
    assert begun == 4
    assert_same(end.runs, uninterrupted.runs)
    np.testing.assert_array_equal(end.records, uninterrupted.records)


@damaged
@unraisable
@pytest.mark.parametrize("damage", [halve, invert])
def test_one_damaged_file_never_gives_wrong_numbers(
    population: Population,
    uninterrupted: Progress,
    tmp_path: pathlib.Path,
    damage: Callable[[pathlib.Path], None],
) -> None:
    """The largest file may hold bytes that nothing refers to: then the newest checkpoint is still good."""
    interrupted(population, tmp_path, after=5)
    damage(files(tmp_path / "checkpoints" / "loro" / "5")[-1])
    begun, end = resume(population, tmp_path)
    assert begun in (4, 5)
    assert_same(end.runs, uninterrupted.runs)
    np.testing.assert_array_equal(end.records, uninterrupted.records)


@damaged
@unraisable
def test_training_goes_on_to_new_checkpoints_past_a_damaged_one(
    population: Population, uninterrupted: Progress, tmp_path: pathlib.Path
) -> None:
    """The step that could not be read is written anew, rather than left as it is."""
    interrupted(population, tmp_path, after=5)
    cut_short(tmp_path / "checkpoints" / "loro" / "5")
    store = Store(tmp_path, IDENTITY, resume=True)
    found = store.restore("loro", population.start())
    assert found is not None

    def keep(progress: Progress) -> None:
        store.checkpoint("loro", progress, 0.0)
        raise Stopped

    with pytest.raises(Stopped):
        train(SENTENCE, population.programs, found[0], population.data, keep)
    begun, end = resume(population, tmp_path)
    assert begun == 5
    assert_same(end.runs, uninterrupted.runs)


@damaged
@unraisable
def test_all_checkpoints_damaged_means_from_the_start(population: Population, tmp_path: pathlib.Path) -> None:
    interrupted(population, tmp_path, after=2)
    for step in (tmp_path / "checkpoints" / "loro").iterdir():
        if step.name.isdigit():
            blank(step)
    assert Store(tmp_path, IDENTITY, resume=True).restore("loro", population.start()) is None


def test_nothing_to_restore_is_none(population: Population, tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path, IDENTITY, resume=True)
    assert store.restore("loro", population.start()) is None
    assert store.finished("loro") is None


def test_the_seconds_spent_are_kept(population: Population, tmp_path: pathlib.Path) -> None:
    store = interrupted(population, tmp_path, after=2)
    found = store.restore("loro", population.start())
    assert found is not None and found[1] == 20.0


def test_a_finished_arm_is_kept_and_its_checkpoints_dropped(
    population: Population, tmp_path: pathlib.Path
) -> None:
    store = interrupted(population, tmp_path, after=1)
    arrays = {"records": np.arange(6.0).reshape(2, 3), "counters/env_steps": np.array([1, 2])}
    store.finish("loro", arrays)
    assert not (tmp_path / "checkpoints" / "loro").exists()
    again = Store(tmp_path, IDENTITY, resume=True).finished("loro")
    assert again is not None
    assert_same(again, arrays)
    store.clear()
    assert not (tmp_path / "checkpoints").exists()


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 5}, "seeds 4 there, 5 here"),
        ({"protocol": {"budget": 60, "tau": 2}}, "protocol.tau 1 there, 2 here"),
        ({"benchmark": "pong"}, "benchmark cartpole there, pong here"),
    ],
)
def test_another_configuration_is_not_resumed_and_nothing_overwritten(
    tmp_path: pathlib.Path, change: dict[str, Any], words: str
) -> None:
    Store(tmp_path, IDENTITY, resume=False).finish("loro", {"records": np.ones((1, 1))})
    before = contents(tmp_path)
    with pytest.raises(UserError, match="another configuration") as refusal:
        Store(tmp_path, IDENTITY | change, resume=True)
    assert words in str(refusal.value)
    assert contents(tmp_path) == before


def test_a_finished_run_of_another_configuration_is_not_resumed(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "run.json", {"identity": IDENTITY})
    before = contents(tmp_path)
    with pytest.raises(UserError, match="seeds 4 there, 8 here"):
        Store(tmp_path, IDENTITY | {"seeds": 8}, resume=True)
    assert contents(tmp_path) == before


def test_an_interrupted_run_is_not_overwritten_by_a_new_one(tmp_path: pathlib.Path) -> None:
    Store(tmp_path, IDENTITY, resume=False)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="add --resume to go on, or delete"):
        Store(tmp_path, IDENTITY, resume=False)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write to .*file/run: .*; choose another --out"):
        Store(tmp_path / "file" / "run", IDENTITY, resume=False)


def test_a_finished_run_is_not_trained_again(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "run.json", {"identity": IDENTITY})
    assert Store(tmp_path, IDENTITY, resume=True).complete
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert not Store(tmp_path, IDENTITY, resume=False).complete
