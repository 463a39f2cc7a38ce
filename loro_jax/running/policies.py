"""Trained policies as arrays: saved with a run, loaded back, played."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

PREFIX = "policy/"


def arrays(policy: Any, seeds: int) -> dict[str, np.ndarray]:
    """The numbers of a population's policies, a leading axis of `seeds` each, by their place in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(policy)
    return {f"{PREFIX}{jax.tree_util.keystr(path)}": np.asarray(leaf)[:seeds] for path, leaf in leaves}


def of(record: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `arrays` put into a record, by the same names without the prefix."""
    return {k.removeprefix(PREFIX): v for k, v in record.items() if k.startswith(PREFIX)}


def rebuilt(like: Any, found: Mapping[str, np.ndarray], seed: int) -> Any:
    """One seed's policy, shaped `like`; a `ValueError` where the arrays are of another network."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    if set(names) != set(found) or any(
        found[n].shape[1:] != leaf.shape for n, (_, leaf) in zip(names, leaves, strict=True)
    ):
        raise ValueError("the saved numbers are not of this network")
    values = [
        jax.numpy.asarray(found[n][seed], leaf.dtype) for n, (_, leaf) in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, values)
