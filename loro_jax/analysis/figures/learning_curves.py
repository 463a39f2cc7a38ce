"""IQM at every evaluation with a pointwise 95 % band, over environment steps, prior data charged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import statistics
from loro_jax.analysis.figures import style
from loro_jax.analysis.figures.base import Drawing, Found


def height(found: Found) -> float | None:
    return 2.75 if found.curves else None


def draw(axes: Any, found: Found) -> None:
    lines(
        axes, found.curves, found.env_steps, found.flat, statistics.weighted_iqm, found.prior_steps,
        found.summary["random_return"],
    )  # fmt: skip
    axes.set(xlabel="environment steps", ylabel=return_label("IQM, 95 % interval"))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")


def return_label(what: str) -> str:
    """Of an axis of returns."""
    return f"return per episode\n({what})"


def lines(
    axes: Any,
    curves: Mapping[str, npt.NDArray[Any]],
    x: statistics.Floats,
    flat: Mapping[str, npt.NDArray[Any]],
    statistic: statistics.Statistic,
    prior: float,
    random_return: float | None = None,
) -> None:
    """Curves (seeds, evaluations) over x (evaluations,) with bands; flat lines; prior phase shaded.

    Where a run has diverged it counts as `random_return`, and as the worst by rank.
    """
    if prior > 0:
        axes.axvspan(0, prior, color="#f0f0f0", lw=0, zorder=0)
        where = {"transform": axes.get_xaxis_transform(), "va": "bottom", "size": 6, "c": "#666666"}
        axes.text(0, 1.01, "prior data", **where)
    for index, (arm, curve) in enumerate(curves.items()):
        drawn = style.look(arm, index)
        values, _ = statistics.filled(curve, random_return)
        ranks = statistics.ranked(values, np.isnan(curve))
        centre, low, high = statistics.band(values, statistic, seed=statistics.SEED, ranks=ranks)
        lost = np.isnan(curve)
        label = f"{drawn.label} ({lost.any(axis=1).sum()} diverged)" if lost.any() else drawn.label
        axes.plot(x, centre, color=drawn.colour, ls=drawn.line, label=label, zorder=3)
        if lost.any():  # from here on some of it is the random policy's return
            first = lost.any(axis=0).argmax()
            axes.plot(x[first], centre[first], "x", color=drawn.colour, ms=5, mew=1.2, zorder=3.5)
        axes.fill_between(x, low, high, color=drawn.colour, alpha=0.2, lw=0, zorder=2)
    for index, (policy, returns) in enumerate(flat.items()):
        drawn = style.look(policy, index + len(curves))
        values = np.asarray(returns, np.float64)
        level = statistic(values, np.ones((len(values), 1)))[0]
        below, above = statistics.interval(values, statistic, seed=statistics.SEED)
        axes.axhline(level, color=drawn.colour, ls=drawn.line, lw=1, label=drawn.label, zorder=2.5)
        if np.isfinite(below):
            axes.axhspan(below, above, color=drawn.colour, alpha=0.12, lw=0, zorder=1)
    axes.set_xlim(0, x[-1])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    # Filled by columns: arms first, then policies; above the axes, since curves fill the inside.
    axes.figure.legend(
        loc="outside upper center", ncols=3 if len(curves) + len(flat) > 4 else 2, columnspacing=1.1
    )


FIGURE = Drawing("learning_curves", height, draw)
