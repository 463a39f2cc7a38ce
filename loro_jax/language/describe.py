"""How each environment's state is put into words: the fields that its prompts may name.

To let a language model play another environment, add a function here, a line to `DESCRIPTIONS`, and
a folder of prompts under `prompts/`. Fields are coarse on purpose: small models read words better than
digits, and where few texts cover many states, answers can be reused (`--samples`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from loro_jax.errors import UserError
from loro_jax.language import grids
from loro_jax.language.parse import Number, Reader, Words
from loro_jax.types import Transition

Fields = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a prompt can say about an environment.

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


def _side(value: float) -> str:
    return "right" if value > 0 else "left"


def _pace(value: float, slow: float, fast: float) -> str:
    return "slowly" if abs(value) < slow else "fast" if abs(value) > fast else "steadily"


def _near(value: float, step: float) -> float:
    """The size of `value`, rounded to a multiple of `step`."""
    return round(abs(value) / step) * step


def cartpole(obs: np.ndarray, life: Sequence[Transition]) -> Fields:
    """CartPole's four numbers (m, m/s, rad, rad/s) as sides, sizes in metres and degrees, and paces.

    Sides come from the exact numbers, so that a size that rounds to 0 still has its true side.
    """
    x, speed, angle, turning = (float(v) for v in obs)
    return {
        "cart_side": _side(x),
        "cart_distance": f"{abs(x):.2f}",
        "cart_direction": _side(speed),
        "cart_speed": f"{abs(speed):.2f}",
        "pole_side": _side(angle),
        "pole_angle": f"{abs(math.degrees(angle)):.0f}",
        "pole_direction": _side(turning),
        "pole_speed": f"{abs(math.degrees(turning)):.0f}",
        "cart_place": "near" if abs(x) < 0.8 else "off" if abs(x) < 1.6 else "far from",
        "cart_pace": _pace(speed, 0.3, 1.0),
        "pole_pace": _pace(math.degrees(turning), 15, 60),
    }


CARTPOLE = (
    "cart_side", "cart_distance", "cart_direction", "cart_speed", "pole_side", "pole_angle",
    "pole_direction", "pole_speed", "cart_place", "cart_pace", "pole_pace",
)  # fmt: skip


def pendulum(obs: np.ndarray, life: Sequence[Transition]) -> Fields:
    """The angle from upright to the nearest 10 degrees, and the speed to the nearest rad/s, with sides.

    Gymnasium counts angles, speeds and torques counterclockwise, so that a pole that leans to the left
    has a positive angle, and a positive torque turns it further to the left through the top.
    """
    angle = math.degrees(math.atan2(float(obs[1]), float(obs[0])))
    return {
        "angle": f"{_near(angle, 10):.0f}",
        "side": _side(-angle),
        "half": "above" if abs(angle) < 90 else "below",
        "speed": f"{_near(float(obs[2]), 1):.0f}",
        "direction": "counterclockwise" if obs[2] > 0 else "clockwise",
    }


def mountain_car(obs: np.ndarray, life: Sequence[Transition]) -> Fields:
    """Where the car is from the valley's lowest point, to a tenth, and its speed on a scale to 10."""
    from_bottom = float(obs[0]) + math.pi / 6
    return {
        "position": f"{_near(from_bottom, 0.1):.1f}",
        "side": _side(from_bottom),
        "speed": f"{_near(float(obs[1]) / 0.007, 1):.0f}",
        "direction": _side(float(obs[1])),
    }


def pong(obs: np.ndarray, life: Sequence[Transition]) -> Fields:
    """Where the ball is from the middle of the player's paddle, to 8 lines, and where it goes.

    The player's paddle is the right one, and its middle 7 lines below its own number. Lines are counted
    downwards, so that a smaller number is higher; a ball with y = 0 is not in play.
    """
    paddle, ball, (x, y) = float(obs[0]), float(obs[5]), (float(v) for v in obs[8:10])
    offset = ball - (paddle + 7)
    return {
        "ball": "in play" if ball > 0 else "not in play",
        "offset": f"{_near(offset, 8):.0f}",
        "vertical": "below" if offset > 0 else "above",
        "course": "towards you" if x > 0 else "away from you",
        "rise": "down" if y > 0 else "up" if y < 0 else "level",
        "distance": "near" if obs[4] > 160 else "half-way" if obs[4] > 120 else "far",
    }


DESCRIPTIONS: dict[str, Description] = {
    "cartpole": Description(cartpole, CARTPOLE, Words(("left", "right"))),
    "pendulum": Description(
        pendulum, ("angle", "side", "half", "speed", "direction"), Number(-2.0, 2.0)
    ),
    "mountain_car": Description(
        mountain_car, ("position", "side", "speed", "direction"), Words(("left", "wait", "right"))
    ),
    "frozen_lake": Description(
        grids.frozen_lake, grids.FIELDS, Words(("left", "down", "right", "up")), True, 4
    ),
    "cliff_walking": Description(
        grids.cliff_walking, grids.FIELDS, Words(("up", "right", "down", "left")), True, 4
    ),
    "pong": Description(
        pong, ("ball", "offset", "vertical", "course", "rise", "distance"),
        Words(("stay", "up", "down"), (0, 2, 3)),
    ),
}  # fmt: skip


def description(environment: str) -> Description:
    """The description of `environment`; a `UserError` lists those there are."""
    if environment not in DESCRIPTIONS:
        raise UserError(
            f"no words for an environment '{environment}'; language models play: {', '.join(DESCRIPTIONS)}"
        )
    return DESCRIPTIONS[environment]
