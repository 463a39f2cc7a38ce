"""Killed before any write, or unable to make it, and gone on with: every moment, one after the other.

A kill leaves the files as they are: so a command is run once, what lies in its folder is remembered before
each of its writes, and it is gone on with from these states. Kills of real processes are in test_killed.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import random
from collections.abc import Callable
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import Population, assert_same

from loro_jax import files
from loro_jax.data import answers
from loro_jax.data import episodes as dataset
from loro_jax.errors import UserError, command
from loro_jax.language import collect, journal, survey, tables
from loro_jax.records import results
from loro_jax.running import command as running
from loro_jax.running.store import Store
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.training.phases import Fit, Interact, Load
from loro_jax.training.population import Progress, train

pytestmark = pytest.mark.chaos

TIMES = ("seconds", "answer_tokens_per_second", "score_seconds", "command", files.SEAL, journal.HASH)


def untimed(card: Any) -> Any:
    """Without what a clock, or the folder's name, says, and the hashes of these."""
    if isinstance(card, dict):
        return {k: untimed(v) for k, v in card.items() if k not in TIMES}
    return [untimed(v) for v in card] if isinstance(card, list) else card


def recorded(folder: pathlib.Path) -> Any:
    """A sealed card, and the transcript that it has the hash of."""
    card = files.read_json(folder / "card.json")
    assert {files.SEAL, journal.HASH} <= card.keys()
    files.check_seal(folder / "card.json", card)
    record = journal.read_transcript(folder / journal.TRANSCRIPT)
    journal.check(folder, card, record)
    return untimed([card, *record])


@dataclasses.dataclass(frozen=True)
class Job:
    """A command: `run` it into a folder, or go on there; `read` all that it leaves but times; what it `had`
    left in the folder before."""

    run: Callable[[pathlib.Path, bool], int]
    read: Callable[[pathlib.Path], Any]
    had: Callable[[pathlib.Path], int] = lambda out: 0


def collected(out: pathlib.Path) -> Any:
    found = dataset.load(out, "cartpole", (4,), Discrete(2))
    return dataset.digest(found), recorded(out)


def surveyed(out: pathlib.Path) -> Any:
    found = tables.read(out, load("frozen_lake"))
    return answers.digest(found), recorded(out)


def trained(out: pathlib.Path) -> Any:
    """Arrays, summary, tables and figures by their hashes, which `run.json` has and which are checked."""
    saved = results.read(out)
    return {k: saved.run[k] for k in ("identity", "computed_on", "files")}


SMALL = (
    "--seeds", "2", "--arms", "pure_rl,loro", "--budget", "600", "--tau", "1", "--fit-steps", "5",
    "--hidden", "8", "--batch-size", "8", "--learning-starts", "20", "--eval-episodes", "1", "--devices", "2",
    "--save-policies",
)  # fmt: skip


def train_command(out: pathlib.Path, resume: bool, *more: str) -> int:
    return running.main("cartpole", [*SMALL, "--out", str(out), *more, *(["--resume"] if resume else [])])


@pytest.fixture
def jobs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    harness.stand_in(monkeypatch.setattr)
    harness.hasten(monkeypatch.setattr)
    gguf = tmp_path / "Tiny.gguf"
    gguf.write_bytes(b"GGUF" + bytes(100))

    def asks(main: Callable[[list[str]], int], *argv: str) -> Callable[[pathlib.Path, bool], int]:
        given = ["--model", str(gguf), *argv]
        return lambda out, resume: command(lambda: main([*given, "--out", str(out)]))

    lake = ("--task", "frozen_lake", "--prompt", "map", "--episodes", "8", "--samples")
    few, more = (asks(survey.main, *lake, n, "--coverage", c) for n, c in (("2", "0.3"), ("3", "0.9")))
    collection = asks(collect.main, "--prompt", "hint", "--episodes", "3", "--parallel", "2")
    return {
        "collection": Job(collection, collected),
        "survey": Job(asks(survey.main, *lake, "3", "--score"), surveyed),
        "survey that grows": Job(more, surveyed, lambda out: few(out, False)),
        "training": Job(train_command, trained),
        "training over another run": Job(
            # Killed before anything was kept there is nothing to resume, and the other run is not this one.
            lambda out, resume: train_command(out, resume) and train_command(out, False),
            trained,
            lambda out: train_command(out, False, "--seed", "1"),
        ),
    }


ASKING = ("collection", "survey", "survey that grows")


def states(job: Job, tmp: pathlib.Path) -> list[harness.State]:
    """The folder before each of the job's writes."""
    of = tmp / "watched" / "out"
    of.parent.mkdir()
    assert job.had(of) == 0
    with harness.watched(of, taken := harness.Snapshots(of)):
        assert job.run(of, False) == 0
    return taken.found


