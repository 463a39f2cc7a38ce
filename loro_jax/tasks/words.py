"""How a task's states are put into words: the fields that its prompts may name, and how actions are read.

Fields are coarse on purpose: small models read words better than digits, and where few texts cover many
states, answers can be reused (`--samples`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from loro_jax.tasks.actions import Reader
from loro_jax.types import Transition

Fields = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a prompt can say about a task.

    Attributes:
        fields: the current observation (*obs,), and every transition that this life has seen, oldest
            first -> the text of each placeholder.
        names: the placeholders that `fields` fills.
        reader: what its actions look like in words.
        remembers: whether a life outlasts an episode, so that prompts tell what earlier episodes saw.
        samples: answers for each prompt that are reused where nothing else is asked for; 0 asks anew.
    """

    fields: Callable[[np.ndarray, Sequence[Transition]], Fields]
    names: tuple[str, ...]
    reader: Reader
    remembers: bool = False
    samples: int = 0


def side(value: float) -> str:
    return "right" if value > 0 else "left"


def pace(value: float, slow: float, fast: float) -> str:
    return "slowly" if abs(value) < slow else "fast" if abs(value) > fast else "steadily"


def near(value: float, step: float) -> float:
    """The size of `value`, rounded to a multiple of `step`."""
    return round(abs(value) / step) * step
