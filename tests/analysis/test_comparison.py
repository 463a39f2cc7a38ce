"""Two runs compared: how often equals are called different, what is found, and what is said of the rest."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from loro_jax.analysis import comparison, rendering, statistics
from loro_jax.analysis.comparison import Runs
from loro_jax.errors import UserError

STEPS = 200 * np.arange(1, 13)
ARMS = ("pure_rl", "loro")


def runs(rng: np.random.Generator, seeds: int = 16, shift: float = 0.0, arms: tuple[str, ...] = ARMS) -> Runs:
    """Curves that rise to about 150; runs scatter by 10, their evaluations by 5; `shift` is LORO's alone."""
    ramp = np.linspace(20, 150, len(STEPS))
    curves = {}
    for arm in arms:
        noise = rng.normal(0, 10, (seeds, 1)) + rng.normal(0, 5, (seeds, len(STEPS)))
        curves[arm] = (ramp + noise + shift * (arm == "loro")).astype(np.float32)
    return Runs(curves, STEPS)


def quick(
    a: Runs, b: Runs, paired: bool, rate: float = 0.05, threshold: float = 140.0
) -> comparison.Comparison:
    return comparison.compare(a, b, threshold, paired=paired, error_rate=rate, permutations=999, resamples=20)


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_false_alarms(paired: bool) -> None:
    """Of 400 tables of 6 rows, whose runs come from one distribution, at most 5 % are called different.

    33 of 400 is three standard errors above that. Rows of an arm are not independent, so that Holm errs less.
    """
    rng = np.random.default_rng(1)
    alarms = sum(quick(runs(rng, 12), runs(rng, 12), paired).differs for _ in range(400))
    assert 2 <= alarms <= 33


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_what_it_would_find_is_found_so_often(paired: bool) -> None:
    """A shift as large as `detectable` is found in 80 of 100 comparisons; four standard errors are 16."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        a, b = runs(rng, 24), runs(rng, 24)
        row = next(r for r in quick(a, b, paired).rows if (r.arm, r.metric) == ("loro", "cumulative_return"))
        moved = Runs(b.curves | {"loro": b.curves["loro"] + row.detectable / len(STEPS)}, STEPS)
        alone = {
            "a": Runs({"loro": a.curves["loro"]}, STEPS),
            "b": Runs({"loro": moved.curves["loro"]}, STEPS),
        }
        # At the level that the row had in its table, by itself.
        level = 0.05 / 6
        contrast = statistics.paired if paired else statistics.unpaired
        totals = [alone[k].curves["loro"].sum(axis=1) for k in "ba"]
        found += contrast(*totals, seed=0, permutations=1999, resamples=2).p_value <= level
    assert 64 <= found <= 96


@pytest.mark.parametrize("paired", [True, False])
def test_a_shifted_arm_is_found_and_the_other_is_not(paired: bool) -> None:
    rng = np.random.default_rng(3)
    found = quick(runs(rng), runs(rng, shift=40), paired)
    assert found.differs and not found.equal and not found.blind
    assert {row.arm for row in found.rows if row.differs} == {"loro"}
    assert "loro by cumulative_return (B better)" in comparison.verdict(found)
    steps = next(row for row in found.rows if (row.arm, row.metric) == ("loro", "steps_to_threshold"))
    assert steps.difference < 0 and steps.improvement > 0.9
    if steps.differs:
        assert "loro by steps_to_threshold (B better)" in comparison.verdict(found)
    worse = quick(runs(rng, shift=40), runs(rng), paired)
    assert "loro by final_return (B worse)" in comparison.verdict(worse)


def test_pairs_find_what_groups_do_not() -> None:
    rng = np.random.default_rng(4)
    a = runs(rng, 20)
    b = Runs({arm: curve + rng.normal(1, 0.5, (20, 1)) for arm, curve in a.curves.items()}, STEPS)
    assert quick(a, b, True).differs and not quick(a, b, False).differs
    pairs, groups = (quick(a, b, paired).rows[0] for paired in (True, False))
    assert pairs.difference == pytest.approx(groups.difference) and pairs.detectable < groups.detectable / 5


@pytest.mark.parametrize("paired", [True, False])
def test_the_same_runs_are_equal_to_the_bit(paired: bool) -> None:
    a = runs(np.random.default_rng(5))
    a.curves["loro"][3, 5:] = np.nan
    a = Runs(a.curves, STEPS, 20.0)
    again = Runs({arm: curve.copy() for arm, curve in a.curves.items()}, STEPS, 20.0)
    found = quick(a, again, paired)
    assert found.equal and not found.differs and all(row.p_holm == 1 for row in found.rows)
    assert comparison.verdict(found) == "Equal: every common arm's curves are equal to the bit."
    assert [row[4].text for row in comparison.table(found).rows] == ["equal to the bit"] * 6
    again.curves["loro"][0, 0] = np.nextafter(again.curves["loro"][0, 0], np.float32(np.inf))
    other = quick(a, again, paired)
    assert [row.equal for row in other.rows] == [True] * 3 + [False] * 3 and not other.differs
    wider = Runs({arm: curve.astype(np.float64) for arm, curve in a.curves.items()}, STEPS, 20.0)
    assert not any(row.equal for row in quick(a, wider, paired).rows)


def test_holm_is_over_the_whole_table() -> None:
    rng = np.random.default_rng(6)
    found = quick(runs(rng), runs(rng, shift=8), True)
    p = [row.p_value for row in found.rows]
    assert [row.p_holm for row in found.rows] == pytest.approx(list(statistics.holm(p)))
    assert [(row.arm, row.metric) for row in found.rows] == [
        (arm, metric)
        for arm in ARMS
        for metric in ("cumulative_return", "final_return", "steps_to_threshold")
    ]


def test_arms_and_seeds_that_only_one_has() -> None:
    rng = np.random.default_rng(7)
    a, b = runs(rng, 12, arms=("pure_rl", "mine")), runs(rng, 9, arms=("pure_rl", "loro", "mix"))
    found = quick(a, b, True)
    assert (found.only_a, found.only_b) == (("mine",), ("loro", "mix"))
    assert comparison.only(found) == [
        "In A alone, not compared: mine.",
        "In B alone, not compared: loro, mix.",
    ]
    assert {row.seeds for row in found.rows} == {(9, 9)}
    expected = a.curves["pure_rl"][:9].sum(axis=1) - b.curves["pure_rl"].sum(axis=1)
    assert found.rows[0].difference == pytest.approx(-expected.mean(), rel=1e-5)
    assert {row.seeds for row in quick(a, b, False).rows} == {(12, 9)}
    with pytest.raises(UserError, match="no learning arm in common"):
        quick(runs(rng, arms=("a",)), runs(rng, arms=("b",)), True)
    with pytest.raises(UserError, match=r"12 times up to 2,400 in A, 11 times up to 2,200 in B"):
        quick(a, Runs({"pure_rl": b.curves["pure_rl"][:, :11]}, STEPS[:11]), True)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quick(a, b, True, rate=1.0)


def test_without_a_common_threshold_a_metric_less() -> None:
    rng = np.random.default_rng(8)
    found = comparison.compare(runs(rng), runs(rng), None, paired=True, error_rate=0.01)
    assert {row.metric for row in found.rows} == {"cumulative_return", "final_return"}


def test_a_run_that_diverged_counts_as_random_and_worst() -> None:
    curve = np.full((4, 12), 100.0)
    lost = curve.copy()
    lost[3, 6:] = np.nan
    found = comparison.compare(
        Runs({"loro": curve}, STEPS), Runs({"loro": lost}, STEPS, 20.0), 100.0, paired=True, error_rate=0.5
    )
    total, final, steps = found.rows
    assert [row.diverged for row in found.rows] == [(0, 1)] * 3
    assert total.difference == -6 * 80 / 4 and final.difference == -80 / 4
    assert steps.difference == (2400 - 1000) / 4 and steps.improvement == 12 / 32
    assert total.improvement == 12 / 32
    assert comparison.table(found).rows[0][0].text == "loro (diverged: 1 of B)"


def test_too_few_seeds_are_blind() -> None:
    rng = np.random.default_rng(9)
    a, b = runs(rng, 5), runs(rng, 5, shift=1000)
    found = quick(a, b, True)
    assert found.smallest_p == 2 / 32 and found.blind and not found.differs
    assert all(math.isinf(row.detectable) for row in found.rows) and found.remedy.startswith("run more seeds")
    assert comparison.table(found).rows[0][8].text == "nothing"
    groups = quick(a, b, False)
    assert groups.smallest_p == 2 / 252 and not quick(a, b, False, rate=0.2).blind
    low = comparison.compare(runs(rng, 30), runs(rng, 30), None, paired=True, error_rate=1e-7, resamples=2)
    assert low.blind and low.remedy == "--error-rate must be at least 8e-05"


def test_as_json_and_csv() -> None:
    rng = np.random.default_rng(10)
    found = quick(runs(rng, 1), runs(rng, 1), True)
    answer = json.loads(json.dumps(comparison.as_json(found), allow_nan=False))
    assert answer["differs"] is False and answer["rows"][0]["difference_ci95"] == [None, None]
    assert answer["rows"][0]["detectable"] is None and answer["only_a"] == []
    text = rendering.to_csv(comparison.table(found)).splitlines()
    assert len(text) == 7 and text[0].startswith(
        "arm,diverged_a,diverged_b,metric,seeds_a,mean_a,seeds_b,mean_b,"
    )
    assert text[1].endswith(",false,false")


def test_no_spread_is_said() -> None:
    flat = np.full((20, 12), 7.0)
    found = quick(
        Runs({"loro": flat}, STEPS), Runs({"loro": flat + np.eye(20, 12)}, STEPS), True, threshold=9.0
    )
    row = comparison.table(found).rows[2]
    assert row[1].text == "steps to threshold" and row[8].text == "no spread" and row[2].text == "2,400"


def test_the_guide_names_the_error_rate_and_what_is_not_shown() -> None:
    rng = np.random.default_rng(11)
    said = " ".join(comparison.guide(quick(runs(rng), runs(rng), False)))
    for words in ("6 rows", "at most 0.05", "80% probability", "one of the spread, never shows", "regroups"):
        assert words in said
