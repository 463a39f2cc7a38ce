"""The household: its rules by hand, its mask, its words, and what the best play needs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.data import answers
from loro_jax.errors import UserError
from loro_jax.language import tables
from loro_jax.tasks import household, load, planning, reference
from loro_jax.tasks.household import (
    ACTIONS,
    FIRST,
    GAMES,
    HAND,
    PHRASES,
    RECEPTACLES,
    THINGS,
    TRAINED,
    UNSEEN,
    State,
)

STATES = household.solved()


def say(state: State, *phrases: str) -> tuple[State, list[bool]]:
    """What comes of actions, by their phrases; whether each reaches the goal."""
    reached = []
    for phrase in phrases:
        assert household.admissible(state)[PHRASES.index(phrase)], phrase
        state, goal = household.act(state, jnp.int32(PHRASES.index(phrase)))
        reached.append(bool(goal))
    return state, reached


def test_an_apple_by_hand() -> None:
    """From the fridge in the kitchen to the desk in the bedroom: seven actions, the last of which counts."""
    way = ("go to the kitchen", "go to the fridge", "open the fridge", "take the apple")
    way += ("go to the bedroom", "go to the desk", "put it down here")
    state, reached = say(household.begin(jnp.int32(0)), *way)
    assert reached == [False] * 6 + [True]
    assert state.places[THINGS.index("apple")] == RECEPTACLES.index("desk")


def test_what_is_closed_hides_and_takes_nothing() -> None:
    state, _ = say(household.begin(jnp.int32(0)), "go to the kitchen", "go to the fridge")
    seen = household.observe(state)
    there = np.asarray(household.admissible(state))
    assert seen[household.STARTS[5] :].sum() == 0
    assert not there[PHRASES.index("take the apple")] and there[PHRASES.index("open the fridge")]
    after, _ = household.act(state, jnp.int32(PHRASES.index("take the apple")))
    assert all(np.array_equal(a, b) for a, b in zip(after, state, strict=True))  # and nothing is changed
    opened, _ = say(state, "open the fridge")
    assert household.observe(opened)[household.STARTS[5] :].sum() == 1


def test_one_thing_is_carried_at_a_time() -> None:
    state, _ = say(
        household.begin(jnp.int32(1)),
        "go to the sofa",
        "take the book",
        "go to the kitchen",
        "go to the counter",
    )
    assert not household.admissible(state)[PHRASES.index("take the apple")]
    state, _ = say(state, "put it down here", "take the apple")
    assert state.places.tolist()[:3] == [HAND, household.ABSENT, RECEPTACLES.index("counter")]


def test_the_games_are_sixteen_that_differ() -> None:
    assert len(set(GAMES)) == 16 and not set(TRAINED) & set(UNSEEN)
    goals = [(g.thing, g.onto) for g in GAMES]
    assert len(set(goals)) == 16
    assert all(g.at != g.onto and g.thing != g.other for g in GAMES)
    assert (FIRST < HAND).sum(axis=1).tolist() == [2] * 16


def test_the_mask_of_an_observation_is_that_of_the_state() -> None:
    seen, whole, _, _, there = STATES
    for observations in (seen, whole):
        np.testing.assert_array_equal(jax.vmap(household.legal)(jnp.asarray(observations)), there)
    assert there.any(axis=1).all() and there.shape[1] == ACTIONS == len(PHRASES)


def test_the_words_list_what_is_legal() -> None:
    seen, _, _, _, there = STATES
    options = next(f for f in household.fields() if f.name == "options")
    places = np.asarray(jax.vmap(options.index)(jnp.asarray(seen)))
    for place, mask in zip(places, there, strict=True):
        assert sorted(options.legal[place]) == np.flatnonzero(mask).tolist()
        assert options.values[place] == ", ".join(PHRASES[a] for a in options.legal[place])


def test_the_best_play_reaches_every_goal() -> None:
    """In 5 to 8 steps, by the discount: 0.99 to the power of one step less."""
    best = household.values()[:16].max(axis=1)
    steps = np.log(best) / np.log(0.99) + 1
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    assert set(np.round(steps)) == {5, 6, 7, 8} and household.FURTHEST == 8
    assert household.ways() == tuple(np.round(steps).astype(int))


def test_a_short_limit_leaves_goals_out_of_reach() -> None:
    short = household.household("trained", limit=5)
    share = np.mean([household.ways()[game] <= 5 for game in TRAINED])
    assert short.best == share and 0 < share < 1 and short.threshold == pytest.approx(0.95 * share)
    assert household.household("trained", limit=household.FURTHEST).best == 1
    with pytest.raises(UserError, match="no goal is reached within 4 steps"):
        household.household(limit=4)


def test_answers_are_looked_up_where_everything_is_seen() -> None:
    """The words read the beginning of an observation, which is the same with `full`."""
    task = load("household")
    tables.check_told(task, task.environment(full=True))
    coding = answers.Coding(household.fields())
    partly, whole, *_ = STATES
    told = [np.asarray(answers.digits_of(coding)(x[:500].astype(np.float32))) for x in (partly, whole)]
    np.testing.assert_array_equal(*told)


@pytest.mark.parametrize("games", ["trained", "unseen"])
@pytest.mark.parametrize("full", [False, True])
def test_the_reference_reaches_every_goal(games: str, full: bool) -> None:
    task = dataclasses.replace(load("household"), game=household.household(games, full))  # type: ignore[arg-type]
    assert (reference.returns(task, 32) == 1).all()


def test_other_games_are_refused() -> None:
    with pytest.raises(UserError, match="'trained', 'unseen' or 'all'"):
        household.household("some")  # type: ignore[arg-type]


def test_what_the_page_says_of_its_texts() -> None:
    """docs/worlds.md: states, observations and texts in which anybody acts, in trained games and in all."""
    seen, _, after, reached, there = STATES
    coding = answers.Coding(household.fields())
    told = np.asarray(answers.digits_of(coding)(seen.astype(np.float32)))
    for games, wanted in ((household.TRAINED, (7290, 1382, 476)), (range(16), (14157, 2686, 950))):
        start = np.isin(np.arange(len(after)), list(games))  # a game's first state has its number
        acted = planning.reachable(after, there & ~reached, start)
        assert (acted.sum(), *(len(np.unique(x[acted], axis=0)) for x in (seen, told))) == wanted
