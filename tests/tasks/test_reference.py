"""The reference policies are strong and agree with what is known."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks import NAMES, Task, load, reference
from loro_jax.tasks.base import legal_of


@pytest.mark.parametrize(
    ("name", "episodes", "least"),
    [
        ("cartpole", 100, 200.0),  # never falls
        ("frozen_lake", 1000, 0.68),  # 0.74 expected, 4.3 standard errors below it
        ("cliff_walking", 1, -13.0),  # the shortest way
        ("mountain_car", 100, -101.0),
        pytest.param("pendulum", 100, -165.0, marks=pytest.mark.slow),  # -134 expected, standard error 8
    ],
)
def test_references_are_strong(name: str, episodes: int, least: float) -> None:
    found = reference.returns(load(name), episodes, seed=1)
    assert found.shape == (episodes,) and found.mean() >= least


@pytest.mark.parametrize("name", [n for n in NAMES if n != "pong"])
def test_preferences_fit_the_action_space(name: str) -> None:
    env = load(name).environment()
    rng = np.random.default_rng(0)
    obs = np.eye(env.states)[rng.integers(env.states, size=50)] if env.states else rng.uniform(
        -1, 1, (50, *env.observation_shape)
    )  # fmt: skip
    wanted = reference.preferences(load(name), obs)
    if isinstance(env.action_space, Discrete):
        assert wanted.shape == (50, env.action_space.n) and wanted.dtype == bool and wanted.any(axis=1).all()
    else:
        assert wanted.shape == (50, 1) and np.abs(wanted).max() <= 2


def test_shortest_ways_along_the_cliff_are_all_accepted() -> None:
    wanted = reference.preferences(load("cliff_walking"), np.eye(48))
    assert wanted[36].tolist() == [True, False, False, False]  # up, from the start
    assert wanted[25].tolist() == [False, True, False, False]  # right, along the cliff
    assert wanted[5].tolist() == [False, True, True, False]  # right or down, from the top row
    assert wanted[35].tolist() == [False, False, True, False]  # down, above the goal


def test_the_lakes_best_actions_are_those_of_a_textbook() -> None:
    """Left in the first cell: it cannot slip into a hole from there and drifts down."""
    wanted = reference.preferences(load("frozen_lake"), np.eye(16))
    assert wanted[0].tolist() == [True, False, False, False]
    assert wanted[8].tolist() == [False, False, False, True]
    assert wanted[14].tolist() == [False, True, False, False]


def test_chance_is_what_a_uniform_policy_scores() -> None:
    """20,000 uniform torques and moves; 4.5 standard errors are 0.016."""
    rng = np.random.default_rng(0)
    angle, speed = rng.uniform(-np.pi, np.pi, 20_000), rng.uniform(-8, 8, 20_000)
    obs = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
    agrees, chance = reference.agreement(load("pendulum"), obs, rng.uniform(-2, 2, (20_000, 1)))
    assert agrees.mean() == pytest.approx(chance.mean(), abs=0.016)
    cells = np.eye(48)[rng.integers(48, size=20_000)]
    agrees, chance = reference.agreement(load("cliff_walking"), cells, rng.integers(4, size=20_000))
    assert agrees.mean() == pytest.approx(chance.mean(), abs=0.016)


def test_chance_is_that_of_the_actions_that_there_are() -> None:
    """At the beginning of a household's game one of the four there are is the way to the thing, of 16."""
    task = load("household")
    obs, _ = task.environment().reset(jax.random.key(0))
    assert legal_of(task.environment(), np.asarray(obs)[None]).sum() == 4
    _, chance = reference.agreement(task, np.asarray(obs)[None], np.array([0]))
    assert chance.tolist() == [0.25]


def test_a_task_without_a_reference_is_refused() -> None:
    tennis = Task("tennis", load("cartpole").game)
    for ask in (
        lambda: reference.preferences(tennis, np.zeros((1, 4))),
        lambda: reference.returns(tennis, 1),
    ):
        with pytest.raises(UserError, match=r"^tennis has no reference policy$"):
            ask()
