"""The comparison with published curves, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from loro_jax.interchange.published import blocks, compare


def test_blocks_are_means_of_whole_blocks() -> None:
    assert blocks(np.arange(7.0)[None], 3).tolist() == [[1.0, 4.0]]


def test_compare_takes_what_both_have_and_counts_in_standard_errors() -> None:
    ours = np.array([[1.0, 1.0, 0.0, 9.0], [3.0, 3.0, 0.0, 9.0]])
    theirs = np.array([[4.0, 4.0], [6.0, 6.0]])
    (row,) = compare(ours, theirs, block=2)
    # means 2 and 5; each standard error is sqrt(2) / sqrt(2) = 1, so the difference has sqrt(2)
    assert (row["ours"], row["published"]) == (2.0, 5.0)
    assert (row["ours_se"], row["published_se"]) == (1.0, 1.0)
    assert row["z"] == pytest.approx(-3 / 2**0.5)


def test_one_published_run_is_held_against_the_spread_of_seeds() -> None:
    ours = np.array([[1.0], [3.0]])
    (row,) = compare(ours, np.array([[4.0]]), block=1)
    # seeds have standard deviation sqrt(2); one further draw differs from their mean with sqrt(2 * 1.5)
    assert row["z"] == pytest.approx(-2 / 3**0.5)
    assert np.isnan(row["published_se"])
