"""How numbers are written: for people, in every table alike, and as strict JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NOTHING = ""
MOST_PLACES = 12


def number(value: float | None, places: int = 0, sign: str = "") -> str:
    """With so many decimal places and commas between thousands: -1,331 or 0.0, never -0.0 or -1.33e+03.

    With `sign` "+" positive numbers have one; what rounds to zero has none. None or NaN is empty.
    """
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{value:{sign}z,.{places}f}"
    return text if text.strip("+0.,") else text.removeprefix("+")


def significant(value: float | None, digits: int = 4, sign: str = "") -> str:
    """At least so many significant digits, without trailing zeros: 200, 155.4, 0.01, -1,331.

    What stands before the point is never rounded to less, and nothing is written with an exponent.
    """
    if value is None or not math.isfinite(value):
        return number(value, sign=sign)
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    text = number(value, min(MOST_PLACES, max(0, digits - before)), sign)
    return text.rstrip("0").rstrip(".") if "." in text else text


def between(
    value: float | None, ends: Sequence[float | None] | None, places: int | None = None, sign: str = ""
) -> str:
    """A number with its interval, 6,867 [6,782, 6,952], or alone where it has none; None is empty.

    Without `places` they follow from the largest of the three: none from 1,000 on, one from 10 on, else 3.
    """
    if value is None:
        return NOTHING
    known = [] if ends is None or None in ends else [end for end in ends if end is not None]
    if places is None:
        size = max(abs(x) for x in (value, *known))
        places = 0 if size >= 1000 else 1 if size >= 10 else 3
    text = number(value, places, sign)
    if not known or any(math.isnan(end) for end in known):
        return text
    return f"{text} [{', '.join(number(end, places, sign) for end in known)}]"


def strict(value: Any) -> Any:
    """JSON values only: tuples become lists, numpy scalars numbers, what is not finite null."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
