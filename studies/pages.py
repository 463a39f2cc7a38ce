"""What pages of studies have in common: figures of several panels, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loro_jax.analysis import statistics
from loro_jax.analysis.figures.style import WIDTH
from studies.blocks import BEST, UNIFORM, WORST

COLOURS = {"135m": "#56B4E9", "05b": "#E69F00", "15b": "#CC79A7", BEST: "#009E73", UNIFORM: "#7f7f7f",
           WORST: "#D55E00", "pure_rl": "#000000", "cql": "#000000", "ppo": "#8B4513"}  # fmt: skip
HOLDS = 0.05
"""Holm's p below which a difference is said to be one."""
MOST = 200
"""Points of a curve that are drawn."""


def panels(figure: Any, many: int, columns: int = 3) -> list[Any]:
    """Axes of so many panels, in rows of `columns`."""
    columns = min(columns, many)
    grid = np.atleast_1d(figure.subplots(-(-many // columns), columns)).ravel()
    for axes in grid[many:]:
        axes.set_axis_off()
    return list(grid[:many])


def sized(many: int, columns: int = 3) -> tuple[float, float]:
    # One panel alone would be too narrow for the legend.
    return WIDTH * min(2.1, max(1.6, 0.75 * many)), 1.9 * -(-many // columns) + 0.5


def curve(axes: Any, steps: np.ndarray, values: np.ndarray, label: str, colour: str, line: Any = "-") -> None:
    """A learning curve, (seeds, evaluations): its IQM and a band of 95 %."""
    which = np.unique(np.linspace(0, len(steps) - 1, MOST).astype(int))
    centre, low, high = statistics.band(values[:, which], seed=0, resamples=500)
    axes.plot(steps[which], centre, color=colour, ls=line, label=label)
    axes.fill_between(steps[which], low, high, color=colour, alpha=0.15, lw=0)


def legend(figure: Any, columns: int) -> None:
    """Every label of the panels' lines once, above them."""
    lines = {line.get_label(): line for axes in figure.axes if axes.axison for line in axes.get_lines()}
    named = [line for label, line in lines.items() if not str(label).startswith("_")]
    figure.legend(handles=named, loc="outside upper center", ncols=columns)


def title(world: str) -> str:
    return world.replace("_", " ")


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(head), row(["---"] * len(head)), *(row(r) for r in rows)]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that a reader opens."""
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]
