"""What a figure of a run is: a name, a height, and how it is drawn from what the run found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from loro_jax.analysis.statistics import Floats


@dataclasses.dataclass(frozen=True)
class Found:
    """What the figures of one run draw.

    Attributes:
        summary: `summary.json`.
        curves: by learning arm, returns (seeds, evaluations), prior data charged; NaN where a seed diverged.
        env_steps: environment steps at each evaluation, (evaluations,).
        flat: by policy that does not learn, its episode returns, (episodes,).
        prior_steps: so many of the first environment steps are shaded as prior data.
        steps_per_episode: what the reference study calls an episode, in environment steps.
    """

    summary: Mapping[str, Any]
    curves: Mapping[str, npt.NDArray[Any]]
    env_steps: Floats
    flat: Mapping[str, npt.NDArray[Any]]
    prior_steps: float
    steps_per_episode: int


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One figure of a run.

    Attributes:
        name: its file's, without the suffix.
        height: inches without the footer; None where a run has nothing to show in it.
        draw: draws on matplotlib's axes.
    """

    name: str
    height: Callable[[Found], float | None]
    draw: Callable[[Any, Found], None]
