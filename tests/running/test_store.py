"""Interrupted and resumed equals uninterrupted, to the bit, through the real store and its checkpoints."""

from __future__ import annotations

import fcntl
import gc
import os
import pathlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from populations import INTERVAL, MEMBERS, PRIOR_ROWS, Population, assert_same

from loro_jax import files
from loro_jax.errors import UserError
from loro_jax.files import write_json
from loro_jax.running.store import Store
from loro_jax.training.phases import Fit, Forget, Interact, Load
from loro_jax.training.population import Progress, train

SENTENCE = [Load(PRIOR_ROWS), Fit(4), Forget(), *[Interact(INTERVAL)] * 3]
SETTINGS = {"schedule": {"budget": 600}, "agent": {"name": "ddqn"}, "prior": {"tau": 1}}
IDENTITY = {
    "schema": 2, "task": "cartpole", "protocol": "standard@1", "settings": SETTINGS, "seeds": MEMBERS,
    "seed": 0, "episodes": None, "arms": {},
}  # fmt: skip
MACHINE = {"backend": "cpu", "devices": 2, "precision": "32 bits", "jaxlib": "1.2.3", "processor": "a chip"}


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
        train(SENTENCE, population.programs, start(population), population.known, keep)
    store.close()
    return store


def resume(population: Population, folder: pathlib.Path) -> tuple[int, Progress]:
    """-> the piece it went on from, and the end."""
    with Store(folder, IDENTITY, resume=True) as store:
        found = store.restore("loro", population.start())
    assert found is not None
    begun = found[0].done
    return begun, train(SENTENCE, population.programs, found[0], population.known)


@pytest.fixture(scope="module")
def uninterrupted(population: Population) -> Progress:
    return train(SENTENCE, population.programs, start(population), population.known)


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


def files_of(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted((f for f in step.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def halve(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def invert(file: pathlib.Path) -> None:
    file.write_bytes(bytes(255 - b for b in file.read_bytes()))


def cut_short(step: pathlib.Path) -> None:
    for file in files_of(step):
        halve(file)


def garble(step: pathlib.Path) -> None:
    for file in files_of(step):
        invert(file)


def blank(step: pathlib.Path) -> None:
    for file in files_of(step):
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
    damage(files_of(tmp_path / "checkpoints" / "loro" / "5")[-1])
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
        train(SENTENCE, population.programs, found[0], population.known, keep)
    store.close()
    begun, end = resume(population, tmp_path)
    assert begun == 5
    assert_same(end.runs, uninterrupted.runs)


@damaged
@unraisable
def test_all_checkpoints_damaged_are_refused_until_they_are_deleted(
    population: Population, tmp_path: pathlib.Path
) -> None:
    interrupted(population, tmp_path, after=2)
    folder = tmp_path / "checkpoints" / "loro"
    for step in folder.iterdir():
        if step.name.isdigit():
            blank(step)
    with Store(tmp_path, IDENTITY, resume=True) as store:
        with pytest.raises(UserError, match="no checkpoint can be read; delete it to train loro anew"):
            store.restore("loro", population.start())
        shutil.rmtree(folder)
        assert store.restore("loro", population.start()) is None


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
    with Store(tmp_path, IDENTITY, resume=True) as resumed:
        again = resumed.finished("loro")
    assert again is not None
    assert_same(again, arrays)
    store.clear()
    assert not (tmp_path / "checkpoints").exists()


def begun(folder: pathlib.Path, **changes: Any) -> None:
    """An interrupted run with one finished arm."""
    with Store(folder, IDENTITY, resume=False, computed_on=MACHINE | changes) as store:
        store.finish("loro", {"records": np.ones((1, 1))})


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 5}, "seeds 4 there, 5 here"),
        ({"settings": SETTINGS | {"prior": {"tau": 2}}}, "tau 1 there, 2 here"),
        ({"settings": SETTINGS | {"agent": {"name": "sac"}}}, "agent ddqn there, sac here"),
        ({"settings": SETTINGS | {"game": {"limit": 7}}}, "game.limit None there, 7 here"),
        ({"task": "pong"}, "task cartpole there, pong here"),
        ({"protocol": "standard@2"}, "protocol standard@1 there, standard@2 here"),
    ],
)
def test_another_configuration_is_not_resumed_and_nothing_overwritten(
    tmp_path: pathlib.Path, change: dict[str, Any], words: str
) -> None:
    begun(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="another configuration") as refusal:
        Store(tmp_path, IDENTITY | change, resume=True, computed_on=MACHINE)
    assert words in str(refusal.value)
    assert contents(tmp_path) == before


