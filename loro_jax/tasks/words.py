"""How a task's states are put into words: the fields that its prompts may name, and how actions are read.

A *field* is a placeholder of prompts with all the texts that may stand there, and a function from the
observation to the place of one of them. Fields are coarse on purpose: small models read words better than
digits, and where few texts cover many states, a model can be asked about each of them once (`data.answers`).

Places are found by comparisons with float32 edges alone: a number is beyond an edge where it is greater. No
rounding, no arctangent, no sum of products, each of which NumPy, XLA and a GPU may see differently in the
last bit: the same state has the same text everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from loro_jax.errors import UserError
from loro_jax.tasks.actions import Reader
from loro_jax.types import Transition

Fields = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Field:
    """A placeholder of prompts.

    Attributes:
        name: the placeholder's.
        values: what may stand there, (n,).
        index: an observation (*obs,), of NumPy or JAX -> the place of its value, a whole number () from 0 to
            n - 1.
        legal: of a field that lists the actions that there are, the actions of each value, (n,); else empty.
            Answers to a prompt that names such a field are read as one of these.
    """

    name: str
    values: tuple[str, ...]
    index: Callable[[Any], Any]
    legal: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if (
            not self.name.isidentifier()
            or not self.values
            or not all(isinstance(v, str) for v in self.values)
        ):
            raise UserError(f"the field {self.name!r} needs a name that a prompt can hold, and texts")
        if self.legal and (len(self.legal) != len(self.values) or not all(self.legal)):
            raise UserError(f"the field {self.name!r}: legal has the actions of each value, at least one")

    def text(self, obs: np.ndarray) -> str:
        """What stands in a prompt for this observation."""
        return self.values[int(self.index(obs))]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a prompt can say about a task.

    Attributes:
        fields: what the observation alone tells.
        reader: what its actions look like in words.
        history: what the life tells: the current observation (*obs,), and every transition that this life has
            seen, oldest first -> texts by name. Prompts that use these cannot be asked about ahead of play.
        history_names: the names of those texts.
        remembers: whether a life outlasts an episode, so that prompts tell what earlier episodes saw.
        samples: answers for each prompt that are reused where nothing else is asked for; 0 asks anew.
        any_shape: whether the fields read observations of whatever shape the game's parameters make, else
            only of the shape that the task's own game has.
    """

    fields: tuple[Field, ...]
    reader: Reader
    history: Callable[[np.ndarray, Sequence[Transition]], Fields] | None = None
    history_names: tuple[str, ...] = ()
    remembers: bool = False
    samples: int = 0
    any_shape: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders that a prompt may name."""
        return tuple(f.name for f in self.fields) + self.history_names

    def tell(self, obs: np.ndarray, life: Sequence[Transition]) -> Fields:
        """The text of each placeholder, for an observation (*obs,) after the transitions of `life`."""
        told = {f.name: f.text(obs) for f in self.fields}
        return told | (self.history(obs, life) if self.history else {})


PACES = ("slowly", "steadily", "fast")


def arrays_of(array: Any) -> Any:
    """The module, NumPy or JAX's, that an array is of: of one text at a time, JAX would take 40 ms."""
    return np if isinstance(array, np.ndarray) else jnp


Of = Callable[[Any], Any]
"""An observation (*obs,) -> a number, (), exactly: one of its own, or its size."""


def at(place: int) -> Of:
    """The number at `place`."""
    return lambda obs: obs[place]


def size(place: int) -> Of:
    """The size of the number at `place`, whatever its sign."""
    return lambda obs: abs(obs[place])


def banded(name: str, of: Of, edges: Sequence[float], values: Sequence[str]) -> Field:
    """values[i] where i of the ascending `edges` lie below the number.

    >>> banded("pace", size(0), (0.3, 1.0), ("slowly", "steadily", "fast")).text(np.float32([-0.5]))
    'steadily'
    """
    bounds = np.asarray(edges, np.float32)
    if len(values) != len(bounds) + 1 or not (np.diff(bounds) > 0).all():
        raise UserError(f"the field {name!r} needs ascending edges, and one value more than there are edges")
    return Field(name, tuple(values), lambda obs: (of(obs) > bounds).sum())


def rounded(name: str, of: Of, step: float, most: float, form: str, unit: float = 1.0) -> Field:
    """A number from 0 on to the nearest multiple of `step`, `most` at most, written by `form`.

    `unit` is the observation's number for 1 of what is written: pi / 180 where radians are told in degrees.

    >>> rounded("angle", size(0), 1, 12, "{:.0f}", np.pi / 180).text(np.float32([-0.06]))
    '3'
    """
    places = round(most / step) + 1
    edges = [(place + 0.5) * step * unit for place in range(places - 1)]
    return banded(name, of, edges, [form.format(place * step) for place in range(places)])


def sided(name: str, of: Of, below: str = "left", above: str = "right", edge: float = 0.0) -> Field:
    """`above` where the number is greater than `edge`, else `below`."""
    return banded(name, of, (edge,), (below, above))
