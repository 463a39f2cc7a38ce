"""Errors that are the user's to mend: commands print them as one line and exit with status 2."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the signal's number."""


LONGEST = 500
"""Characters of a line about an error; of a longer one the middle is left out."""
_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def line(text: object, most: int = LONGEST) -> str:
    """A text as one line that a terminal shows as it is: what files say may hold anything.

    >>> line("two\\nlines, \\x1b[31mred")
    'two lines, \\\\x1b[31mred'
    """
    said = str(text)
    if len(said) > 4 * most:
        said = f"{said[: 2 * most]} ... {said[-2 * most :]}"
    said = _BREAKS.sub(" ", said.strip())
    said = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)
    tail = most // 3
    return said if len(said) <= most else f"{said[: most - tail - 5]} ... {said[-tail:]}"


class UserError(Exception):
    """One line that says what is wrong and what to do about it.

    Whatever of a file it repeats, it stays one line of printable characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(line(message))


class EpisodeError(UserError):
    """A file of episodes that cannot be used: missing, truncated, corrupted or foreign."""


class AnswerError(UserError):
    """A file of answers that cannot be used: missing, truncated, corrupted or foreign."""


def command(main: Callable[[], int | None]) -> int:
    """Runs a command's `main` -> its exit status; what the user can mend is one line on stderr, and 2.

    That is a `UserError`, a file that cannot be read or written, and a JAX without a device or memory.
    Ctrl-C is one line and 130.
    """
    try:
        return main() or 0
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if (status := _told(error)) is None:
            raise
        return status


def run(main: Callable[[], int | None], stopped: Callable[[], str] = lambda: "stopped") -> NoReturn:
    """A module that is run as a command: ends the process with the status of `command`.

    Ctrl-C, or a terminating signal, ends it at once, with the line that `stopped` gives, wherever `main` does
    not handle it: an exception may be raised in a callback that swallows it, and XLA may be compiling in
    threads of its own, under which the orderly end of a process crashes. So does whatever fails.
    """

    def stop(number: int, frame: Any) -> NoReturn:
        print(f"\n{stopped()}", file=sys.stderr, flush=True)
        os._exit(128 + number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    status = command(main)
    if status:  # what could not be written may have left threads behind that nobody awaits
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # as where the output goes to the disk that is full
                stream.flush()
        os._exit(status)
    sys.exit(status)


@contextlib.contextmanager
def terminating() -> Iterator[None]:
    """A terminating signal is a Ctrl-C while the block runs."""
    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        yield
        return

    def stop(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def importing(package: str) -> None:
    """For the commands of `package`, called where it is imported: what `python -m package.x` meets before it
    comes to `command`, Ctrl-C above all, is told like what it meets there.

    For whoever else imports the package nothing changes: only while `python -m` looks for the module that
    it was given, the first argument is "-m".
    """
    asked = any(word.removeprefix("-m").startswith(f"{package}.") for word in sys.orig_argv[1:])
    if sys.argv[:1] == ["-m"] and asked:
        sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    if (status := _told(error)) is None:
        sys.__excepthook__(kind, error, trace)
    else:
        raise SystemExit(status)


def _told(error: BaseException) -> int | None:
    """Prints the line about an error that the user can mend, or about Ctrl-C -> exit status; else None."""
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    if (why := _mendable(error)) is None:
        return None
    print(f"error: {line(why)}", file=sys.stderr)
    return 2


def _mendable(error: BaseException) -> str | None:
    """One line about an error that the user can mend; None for any other."""
    said = str(error)
    if isinstance(error, UserError):
        return said
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = (f"{error.filename}: " if error.filename else "") + (error.strerror or said)
        return what + "; make room, then run it again" * full
    # JAX's own types are subclasses of RuntimeError; "cuda" without a GPU is an assertion that says nothing.
    if isinstance(error, RuntimeError | AssertionError) and "jax" in sys.modules:
        from loro_jax.running import machine

        if "initialize backend" in said or "Unknown backend" in said or not (said or machine.has_device()):
            return machine.unavailable(error)
    if isinstance(error, FloatingPointError):  # JAX_DEBUG_NANS
        return f"{' '.join(said.split())[:200]}; without JAX_DEBUG_NANS a run goes on"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        why = " ".join(said.split())[:200]
        return f"not enough memory ({why}); use fewer --seeds, or a smaller --replay-capacity"
    return None


def require(holds: bool, setting: str, message: str) -> None:
    """A `UserError` that names the setting, and its flag, unless `holds`."""
    if not holds:
        raise UserError(f"{setting} {message} (--{setting.replace('_', '-')})")


def within(flag: str, value: int, least: int, most: int) -> None:
    """A `UserError` for a number on the command line that means nothing, or more than any machine holds."""
    if value < least:
        raise UserError(f"{flag} must be at least {least}, got {value}")
    if value > most:
        raise UserError(f"{flag} must be at most {most}, got {value}")


def arguments(parse: Callable[[], T]) -> T:
    """What `parse` returns; the box that tyro draws about a mistake becomes a `UserError` of one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as error:
        if error.code != 2:
            raise
        raise UserError(_first_paragraph(said.getvalue())) from None


def _first_paragraph(box: str) -> str:
    """The words between a box's title and its next rule, and the flag that it suggests, if it does."""
    lines = [line.strip(" │|") for line in box.splitlines()[1:]]  # without the title
    paragraphs = [list(group) for words, group in groupby(lines, lambda x: bool(x.strip("─-╰╯+ "))) if words]
    said = " ".join(paragraphs[0])
    for first, *others in paragraphs[1:]:
        if first == "Perhaps you meant:" and others:
            said += f"; perhaps you meant {others[0]}"
    return f"{said} (--help lists the options)"
