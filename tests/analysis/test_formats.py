"""How numbers are written in every table."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from loro_jax.analysis.formats import between, number, significant, strict


@pytest.mark.parametrize(
    ("value", "places", "sign", "text"),
    [
        (-1331.4, 0, "", "-1,331"), (1234567.89, 1, "", "1,234,567.9"), (-0.04, 1, "", "0.0"),
        (0.0, 0, "", "0"), (-0.04, 1, "+", "0.0"), (0.04, 1, "+", "0.0"), (0.05001, 1, "+", "+0.1"),
        (-0.051, 1, "+", "-0.1"), (12.0, 0, "+", "+12"), (np.float32(2.5), 2, "", "2.50"), (7, 0, "", "7"),
        (None, 2, "", ""), (math.nan, 2, "+", ""), (-1e22, 0, "", "-10,000,000,000,000,000,000,000"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, places: int, sign: str, text: str) -> None:
    assert number(value, places, sign) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (-1331.4, 3, "-1,331"), (200.0, 4, "200"), (155.4398, 4, "155.4"), (9.99996, 4, "10"),
        (0.01, 4, "0.01"), (0.74419, 4, "0.7442"), (0.0, 4, "0"), (-0.0, 4, "0"), (1e-5, 4, "0.00001"),
        (1e-300, 4, "0"), (99_999.6, 4, "100,000"), (195.25, 6, "195.25"), (None, 4, ""),
        (-2043.125, 4, "-2,043"), (math.inf, 4, "inf"),
    ],
)  # fmt: skip
def test_significant_digits(value: float | None, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def test_no_number_has_an_exponent_or_a_negative_zero() -> None:
    rng = np.random.default_rng(0)
    for value in rng.normal(size=300) * 10.0 ** rng.integers(-9, 9, 300):
        for text in (
            number(value, 1),
            significant(value, 3),
            significant(value, 3, "+"),
            between(value, (value, 0)),
        ):
            shown = text.split(" ")[0]
            assert "e" not in text and (shown.strip("+-0.,") or "-" not in shown), text
        assert float(significant(value, 3).replace(",", "")) == pytest.approx(value, rel=5e-3, abs=1e-9)


def test_a_number_with_its_interval() -> None:
    assert between(6867.2, (6782.4, 6951.8)) == "6,867 [6,782, 6,952]"
    assert between(-0.02, (-1.84, 2.0), sign="+") == "-0.020 [-1.840, +2.000]"
    assert between(-0.02, (-1.84, 2.0), places=1, sign="+") == "0.0 [-1.8, +2.0]"
    assert between(155.44, (152.75, 158.08)) == "155.4 [152.8, 158.1]"
    assert (
        between(155.44, (None, None)) == between(155.44, None) == between(155.44, (math.nan,) * 2) == "155.4"
    )
    assert between(None, (None, None)) == ""


def test_strict_values_are_json() -> None:
    found = strict({"a": (np.float32(1.5), math.nan), "b": np.array([1, np.inf]), 3: np.bool_(True)})
    assert found == {"a": [1.5, None], "b": [1.0, None], "3": True}
    json.dumps(found, allow_nan=False)
