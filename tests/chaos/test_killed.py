"""Real commands in processes of their own: killed, again and again as they go on, or left no room."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import harness
import pytest
from harness import Doom
from test_moments import SMALL, collected, surveyed, trained

from loro_jax.data import answers
from loro_jax.errors import UserError
from loro_jax.language import models, tables
from loro_jax.tasks import load

pytestmark = pytest.mark.chaos

TRAIN = ("benchmarks.cartpole", *SMALL, "--resume")
COLLECT = ("loro_jax.language.collect", "--prompt", "hint", "--episodes", "3", "--parallel", "2")
LAKE = ("--task", "frozen_lake", "--prompt", "map", "--samples", "3", "--episodes", "8", "--score")
SURVEY = ("loro_jax.language.survey", *LAKE)
POLE = ("--prompt", "rate", "--samples", "1", "--episodes", "8", "--most", "20")
FETCH = harness.ROOT.parent / "shared" / "tools" / "get_models.py"
NAME = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("model") / "Tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    return path


def finish(out: pathlib.Path, *line: str, **how: Any) -> str:
    """Runs the command to its end -> what it says on stderr."""
    status, said = harness.end(harness.start(Doom(str(out), **how), line[0], [*line[1:], "--out", str(out)]))
    assert status == 0, said
    return said


def killed(out: pathlib.Path, moments: list[dict[str, Any]], *line: str, **how: Any) -> None:
    """Kills the command at each moment, every time as it goes on from where the last one was killed; then
    lets it finish. A moment is a write (`at`, counted from the first on a path with `since` in it), or a
    `change` that is seen from outside, which may be one of orbax's own."""
    for moment in moments:
        change = moment.get("change", 0)
        doom = Doom(str(out), at=moment.get("at", 0), since=moment.get("since", ""), **how)
        process = harness.start(doom, line[0], [*line[1:], "--out", str(out)])
        if change:
            assert harness.killed_when_seen(process, out, change)
        else:
            status, said = harness.end(process)
            assert status == -signal.SIGKILL, (moment, said)
    finish(out, *line, **how)
    assert harness.leftovers(out) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """What a command leaves that nothing happens to, as `read` reads it; it is run once."""
    found: dict[Any, Any] = {}

    def run(read: Callable[[pathlib.Path], Any], *line: str, **how: Any) -> Any:
        if line not in found:
            out = tmp_path_factory.mktemp("whole") / "out"
            finish(out, *line, **how)
            found[line] = read(out)
        return found[line]

    return run


def test_training_is_killed(whole: Callable[..., Any], tmp_path: pathlib.Path) -> None:
    """Ten times: before and in checkpoints, between them, as results are written, moved and cleared up after.

    At a write since which a checkpoint is kept, each sitting comes further than the one before."""
    draw = random.Random(1)
    wanted, out = whole(trained, *TRAIN), tmp_path / "out"
    within = [{"at": draw.randint(1, 40)}, {"change": draw.randint(5, 25)}, {"at": draw.randint(35, 70)}]
    within += [{"at": draw.randint(1, 30), "since": "checkpoints/loro"} for _ in range(2)]
    within += [{"change": draw.randint(1, 15)}]
    writing = [{"at": n, "since": "run.partial"} for n in sorted(draw.sample(range(1, 45), 3))]
    killed(out, [*within, *writing, {"at": draw.randint(1, 4), "since": "checkpoints.partial"}], *TRAIN)
    assert trained(out) == wanted


@pytest.mark.parametrize(("line", "read"), [(COLLECT, collected), (SURVEY, surveyed)])
def test_answers_are_killed(
    whole: Callable[..., Any], gguf: pathlib.Path, tmp_path: pathlib.Path, line: Any, read: Any
) -> None:
    """Five times each: in the journal, in the dataset, in the transcript."""
    draw, given = random.Random(line[0]), (*line, "--model", str(gguf))
    wanted, out = whole(read, *given, scripted=True), tmp_path / "out"
    moments = [{"at": draw.randint(1, 5)}, {"at": draw.randint(2, 6)}, {"change": 1}]
    moments += [
        {"at": draw.randint(1, 3), "since": "card.json"},
        {"at": draw.randint(1, 2), "since": "transcript"},
    ]
    killed(out, moments, *given, scripted=True)
    assert read(out) == wanted


