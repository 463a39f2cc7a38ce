"""How much the way of asking matters: `python -m studies.prompt_sensitivity --help`.

Compares the collected episodes of one model under different modes (direct, chain of thought, vote, best):
their returns, what they cost, and how often they could be read. Episode i starts from the same state in
every mode, so that episodes pair. Nothing is collected here; results/README.md names the commands that did.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.analysis import statistics
from loro_jax.analysis.figures.style import WIDTH, page
from loro_jax.analysis.formats import between, number, significant
from loro_jax.data import episodes
from loro_jax.errors import UserError, arguments, run
from loro_jax.records import results

MODES = {"direct": "direct", "cot": "chain of thought", "vote": "vote of {n}", "best": "best of {n}"}
SHORT = {"qwen2.5-coder-0.5b-instruct": "Qwen2.5-Coder 0.5B", "smollm2-135m-instruct": "SmolLM2 135M"}
COLOURS = {"direct": "#E69F00", "cot": "#0072B2", "vote": "#D55E00", "best": "#009E73"}
MARKERS = {"direct": "o", "cot": "s", "vote": "^", "best": "D"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compares the collected episodes of the same model under different ways of asking."""

    tasks: tuple[str, ...] = ("cartpole", "frozen_lake")
    """Tasks to compare, by name or as FILE.py:NAME."""
    prompts: tuple[str, ...] = ("direct", "cot")
    """Templates whose datasets are compared: the default ones, which describe the state alike."""
    folder: pathlib.Path = episodes.SHIPPED
    """Where the datasets are."""
    out: pathlib.Path = pathlib.Path("results/prompt_sensitivity")
    """Written as .md, .json, .png and .pdf."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.prompt_sensitivity", description=__doc__, args=argv)
    )
    console = Console(stderr=True, highlight=False)
    rows = [row for name in progress.track(options.tasks, "tasks", console) for row in compare(options, name)]
    if not rows:
        raise UserError(f"{options.folder}: no model was asked in two modes in {', '.join(options.tasks)}")
    text = markdown(rows)
    with results.report(options.out) as out:
        files.write_json(out.with_suffix(".json"), {"rows": rows})
        files.write_text(out.with_suffix(".md"), text)
        draw(rows, out)
    print(text)
    return 0


def compare(options: Options, name: str) -> list[dict[str, Any]]:
    """A row for each model and mode of which there are complete episodes, direct first."""
    from loro_jax.tasks import load

    task = load(name)
    env, environment = task.environment(), task.name
    found: dict[str, dict[str, episodes.Episodes]] = {}
    for card in sorted((options.folder / environment).glob("*/card.json")):
        data = episodes.load(card.parent, environment, env.observation_shape, env.action_space)
        if data.card["prompt"]["name"] in options.prompts and data.card.get("complete"):
            found.setdefault(data.card["model"]["name"], {})[data.card["mode"]] = data
    rows = []
    for model, modes in sorted(found.items()):
        if len(modes) < 2:
            continue
        ordered = [mode for mode in MODES if mode in modes]
        rows += [
            _row(environment, model, mode, modes[mode], modes[ordered[0]], ordered[0]) for mode in ordered
        ]
    return rows


def _row(
    environment: str, model: str, mode: str, data: episodes.Episodes, base: episodes.Episodes, name: str
) -> dict[str, Any]:
    returns, answers = data.returns, data.card["answers"]
    row = {
        "environment": environment,
        "model": model,
        "mode": mode,
        "answers_for_a_step": data.card["answers_for_a_step"],
        "samples": data.card["samples"],
        "episodes": len(returns),
        "return": float(returns.mean()),
        "return_ci95": list(statistics.interval(returns, statistics.weighted_mean, seed=0)),
        "random_policy": data.card["random_policy"]["mean"],
        "unreadable_share": answers["unparsable_share"],
        "answers": answers["answers"],
        "tokens_for_a_decision": answers["answer_tokens"]
        / max(answers["steps"] - answers["steps_with_a_reused_answer"], 1),
        "seconds": answers["seconds"],
    }
    if mode != name:
        pairs = min(len(returns), len(base.returns))
        against = statistics.paired(returns[:pairs], base.returns[:pairs], seed=0)
        row |= {
            "against": name,
            "difference": against.difference,
            "difference_ci95": list(against.difference_ci),
            "p_value": against.p_value,
        }
    return row


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, with what may be concluded from it."""
    lines = [
        "# Prompt sensitivity",
        "",
        "    python -m studies.prompt_sensitivity",
        "",
        "The same model, the same description of the state, asked in different modes: `direct` for the action"
        " alone, `cot` for a thought first, `vote` for the majority of several thoughts. Mean return of the"
        " episodes with a 95 % bootstrap interval over episodes; differences pair episodes by their start, p"
        " is a sign-flip permutation test, not corrected. Answers were reused (samples for each prompt), so"
        " that intervals hold for these answers and do not cover other draws of them.",
        "",
    ]
    columns = (
        "model", "mode", "samples", "return [95 %]", "against direct [95 %]", "p", "unreadable", "answers",
        "tokens for a decision", "seconds",
    )  # fmt: skip
    for environment in dict.fromkeys(row["environment"] for row in rows):
        here = [row for row in rows if row["environment"] == environment]
        lines += [f"## {environment} (random policy {significant(here[0]['random_policy'], 3)})", ""]
        lines += ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(columns)) + " |"]
        for row in here:
            cells = [
                row["model"],
                row["mode"],
                str(row["samples"]),
                between(row["return"], row["return_ci95"]),
                between(row.get("difference"), row.get("difference_ci95"), sign="+"),
                number(row.get("p_value"), 4),
            ]
            cells += [f"{row['unreadable_share']:.1%}", f"{row['answers']:,}"]
            cells += [f"{row['tokens_for_a_decision']:.0f}", f"{row['seconds']:,.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], out: pathlib.Path) -> None:
    """One panel for each environment: returns with intervals, by model and mode."""
    names = list(dict.fromkeys(row["environment"] for row in rows))
    with page(out, WIDTH * (1 if len(names) == 1 else 2), 2.3) as figure:
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            here = [row for row in rows if row["environment"] == name]
            models = list(dict.fromkeys(row["model"] for row in here))
            for row in here:
                modes = [r["mode"] for r in here if r["model"] == row["model"]]
                x = models.index(row["model"]) + 0.18 * (modes.index(row["mode"]) - (len(modes) - 1) / 2)
                low, high = row["return_ci95"]
                colour = COLOURS[row["mode"]]
                axes.plot((x, x), (low, high), color=colour, lw=1.4, solid_capstyle="butt")
                axes.plot(x, row["return"], MARKERS[row["mode"]], color=colour, ms=5)
            axes.axhline(here[0]["random_policy"], color="#7f7f7f", ls=(0, (1, 2)), lw=1)
            axes.set_xticks(range(len(models)), [SHORT.get(model, model) for model in models])
            axes.set(
                title=name.replace("_", " "),
                ylabel="return (mean, 95 % interval)",
                xlim=(-0.5, len(models) - 0.5),
            )
            axes.grid(axis="x", visible=False)
        handles = [
            axes.plot(
                [],
                [],
                MARKERS[mode],
                color=COLOURS[mode],
                label=MODES[mode].format(n=row["answers_for_a_step"]),
            )[0]
            for mode, row in {row["mode"]: row for row in rows}.items()
        ]
        handles += axes.plot([], [], color="#7f7f7f", ls=(0, (1, 2)), label="random policy")
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


if __name__ == "__main__":
    run(main)
