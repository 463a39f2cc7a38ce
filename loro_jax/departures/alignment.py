"""Departure 1: an action paired with the observation after it.

The released rows of the reference study are (s[t+1], a[t], r[t]) instead of (s[t], a[t], r[t]); a reader
that follows the rows' order then takes s[t+2] for the next observation, and zeros after the last row of an
episode. A row that no observation follows is kept only where it terminates the episode (d3rlpy's
`BasicTransitionPicker`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from loro_jax.data.episodes import Episodes
from loro_jax.types import Transition


def following(observations: Any, last: Any, xp: Any = np) -> Any:
    """The next row's observation, zeros behind an episode's last row; numpy's arrays or, with `xp`, JAX's.

    `observations` (T, *obs), `last` (T,) says which rows are an episode's last -> (T, *obs).
    """
    after = xp.concatenate([observations[1:], xp.zeros_like(observations[:1])])
    return xp.where(last.reshape(-1, *[1] * (after.ndim - 1)), xp.zeros_like(after), after)


def shifted(rows: Transition, last: Any, xp: Any = np) -> tuple[Transition, Any]:
    """True rows (T, ...) in the released alignment, and which of them are kept, bool (T,)."""
    moved = rows._replace(obs=rows.next_obs, next_obs=following(rows.next_obs, last, xp))
    return moved, ~last | rows.terminated


def realign(episodes: Episodes, alignment: str) -> Episodes:
    """The same episodes read in the `true` or in the `released` alignment.

    Back to `true` loses each episode's first row, whose observation is not there; to `released` loses the
    last row of an episode that was cut, which has no observation after it.
    """
    if episodes.card.get("alignment", "true") == alignment:
        return episodes
    t, ends = episodes.transitions, episodes.ends
    first, last = np.zeros(len(t.reward), bool), np.zeros(len(t.reward), bool)
    first[ends - episodes.episode_lengths], last[ends - 1] = True, True
    if alignment == "released":
        rows, kept = shifted(t, last)
    else:  # the row before holds the observation that the action was taken in
        obs, next_obs = (np.roll(x, 1, axis=0) for x in (t.obs, t.next_obs))
        rows, kept = t._replace(obs=obs, next_obs=next_obs), ~first
    lengths = np.add.reduceat(kept.astype(np.int64), ends - episodes.episode_lengths)
    card = {
        **episodes.card,
        "alignment": alignment,
        "episode_returns": episodes.returns[lengths > 0].tolist(),
    }
    return Episodes(Transition(*(a[kept] for a in rows)), lengths[lengths > 0], card)
