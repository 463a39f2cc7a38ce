"""Random keys by folding: a draw is named by seed, purpose and step, never by its place in a chain.

So no draw shifts when an arm adds another, the same seed gives every arm the same initial network and
the same environment starts (common random numbers), and a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import enum

import chex
import jax

from loro_jax.errors import UserError


class Purpose(enum.IntEnum):
    """What a key is for. Values are part of every result: append, never renumber."""

    INIT = 0
    RESET = 1
    STEP = 2
    EXPLORE = 3
    SAMPLE = 4
    EVALUATE = 5
    FIT = 6
    COLLECT = 7
    PROPOSE = 8
    GUIDE = 9
    EVALUATE_GUIDED = 10
    KEEP = 11


def check(seed: int) -> None:
    """A `UserError` for a seed that is none of JAX's, which keeps 32 bits: 2**32 would be 0 again."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed must lie between 0 and {2**32 - 1}, got {seed}")


def of_seed(root: int, index: int | jax.Array) -> chex.PRNGKey:
    """The key of the seed with this index, whatever their number; all keys of a run come from `root`."""
    return jax.random.fold_in(jax.random.key(root), index)


def fold(key: chex.PRNGKey, purpose: Purpose, step: int | jax.Array = 0) -> chex.PRNGKey:
    """The key for one draw of `purpose` at `step`, a count that the purpose never repeats."""
    return jax.random.fold_in(jax.random.fold_in(key, int(purpose)), step)