def test_a_finished_run_of_another_configuration_is_not_resumed(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "run.json", {"identity": IDENTITY})
    before = contents(tmp_path)
    with pytest.raises(UserError, match="seeds 4 there, 8 here"):
        Store(tmp_path, IDENTITY | {"seeds": 8}, resume=True)
    assert contents(tmp_path) == before


def test_an_interrupted_run_is_not_overwritten_by_a_new_one(tmp_path: pathlib.Path) -> None:
    begun(tmp_path)
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
    with Store(tmp_path, IDENTITY, resume=True) as store:
        assert store.complete
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    with Store(tmp_path, IDENTITY, resume=False) as store:
        assert not store.complete


def test_until_something_is_kept_a_run_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    """So a run that was stopped while it compiled is begun again by the same command."""
    out = tmp_path / "out"
    with Store(out, IDENTITY, resume=False):
        assert out.is_dir()
    assert not out.exists()
    with Store(out, IDENTITY, resume=True) as store:
        assert not store.complete and store.finished("loro") is None


def test_two_runs_at_once_are_kept_apart(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path, IDENTITY, resume=False):
        for resume in (False, True):
            with pytest.raises(
                UserError, match=r"another run is writing to .*; wait for it, or choose another"
            ):
                Store(tmp_path, IDENTITY, resume=resume)
        line = (
            "import pathlib, sys, loro_jax.running.store as s; s.Store(pathlib.Path(sys.argv[1]), {}, False)"
        )
        other = subprocess.run([sys.executable, "-c", line, tmp_path], capture_output=True, text=True)
        assert other.returncode == 1 and "another run is writing" in other.stderr
    with Store(tmp_path, IDENTITY, resume=False) as store:
        store.finish("loro", {"records": np.ones((1, 1))})


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def not_json(path: pathlib.Path) -> None:
    path.write_text('{"format": 2, "identity": {')


def a_list(path: pathlib.Path) -> None:
    path.write_text("[1, 2]")


def no_identity(path: pathlib.Path) -> None:
    path.write_text('{"seeds": 4}')


def bytes_of_no_text(path: pathlib.Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    "damage", [empty, not_json, a_list, no_identity, bytes_of_no_text, pathlib.Path.unlink]
)
def test_checkpoints_that_do_not_say_what_they_are_of_are_refused(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    begun(tmp_path)
    damage(tmp_path / "checkpoints" / "identity.json")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"identity.json cannot be read.*or delete .*checkpoints"):
        Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE)
    with pytest.raises(UserError, match="add --resume to go on, or delete"):
        Store(tmp_path, IDENTITY, resume=False, computed_on=MACHINE)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", [empty, halve, bytes_of_no_text])
def test_a_damaged_finished_arm_is_one_line(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    begun(tmp_path)
    damage(tmp_path / "checkpoints" / "loro.npz")
    with (
        Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE) as store,
        pytest.raises(UserError, match=r"loro.npz: damaged or not an .npz file .*; delete it to train loro"),
    ):
        store.finished("loro")


