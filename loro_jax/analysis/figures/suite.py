"""The suite's one figure: aggregates, performance profiles, improvement, and each environment."""

from __future__ import annotations

import math
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax.analysis.aggregate import divergence
from loro_jax.analysis.figures.style import WIDTH, footer, look, page, paths

SHOWN = 0.6  # share of the vertical step between two arms that their two markers take


def draw(found: Mapping[str, Any], protocol: str, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draws `suite.json`'s content into `stem`.png and .pdf -> their paths."""
    arms = list(found["arms"])
    with page(stem, 2 * WIDTH, 4.75) as figure:
        (iqm, profile), (improvement, each) = figure.subplots(2, 2, width_ratios=(1, 1.2))
        _iqm(iqm, found, arms)
        _profile(profile, found, arms)
        _improvement(improvement, found, [arm for arm in arms if arm != found["baseline"]])
        _environments(each, found, arms)
        shown = [*arms, "llm_policy"] if found["policies"]["llm_policy"] else arms
        handles = [
            profile.plot([], [], color=look(arm, i).colour, ls=look(arm, i).line, label=look(arm, i).label)[0]
            for i, arm in enumerate(shown)
        ]
        for marker, label, fill in (("o", "whole budget", "#444444"), ("s", "final", "white")):
            handles += iqm.plot([], [], marker, color="#444444", mfc=fill, ms=4, label=label)
        # Above the panels, in two rows: inside, some runs would always lie under it.
        columns = math.ceil(len(handles) / 2)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.5)
        text = (
            f"{len(found['benchmarks'])} environments: {', '.join(found['benchmarks'])};"
            f" {found['seeds']} seeds each; protocol '{protocol}'; scores: 0 random policy, 1 best known"
            " return; 95 % intervals, bootstrap stratified by environment"
        )
        if phrases := divergence(found):
            text += f"; diverged: {'; '.join(phrases)}"
        footer(figure, textwrap.fill(text, 185), left=0.01)
    return paths(stem)


def _rows(axes: Any, arms: Sequence[str]) -> None:
    axes.set_yticks(range(len(arms)), [look(arm, i).label for i, arm in enumerate(arms)])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _range(axes: Any, ends: Sequence[float | None], y: float, colour: str) -> None:
    if ends[0] is not None:
        axes.plot(ends, (y, y), color=colour, lw=1.3, solid_capstyle="butt")


def _iqm(axes: Any, found: Mapping[str, Any], arms: Sequence[str]) -> None:
    for i, arm in enumerate(arms):
        colour = look(arm, i).colour
        for metric, shift, marker in (("whole", -0.16, "o"), ("final", 0.16, "s")):
            value = found["arms"][arm][metric]
            _range(axes, value["iqm_ci95"], i + shift, colour)
            axes.plot(
                value["iqm"], i + shift, marker, color=colour, ms=4, mfc=colour if shift < 0 else "white"
            )
    _rows(axes, arms)
    axes.set(xlabel="IQM of normalised score")


def _profile(axes: Any, found: Mapping[str, Any], arms: Sequence[str]) -> None:
    for i, arm in enumerate(arms):
        drawn, p = look(arm, i), found["arms"][arm]["whole"]["profile"]
        axes.plot(found["thresholds"], p["share"], color=drawn.colour, ls=drawn.line)
        if np.isfinite(np.asarray(p["low"], np.float64)).all():
            axes.fill_between(found["thresholds"], p["low"], p["high"], color=drawn.colour, alpha=0.15, lw=0)
    axes.set(
        xlabel="normalised score, whole budget (t)", ylabel="share of runs above t", ylim=(0, 1),
        xlim=(found["thresholds"][0], found["thresholds"][-1]),
    )  # fmt: skip


def _improvement(axes: Any, found: Mapping[str, Any], arms: Sequence[str]) -> None:
    if not arms:
        axes.set_axis_off()
        return
    order = list(found["arms"])
    for i, arm in enumerate(arms):
        colour = look(arm, order.index(arm)).colour
        for metric, shift, marker in (("whole", -0.16, "o"), ("final", 0.16, "s")):
            value = found["arms"][arm][metric]
            if value["improvement"] is None:
                continue
            _range(axes, value["improvement_ci95"], i + shift, colour)
            fill = colour if shift < 0 else "white"
            axes.plot(value["improvement"], i + shift, marker, color=colour, ms=4, mfc=fill)
    axes.axvline(0.5, color="#444444", lw=0.8, ls=(0, (3, 2)), zorder=1)
    _rows(axes, arms)
    axes.set(xlabel=f"probability of improvement over {look(found['baseline']).label}", xlim=(-0.02, 1.02))


def _environments(axes: Any, found: Mapping[str, Any], arms: Sequence[str]) -> None:
    names = found["benchmarks"]
    width = SHOWN / max(len(arms), 1)
    for i, arm in enumerate(arms):
        colour = look(arm, i).colour
        for k, name in enumerate(names):
            value = found["arms"][arm]["whole"]["per_environment"][name]
            x = k + width * (i - (len(arms) - 1) / 2)
            if value["mean_ci95"][0] is not None:
                axes.plot((x, x), value["mean_ci95"], color=colour, lw=1.2, solid_capstyle="butt")
            axes.plot(x, value["mean"], "o", color=colour, ms=2.6)
    for k, name in enumerate(names):
        if (score := found["policies"]["llm_policy"].get(name)) is not None:
            drawn = look("llm_policy")
            axes.plot((k - 0.4, k + 0.4), (score, score), color=drawn.colour, ls=drawn.line, lw=1)
    axes.set_xticks(range(len(names)), [n.replace("_", "\n") for n in names], size=5.6)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="mean normalised score,\nwhole budget", xlim=(-0.5, len(names) - 0.5))
