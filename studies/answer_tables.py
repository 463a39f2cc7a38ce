"""What the tables of answers are worth: `python -m studies.answer_tables --help`.

One row for every complete table: how much of play it covers, how often the task's reference agrees, the
return of the play that its answers make, and what it cost.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.analysis import statistics
from loro_jax.analysis.formats import between, significant
from loro_jax.data import answers
from loro_jax.errors import UserError, arguments, run
from loro_jax.language import show, tables
from loro_jax.records import results
from loro_jax.tasks import Task, load
from loro_jax.tasks.loading import NAMES
from loro_jax.training import prior

MET = 200
"""Episodes of each player that weigh texts by how often they are met."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Tells what the shipped tables of answers are worth."""

    tasks: tuple[str, ...] = NAMES
    """Tasks, by name or as FILE.py:NAME."""
    folder: pathlib.Path = answers.SHIPPED
    """Where the tables are: TASK/NAME/card.json."""
    out: pathlib.Path = pathlib.Path("results/answers/tables")
    """Written as .md and .json."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    o = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.answer_tables", description=__doc__, args=argv)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for name in progress.track(o.tasks, "tasks", Console(stderr=True, highlight=False)):
        task = load(name)
        folders = sorted(card.parent for card in (o.folder / task.name).glob("*/card.json"))
        rows = [row for folder in folders if (row := describe(folder, task)) is not None]
        if rows:
            found[task.name] = rows
    if not found:
        raise UserError(f"{o.folder}: holds no complete tables (TASK/NAME/card.json)")
    with results.report(o.out) as out:
        files.write_json(out.with_suffix(".json"), found)
        files.write_text(out.with_suffix(".md"), markdown(found))
    print(markdown(found))
    return 0


def describe(folder: pathlib.Path, task: Task) -> dict[str, Any] | None:
    """A row of numbers; None where the survey is not complete."""
    card = answers.card_of(folder)
    if not card.get("complete"):
        return None
    needed = ("model", "prompt", "coverage", "prompt_tokens", "answer_tokens", "seconds")
    if missing := [key for key in needed if not card.get(key)]:
        raise UserError(f"{folder / 'card.json'}: lacks {', '.join(missing)}; survey it again")
    table = tables.read(folder, task)
    met = show.meet(task, table, MET)
    rows = met.rows(table)
    agreed, among = (of(task, table, met, rows) for of in (show.agreements, show.covered))
    unread = answers.unreadable(table.actions[table.asked], task.environment().action_space)
    # The first one: whatever is newest, the numbers stay.
    protocol = next(iter(task.settings().values())).replace(charge="episodes")
    env = task.under(protocol)
    played = prior.played(table, env, protocol, seed=1).returns
    single = []
    for place in range(table.samples):
        one = dataclasses.replace(table, actions=table.actions[:, place : place + 1], log_probs=None)
        single.append(float(prior.played(one, env, protocol, seed=1).returns.mean()))
    means = statistics.resample(len(played), 1, seed=0).T @ played / len(played)
    least = min(card["coverage"], key=lambda k: card["coverage"][k])
    return {
        "name": folder.name,
        "model": card["model"]["name"],
        "prompt": card["prompt"]["name"],
        "texts": int(table.asked.sum()),
        "answers_about_each": table.samples,
        "scored": table.log_probs is not None,
        "least_covered": least,
        "coverage": card["coverage"][least],
        "unreadable_share": float(unread.mean()),
        "agreement": None if agreed is None else float((agreed * met.shares).sum()),
        "optimal_among_first": None if among is None else among.tolist(),
        "return": float(played.mean()),
        "return_ci95": [float(end) for end in np.quantile(means, (0.025, 0.975))],
        "returns_of_single_answers": single,
        "episodes": len(played),
        "prompt_tokens": card["prompt_tokens"],
        "tail_tokens": card.get("tail_tokens"),
        "read_tokens": card.get("read_tokens"),
        "answer_tokens": card["answer_tokens"],
        "seconds": card["seconds"],
    }


def markdown(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """The tables, also of a report that is read back, which names its files beside its tasks."""
    columns = (
        "table", "texts x answers", "least covered player", "unreadable", "reference agrees",
        "return [95 %]", "one answer for ever", "tokens of all prompts", "left to read behind the head",
        "read", "answered", "seconds",
    )  # fmt: skip
    lines = [
        "# Language models as tables",
        "",
        "    python -m studies.answer_tables",
        "",
        "Least covered player: the share of its steps that are in texts which were asked about. Reference"
        f" agrees: with so many of the answers, texts weighed by how often uniform play, the answers' own and"
        f" the reference's ({MET} episodes each) meet them; an unreadable answer stands for a uniform action."
        f" Return: of {prior.EPISODES:,} episodes that the answers play, one of those about a text drawn at"
        " each step; the interval resamples episodes, the answers being given. One answer for ever: the least"
        " and the greatest return where the first answer about each text is always taken, or the second, and"
        " so on, as where a collection asks once and reuses the answer. Tokens: all samples of a text"
        " share its reading, and texts share the prompt's head; what is then read is less where a text begins"
        " as its neighbour does. Seconds are of one or two threads (the card says which), at"
        " times beside other work.",
        "",
    ]
    for name, rows in found.items():
        if name == "files":
            continue
        lines += [f"## {name}", "", "| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
        for row in rows:
            agrees = "-" if row["agreement"] is None else f"{row['agreement']:.0%}"
            cells = [
                f"`{row['name']}`" + (" (scored)" if row["scored"] else ""),
                f"{row['texts']} x {row['answers_about_each']}",
                f"{row['coverage']:.1%} ({row['least_covered']})",
                f"{row['unreadable_share']:.1%}", agrees, between(row["return"], row["return_ci95"]),
                f"{significant(min(row['returns_of_single_answers']))} to"
                f" {significant(max(row['returns_of_single_answers']))}",
                f"{row['prompt_tokens']:,}",
                *(("-" if row[k] is None else f"{row[k]:,}") for k in ("tail_tokens", "read_tokens")),
                f"{row['answer_tokens']:,}", f"{row['seconds']:,.0f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *_among(rows)]
    return "\n".join(lines)


def _among(rows: list[dict[str, Any]]) -> list[str]:
    """How often one of the first k answers is the best action, by k; nothing where there is no best one."""
    known = [row for row in rows if row.get("optimal_among_first")]
    if not known:
        return []
    most = max(len(row["optimal_among_first"]) for row in known)
    head = ["P(a best action is among the first k)", *(f"k = {k}" for k in range(1, most + 1))]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for row in known:
        shares = [f"{share:.2f}" for share in row["optimal_among_first"]]
        lines.append("| " + " | ".join([f"`{row['name']}`", *shares, *[""] * (most - len(shares))]) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    run(main)