@pytest.mark.parametrize("damage", [empty, not_json, a_list, bytes_of_no_text])
def test_a_damaged_finished_run_is_not_taken_for_none(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    damage(tmp_path / "run.json")
    with pytest.raises(UserError, match=r"run.json: damaged"):
        Store(tmp_path, IDENTITY, resume=True)


@pytest.mark.parametrize("damage", [empty, not_json, a_list, bytes_of_no_text])
def test_damaged_seconds_are_one_line(
    population: Population, tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    store = interrupted(population, tmp_path, after=2)
    damage(tmp_path / "checkpoints" / "loro.json")
    with pytest.raises(UserError, match=r"loro.json: damaged; delete it to go on without the seconds"):
        store.restore("loro", population.start())
    (tmp_path / "checkpoints" / "loro.json").unlink()
    found = store.restore("loro", population.start())
    assert found is not None and found[1] == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "64 bits"}, "precision 64 bits there, 32 bits here"),
        ({"backend": "gpu"}, "backend gpu there, cpu here"),
        ({"devices": 8}, "devices 8 there, 2 here"),
        ({"jaxlib": "1.2.4"}, "jaxlib 1.2.4 there, 1.2.3 here"),
        ({"jaxlib": "0.1", "devices": 1}, "devices 1 there, 2 here; jaxlib 0.1 there, 1.2.3 here"),
    ],
)
def test_a_run_goes_on_only_where_the_numbers_stay_the_same(
    tmp_path: pathlib.Path, change: dict[str, Any], words: str
) -> None:
    begun(tmp_path, **change)
    before = contents(tmp_path)
    with pytest.raises(UserError) as refusal:
        Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    assert contents(tmp_path) == before


def test_another_processor_is_warned_of(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path, processor="another chip")
    with Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE) as store:
        assert store.finished("loro") is not None
    said = capsys.readouterr().err
    assert "was begun on another processor (another chip)" in said and said.count("\n") == 1


def test_checkpoints_of_another_version_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    old = {"benchmark": "cartpole", "protocol": {"budget": 60}}  # as they were before there was a format
    write_json(tmp_path / "checkpoints" / "identity.json", old)
    with pytest.raises(UserError, match="was begun by another version of loro_jax"):
        Store(tmp_path, IDENTITY, resume=True)


def test_what_cannot_be_written_is_one_line_and_leaves_the_last_checkpoint_whole(
    population: Population, uninterrupted: Progress, tmp_path: pathlib.Path
) -> None:
    """Files may grow to a few bytes only, as on a full disk."""
    store = interrupted(population, tmp_path, after=4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = store.restore("loro", population.start())
    assert found is not None

    def keep(progress: Progress) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        try:
            store.checkpoint("loro", progress, 0.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with pytest.raises(
        UserError, match=r"cannot write to .*; what was kept before is whole: make room"
    ) as said:
        train(SENTENCE, population.programs, found[0], population.known, keep)
    assert "\n" not in str(said.value)
    first, end = resume(population, tmp_path)
    assert first == 4
    assert_same(end.runs, uninterrupted.runs)


def flip(path: pathlib.Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)


@damaged
@unraisable
def test_no_flipped_bit_of_a_checkpoint_is_taken_for_its_number(
    population: Population, uninterrupted: Progress, tmp_path: pathlib.Path
) -> None:
    """Also where the file's own compression does not notice."""
    interrupted(population, tmp_path, after=5)
    step = tmp_path / "checkpoints" / "loro" / "5"
    for index, file in enumerate(f for f in files_of(step) if f.stat().st_size > 200):
        flip(file, (index % 3 + 1) / 4)
    begun, end = resume(population, tmp_path)
    assert begun in (4, 5)
    assert_same(end.runs, uninterrupted.runs)
    np.testing.assert_array_equal(end.records, uninterrupted.records)


@damaged
@unraisable
@pytest.mark.parametrize("name", ["7", "100000"])
def test_a_step_of_another_name_is_not_gone_on_from(
    population: Population, tmp_path: pathlib.Path, name: str
) -> None:
    interrupted(population, tmp_path, after=5)
    folder = tmp_path / "checkpoints" / "loro"
    (folder / "5").rename(folder / name)
    assert resume(population, tmp_path)[0] == 4


@damaged
@unraisable
def test_what_another_arm_or_run_left_is_refused(population: Population, tmp_path: pathlib.Path) -> None:
    interrupted(population, tmp_path, after=2)
    folder = tmp_path / "checkpoints"
    with Store(tmp_path, IDENTITY, resume=True) as store:
        store.finish("mix", {"records": np.ones((1, 1))})
        shutil.copytree(folder / "loro", folder / "pure_rl")
        shutil.copyfile(folder / "mix.npz", folder / "loro_keep.npz")
        with pytest.raises(UserError, match="pure_rl: no checkpoint can be read"):
            store.restore("pure_rl", population.start())
        with pytest.raises(UserError, match=r"loro_keep.npz: is of another run or arm; delete it"):
            store.finished("loro_keep")
    other = IDENTITY | {"seeds": MEMBERS + 1}
    with Store(tmp_path / "other", other, resume=False) as store:
        store.finish("loro", {"records": np.ones((1, 1))})
        shutil.copyfile(folder / "mix.npz", tmp_path / "other" / "checkpoints" / "mix.npz")
        with pytest.raises(UserError, match=r"mix.npz: is of another run or arm"):
            store.finished("mix")


def test_broken_links_are_not_taken_for_nothing(population: Population, tmp_path: pathlib.Path) -> None:
    begun(tmp_path)
    folder = tmp_path / "checkpoints"
    for name in ("mix.npz", "loro_keep"):
        (folder / name).symlink_to(tmp_path / "nowhere")
    with Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE) as store:
        with pytest.raises(UserError, match=r"mix.npz: a link to a file that is not there; delete it"):
            store.finished("mix")
        with pytest.raises(UserError, match="loro_keep: is no folder of checkpoints"):
            store.restore("loro_keep", population.start())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="checkpoints: cannot be read"):
        Store(tmp_path / "run", IDENTITY, resume=True)


