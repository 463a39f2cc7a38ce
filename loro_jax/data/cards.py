"""Cards: what is checked of the `card.json` of episodes and answers alike. Knows no JAX."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from loro_jax import files
from loro_jax.errors import UserError


def check(path: pathlib.Path, card: Mapping[str, Any]) -> None:
    """Refuses a card that was changed since it was written, or whose prompt is not the one it has a hash of.

    A card without a seal, an older one or a stranger's, is taken by what else it says: its arrays' hash, and
    what can be counted.
    """
    files.check_seal(path, card)
    prompt = card.get("prompt")
    text, said = (prompt.get(k) if isinstance(prompt, Mapping) else None for k in ("text", "sha256"))
    if not isinstance(text, str) or said is None:
        return
    if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != said:
        raise UserError(f"{path}: the text of its prompt is not the one that its prompt's sha256 is of")


def same(said: Any, found: Any) -> bool:
    """Whether a card's numbers are those found; the first cards' returns were added in 32 bits."""
    if isinstance(found, Mapping):
        fits = isinstance(said, Mapping) and said.keys() == found.keys()
        return fits and all(same(said[k], found[k]) for k in found)
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return number and abs(said - found) <= 1e-6 * max(1.0, abs(found))
