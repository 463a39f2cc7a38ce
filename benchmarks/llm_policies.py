"""How well language models play: `python -m benchmarks.llm_policies --help`.

One row for every complete dataset: returns beside a random policy's and a strong reference's, what the
answers cost, and how often an action is one that the reference would also take.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tyro

from loro_jax import episodes, results, statistics
from loro_jax.errors import UserError, arguments, command
from loro_jax.statistics import weighted_mean

REFERENCE_EPISODES = {"frozen_lake": 2000, "cliff_walking": 1, "pong": 1}
"""Episodes of the reference; one where nothing is random, and 500 elsewhere."""
ORDER = ("cartpole", "frozen_lake", "cliff_walking", "mountain_car", "pendulum", "pong")


@dataclasses.dataclass(frozen=True)
class Options:
    """Tells how well the language models of the shipped episodes play."""

    folder: pathlib.Path = episodes.SHIPPED
    """Where the datasets are: ENVIRONMENT/NAME/card.json."""
    out: pathlib.Path = pathlib.Path("results/llm_policies")
    """Written as .md, .json, .png and .pdf."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m benchmarks.llm_policies", description=__doc__, args=argv)
    )
    from loro_jax import references
    from loro_jax.environments import REGISTRY

    found: dict[str, Any] = {}
    for name in sorted(REGISTRY, key=lambda n: (*ORDER, n).index(n)):
        rows = [
            row for folder in folders(options.folder, name) if (row := describe(folder, name)) is not None
        ]
        if rows:
            reference = references.returns(name, REFERENCE_EPISODES.get(name, 500))
            found[name] = {"reference": float(reference.mean()), "rows": rows}
    if not found:
        raise UserError(f"{options.folder}: holds no complete episodes (ENVIRONMENT/NAME/card.json)")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results.write_json(options.out.with_suffix(".json"), found)
    results.write_text(options.out.with_suffix(".md"), markdown(found))
    draw(found, options.out)
    print(markdown(found))
    return 0


def folders(root: pathlib.Path, environment: str) -> list[pathlib.Path]:
    return sorted(card.parent for card in (root / environment).glob("*/card.json"))


def describe(folder: pathlib.Path, environment: str) -> dict[str, Any] | None:
    """A row of numbers; None where the collection is not complete."""
    from loro_jax import references
    from loro_jax.environments import make

    env = make(environment)
    data = episodes.load(folder, environment, env.observation_shape, env.action_space)
    card = data.card
    if not card.get("complete"):
        return None
    answers, returns, t = card["answers"], data.returns, data.transitions
    agrees, chance = references.agreement(environment, t.obs, t.action)
    starts = data.ends - data.episode_lengths
    agreed = np.add.reduceat(agrees.astype(np.float64), starts)
    asked = answers["steps"] - answers["steps_with_a_reused_answer"]
    return {
        "name": folder.name,
        "model": card["model"]["name"],
        "prompt": card["prompt"]["name"],
        "mode": card.get("mode", "cot"),
        "grammar": bool(card.get("held_to_a_grammar", False)),
        "samples": card["samples"],
        "episodes": len(returns),
        "steps": answers["steps"],
        "return": float(returns.mean()),
        "return_ci95": list(statistics.interval(returns, weighted_mean, seed=0)),
        "random_policy": card["random_policy"]["mean"],
        "answers": answers["answers"],
        "unreadable_share": answers["unparsable_share"],
        "random_action_share": answers["random_action_share"],
        "decisions_asked": asked,
        "answer_tokens": answers["answer_tokens"],
        "prompt_tokens": answers["prompt_tokens"],
        "seconds": answers["seconds"],
        "agreement": float(agrees.mean()),
        "agreement_ci95": ratio_interval(agreed, data.episode_lengths),
        "agreement_by_chance": float(chance.mean()),
    }


def ratio_interval(parts: np.ndarray, wholes: np.ndarray) -> list[float]:
    """95 % interval of sum(parts) / sum(wholes), whole episodes resampled; (episodes,) each."""
    counts = statistics.resample(len(parts), 1, seed=0)
    drawn = (parts @ counts) / (wholes @ counts)
    return [float(end) for end in np.quantile(drawn, (0.025, 0.975))]


def markdown(found: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "# Language models as policies",
        "",
        "    python -m benchmarks.llm_policies",
        "",
        "From the cards and transitions in [episodes/](episodes/README.md). Return: mean of the episodes with"
        " a 95 % bootstrap interval over episodes. Agreement: share of steps whose action the reference"
        " (`loro_jax/references.py`) would also take, whole episodes resampled, beside a uniform action's"
        " expected share in the same states; in Pendulum a torque within 0.5 N m agrees. Asked: steps that"
        " were put to the model; the others reuse an answer to the same prompt (`samples` for each prompt; 0"
        " asks always). Where answers are reused, intervals hold for these answers and do not cover other"
        " draws of them. Seconds are of a shared machine, one thread, and mean little.",
        "",
    ]
    columns = (
        "episodes", "return [95 %]", "agreement [95 %]", "by chance", "steps", "asked", "samples",
        "unreadable", "random actions", "grammar", "answer tokens", "prompt tokens", "seconds",
    )  # fmt: skip
    for name, entry in found.items():
        first = entry["rows"][0]
        lines += [
            f"## {name}",
            "",
            f"Random policy {first['random_policy']:.4g}; reference policy {entry['reference']:.4g}.",
            "",
            "| " + " | ".join(columns) + " |",
            "| " + " | ".join(["---"] * len(columns)) + " |",
        ]
        for row in entry["rows"]:
            (low, high), (down, up) = row["return_ci95"], row["agreement_ci95"]
            cells = [
                f"`{row['name']}` ({row['episodes']})", f"{row['return']:.4g} [{low:.4g}, {high:.4g}]",
                f"{row['agreement']:.0%} [{down:.0%}, {up:.0%}]", f"{row['agreement_by_chance']:.0%}",
                f"{row['steps']:,}", f"{row['decisions_asked']:,}", str(row["samples"]),
                f"{row['unreadable_share']:.1%}", f"{row['random_action_share']:.1%}",
                "yes" if row["grammar"] else "no", f"{row['answer_tokens']:,}", f"{row['prompt_tokens']:,}",
                f"{row['seconds']:,.0f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def draw(found: Mapping[str, Any], out: pathlib.Path) -> None:
    """Returns between the random policy (0) and the reference (1), with intervals, a row for each dataset."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from loro_jax.figures import STYLE, WIDTH

    rows = [(name, entry["reference"], row) for name, entry in found.items() for row in entry["rows"]]
    colours = {"smollm2": "#56B4E9", "qwen2.5": "#D55E00"}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 * WIDTH, 0.7 + 0.17 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for y, (_, reference, row) in enumerate(rows):
            low, value, high = (
                (x - row["random_policy"]) / (reference - row["random_policy"])
                for x in (row["return_ci95"][0], row["return"], row["return_ci95"][1])
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
        for suffix, metadata in ((".png", {}), (".pdf", {"CreationDate": None})):
            figure.savefig(out.with_suffix(suffix), metadata=metadata)


if __name__ == "__main__":
    sys.exit(command(main))
