"""How well language models play: `python -m studies.llm_policies --help`.

One row for every complete dataset: returns beside a random policy's and a strong reference's, what the
answers cost, and how often an action is one that the reference would also take.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.analysis import statistics
from loro_jax.analysis.figures.style import WIDTH, page
from loro_jax.analysis.formats import between, significant
from loro_jax.data import episodes
from loro_jax.errors import UserError, arguments, run
from loro_jax.records import results
from loro_jax.tasks.loading import NAMES

if TYPE_CHECKING:
    from loro_jax.tasks import Task


@dataclasses.dataclass(frozen=True)
class Options:
    """Tells how well the language models of the shipped episodes play."""

    tasks: tuple[str, ...] = NAMES
    """Tasks, by name or as FILE.py:NAME."""
    folder: pathlib.Path = episodes.SHIPPED
    """Where the datasets are: ENVIRONMENT/NAME/card.json."""
    out: pathlib.Path = pathlib.Path("results/llm_policies")
    """Written as .md, .json, .png and .pdf."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.llm_policies", description=__doc__, args=argv)
    )
    from loro_jax.tasks import load
    from loro_jax.tasks.reference import returns

    found: dict[str, Any] = {}
    for name in progress.track(options.tasks, "tasks", Console(stderr=True, highlight=False)):
        task = load(name)
        rows = [
            row
            for folder in folders(options.folder, task.name)
            if (row := describe(folder, task)) is not None
        ]
        if rows:
            reference = returns(task, task.reference_episodes)
            error = reference.std(ddof=1) / len(reference) ** 0.5 if len(reference) > 1 else 0.0
            found[task.name] = {
                "reference": float(reference.mean()),
                "reference_standard_error": float(error),
                "reference_episodes": len(reference),
                "rows": rows,
            }
    if not found:
        raise UserError(f"{options.folder}: holds no complete episodes (ENVIRONMENT/NAME/card.json)")
    with results.report(options.out) as out:
        files.write_json(out.with_suffix(".json"), found)
        files.write_text(out.with_suffix(".md"), markdown(found))
        draw(found, out)
    print(markdown(found))
    return 0


def folders(root: pathlib.Path, environment: str) -> list[pathlib.Path]:
    return sorted(card.parent for card in (root / environment).glob("*/card.json"))


def describe(folder: pathlib.Path, task: Task) -> dict[str, Any] | None:
    """A row of numbers; None where the collection is not complete.

    Raises a `UserError` where the card lacks what the collector writes; older cards may lack the mode and
    whether answers were held to a grammar, which were then `cot` and no.
    """
    env = task.environment()
    data = episodes.load(folder, task.name, env.observation_shape, env.action_space)
    card = data.card
    if not card.get("complete"):
        return None
    try:
        return _row(folder.name, data, task)
    except KeyError as error:
        raise UserError(f"{folder / 'card.json'}: lacks {error}; collect these episodes again") from None


def _row(name: str, data: episodes.Episodes, task: Task) -> dict[str, Any]:
    from loro_jax.tasks.reference import agreement

    card, returns, t = data.card, data.returns, data.transitions
    answers = card["answers"]
    agrees, chance = agreement(task, t.obs, t.action)
    starts = data.ends - data.episode_lengths
    agreed = np.add.reduceat(agrees.astype(np.float64), starts)
    asked = answers["steps"] - answers["steps_with_a_reused_answer"]
    return {
        "name": name,
        "model": card["model"]["name"],
        "prompt": card["prompt"]["name"],
        "mode": card.get("mode", "cot"),
        "grammar": bool(card.get("held_to_a_grammar", False)),
        "samples": card["samples"],
        "episodes": len(returns),
        "steps": answers["steps"],
        "return": float(returns.mean()),
        "return_ci95": ratio_interval(returns, np.ones(len(returns))),
        "random_policy": card["random_policy"]["mean"],
        "answers": answers["answers"],
        "unreadable_share": answers["unparsable_share"],
        "random_action_share": answers["random_action_share"],
        "decisions_asked": asked,
        "answer_tokens": answers["answer_tokens"],
        "answer_tokens_for_a_decision": answers["answer_tokens"] / max(asked, 1),
        "answer_tokens_for_a_step": answers["answer_tokens"] / answers["steps"],
        "prompt_tokens": answers["prompt_tokens"],
        "seconds": answers["seconds"],
        "agreement": float(agrees.mean()),
        "agreement_ci95": ratio_interval(agreed, data.episode_lengths),
        "agreement_by_chance": float(chance.mean()),
    }


def ratio_interval(parts: np.ndarray, wholes: np.ndarray) -> list[float] | None:
    """95 % interval of sum(parts) / sum(wholes), whole episodes resampled; (episodes,) each.

    None for a single episode, which says nothing about others.
    """
    if len(parts) < 2:
        return None
    counts = statistics.resample(len(parts), 1, seed=0)
    drawn = (parts @ counts) / (wholes @ counts)
    return [float(end) for end in np.quantile(drawn, (0.025, 0.975))]


