"""Moments of writing, and what happens to a command there.

`python harness.py MODULE ARGUMENTS` is `python -m MODULE ARGUMENTS`, which at the write that `CHAOS` names
(see `Doom`) is killed, or finds no room, or may not write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import faulthandler
import hashlib
import importlib
import json
import os
import pathlib
import random
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent.parent
LONGEST = 240
"""Seconds after which a command says where it hangs, and ends; one takes a twentieth on an idle machine."""
LEFTOVERS = (".partial", ".tmp", ".orbax-checkpoint-tmp", ".lock", ".unreadable")

Act = Callable[[int, str, str], None]
"""Called before each write with its number, from 1 on, what it is and its path."""


class _Watch:
    """The one audit hook of this process, which cannot be taken out again: off but for `watched`."""

    def __init__(self) -> None:
        self.under, self.act, self.count = "", None, 0
        self.lock, self.busy = threading.RLock(), threading.local()
        self.installed = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.act is None or not (path := _written(event, args)) or getattr(self.busy, "now", False):
            return
        if path == self.under or path.startswith(self.under + os.sep):
            self.busy.now = True
            try:
                with self.lock:
                    self.count += 1
                    self.act(self.count, event, path)
            finally:
                self.busy.now = False


_watch = _Watch()


def _written(event: str, args: tuple[Any, ...]) -> str:
    """The absolute path that an audited event creates, changes, moves or removes; none of the others."""
    if event == "open":
        named, _, flags = args
        read_only = not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return "" if read_only or isinstance(named, int) else os.path.abspath(os.fsdecode(named))
    if event not in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.fsync"):
        return ""
    named, folder = args[0], args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
    if isinstance(named, int):
        return os.path.realpath(f"/proc/self/fd/{named}")
    beside = os.path.realpath(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else ""
    return os.path.abspath(os.path.join(beside, os.fsdecode(named)))


@contextlib.contextmanager
def watched(under: pathlib.Path, act: Act) -> Iterator[_Watch]:
    """Calls `act` before every write of this process to what lies in `under`, until the block ends.

    Writes are those that Python announces (files opened to be written, moved, removed, folders made) and what
    is flushed to the disk. What orbax's library writes by itself lies between them.
    """
    if not _watch.installed:
        sys.addaudithook(_watch)
        flush = os.fsync
        os.fsync = lambda file: (sys.audit("os.fsync", file), flush(file))[1]
        _watch.installed = True
    _watch.under, _watch.count, _watch.act = os.path.realpath(under), 0, act
    try:
        yield _watch
    finally:
        _watch.act = None


State = Mapping[str, bytes | None]
"""What lies in a folder: each file's bytes by its path, None for a folder."""


def state_of(folder: pathlib.Path) -> State:
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # which another thread has just moved
            found[path.relative_to(folder).as_posix()] = None if path.is_dir() else path.read_bytes()
    return found


def put(state: State, folder: pathlib.Path) -> pathlib.Path:
    """Makes a folder that is in that state -> the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in state.items():
        if data is None:
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


class Snapshots:
    """What a kill at each write would leave: a folder's states, each once, in `found`."""

    def __init__(self, of: pathlib.Path) -> None:
        self.of = of
        self.found: list[State] = []
        self.seen: set[frozenset[tuple[str, int]]] = set()

    def __call__(self, number: int, event: str, path: str) -> None:
        state = state_of(self.of)
        if (known := frozenset((name, hash(data)) for name, data in state.items())) not in self.seen:
            self.seen.add(known)
            self.found.append(state)


def failing(number: int, code: int) -> Act:
    """From that write on nothing can be written; on a full disk removing still works."""

    def act(now: int, event: str, path: str) -> None:
        if now >= number and not (code == errno.ENOSPC and event in ("os.remove", "os.rmdir")):
            raise OSError(code, os.strerror(code), path)

    return act


@dataclasses.dataclass(frozen=True)
class Doom:
    """What happens to a command: SIGKILL, or an `error` at and after, the write `at` below `under`.

    Writes are counted from the first one on whose path has `since` in it. `quick`: see `hasten`;
    `scripted`: see `stand_in`.
    """

    under: str
    at: int = 0
    since: str = ""
    error: int = 0
    quick: bool = True
    scripted: bool = False


