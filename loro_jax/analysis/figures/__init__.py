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
from loro_jax.errors import UserError

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
    written: list[pathlib.Path] = []
    for figure in FIGURES:
        if figure.height(found) is not None:
            with style.style():
                written += style.save(drawn(figure, found), out / figure.name)
    return written


def drawn(figure: Drawing, found: Found) -> Any:
    """The figure as matplotlib's, with its footer.

    Raises:
        UserError: the run has nothing to show in it.
    """
    height = figure.height(found)
    if height is None:
        raise UserError(f"the run has nothing to show in the figure '{figure.name}'")
    lines = textwrap.wrap(source_line(found.summary), style.FOOTER)
    more = [line for phrase in doubts(found.summary) for line in textwrap.wrap(phrase, style.FOOTER)]
    with style.style():
        # Doubts make the page longer, not the axes smaller.
        page = style.blank(style.WIDTH, height + style.LINE * len(more))
        figure.draw(page.add_subplot(), found)
        style.footer(page, "\n".join(lines + more))
    return page


def named(name: str) -> Drawing:
    """The figure called so; a `UserError` lists those there are."""
    for figure in FIGURES:
        if figure.name == name:
            return figure
    raise UserError(f"no figure is called '{name}'; there are: {', '.join(f.name for f in FIGURES)}")