def whole(job: Job, tmp: pathlib.Path) -> Any:
    """What the job leaves that nothing happens to."""
    out = tmp / "whole" / "out"
    out.parent.mkdir()
    assert job.had(out) == job.run(out, False) == 0
    assert harness.leftovers(out) == []
    return job.read(out)


def goes_on(
    job: Job, state: harness.State, tmp: pathlib.Path, wanted: Any, draw: random.Random | None = None
) -> None:
    """The same command, told to resume, ends as if nothing had happened, and leaves nothing half-written; it
    does so from two moments of its own as well, where there is a `draw`."""
    out = harness.put(state, tmp / "again" / "out")
    taken = harness.Snapshots(out)
    with harness.watched(out, taken) if draw else contextlib.nullcontext():
        assert job.run(out, True) == 0, sorted(state)
    assert job.read(out) == wanted, sorted(state)
    assert harness.leftovers(out) == [], sorted(state)
    if draw:
        for later in draw.sample(taken.found, min(2, len(taken.found))):
            goes_on(job, later, tmp, wanted)


def refused(read: Callable[[pathlib.Path], Any], folder: pathlib.Path) -> str:
    """The line in which reading is refused; none where it is not."""
    try:
        read(folder)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    except FileNotFoundError:  # a transcript, which ends a collection
        return ""
    return ""


@pytest.mark.parametrize("name", ASKING)
def test_killed_before_any_write_of_answers(jobs: dict[str, Job], tmp_path: pathlib.Path, name: str) -> None:
    """Also within a line of the journal, and once more while it goes on; of a collection's rounds some."""
    job, draw = jobs[name], random.Random(name)
    wanted, found = whole(job, tmp_path), states(job, tmp_path)
    assert len(found) > 15
    seen = [set(state) | {len(state.get("card.json") or b"")} for state in found]
    for place, state in enumerate(found):
        if name == "collection" and place and seen[place] == seen[place - 1] and draw.random() < 0.6:
            continue  # one round more in the journal
        if {"episodes.npz", "answers.npz"} & state.keys():
            why = refused(job.read, harness.put(state, tmp_path / "read" / "out"))
            assert not why or "was stopped here goes on" in why or journal.TRANSCRIPT in why, why
        goes_on(job, state, tmp_path, wanted, draw if draw.random() < 0.15 else None)
        lines = state.get(journal.JOURNAL)
        if lines and draw.random() < 0.3:
            last = lines.rstrip(b"\n").rfind(b"\n") + 1
            torn = {**state, journal.JOURNAL: lines[: draw.randint(last, len(lines) - 1)]}
            goes_on(job, torn, tmp_path, wanted)


@pytest.mark.parametrize("name", ["training", "training over another run"])
def test_killed_before_a_write_of_a_run(jobs: dict[str, Job], tmp_path: pathlib.Path, name: str) -> None:
    """Some moments of training, more of those from the last arm's end on; some once more while it goes on."""
    job, draw = jobs[name], random.Random(name)
    wanted, found = whole(job, tmp_path), states(job, tmp_path)
    ended = next(i for i, state in enumerate(found) if "checkpoints/loro.npz" in state)
    for state in [*draw.sample(found[1:ended], 4), *draw.sample(found[ended:], 16), *found[-3:]]:
        goes_on(job, state, tmp_path, wanted, draw if draw.random() < 0.15 else None)


def write(out: pathlib.Path, number: int) -> int:
    """A run that has trained its arms and writes its results; as they say, it is resumed."""
    identity = IDENTITY | {"seed": number}
    try:
        store = Store(out, identity, resume=True)
    except UserError as error:
        assert "leave out --resume to run this one in its place" in str(error)
        store = Store(out, identity, resume=False)
    with store:
        if store.complete:
            return 0
        arms = {"loro": np.full((2, 3), number), "pure_rl": np.zeros((2, 3))}
        for arm, records in arms.items():
            if store.finished(arm) is None:
                store.finish(arm, {"records": records})
        kept = {arm: store.finished(arm) for arm in arms}
        curves = {arm: found["records"] for arm, found in kept.items() if found is not None}
        with results.together(out) as folder:
            files.write_npz(folder / "curves.npz", {**curves, "env_steps": np.arange(3)})
            files.write_npz(folder / "details.npz", {f"flat/{number}": np.ones(number + 1)})
            for name in ("tables/arms.csv", f"tables/{number}.csv", "figures/curves.pdf"):
                (folder / name).parent.mkdir(exist_ok=True)
                files.write_text(folder / name, f"{name} of {number}")
            files.write_json(folder / results.RUN, {"identity": identity})
        store.clear()
    return 0


