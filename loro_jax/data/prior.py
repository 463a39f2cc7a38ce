"""Prior data as a program takes it: LLM episodes under a protocol's reading, and what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np

from loro_jax.data.episodes import Episodes, realign
from loro_jax.errors import UserError
from loro_jax.training.protocols import Protocol
from loro_jax.types import Transition


@dataclasses.dataclass(frozen=True)
class Prior:
    """The LLM's share of an arm.

    Attributes:
        rows: transitions, (N, ...), in the protocol's alignment.
        steps: environment steps that the prior data uses of the budget, whole chunks.
        curve: returns that stand for it on a learning curve, (steps / eval_every,).
        returns: returns of every episode in the dataset, (E,): the flat line of the LLM's own policy.
    """

    rows: Transition
    steps: int
    curve: np.ndarray
    returns: np.ndarray


def prepare(episodes: Episodes, protocol: Protocol) -> Prior:
    """The first tau episodes, read and charged as `protocol` says."""
    used = episodes.first(protocol.tau)
    rows = realign(used, protocol.alignment).transitions
    if protocol.limits_terminal:
        rows = rows._replace(
            terminated=rows.terminated | rows.truncated, truncated=np.zeros_like(rows.truncated)
        )
    if protocol.charge == "episodes":
        curve = used.returns
    else:
        chunks = -(-int(used.episode_lengths.sum()) // protocol.eval_every)
        curve = np.full(chunks, used.returns.mean())
    if len(curve) >= protocol.chunks:
        raise UserError(
            f"a budget of {protocol.chunks} chunks of {protocol.eval_every} steps leaves nothing after tau ="
            f" {protocol.tau} prior episodes, which use {len(curve)}; raise --budget or lower --tau"
        )
    if not (np.abs(curve) <= np.finfo(np.float32).max).all():
        raise UserError(f"{episodes.name}: its episodes' returns are too large for 32 bits")
    return Prior(rows, len(curve) * protocol.eval_every, curve.astype(np.float32), episodes.returns)
