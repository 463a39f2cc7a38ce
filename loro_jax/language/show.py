"""Prints a table of answers: its texts, what was answered, and how far the task's reference agrees.

    python -m loro_jax.language.show results/answers/frozen_lake/smollm2-135m-instruct-map
    python -m loro_jax.language.show results/answers/cartpole/A --against results/answers/cartpole/B

Texts come in the order of how often players (uniform, the table's own answers, the reference) are in them, or
with --against in the order of how much the two tables' answers differ there.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import sys
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table as Printed

from loro_jax import errors, tasks
from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError, command, within
from loro_jax.language import collect, players, tables
from loro_jax.spaces import Discrete
from loro_jax.tasks import Task
from loro_jax.tasks.actions import Reader, Spoken
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.reference import agreement, by_chance, preferences

WIDE = 200
"""Columns, where the output is no terminal."""
NUMBERS = ("met", "reference agrees", "apart")
"""Columns of numbers."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Prints a table of answers: its texts, what was answered, and how far the reference agrees."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """a survey's folder, which holds answers.npz and card.json"""
    against: pathlib.Path | None = None
    """another survey of the same task: shows where the two differ"""
    task: str | None = None
    """the task, where it is one of your own: FILE.py:NAME"""
    rows: int = 40
    """texts that are shown; 0 shows all"""
    episodes: int = 200
    """episodes of each player that says how often a text is met"""


def read(folder: pathlib.Path, name: str | None = None) -> tuple[Answers, Task]:
    """The table in `folder`, and the task that it is about."""
    about = answers.environment_of(folder)
    if name is None and about not in tasks.NAMES:
        raise UserError(f"{folder} is about '{about}', a task of one's own: name it with --task FILE.py:NAME")
    task = tasks.load(name or about)
    return tables.read(folder, task), task


@dataclasses.dataclass(frozen=True)
class Met:
    """Observations (N, *obs) that players meet, the share of the play that each is of, (N,), and the rows
    that they have in a table, (N,)."""

    observations: np.ndarray
    shares: np.ndarray

    def rows(self, table: Answers) -> np.ndarray:
        """Each observation's row: its own text's, or the nearest one's that was asked about."""
        digits = np.asarray(answers.digits_of(table.coding)(self.observations))
        return table.nearest(digits)


def meet(task: Task, table: Answers, episodes: int) -> Met:
    """What uniform play, the table's own answers and the reference meet, each a like share."""
    env = task.environment()
    known = dict(zip(map(tuple, table.digits[table.asked].tolist()), table.actions[table.asked], strict=True))
    acts = [players.uniform(env), players.answering(env, table.coding, known)]
    if task.reference is not None:
        acts.append(players.reference(task))
    seen = [players.observations(env, act, episodes, seed) for seed, act in enumerate(acts)]
    shares = np.concatenate([np.full(len(s), 1 / len(s) / len(seen)) for s in seen])
    return Met(np.concatenate(seen), shares)


def said(actions: np.ndarray, reader: Reader, space: Any, listed: np.ndarray | None = None) -> str:
    """The answers about one text (n, *action) in words, the commonest first; and how many name none of the
    actions (A,) that the text lists, where it lists any."""
    unread = answers.unreadable(actions, space)
    if listed is not None:
        absent = np.array([not gone and not listed[a] for a, gone in zip(actions, unread, strict=True)])
        told = said(actions[~absent], reader, space)
        return ", ".join([told] * bool(told) + [f"none of the options {absent.sum()}"] * bool(absent.any()))
    if isinstance(space, Discrete):
        words = words_of(reader)
        counted = collections.Counter(words.get(int(a), str(int(a))) for a in actions[~unread])
        parts = [f"{word} {times}" for word, times in sorted(counted.items(), key=lambda x: (-x[1], x[0]))]
    else:
        values = np.sort(actions[~unread].ravel())
        parts = [" ".join(f"{v:g}" for v in values)] if len(values) else []
    return ", ".join(parts + [f"unreadable {int(unread.sum())}"] * bool(unread.any()))


def options_of(table: Answers) -> list[np.ndarray | None]:
    """The actions that each text lists, bool (A,); None where texts list none."""
    return [None] * len(table.digits) if table.legal is None else list(table.legal)


