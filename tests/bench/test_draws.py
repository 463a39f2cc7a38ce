"""The study of draws: what it plays, and what it makes of variances that are known."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from loro_jax.data import episodes
from loro_jax.language import tables
from loro_jax.tasks import load
from studies import draws

LAKE = load("frozen_lake")


def perfect() -> draws.Answers:
    from loro_jax.tasks.reference import preferences

    return tables.from_policy(lambda obs: preferences(LAKE, obs).argmax(axis=1), LAKE, "map", "perfect")


def test_variances_that_are_known_are_found() -> None:
    """Draws with a standard deviation of 3, seeds of 4: 36 %; 60 draws leave it within a few of its 95 %."""
    rng = np.random.default_rng(0)
    shared = 3 * rng.normal(size=(60, 1)) + 4 * rng.normal(size=(60, 40))
    found = draws.components(shared, 5 * rng.normal(size=40))
    low, high = found["share_of_draws_ci95"]
    assert low < 0.36 < high and high - low < 0.4
    assert found["variance_within_a_draw"] == pytest.approx(16, rel=0.1)
    equal = draws.components(np.ones((2, 2)), np.ones(2))
    assert equal["share_of_draws"] == 0 and equal["share_of_draws_ci95"] == [0, 0]
    none = draws.components(4 * rng.normal(size=(60, 40)), 4 * rng.normal(size=40))
    assert none["share_of_draws"] < 0.05


def test_played_episodes_are_the_tables(tmp_path: pathlib.Path) -> None:
    found = draws.played(perfect(), LAKE, LAKE.environment(), 6, draw=1)
    episodes.save(found, tmp_path / "draw")
    space = LAKE.environment().action_space
    read = episodes.load(tmp_path / "draw", "frozen_lake", (16,), space)
    assert len(read.episode_lengths) == 6 and read.episode_lengths.sum() == len(read.transitions.reward)
    other = draws.played(perfect(), LAKE, LAKE.environment(), 6, draw=2)
    assert (
        other.transitions.obs.shape != found.transitions.obs.shape
        or (other.transitions.obs != found.transitions.obs).any()
    )


@pytest.mark.long
@pytest.mark.slow
def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.save(perfect(), LAKE, tmp_path / "perfect")
    argv = ["--answers", str(tmp_path / "perfect"), "--out", str(tmp_path)]
    argv += ["--draws", "2", "--seeds", "2", "--own-seeds", "3", "--protocol", "standard@1"]
    assert draws.main(argv) == 0
    assert "of the variance of LORO's cumulative return" in capsys.readouterr().out
    found = json.loads((tmp_path / "frozen_lake.json").read_text())
    assert draws.main([*argv, "--recount"]) == 0
    assert json.loads((tmp_path / "frozen_lake.json").read_text()) == found
    assert np.shape(found["shared"]) == (2, 2) and len(found["own"]) == 3
