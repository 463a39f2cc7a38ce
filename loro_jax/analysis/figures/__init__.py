"""The figures of a run, as .png and .pdf; they draw what `loro_jax.analysis.statistics` computes.

To add one, add a file with its `FIGURE`, and its line to `FIGURES`. Every figure is one column wide, says in
a footer where its numbers come from and what there is to doubt (runs that diverged, prior data), and tells
the arms apart by colour, line style and legend together (`style`). `suite` is another command's figure.
"""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from loro_jax.analysis.figures import learning_curves, main, probability_of_improvement, style
from loro_jax.analysis.figures.base import Drawing, Found
from loro_jax.analysis.summary import doubts, source_line

FIGURES: tuple[Drawing, ...] = (
    learning_curves.FIGURE,
    main.FIGURE,
    probability_of_improvement.FIGURE,
)


def draw_all(
    summary: Mapping[str, Any],
    curves: Mapping[str, npt.NDArray[Any]],
    env_steps: npt.NDArray[Any],
    flat: Mapping[str, npt.NDArray[Any]],
    out: pathlib.Path,
    *,
    prior_steps: float = 0,
    steps_per_episode: int = 200,
) -> list[pathlib.Path]:
    """Draws `FIGURES` into the folder `out`; the arguments are `Found`'s -> the paths written.

    A figure that has nothing to show is left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    steps = np.asarray(env_steps, np.float64)
    found = Found(summary, curves, steps, flat, prior_steps, steps_per_episode)
    lines = textwrap.wrap(source_line(summary), style.FOOTER)
    more = [line for phrase in doubts(summary) for line in textwrap.wrap(phrase, style.FOOTER)]
    written: list[pathlib.Path] = []
    for figure in FIGURES:
        height = figure.height(found)
        if height is None:
            continue
        # Doubts make the page longer, not the axes smaller.
        with style.page(out / figure.name, style.WIDTH, height + style.LINE * len(more)) as page:
            figure.draw(page.add_subplot(), found)
            style.footer(page, "\n".join(lines + more))
        written += style.paths(out / figure.name)
    return written