def words_of(reader: Reader) -> dict[int, str]:
    """The word of each action that has one."""
    if not isinstance(reader, Spoken):
        return {}
    return {reader.action(i): word for i, word in enumerate(reader.words)}


def scored(log_probs: np.ndarray, reader: Reader, listed: np.ndarray | None = None) -> str:
    """The model's probability of each action (A,) in words, the likeliest first; of those that the text lists
    where it lists any, among which they are not made to sum to 1."""
    words = words_of(reader)
    order = [a for a in np.argsort(-log_probs, kind="stable") if listed is None or listed[a]]
    return ", ".join(f"{words.get(int(a), str(int(a)))} {np.exp(log_probs[a]):.0%}" for a in order)


def right(task: Task, table: Answers, met: Met, rows: np.ndarray) -> np.ndarray | None:
    """How likely each answer about each observation is one that the reference would give too, (N, n): 1 or 0,
    and of an answer that is unreadable, or no action that there is, for which a seed draws one of those that
    there are, by that draw. None where the task has no reference."""
    if task.reference is None:
        return None
    drawn, env = table.actions[rows], task.environment()
    space = env.action_space
    if isinstance(space, Discrete):
        wanted, there = preferences(task, met.observations), legal_of(env, met.observations)
        agrees, readable = (np.take_along_axis(x, np.maximum(drawn, 0), axis=1) for x in (wanted, there))
        return np.where((drawn >= 0) & readable, agrees, by_chance(wanted, there)[:, None])
    found = np.zeros(drawn.shape[:2])
    for k in range(table.samples):
        unread = answers.unreadable(drawn[:, k], space)
        agrees, chance = agreement(task, met.observations, np.where(unread[:, None], 0, drawn[:, k]))
        found[:, k] = np.where(unread, chance, agrees)
    return found


def agreements(task: Task, table: Answers, met: Met, rows: np.ndarray) -> np.ndarray | None:
    """For each observation the share of its answers that the reference would give too, as `right` has it,
    (N,); None where the task has no reference."""
    agreed = right(task, table, met, rows)
    return None if agreed is None else agreed.mean(axis=1)


def covered(task: Task, table: Answers, met: Met, rows: np.ndarray) -> np.ndarray | None:
    """The share of the play in observations for which one of the first k answers is an action that the
    reference holds for the best, as `right` has it, by k = 1 to n, (n,): of what proposals are there to
    choose from. None where the task has no reference, or its actions are continuous."""
    if not isinstance(task.environment().action_space, Discrete):
        return None
    agreed = right(task, table, met, rows)
    return None if agreed is None else np.asarray(met.shares @ (1.0 - np.cumprod(1.0 - agreed, axis=1)))


def apart(one: np.ndarray, other: np.ndarray, space: Any, there: np.ndarray | None = None) -> float:
    """How far answers (n, *action) are from others (m, *action): the total variation distance between their
    shares of the actions, or the distance between their means where actions are continuous. An unreadable
    one stands for a uniform action, of those that there are if that is said, bool (A,) or fewer."""
    if isinstance(space, Discrete):
        of = np.ones(space.n) if there is None else np.pad(there, (0, space.n - len(there)))
        uniform = of / of.sum()
        shares = [
            np.bincount(x[x >= 0], minlength=space.n) / len(x) + (x < 0).mean() * uniform
            for x in (one, other)
        ]
        return float(np.abs(shares[0] - shares[1]).sum() / 2)
    middle = (np.asarray(space.low) + np.asarray(space.high)) / 2
    means = [np.where(np.isnan(x), middle, x).mean(axis=0) for x in (one, other)]
    return float(np.abs(means[0] - means[1]).mean())


