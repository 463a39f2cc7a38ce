"""The reference study's main figure: LORO, pure RL, the LLM's policy and a random one, in means.

The study counts in what it calls episodes: the environment steps between two evaluations.
"""

from __future__ import annotations

from typing import Any

from loro_jax.analysis import statistics
from loro_jax.analysis.figures import learning_curves
from loro_jax.analysis.figures.base import Drawing, Found

ARMS = ("loro", "pure_rl")
POLICIES = ("llm_policy", "random_policy")


def height(found: Found) -> float | None:
    return 2.45 if any(arm in found.curves for arm in ARMS) else None


def draw(axes: Any, found: Found) -> None:
    interval = found.steps_per_episode
    learning_curves.lines(
        axes,
        {arm: found.curves[arm] for arm in ARMS if arm in found.curves},
        found.env_steps / interval,
        {policy: returns for policy, returns in found.flat.items() if policy in POLICIES},
        statistics.weighted_mean,
        found.prior_steps / interval,
        found.summary["random_return"],
    )
    axes.set(
        xlabel=f"episodes of {interval} environment steps",
        ylabel=learning_curves.return_label("mean, 95 % interval"),
    )


FIGURE = Drawing("main", height, draw)
