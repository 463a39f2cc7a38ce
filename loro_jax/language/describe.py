"""How each environment's state is put into words: the fields that its prompts may name.

To let a language model play another environment, add a function here, a line to `DESCRIPTIONS`, and
a folder of prompts under `prompts/`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from loro_jax.errors import UserError

Fields = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a prompt can say about an environment.

    Attributes:
        fields: observations of the episode so far, first to current, each (*obs,) -> the text of each
            placeholder. The whole past is there for prompts that remember what was seen.
        names: the placeholders that `fields` fills.
        actions: the word for each action, action 0 first.
    """

    fields: Callable[[Sequence[np.ndarray]], Fields]
    names: tuple[str, ...]
    actions: tuple[str, ...]


def _side(value: float) -> str:
    return "right" if value > 0 else "left"


def cartpole(observations: Sequence[np.ndarray]) -> Fields:
    """CartPole's four numbers (m, m/s, rad, rad/s) as sides and rounded sizes in metres and degrees.

    Sides come from the exact numbers, so that a size that rounds to 0 still has its true side.
    """
    x, speed, angle, turning = (float(v) for v in observations[-1])
    return {
        "cart_side": _side(x),
        "cart_distance": f"{abs(x):.2f}",
        "cart_direction": _side(speed),
        "cart_speed": f"{abs(speed):.2f}",
        "pole_side": _side(angle),
        "pole_angle": f"{abs(math.degrees(angle)):.0f}",
        "pole_direction": _side(turning),
        "pole_speed": f"{abs(math.degrees(turning)):.0f}",
    }


DESCRIPTIONS: dict[str, Description] = {
    "cartpole": Description(
        cartpole,
        (
            "cart_side",
            "cart_distance",
            "cart_direction",
            "cart_speed",
            "pole_side",
            "pole_angle",
            "pole_direction",
            "pole_speed",
        ),
        ("left", "right"),
    ),
}


def description(environment: str) -> Description:
    """The description of `environment`; a `UserError` lists those there are."""
    if environment not in DESCRIPTIONS:
        raise UserError(
            f"no words for an environment '{environment}'; language models play: {', '.join(DESCRIPTIONS)}"
        )
    return DESCRIPTIONS[environment]