@pytest.mark.llm
@pytest.mark.parametrize(
    ("line", "read"),
    [
        ((COLLECT[0], "--prompt", "hint", "--episodes", "1"), lambda out: collected(out)[0]),
        (("loro_jax.language.survey", *POLE), lambda out: answers.digest(tables.read(out, load("cartpole")))),
    ],
)
def test_a_real_model_is_killed(
    whole: Callable[..., Any],
    tmp_path: pathlib.Path,
    line: tuple[str, ...],
    read: Callable[[pathlib.Path], Any],
) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    if not (models.cache() / models.KNOWN[NAME].file).is_file() and FETCH.is_file():
        subprocess.run([sys.executable, FETCH, NAME, "--out", models.cache()], check=False, timeout=200)
    try:
        model = models.find(NAME)
    except UserError as error:
        pytest.skip(str(error))
    draw = random.Random(line[0])
    given = (*line, "--model", str(model.path), "--threads", "1", "--max-tokens", "4", "--allow-unreadable")
    wanted, out = whole(read, *given), tmp_path / "out"
    killed(out, [{"at": draw.randint(3, 12)}], *given)
    assert read(out) == wanted


def mount(*given: str | pathlib.Path) -> int:
    return subprocess.run(["mount", *given], timeout=30).returncode


@contextlib.contextmanager
def a_disk_of_its_own(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
    """A file system of 64 MiB at `folder` -> what leaves so many bytes free on it; skips where none can be
    mounted."""
    folder.mkdir()
    if os.geteuid() or mount("-t", "tmpfs", "-o", "size=64m", "none", folder):
        pytest.skip("no file system can be mounted here: full disks are those of test_moments.py alone")
    filler = folder / "filler"

    def leave(free: int) -> None:
        filler.unlink(missing_ok=True)
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            there = os.statvfs(folder)
            os.posix_fallocate(file.fileno(), 0, max(1, there.f_bavail * there.f_bsize - free))

    try:
        yield leave
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=30)


ROOM = {"training": (8192, 90112), "collection": (8192, 20480), "survey": (4096, 8192)}
"""Bytes of a disk that is full soon."""
JOBS = {"training": (TRAIN, trained), "collection": (COLLECT, collected), "survey": (SURVEY, surveyed)}


def one_line(status: int, said: str, code: int) -> None:
    """The command has ended with one line that says what is wrong and how to go on."""
    lines = said.splitlines()
    assert status == 2 and [line for line in lines if line.startswith("error: ")] == lines[-1:], said
    assert os.strerror(code) in lines[-1] or (code == errno.EROFS and "read-only" in lines[-1]), said
    assert any(words in lines[-1] for words in ("goes on", "choose another --out")), said


@pytest.mark.parametrize("name", JOBS)
def test_a_disk_is_full_and_a_folder_read_only(
    whole: Callable[..., Any], gguf: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    """A real one, which takes some bytes more each time, in the midst of files; then one that may not be
    written any more; then there is room."""
    line, read = JOBS[name]
    line = line if name == "training" else (*line, "--model", str(gguf))
    how = {"scripted": name != "training"}
    wanted = whole(read, *line, **how)
    with a_disk_of_its_own(tmp_path / "disk") as leave:
        out = tmp_path / "disk" / "out"

        def run() -> tuple[int, str]:
            return harness.end(harness.start(Doom(str(out), **how), line[0], [*line[1:], "--out", str(out)]))

        for free in ROOM[name]:
            leave(free)
            one_line(*run(), errno.ENOSPC)
        leave(2**25)
        assert mount("-o", "remount,ro", tmp_path / "disk") == 0
        one_line(*run(), errno.EROFS)
        assert mount("-o", "remount,rw", tmp_path / "disk") == 0
        finish(out, *line, **how)
        assert harness.leftovers(out) == [] and read(out) == wanted


@pytest.mark.parametrize("name", JOBS)
def test_files_may_not_grow(
    whole: Callable[..., Any], gguf: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    """As where a quota is met, which needs no disk of its own."""
    line, read = JOBS[name]
    line = line if name == "training" else (*line, "--model", str(gguf))
    how = {"scripted": name != "training"}
    wanted, out = whole(read, *line, **how), tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = harness.start(Doom(str(out), **how), line[0], [*line[1:], "--out", str(out)])
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1500, limits[1]))
    one_line(*harness.end(process), errno.EFBIG)
    finish(out, *line, **how)
    assert harness.leftovers(out) == [] and read(out) == wanted


def test_nobody_hears_a_command_on_a_full_disk(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Its output goes to a file there: it ends with a line about that, and has lost nothing."""
    line, out = (*COLLECT, "--model", str(gguf)), tmp_path / "out"
    with open("/dev/full", "w") as full:
        doom = Doom(str(out), scripted=True)
        status, said = harness.end(harness.start(doom, line[0], [*line[1:], "--out", str(out)], stdout=full))
    assert status == 2 and said.count("\n") == 1 and "left on device; make room" in said, (status, said)
    finish(out, *line, scripted=True)
    assert json.loads((out / "card.json").read_text())["complete"]
