"""Watches what reading a file does: how long it takes, what it starts, what it writes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

SECONDS = 60
"""That a file may take to be read, on a machine that others use too."""
MEBIBYTES = 700
"""By which the most memory that this process ever had may grow."""
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen",
          "os.startfile", "ctypes.dlopen", "pty.spawn", "webbrowser.open", "socket.connect")  # fmt: skip
"""Audit events of starting programs, or speaking to others."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TooLong(BaseException):
    """Reading does not come to an end; no `except Exception` keeps it."""


class _Watch:
    """What the audit hook, which Python never takes off again, watches for: nothing, unless it is `on`."""

    on = False
    below = ""
    seen: list[str] = []  # noqa: RUF012
    installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and (why := self.wrong(event, arguments)):
            self.seen.append(why)
            raise RuntimeError(why)

    def wrong(self, event: str, arguments: tuple[Any, ...]) -> str:
        if event in STARTS:
            return f"{event} {arguments}"[:200]
        if event == "exec" and (where := getattr(arguments[0], "co_filename", "")) and where[0] == "<":
            return "" if where.startswith("<frozen") else f"runs code of {where}"
        if event != "open" or not isinstance(arguments[2], int) or not arguments[2] & WRITES:
            return ""
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return ""
        told = os.path.abspath(os.fsdecode(path))
        allowed = told.startswith((self.below, "/dev/")) or told.endswith(".pyc")
        return "" if allowed or "__pycache__" in told else f"writes {told}"


_WATCH = _Watch()


@contextlib.contextmanager
def watching(below: pathlib.Path) -> Iterator[list[str]]:
    """Refuses, and lists, what starts a program, runs a text or writes outside `below`, in this process."""
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _Watch.installed = True
    _WATCH.seen = []
    _WATCH.below, _WATCH.on = os.path.abspath(below), True
    try:
        yield _WATCH.seen
    finally:
        _WATCH.on = False


@contextlib.contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TooLong(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
