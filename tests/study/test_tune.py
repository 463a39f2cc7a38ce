"""Tuning: a setting that diverges is a row like any other, and does not win where no seed survived."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np
import pytest

from loro_jax import files, progress
from loro_jax.errors import command
from loro_jax.running.curves import random_returns
from loro_jax.tasks import load
from loro_jax.training import population
from studies import tune


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
    row = tune._score(load("cartpole"), load("cartpole").protocol("standard"), 2, 101)
    files.write_json(tmp_path / "rows.json", row)
    if finite:
        assert row["cumulative_return_mean"] == 1500 and "diverged" not in row
        return
    env = load("cartpole").environment()
    random = float(random_returns(env, 101).mean())
    assert row["diverged"] == 1 and 15 < random < 30
    expected = (1500 + 300 + 40 * random) / 2
    assert row["cumulative_return_mean"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--seeds", "1"), "--seeds must be at least 2, got 1"),
        (("--final-seeds", "1"), "--final-seeds must be at least 2, got 1"),
        (("--seeds", "99999999999"), "--seeds must be at most 1000000"),
        (("--finalists", "0"), "--finalists must be at least 1"),
        (("--configurations", "-1"), "--configurations must be at least 0"),
        (("--task", "tune"), "no task is called 'tune'; there are: cartpole, "),
        (("--task", "no.such:TASK"), "no.such: cannot be imported"),
        (("--task", "no_such.py"), "no_such.py: no such file"),
        (("--task", ""), "no task is called ''; there are: cartpole, "),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, argv: tuple[str, ...], says: str
) -> None:
    assert command(lambda: tune.main([*argv, "--out", str(tmp_path / "out")])) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": [{"seeds": 2}]}'])
def test_rows_that_cannot_be_read_are_never_written_over(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, text: str
) -> None:
    (tmp_path / "cartpole.json").write_text(text)
    assert command(lambda: tune.main(["--out", str(tmp_path)])) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "cartpole.json").read_text() == text


def test_a_search_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a single setting is trained, and in every round; the rows and the winner are saved."""
    monkeypatch.setattr(progress, "SECONDS", 0.02)

    def slow(task: Any, protocol: Any, seeds: int, seed: int) -> dict[str, float]:
        time.sleep(0.1)
        return {"cumulative_return_mean": protocol.agent.learning_rate, "standard_error": 0.0}

    monkeypatch.setattr(tune, "_score", slow)
    argv = ["--configurations", "2", "--finalists", "2", "--out", str(tmp_path)]
    assert command(lambda: tune.main(argv)) == 0
    said = capsys.readouterr().err.splitlines()
    for line in ("search: 0 of 3 done", "search: 2 of 3 done", "finalists: 1 of 2 done"):
        assert line in said
    assert "nearby: 1 of 12 done" in said
    found = json.loads((tmp_path / "cartpole.json").read_text())
    rates = [row["settings"]["learning_rate"] for row in found["rows"]]
    assert found["winner"]["learning_rate"] == max(rates)
