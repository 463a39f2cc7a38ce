"""Tuning: a setting that diverges is a row like any other, and does not win where no seed survived."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from benchmarks import tune
from benchmarks.cartpole import CARTPOLE
from loro_jax import experiment, population, results


def test_a_diverged_seed_scores_as_random_play_from_there_on() -> None:
    curves = np.array([[1, 2, 3], [1, np.nan, 9], [np.inf, 2, 3]], np.float32)
    found, diverged = tune.survived(curves, -5.0)
    np.testing.assert_array_equal(found, [[1, 2, 3], [1, -5, -5], [-5, -5, -5]])
    assert diverged == 2 and found.dtype == np.float32 and np.isnan(curves[1, 1])
    np.testing.assert_array_equal(tune.survived(found, 0.0)[0], found)


def test_no_setting_wins_that_no_seed_survived() -> None:
    def row(score: float, **more: int) -> dict[str, Any]:
        return {"seeds": 4, "cumulative_return_mean": score, **more}

    rows = [row(-9.0), row(-1.0, diverged=4), row(-2.0, diverged=1), row(-3.0)]
    assert tune.ranked(rows) == [2, 3, 0, 1]


@pytest.mark.parametrize("finite", [True, False])
def test_a_diverged_row_can_be_saved(
    finite: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    curves = np.full((2, 50), 30.0, np.float32)
    if not finite:
        curves[1, 10:] = np.nan

    def trained(sentence: Any, programs: Any, start: Any, data: Any) -> population.Progress:
        return dataclasses.replace(start, records=curves)

    monkeypatch.setattr(population, "train", trained)
    row = tune._score(CARTPOLE, CARTPOLE.protocols["standard"], 2, 101)
    results.write_json(tmp_path / "rows.json", row)
    if finite:
        assert row["cumulative_return_mean"] == 1500 and "diverged" not in row
        return
    env = CARTPOLE.make(CARTPOLE.protocols["standard"])
    random = float(experiment.random_returns(env, 101).mean())
    assert row["diverged"] == 1 and 15 < random < 30
    expected = (1500 + 300 + 40 * random) / 2
    assert row["cumulative_return_mean"] == pytest.approx(expected, rel=1e-5)