@pytest.mark.parametrize("over", [False, True])
def test_killed_before_any_write_of_results(tmp_path: pathlib.Path, over: bool) -> None:
    """Every moment, and some moments of going on from it; also over another run, whose files go."""

    def before(out: pathlib.Path) -> int:
        return write(out, 0) if over else 0

    def again(out: pathlib.Path, resume: bool) -> int:
        return write(out, 1)

    def told(out: pathlib.Path) -> Any:
        return harness.state_of(out)

    job, draw = Job(again, told, before), random.Random(over)
    wanted, found = whole(job, tmp_path), states(job, tmp_path)
    assert len(found) >= 40
    for state in found:
        if results.RUN in state:
            results.read(harness.put(state, tmp_path / "read" / "out"))  # the run of before, or this one
        goes_on(job, state, tmp_path, wanted, draw if draw.random() < 0.4 else None)


SENTENCE = [Load(30), Fit(4), Interact(20)]
"""Its third checkpoint is the first that removes one."""
IDENTITY = {
    "schema": 2, "task": "cartpole", "protocol": "standard@1", "settings": {}, "seeds": 4, "seed": 0,
    "episodes": None, "arms": {},
}  # fmt: skip


def test_killed_before_any_write_of_a_checkpoint(population: Population, tmp_path: pathlib.Path) -> None:
    """What had been kept when the process was killed is found, to the bit, and training goes on from there to
    checkpoints that are found as well."""
    reached: dict[int, Progress] = {}
    out = tmp_path / "watched" / "out"
    out.parent.mkdir()
    taken, kept, before = harness.Snapshots(out), 0, list[int]()
    draw = random.Random(0)

    def act(number: int, event: str, path: str) -> None:
        taken(number, event, path)
        before.extend([kept] * (len(taken.found) - len(before)))

    def keep(progress: Progress) -> None:
        nonlocal kept
        copy = jax.tree.map(jnp.copy, progress.runs)
        reached[progress.done] = dataclasses.replace(progress, runs=copy)
        store.checkpoint("loro", progress, 1.0)
        kept = progress.done

    start = Progress(0, population.start(), np.zeros((4, 0), np.float32))
    with harness.watched(out, act), Store(out, IDENTITY, resume=False) as store:
        train(SENTENCE, population.programs, start, population.known, keep)
        store.finish("loro", {"records": np.ones((4, 3))})
    assert len(taken.found) > 100
    for state, kept in zip(taken.found, before, strict=True):
        again = harness.put(state, tmp_path / "again" / "out")
        with Store(again, IDENTITY, resume=True) as store:
            if store.finished("loro") is not None:
                assert kept == len(SENTENCE)
                continue
            found = store.restore("loro", population.start())
            done = 0 if found is None else found[0].done
            assert done >= kept
            if found is not None:
                assert_same(found[0].runs, reached[done].runs)
                np.testing.assert_array_equal(found[0].records, reached[done].records)
            if on := done < len(SENTENCE) and draw.random() < 0.3:
                store.checkpoint("loro", reached[done + 1], 1.0)
        if not on:
            continue
        with Store(again, IDENTITY, resume=True) as store:
            later = store.restore("loro", population.start())
            assert later is not None and later[0].done == done + 1
            store.finish("loro", {"records": np.ones((4, 3))})
            store.clear()
        assert harness.leftovers(again) == []


@pytest.mark.parametrize("name", [*ASKING, "training"])
def test_what_cannot_be_written_is_one_line(
    jobs: dict[str, Job], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A disk that is full, or a folder that may not be written, from some write on; then again from another,
    as it goes on; in the end nothing has been lost."""
    job, draw = jobs[name], random.Random(name)
    wanted, out = whole(job, tmp_path), tmp_path / "again" / "out"
    out.parent.mkdir()
    assert job.had(out) == 0
    capsys.readouterr()
    ends = 0
    for code in (errno.ENOSPC, errno.EROFS) * 5:
        with harness.watched(out, harness.failing(draw.randint(1, 90 if name == "training" else 9), code)):
            status = job.run(out, True)
        said = capsys.readouterr().err.splitlines()
        if status == 0:
            continue
        ends += 1
        assert status == 2 and [line for line in said if line.startswith("error: ")] == said[-1:], said
        assert os.strerror(code) in said[-1], said
        assert any(words in said[-1] for words in ("goes on", "choose another --out")), said
    assert ends > 3
    goes_on(job, harness.state_of(out), tmp_path, wanted)