def start(
    doom: Doom, module: str, argv: Sequence[str], stdout: Any = subprocess.PIPE
) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CHAOS": json.dumps(dataclasses.asdict(doom))}
    return subprocess.Popen(
        [sys.executable, __file__, module, *argv], env=environment, stdout=stdout, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str], most: float = LONGEST + 30) -> tuple[int, str]:
    """-> its status and what it said on stderr; kills what has not ended by itself after `most` seconds."""
    try:
        _, said = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        kill(process.pid)
        _, said = process.communicate()
        raise AssertionError(f"a command hung: {said}") from None
    return process.returncode, said


def kill(leader: int) -> None:
    """Kills a command and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def killed_when_seen(process: subprocess.Popen[str], folder: pathlib.Path, change: int) -> bool:
    """Kills the process and its children at so many changes that are seen from outside -> whether it was."""
    before, seen = _seen(folder), 0
    while process.poll() is None:  # which it is after LONGEST
        if (now := _seen(folder)) != before:
            before, seen = now, seen + 1
            if seen >= change:
                kill(process.pid)
                break
        time.sleep(0.002)
    return end(process)[0] == -signal.SIGKILL


def _seen(folder: pathlib.Path) -> list[tuple[str, int]]:
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found.append((os.path.join(path, name), os.stat(os.path.join(path, name)).st_size))
    return sorted(found)


def leftovers(folder: pathlib.Path) -> list[str]:
    """What no finished command leaves behind."""
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
    return [n for n in names if n.endswith(LEFTOVERS) or "checkpoints" in n or n.endswith("journal.jsonl")]


class Scripted:
    """Stands in for llama.cpp: its answers follow from the question and its seed; one in eight is none."""

    versions: Mapping[str, str] = {"scripted": "1"}

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def complete(self, queries: Sequence[Any]) -> list[Any]:
        from loro_jax.language.backend import Completion

        return [Completion(_said(q), 9, 3, False) for q in queries]

    def score(self, queries: Sequence[Any], words: Sequence[str]) -> list[list[float]]:
        numbers = (random.Random(f"{q.tail} {q.start}") for q in queries)
        return [[-1 - number.random() for _ in words] for number in numbers]


def _said(query: Any) -> str:
    words = ("left", "right") if "pole" in query.head + query.tail else ("left", "down", "right", "up")
    number = hashlib.sha256(f"{query.tail} {query.seed}".encode()).digest()[0]
    return "..." if number % 8 == 0 else f"Action: {words[number % len(words)]}"


def stand_in(replace: Callable[[Any, str, Any], None]) -> None:
    """Puts `Scripted` in the model's place, and makes collections and surveys short."""
    from loro_jax.language import collect, llamacpp, survey

    replace(llamacpp, "LlamaCpp", Scripted)
    replace(collect, "RANDOM_EPISODES", 20)
    replace(survey, "ROUND", 4)


def hasten(replace: Callable[[Any, str, Any], None]) -> None:
    """A checkpoint after every piece, of the figures one, quickly drawn, no agents trained for surveys."""
    from loro_jax.analysis import figures
    from loro_jax.language import players
    from loro_jax.running import trainer

    def drawn(summary: Any, curves: Any, steps: Any, flat: Any, out: pathlib.Path, **_: Any) -> None:
        from loro_jax import files

        out.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "pdf"):
            files.write_text(out / f"curves.{kind}", str(curves))

    replace(trainer, "CHECKPOINT_SECONDS", 0.0)
    replace(figures, "draw_all", drawn)
    replace(players, "trained", lambda task, game: players.uniform(task.environment(**game)))


def _main() -> None:
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    doom, module = Doom(**json.loads(os.environ["CHAOS"])), sys.argv[1]
    from loro_jax import errors

    if doom.scripted:
        stand_in(setattr)
    if doom.quick:
        hasten(setattr)
    begun: list[int] = []

    def act(number: int, event: str, path: str) -> None:
        if not begun and doom.since in path:
            begun.append(number - 1)
        if not doom.at or not begun or number - begun[0] < doom.at:
            return
        if doom.error:
            failing(0, doom.error)(number, event, path)
        else:
            kill(os.getpid())  # `start` has made it the leader of its group

    sys.argv[:] = sys.argv[1:]
    with watched(pathlib.Path(doom.under), act):
        if doom.scripted:  # not anew: the model's part is played in the module that is there
            sys.exit(errors.command(importlib.import_module(module).main))
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
