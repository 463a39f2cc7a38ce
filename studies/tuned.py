"""The page of a search, from what `studies.tune` wrote: `python -m studies.tuned --help`.

One table of winners, and for each task the settings that were taken and the other finalists.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from loro_jax import files
from loro_jax.errors import UserError, arguments, run
from loro_jax.tasks import NAMES, load
from loro_jax.tasks.base import NAME
from studies.goals import GOALS
from studies.tune import sound


@dataclasses.dataclass(frozen=True)
class Options:
    out: pathlib.Path = pathlib.Path("results/tuning/standard@2")
    """Folder with the <task>-<arm>.json of `studies.tune`; README.md is written there."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.tuned", description=__doc__, args=argv)
    )
    records = []
    for path in sorted(options.out.glob("*-*.json")):
        record = files.read_json(path)
        if record.get("winner"):
            if not _whole(record):
                raise UserError(f"{path}: damaged, no search as studies.tune keeps it; move it away")
            records.append(record)
    if not records:
        raise UserError(f"{options.out}: no search with a winner; run python -m studies.tune")
    path = options.out / "README.md"
    files.write_text(path, page(records, options.out.resolve().name))
    print(f"{len(records)} searches: {path}")
    return 0


def _whole(r: Mapping[str, Any]) -> bool:
    """Whether all that the page says of a search is there."""
    texts, numbers = ("task", "from", "goal"), ("budget", "final_seeds")
    rows, trials = r.get("finalists"), r.get("trials")
    return (
        all(isinstance(r.get(k), str) for k in texts)
        and NAME.fullmatch(r["task"]) is not None
        and "\n" not in r["from"] + r["goal"]
        and all(type(r.get(k)) is int for k in numbers)
        and r.get("arm") in [arm for arm, *_ in ARMS]
        and isinstance(trials, list)
        and all(isinstance(t, dict) and isinstance(t.get("state"), str) for t in trials)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and "backend" in row and sound(row) for row in (*rows, r["winner"]))
    )


def page(records: Sequence[Mapping[str, Any]], name: str = "standard@2") -> str:
    """Markdown of searches that have winners, in a folder called so."""
    out = "" if name == "standard@2" else f" --out results/tuning/{name}"
    lines = [f"# The searches behind `{name}`" if "@" in name else f"# The searches of `{name}`", ""]
    for arm, flags in (
        ("pure_rl", ""),
        ("loro", " --arm loro --trials 20"),
        ("ppo", " --arm ppo --trials 20"),
        ("a2c", " --arm a2c --trials 20"),
    ):
        first: dict[tuple[bool, str], str] = {}  # of each kind of search one task stands for all
        for r in sorted((r for r in records if r["arm"] == arm), key=_place):
            first.setdefault((r.get("lean", False), r["from"]), r["task"])
        for (lean, began), task in sorted(first.items()):
            more = flags + " --lean" * lean
            lines.append(f"    python -m studies.tune --protocol {began} --task {task} --jobs 2{more}{out}")
    lines += [
        f"    python -m studies.tuned{out}", "",
        "A search goes on from its log, to as many settings as `--trials` says (the tables have those that"
        " were tried); `python -m studies.tuned` writes this page.", "",
    ]  # fmt: skip
    for arm, title, about in ARMS:
        chosen = sorted((r for r in records if r["arm"] == arm), key=_place)
        if chosen:
            lines += [f"## {title}", "", about, "", *_table(chosen), ""]
            for record in chosen:
                lines += _one(record)
    return "\n".join(lines)


ARMS = (
    (
        "pure_rl",
        "Pure RL",
        "The winner earned most over the whole budget among the finalists that reach the goal; where none"
        " does, it is the one nearest to it. Goals are `studies/goals.py`'s. Scores are of the finalists'"
        " seeds, on a key that the search did not use; +- is a standard error. Settings come from Optuna's"
        " TPE sampler and are dropped early by what 4, 8 and 16 seeds earn; finalists are in turn the next by"
        " that score and the next by the goal's number. Each search's JSON has its space and every setting"
        " tried.",
    ),
    (
        "loro",
        "LORO's own settings",
        "Everything else as in `standard@2`, which takes none of these: reported apart, so that neither side"
        " is the untuned one.",
    ),
    (
        "ppo",
        "PPO",
        "Begun with common settings, the budget and the evaluations being the protocol's; found as pure RL's"
        " are.",
    ),
    ("a2c", "A2C", "Found as PPO's settings are."),
)


def _place(record: Mapping[str, Any]) -> int:
    return NAMES.index(record["task"]) if record["task"] in NAMES else len(NAMES)


def _table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| task | steps | settings tried | dropped early | goal | winner's | reached | cumulative return |"
        " final, IQM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in records:
        scores, tried = r["winner"]["scores"], r["trials"]
        goal = GOALS.get(r["task"])
        reached = "" if goal is None else "yes" if scores["goal"] >= goal.value else "**no**"
        dropped = sum(t["state"] == "pruned" for t in tried)
        lines.append(
            f"| {r['task']} | {r['budget']:,} | {len(tried)} | {dropped} | {r['goal']} |"
            f" {scores['goal']:.4g} | {reached} | {_earned(scores)} | {scores['final_iqm']:.4g} |"
        )
    return lines


def _earned(scores: Mapping[str, float]) -> str:
    """Cumulative return, with its standard error."""
    places = 1 if abs(scores["cumulative"]) < 1000 else 0
    return f"{scores['cumulative']:,.{places}f} +- {scores['cumulative_standard_error']:,.{places}f}"


def _grown(r: Mapping[str, Any]) -> str:
    """That a search had another budget than the protocol that it began with."""
    before = load(r["task"]).protocol(r["from"]).schedule.budget if r["task"] in NAMES else r["budget"]
    return f", with {r['budget']:,} steps in the place of {before:,}" if r["budget"] != before else ""


def _one(r: Mapping[str, Any]) -> list[str]:
    """A task's winner and finalists."""
    settings = {k: v for k, v in r["winner"]["settings"].items() if k != "budget"}
    said = ", ".join(f"{k} {json.dumps(v)}" for k, v in settings.items()) or "nothing"
    lean = ", with `--lean`" if r.get("lean") else ""
    lines = [
        f"### {r['task']}",
        "",
        f"Begun with {r['from']}{_grown(r)}{lean}, in which the winner changes: {said}.",
        "",
        f"{r['final_seeds']} seeds of each finalist:",
        "",
        "| finalist | goal | cumulative return | final, IQM | trained on | settings |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = sorted(r["finalists"], key=lambda row: -row["scores"]["cumulative"])
    for place, row in enumerate(rows, start=1):
        scores = row["scores"]
        mark = " (winner)" if row["settings"] == r["winner"]["settings"] else ""
        lines.append(
            f"| {place}{mark} | {scores['goal']:.4g} | {_earned(scores)} | {scores['final_iqm']:.4g} |"
            f" {row['backend']} | `{json.dumps(row['settings'])}` |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    run(main)
