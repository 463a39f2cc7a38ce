"""How many seeds are needed: published tables, simulation, and what is certain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from loro_jax.analysis.power import by_luck, effect_of, power, seeds_needed


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 394), (0.5, 64), (0.8, 26)])
def test_two_samples_as_cohen_has_them(effect: float, seeds: int) -> None:
    """Table 2.4.1 of Cohen (1988), two-sided 0.05 and a power of 0.8: 393, 64, 26 by his approximation."""
    assert abs((seeds_needed(effect, paired=False) or 0) - seeds) <= 1


def test_power_is_what_a_simulation_finds() -> None:
    """20,000 tests of 12 pairs and of two samples of 12: within 5 standard errors of a share."""
    rng, effect, n = np.random.default_rng(0), 0.7, 12
    x = rng.normal(effect, 1, (20_000, n))
    found = (stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05).mean()
    assert power(effect, n) == pytest.approx(found, abs=5 * 0.5 / 20_000**0.5)
    found = (stats.ttest_ind(x, rng.normal(0, 1, x.shape), axis=1).pvalue < 0.05).mean()
    assert power(effect, n, paired=False) == pytest.approx(found, abs=5 * 0.5 / 20_000**0.5)


def test_the_fewest_are_found() -> None:
    for effect in (0.05, 0.3, 1.0, 3.0, 40.0):
        seeds = seeds_needed(effect)
        assert seeds is not None and power(effect, seeds) >= 0.8
        assert seeds == 2 or power(effect, seeds - 1) < 0.8


def test_where_there_is_nothing_to_find() -> None:
    assert seeds_needed(0.0) is None and seeds_needed(1e-9) is None
    assert seeds_needed(float("inf")) == 2 and power(1.0, 1) == 0
    assert power(0.0, 20) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="lie between 0 and 1"):
        seeds_needed(1.0, wanted=1.0)


def test_an_effect_by_hand() -> None:
    assert effect_of([1, 3, 5], [0, 1, 2], paired=True) == pytest.approx(2.0)  # 1, 2, 3
    assert effect_of([0, 2], [1, 3], paired=False) == pytest.approx(-1 / 2**0.5)
    assert effect_of([1, 1], [0, 0]) == np.inf and effect_of([1, 1], [1, 1]) == 0


def test_luck_is_the_share_of_draws_without_a_difference() -> None:
    """Of two values -1 and 1 each, one run an arm: 0 or 2 apart, as likely; paired, never apart."""
    x, y = [4.0, 6.0], [0.0, 2.0]
    assert by_luck(x, y, 2.0, runs=1) == pytest.approx(0.5, abs=0.01)
    assert by_luck(x, y, 2.5, runs=1) == 0 and by_luck(x, y, 0.0) == 1
    assert by_luck(x, y, 0.1, runs=1, paired=True) == 0


def test_luck_follows_the_normal_law() -> None:
    """Five runs of deviation 1 in each arm: a difference beyond 1 is beyond sqrt(5 / 2) deviations."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(3, 1, 20_000), rng.normal(0, 1, 20_000)
    assert by_luck(x, y, 1.0) == pytest.approx(2 * stats.norm.sf((5 / 2) ** 0.5), abs=0.005)