def main(arguments: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.language.show"
    settings = errors.arguments(lambda: tyro.cli(Settings, args=arguments, description=__doc__, prog=prog))
    within("--rows", settings.rows, 0, 1_000_000)
    within("--episodes", settings.episodes, 1, 100_000)
    with collect.on_cpu():
        table, task = read(settings.folder, settings.task)
        other = None
        if settings.against is not None:
            other, there = read(settings.against, settings.task)
            if there.name != task.name:
                raise UserError(
                    f"{settings.against} is about {there.name}, {settings.folder} is about {task.name}"
                )
        met = meet(task, table, settings.episodes)
        print_table(task, table, other, met, settings.rows)
    return 0


def print_table(task: Task, table: Answers, other: Answers | None, met: Met, most: int) -> None:
    """What the command prints."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    space = task.environment().action_space
    assert task.words is not None
    reader, rows = task.words.reader, met.rows(table)

    def mean(values: np.ndarray) -> np.ndarray:
        """Of something of each observation (N,), by text, (T,); 0 where nobody was."""
        total = np.bincount(rows, met.shares * values, minlength=len(table.digits))
        return np.divide(total, times, out=np.zeros(len(times)), where=times > 0)

    times = np.bincount(rows, met.shares, minlength=len(table.digits))
    columns = {"met": [f"{share:.2%}" for share in times]}
    listed = options_of(table)
    columns["answers"] = [
        said(actions, reader, space, mask) for actions, mask in zip(table.actions, listed, strict=True)
    ]
    if table.log_probs is not None:
        columns["scores"] = [
            scored(each, reader, mask) for each, mask in zip(table.log_probs, listed, strict=True)
        ]
    console.print(f"{table.name}: {heading(table, space)}", markup=False, soft_wrap=True)
    agreed = agreements(task, table, met, rows)
    if agreed is not None:
        console.print(f"The reference agrees with {(agreed * met.shares).sum():.1%} of the answers.")
        columns["reference agrees"] = [f"{share:.0%}" for share in mean(agreed)]
    by = times
    if other is not None:
        there = met.rows(other)
        pairs, place = np.unique(np.stack([rows, there]), axis=1, return_inverse=True)
        distances = np.array(
            [apart(table.actions[a], other.actions[b], space, listed[a]) for a, b in pairs.T]
        )
        far = distances[place.ravel()]
        by = times * mean(far)
        console.print(f"against {other.name}: {heading(other, space)}", markup=False, soft_wrap=True)
        console.print(f"The two differ by {by.sum():.3f} on average ({unit(space)}).")
        their_options = options_of(other)
        theirs: dict[int, str] = {}  # of its texts that stand for the same, the one that is met most
        for pair in np.argsort(np.bincount(place.ravel(), met.shares), kind="stable"):
            a, b = pairs[:, pair].tolist()
            several = int((pairs[0] == a).sum())
            of = f" (in the commonest of {several} texts)" if several > 1 else ""
            theirs[a] = said(other.actions[b], reader, space, their_options[b]) + of
        columns["the other's"] = [theirs.get(row, "-") for row in range(len(times))]
        columns["apart"] = [f"{distance:.2f}" for distance in mean(far)]
    order = [row for row in np.lexsort((np.arange(len(by)), -by)) if table.asked[row]]
    shown = order[:most] if most else order
    printed = Printed(box=None, padding=(0, 2, 0, 0))
    for name in [f.name for f in table.coding.fields] + list(columns):
        printed.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in shown:
        told = table.coding.texts(table.digits[row].tolist()).values()
        printed.add_row(*map(plain, [*told, *(cells[row] for cells in columns.values())]))
    console.print(printed)
    if len(shown) < len(order):
        console.print(f"{len(shown)} of {len(order)} texts; --rows 0 shows all")


def heading(table: Answers, space: Any) -> str:
    """One line about a table."""
    card = table.card
    covered = card.get("coverage", {})
    least = min(covered, key=lambda k: covered[k]) if covered else None
    says = [f"{int(table.asked.sum())} texts, {table.samples} answers about each"]
    unread = answers.unreadable(table.actions[table.asked], space).mean()
    says.append(f"{unread:.1%} unreadable")
    if table.legal is not None:
        named = np.take_along_axis(table.legal, np.maximum(table.actions, 0), axis=1) | (table.actions < 0)
        if absent := float((~named[table.asked]).mean()):
            says.append(f"{absent:.1%} name none of the options")
    if least is not None:
        says.append(f"least covered player: {least}, {covered[least]:.1%} of its steps")
    return "; ".join(says)


def unit(space: Any) -> str:
    return "total variation distance" if isinstance(space, Discrete) else "distance of the means"


def plain(cell: str) -> str:
    """A cell's text, in which rich shall see no markup."""
    return cell.replace("[", r"\[")


if __name__ == "__main__":
    sys.exit(command(main))
