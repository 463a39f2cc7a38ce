"""Prior data as a program takes it: LLM episodes under a protocol's reading, and what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np

from loro_jax.data.episodes import Episodes
from loro_jax.departures.alignment import realign
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.types import Transition


@dataclasses.dataclass(frozen=True)
class Prior:
    """The LLM's share of an arm.

    Attributes:
        rows: transitions, (N, ...), in the protocol's alignment.
        steps: environment steps that the prior data uses of the budget, whole evaluation intervals.
        curve: returns that stand for it on a learning curve, (steps / eval_interval,).
        returns: returns of every episode in the dataset, (E,): the flat line of the LLM's own policy.
    """

    rows: Transition
    steps: int
    curve: np.ndarray
    returns: np.ndarray


def prepare(episodes: Episodes, protocol: Protocol) -> Prior:
    """The first tau episodes, read and charged as `protocol` says."""
    prior, schedule, departures = protocol.prior, protocol.schedule, protocol.departures
    used = episodes.first(prior.tau)
    rows = realign(used, departures.alignment).transitions
    if departures.limits_terminal:
        rows = rows._replace(
            terminated=rows.terminated | rows.truncated, truncated=np.zeros_like(rows.truncated)
        )
    if prior.charge == "episodes":
        curve = used.returns
    else:
        intervals = -(-int(used.episode_lengths.sum()) // schedule.eval_interval)
        curve = np.full(intervals, used.returns.mean())
    if len(curve) >= schedule.evaluations:
        raise UserError(
            f"a budget of {schedule.evaluations} intervals of {schedule.eval_interval} steps leaves nothing"
            f" after tau = {prior.tau} prior episodes, which use {len(curve)}; raise --budget or lower --tau"
        )
    if not (np.abs(curve) <= np.finfo(np.float32).max).all():
        raise UserError(f"{episodes.name}: its episodes' returns are too large for 32 bits")
    return Prior(rows, len(curve) * schedule.eval_interval, curve.astype(np.float32), episodes.returns)