def markdown(found: Mapping[str, Any]) -> str:
    """The tables, also of a report that is read back, which names its files beside its environments."""
    found = {name: entry for name, entry in found.items() if name != "files"}
    lines = [
        "# Language models as policies",
        "",
        "    python -m studies.llm_policies",
        "",
        "![Returns between a random policy and the reference](llm_policies.png)",
        "",
        "From the cards and transitions in [episodes/](episodes/README.md). Return: mean of the episodes with"
        " a 95 % bootstrap interval over episodes. Agreement: share of steps whose action the reference"
        " (`Task.reference`) would also take, whole episodes resampled, beside a uniform action's"
        " expected share in the same states; in Pendulum a torque within 0.5 N m agrees, in other games all"
        " actions that the reference holds for equally good. In CartPole a policy may differ from this one in"
        " many states and never fall, so that a low share is no failure by itself. Asked: steps that"
        " were put to the model; the others reuse an answer to the same prompt (`samples` for each prompt; 0"
        " asks always). Where answers are reused, intervals hold for these answers and do not cover other"
        " draws of them. Unreadable: of the answers; random actions: of the steps."
        " Seconds are of a shared machine, one thread, and mean little.",
        "",
        "In CliffWalking a random policy falls so often that one which never falls and never arrives (-200)"
        " stands near 1 in the figure.",
        "",
    ]
    columns = (
        "dataset (episodes)", "return [95 %]", "agreement [95 %]", "by chance", "steps", "asked", "samples",
        "mode", "grammar", "unreadable", "random actions", "answer tokens", "for a step asked",
        "for a step", "prompt tokens", "seconds",
    )  # fmt: skip
    for name, entry in found.items():
        first = entry["rows"][0]
        lines += [
            f"## {name}",
            "",
            f"Random policy {significant(first['random_policy'])}; reference policy {_reference(entry)}.",
            "",
            "| " + " | ".join(columns) + " |",
            "| " + " | ".join(["---"] * len(columns)) + " |",
        ]
        for row in entry["rows"]:
            cells = [
                f"`{row['name']}` ({row['episodes']})",
                between(row["return"], row["return_ci95"]),
                _share(row, "agreement"),
                f"{row['agreement_by_chance']:.0%}",
                f"{row['steps']:,}", f"{row['decisions_asked']:,}", str(row["samples"]),
                row["mode"], "yes" if row["grammar"] else "no",
                f"{row['unreadable_share']:.1%}", f"{row['random_action_share']:.1%}",
                f"{row['answer_tokens']:,}", f"{row['answer_tokens_for_a_decision']:.1f}",
                f"{row['answer_tokens_for_a_step']:.2f}", f"{row['prompt_tokens']:,}",
                f"{row['seconds']:,.0f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _share(row: Mapping[str, Any], key: str) -> str:
    """A share in percent with its interval, where it has one."""
    ends = row[f"{key}_ci95"]
    return f"{row[key]:.0%}" + (f" [{ends[0]:.0%}, {ends[1]:.0%}]" if ends else "")


def _reference(entry: Mapping[str, Any]) -> str:
    """The reference's mean return and how well it is known."""
    if entry["reference_episodes"] == 1:
        return f"{significant(entry['reference'])} (nothing is random)"
    error, count = entry["reference_standard_error"], entry["reference_episodes"]
    return f"{significant(entry['reference'])} (standard error {significant(error, 2)}, {count:,} episodes)"


def draw(found: Mapping[str, Any], out: pathlib.Path) -> None:
    """Returns between the random policy (0) and the reference (1), with intervals, a row for each dataset."""
    rows = [(name, entry["reference"], row) for name, entry in found.items() for row in entry["rows"]]
    colours = {"smollm2": "#56B4E9", "qwen2.5": "#D55E00"}
    with page(out, 1.5 * WIDTH, 0.7 + 0.17 * len(rows)) as figure:
        axes = figure.add_subplot()
        for y, (_, reference, row) in enumerate(rows):
            ends = row["return_ci95"] or (row["return"], row["return"])
            low, value, high = (
                (x - row["random_policy"]) / (reference - row["random_policy"])
                for x in (ends[0], row["return"], ends[1])
            )
            colour = next((c for model, c in colours.items() if row["model"].startswith(model)), "#009E73")
            axes.plot((low, high), (y, y), color=colour, lw=1.4, solid_capstyle="butt")
            axes.plot(value, y, "o", color=colour, ms=3.5)
        for x in (0.0, 1.0):
            axes.axvline(x, color="#444444", lw=0.8, ls=(0, (3, 2)), zorder=1)
        labels = [
            f"{name.replace('_', ' ')}: {row['name'].replace('-instruct', '')}" for name, _, row in rows
        ]
        axes.set_yticks(range(len(rows)), labels, size=6)
        for y in range(1, len(rows)):
            if rows[y][0] != rows[y - 1][0]:
                axes.axhline(y - 0.5, color="#bbbbbb", lw=0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("mean return (95 % interval):\n0 random, 1 reference policy")


if __name__ == "__main__":
    run(main)
