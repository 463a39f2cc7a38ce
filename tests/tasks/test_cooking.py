"""The kitchen as a task: its clock, its mask, its words, its best play."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.errors import UserError
from loro_jax.tasks import Task, check, cooking, load, planning, reference
from loro_jax.tasks.kitchen import SALAD, TOMATO, Kitchen
from loro_jax.tasks.rollout import recorded, uniform

MAPS = pytest.mark.parametrize("map_", [TOMATO, SALAD], ids=lambda m: m.name)
NAMES = pytest.mark.parametrize("name", [TOMATO.name, SALAD.name])


def task_of(name: str, **settings: object) -> Task:
    task = load(name)
    return dataclasses.replace(task, game=task.game(**settings))  # type: ignore[operator]


@MAPS
@pytest.mark.parametrize("full", [False, True])
def test_what_is_not_legal_does_nothing(map_: Kitchen, full: bool) -> None:
    """In every state that there is: no reward but what time costs, and nothing lies elsewhere than before."""
    s = cooking.solved(map_)
    seen = s.full if full else s.observations
    legal = np.asarray(jax.vmap(cooking.legal(map_))(jnp.asarray(seen)))
    assert legal.any(axis=1).all() and not legal.all()
    costs = -0.001 * np.cumsum(0.99 ** np.arange(20))
    # Where the cook stands is all that may change: 11 numbers or 19, of which these are not the cook's.
    others = [i for i in range(s.full.shape[1]) if not _of_the_cook(map_, i)]
    for row, action in np.argwhere(~legal):
        assert s.reward[row, action] == pytest.approx(costs[s.duration[row, action] - 1], abs=1e-6)
        assert not s.terminated[row, action]
        before, after = s.full[row], s.full[s.after[row, action]]
        held = np.all(before[others].reshape(-1)[None] == after[others].reshape(-1)[None])
        assert held, (before, after, map_.actions[action])


def _of_the_cook(map_: Kitchen, place: int) -> bool:
    at = 3 * len(map_.foods) + 4 + 2 * len(map_.boards)
    return at <= place < at + 2


@MAPS
def test_the_words_list_what_is_legal(map_: Kitchen) -> None:
    s = cooking.solved(map_)
    options = next(f for f in cooking.fields(map_) if f.name == "options")
    legal = np.asarray(jax.vmap(cooking.legal(map_))(jnp.asarray(s.observations)))
    for obs, mask in zip(s.observations, legal, strict=True):
        place = int(options.index(obs))
        assert options.legal[place] == tuple(np.flatnonzero(mask))
        assert options.text(obs) == ", ".join(cooking.phrases(map_)[a] for a in np.flatnonzero(mask))


@MAPS
def test_there_are_few_texts(map_: Kitchen) -> None:
    told = {
        tuple(int(f.index(obs)) for f in cooking.fields(map_)) for obs in cooking.solved(map_).observations
    }
    assert len(told) <= 500


@NAMES
@pytest.mark.parametrize("full", [False, True])
def test_the_reference_goes_straight_to_the_dish(name: str, full: bool) -> None:
    task = task_of(name, full=full)
    (earned,) = reference.returns(task, 1)
    assert earned >= task.environment().threshold  # type: ignore[operator]
    assert not [f for f in check.check_task(task) if f.kind == "problem" and "prompts" not in f.says]


def test_the_best_play_farms_and_delivers_at_the_end() -> None:
    """Against what an exhaustive search finds in few steps, and what the straight way earns in as many."""
    straight = [2, 5, 3, 9, 9, 3]  # primitive steps of the way by hand (test_kitchen)
    earned = 1.2 * 0.99**2 - sum(0.1 * (1 - 0.99**n) for n in straight)
    assert cooking.best_return(TOMATO, sum(straight)) == pytest.approx(earned, abs=2e-6)
    assert cooking.best_return(TOMATO, 20) < 0.2  # a food chopped, and no dish yet
    assert cooking.best_return(TOMATO, 200) > 1.8
    s = cooking.solved(TOMATO)

    def best(state: int, left: int, actions: int) -> float:
        if left <= 0 or not actions:
            return 0.0
        each = []
        for a in range(s.after.shape[1]):
            rest = (
                0.0
                if s.terminated[state, a]
                else best(s.after[state, a], left - s.duration[state, a], actions - 1)
            )
            each.append(s.reward[state, a] + rest)
        return max(each)

    assert cooking.best_return(TOMATO, 10) == pytest.approx(best(0, 10, 10), abs=1e-6)


def test_the_limit_counts_primitive_steps() -> None:
    env = load(TOMATO.name).environment()
    played = recorded(env, uniform(env), jax.random.key(3), 200)
    steps = int(played.played.sum())
    ended = np.asarray(played.truncated | played.terminated)
    assert ended[steps - 1] and not ended[: steps - 1].any() and steps < 200
    assert env.limited(20).limit == 20


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="1 to 10,000 primitive steps"):
        load(TOMATO.name).environment(limit=0)


@pytest.mark.parametrize(
    ("map_", "states", "texts", "most"), [(TOMATO, 23, 15, 1.86), (SALAD, 1142, 438, 1.97)]
)
def test_what_the_page_says_of_its_size(map_: Kitchen, states: int, texts: int, most: float) -> None:
    """docs/worlds.md: states that a cook can be in, texts, the best return within 200 primitive steps."""
    s = cooking.solved(map_)
    legal = np.asarray(jax.vmap(cooking.legal(map_))(jnp.asarray(s.observations)))
    there = planning.reachable(s.after, legal & ~s.terminated, np.arange(len(s.after)) == 0)
    told = {tuple(int(f.index(obs)) for f in cooking.fields(map_)) for obs in s.observations[there]}
    assert (there.sum(), len(told)) == (states, texts)
    assert cooking.best_return(map_) == pytest.approx(most, abs=0.005)


@pytest.mark.parametrize(
    ("discount", "by_duration", "delivers"),
    [(0.99, False, False), (0.98, False, True), (0.97, False, True), (0.99, True, True)],
)
@pytest.mark.parametrize("map_", [TOMATO, SALAD])
def test_at_which_discount_the_best_play_delivers(
    map_: Kitchen, discount: float, by_duration: bool, delivers: bool
) -> None:
    """Without a limit: the dish is handed over, or food is chopped and thrown away again and again."""
    s = cooking.solved(map_)
    q, at, ended = s.values(discount, by_duration), 0, False
    for _ in range(100):
        action = int(q[at].argmax())
        ended |= bool(s.terminated[at, action])
        at = s.after[at, action]
    assert ended is delivers
    if map_ is TOMATO and (discount, by_duration) == (0.99, False):
        assert q[0].max() == pytest.approx(1.63, abs=0.01)
