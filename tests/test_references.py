"""The reference policies are strong, agree with what is known, and the report on LLM policies is theirs."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from benchmarks import llm_policies
from loro_jax import references
from loro_jax.environments import REGISTRY, make
from loro_jax.errors import UserError
from loro_jax.spaces import Discrete

RESULTS = pathlib.Path(__file__).parent.parent / "results"
REPORT = RESULTS / "llm_policies.json"


@pytest.mark.parametrize(
    ("name", "episodes", "least"),
    [
        ("cartpole", 100, 200.0),  # never falls
        ("frozen_lake", 1000, 0.68),  # 0.74 expected, 4.3 standard errors below it
        ("cliff_walking", 1, -13.0),  # the shortest way
        ("mountain_car", 100, -101.0),
        ("pendulum", 100, -165.0),  # -134 expected, standard error 8
    ],
)
def test_references_are_strong(name: str, episodes: int, least: float) -> None:
    found = references.returns(name, episodes, seed=1)
    assert found.shape == (episodes,) and found.mean() >= least


@pytest.mark.parametrize("name", [n for n in sorted(REGISTRY) if n != "pong"])
def test_preferences_fit_the_action_space(name: str) -> None:
    env = make(name)
    rng = np.random.default_rng(0)
    obs = np.eye(env.states)[rng.integers(env.states, size=50)] if env.states else rng.uniform(
        -1, 1, (50, *env.observation_shape)
    )  # fmt: skip
    wanted = references.preferences(name, obs)
    if isinstance(env.action_space, Discrete):
        assert wanted.shape == (50, env.action_space.n) and wanted.dtype == bool and wanted.any(axis=1).all()
    else:
        assert wanted.shape == (50, 1) and np.abs(wanted).max() <= 2


def test_shortest_ways_along_the_cliff_are_all_accepted() -> None:
    wanted = references.cliff_walking(np.eye(48))
    assert wanted[36].tolist() == [True, False, False, False]  # up, from the start
    assert wanted[25].tolist() == [False, True, False, False]  # right, along the cliff
    assert wanted[5].tolist() == [False, True, True, False]  # right or down, from the top row
    assert wanted[35].tolist() == [False, False, True, False]  # down, above the goal


def test_the_lakes_best_actions_are_those_of_a_textbook() -> None:
    """Left in the first cell: it cannot slip into a hole from there and drifts down."""
    wanted = references.frozen_lake(np.eye(16))
    assert wanted[0].tolist() == [True, False, False, False]
    assert wanted[8].tolist() == [False, False, False, True]
    assert wanted[14].tolist() == [False, True, False, False]


def test_chance_is_what_a_uniform_policy_scores() -> None:
    """20,000 uniform torques and moves; 4.5 standard errors are 0.016."""
    rng = np.random.default_rng(0)
    angle, speed = rng.uniform(-np.pi, np.pi, 20_000), rng.uniform(-8, 8, 20_000)
    obs = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
    agrees, chance = references.agreement("pendulum", obs, rng.uniform(-2, 2, (20_000, 1)))
    assert agrees.mean() == pytest.approx(chance.mean(), abs=0.016)
    cells = np.eye(48)[rng.integers(48, size=20_000)]
    agrees, chance = references.agreement("cliff_walking", cells, rng.integers(4, size=20_000))
    assert agrees.mean() == pytest.approx(chance.mean(), abs=0.016)


def test_an_environment_without_a_reference_is_refused() -> None:
    with pytest.raises(UserError, match="no reference policy for 'tennis'; there are: cartpole"):
        references.preferences("tennis", np.zeros((1, 4)))


def test_episodes_are_resampled_whole() -> None:
    """Two episodes, all right and all wrong: resamples are 0, a third or two thirds by length, or 1."""
    low, high = llm_policies.ratio_interval(np.array([10.0, 0.0]), np.array([10, 20]))
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_report_is_what_the_episodes_say(name: str) -> None:
    """All but the agreement in Pong, whose planner takes a while."""
    saved = json.loads(REPORT.read_text())[name]
    folders = [f for f in llm_policies.folders(RESULTS / "episodes", name)]
    assert [row["name"] for row in saved["rows"]] == [f.name for f in folders]
    models = {row["model"] for row in saved["rows"] if row["episodes"] >= 30}
    assert len(models) >= 2 and any("0.5b" in m or "1.5b" in m for m in models)
    if name == "pong":
        return
    for row, folder in zip(saved["rows"], folders, strict=True):
        assert llm_policies.describe(folder, name) == pytest.approx(row, rel=1e-6)


def test_the_tables_are_the_reports() -> None:
    text = (RESULTS / "llm_policies.md").read_text()
    assert text == llm_policies.markdown(json.loads(REPORT.read_text()))