@pytest.mark.parametrize("seconds", ["NaN", "true", "1e999", "-1", '"3"', "null"])
def test_seconds_that_are_no_time_are_refused(
    population: Population, tmp_path: pathlib.Path, seconds: str
) -> None:
    store = interrupted(population, tmp_path, after=1)
    (tmp_path / "checkpoints" / "loro.json").write_text(f'{{"done": 1, "seconds": {seconds}}}')
    with pytest.raises(UserError, match=r"loro.json: damaged"):
        store.restore("loro", population.start())


def test_a_finished_run_of_another_machine_is_not_called_complete(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "run.json", {"identity": IDENTITY, "computed_on": MACHINE | {"jaxlib": "1.0"}})
    with pytest.raises(
        UserError, match=r"computed on another machine or setup \(jaxlib 1.0 there, 1.2.3 here\)"
    ):
        Store(tmp_path, IDENTITY, resume=True, computed_on=MACHINE)


def test_a_long_difference_is_one_line(tmp_path: pathlib.Path) -> None:
    begun(tmp_path)
    with pytest.raises(UserError) as refusal:
        Store(tmp_path, IDENTITY | {"task": "a\nb" * 100}, resume=True, computed_on=MACHINE)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_whoever_locks_a_folder_that_is_removed_meanwhile_locks_the_new_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flock = tmp_path / "out", fcntl.flock
    calls = []

    def removed(lock: int, how: int) -> None:
        if not calls:
            out.rmdir()
        calls.append(lock)
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", removed)
    lock = files.lock_folder(out)
    monkeypatch.undo()
    assert len(calls) == 2
    with pytest.raises(UserError, match="another run is writing"):
        files.lock_folder(out)
    os.close(lock)


def test_a_folder_that_can_never_be_made_is_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where making it says that there is no such folder, as /proc does and a working folder that is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for folder in (pathlib.Path("run"), pathlib.Path("/proc/loro-jax-run")):
        with pytest.raises(UserError, match=rf"cannot write to {folder}: .*; choose another --out"):
            files.lock_folder(folder)
