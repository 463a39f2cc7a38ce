"""Progress of long work: a bar where a terminal is attached, a line every half minute where none is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import ProgressColumn
from rich.progress import track as rich_track

T = TypeVar("T")

SECONDS = 30.0


def live(console: Console) -> bool:
    """Whether `console` can redraw what it has written."""
    return console.is_terminal or console.is_jupyter


@contextmanager
def lines(console: Console, say: Callable[[], str]) -> Iterator[None]:
    """Prints `say()` every `SECONDS` while the block runs, in a thread, unless the console is live."""
    if live(console):
        yield
        return
    over = threading.Event()

    def speak() -> None:
        while not over.wait(SECONDS):
            console.print(say(), soft_wrap=True, markup=False, highlight=False)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Says `what` while the block runs: as a status on a terminal, else in lines with the time so far."""
    began = time.monotonic()
    with console.status(what), lines(console, lambda: f"{what}: {words(time.monotonic() - began)} so far"):
        yield


@contextmanager
def bar(console: Console, *columns: ProgressColumn) -> Iterator[Bar]:
    """A bar with one task, which the block adds; its description, share and time left in lines elsewhere."""
    with Bar(*columns, console=console, disable=not live(console)) as shown:

        def say() -> str:
            if not shown.tasks:
                return "starting"
            task = shown.tasks[0]
            left = "" if task.time_remaining is None else f", about {words(task.time_remaining)} left"
            return f"{task.description}: {task.percentage:.0f}% after {words(task.elapsed or 0)}{left}"

        with lines(console, say):
            yield shown


def track(items: Iterable[T], description: str, console: Console, total: int | None = None) -> Iterator[T]:
    """The items, with a bar, or lines that count them; `total` says how many, where they have no length."""
    at, total = 0, len(items) if isinstance(items, Sized) else total
    with lines(console, lambda: f"{description}: {at} of {total} done"):
        for item in rich_track(items, description, total, console=console, disable=not live(console)):
            yield item
            at += 1


def words(seconds: float) -> str:
    """12 s, 8 min, 2 h 10 min."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
