"""One row per arm, one marker per metric: the probability of improvement over the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loro_jax.analysis import metrics
from loro_jax.analysis.figures import style
from loro_jax.analysis.figures.base import Drawing, Found


def height(found: Found) -> float | None:
    arms = {c["arm"] for c in found.summary["comparisons"]}
    return 0.95 + 0.42 * len(arms) if arms else None


def draw(axes: Any, found: Found) -> None:
    rows(axes, found.summary["comparisons"], found.summary["baseline"], list(found.summary["arms"]))


def rows(
    axes: Any, comparisons: Sequence[Mapping[str, Any]], baseline: str, order: Sequence[str] = ()
) -> None:
    """One row per arm and metric: the estimate with its 95 % interval, 0.5 marked as no difference.

    `order` are all arms of the run, by whose places arms of one's own have their looks.
    """
    arms = list(dict.fromkeys(c["arm"] for c in comparisons))
    shown = [m for m in metrics.METRICS if any(c["metric"] == m.name for c in comparisons)]
    markers = ("o", "s", "^", "D", "v")
    for c in comparisons:
        index = next(i for i, m in enumerate(shown) if m.name == c["metric"])
        y = arms.index(c["arm"]) + 0.24 * (index - (len(shown) - 1) / 2)
        place = list(order).index(c["arm"]) if c["arm"] in order else arms.index(c["arm"])
        colour = style.look(c["arm"], place).colour
        estimate = c["probability_of_improvement"]
        low, high = c["probability_of_improvement_ci95"]
        if low is not None:
            axes.plot((low, high), (y, y), color=colour, lw=1.2, solid_capstyle="butt")
        solid = c["p_holm"] is not None and c["p_holm"] < 0.05
        axes.plot(
            estimate, y, markers[index % 5], color=colour, ms=4, mew=0.9, mfc=colour if solid else "white"
        )
    for index, metric in enumerate(shown):
        axes.plot([], [], markers[index % 5], color="#444444", ms=4, ls="", label=metric.title)
    axes.axvline(0.5, color="#444444", lw=0.8, ls=(0, (3, 2)), zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(arms) - 0.45, -0.55))
    axes.set_yticks(range(len(arms)), [style.look(arm).label for arm in arms])
    axes.grid(axis="y", visible=False)
    over = style.look(baseline).label
    axes.set_xlabel(f"probability of improvement over {over}\n(95 % interval; filled: Holm p < 0.05)")
    axes.figure.legend(loc="outside upper center", ncols=3, columnspacing=0.8, handletextpad=0.1)


FIGURE = Drawing("probability_of_improvement", height, draw)
