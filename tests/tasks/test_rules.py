"""A game written as two functions keeps the contract of every game (`loro_jax.tasks.rules`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.errors import UserError
from loro_jax.spaces import Box, Discrete
from loro_jax.tasks import Environment, Task
from loro_jax.tasks.rules import environment

LENGTH, LIMIT = 3, 5


def first(key: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    tag = jax.random.randint(key, (), 1, 2**20)
    return jnp.zeros(2), {"place": jnp.int32(0), "tag": tag}


def then(key: jax.Array, state: dict[str, Any], action: jax.Array) -> tuple[Any, ...]:
    """Action 1 goes on, action 0 stays; the end of the corridor ends the episode. Pays whole numbers."""
    place = state["place"] + action
    obs = jnp.stack([place, action]).astype(jnp.float32)
    return obs, {"place": place, "tag": state["tag"]}, place * 2, place >= LENGTH


def corridor(**more: Any) -> Environment:
    given = {"observation_shape": (2,), "actions": Discrete(2), "limit": LIMIT} | more
    return Task("corridor", environment(first, then, **given)).environment()


def played(env: Environment, actions: list[int]) -> tuple[np.ndarray, ...]:
    """Observations, rewards, and both flags of one game, stepped also beyond its end."""

    def step(state: Any, action: jax.Array) -> tuple[Any, Any]:
        obs, state, reward, terminated, truncated = env.step(jax.random.key(0), state, action)
        return state, (obs, reward, terminated, truncated)

    @jax.jit
    def program() -> Any:
        _, state = env.reset(jax.random.key(7))
        return jax.lax.scan(step, state, jnp.asarray(actions, jnp.int32))

    state, seen = program()
    assert int(state.time) == len(actions)
    assert int(state.inner["tag"]) == int(env.reset(jax.random.key(7))[1].inner["tag"])
    return tuple(np.asarray(x) for x in seen)


def test_the_limit_truncates_on_its_very_step() -> None:
    _, _, terminated, truncated = played(corridor(), [0] * 7)
    assert not terminated.any()
    assert truncated.tolist() == [False] * 4 + [True] * 3


def test_an_end_by_the_rules_wins_on_the_limits_step() -> None:
    """Reached with the fifth step of five, and with the fourth."""
    _, _, terminated, truncated = played(corridor(), [0, 0, 1, 1, 1])
    assert terminated.tolist() == [False] * 4 + [True] and not truncated.any()
    _, _, terminated, truncated = played(corridor(), [0, 1, 1, 1])
    assert terminated.tolist() == [False] * 3 + [True] and not truncated.any()


def test_a_step_never_resets() -> None:
    """The observation after an end is the one that ended it, and the state goes on from there."""
    obs, reward, terminated, truncated = played(corridor(), [1] * 7)
    np.testing.assert_array_equal(obs[:, 0], np.arange(1, 8))
    np.testing.assert_array_equal(reward, 2 * np.arange(1, 8))
    assert terminated.tolist() == [False] * 2 + [True] * 5 and not (terminated & truncated).any()


def test_types_are_those_of_every_game() -> None:
    obs, reward, terminated, truncated = played(corridor(), [0, 1])
    assert obs.dtype == reward.dtype == np.float32  # whole numbers were paid
    assert terminated.dtype == truncated.dtype == np.bool_
    env = corridor(threshold=4.0, best=6.0, magnitudes=(3.0, 1.0))
    assert (env.name, env.limit, env.observation_shape, env.action_space) == (
        "corridor", LIMIT, (2,), Discrete(2),
    )  # fmt: skip
    assert (env.threshold, env.best, env.magnitudes) == (4.0, 6.0, (3.0, 1.0))


def test_enumerated_states_are_shown_one_hot() -> None:
    def start(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.int32(2), jnp.int32(2)

    def step(key: jax.Array, place: jax.Array, action: jax.Array) -> tuple[Any, ...]:
        return place - 1, place - 1, 0.0, False  # plain numbers will do

    env = environment(start, step, states=4, actions=Discrete(1), limit=9)
    assert env.observation_shape == (4,)
    obs, state = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, [0, 0, 1, 0])
    obs, _, reward, terminated, truncated = env.step(jax.random.key(0), state, jnp.int32(0))
    np.testing.assert_array_equal(obs, [0, 1, 0, 0])
    assert (float(reward), bool(terminated), bool(truncated)) == (0, False, False)


def test_another_limit_cuts_elsewhere_and_changes_nothing_else() -> None:
    env = corridor(best=6.0).limited(2)
    assert (env.limit, env.best, env.name) == (2, 6.0, "corridor")
    assert played(env, [0, 0, 0])[3].tolist() == [False, True, True]
    assert played(env, [0, 1, 1, 1])[2].tolist() == [False, False, False, True]


def test_a_game_of_continuous_actions() -> None:
    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[Any, ...]:
        return state + action, state + action, -jnp.abs(action).sum(), jnp.bool_(False)

    env = environment(
        lambda key: (jnp.zeros(2), jnp.zeros(2)), step, observation_shape=(2,),
        actions=Box((-1.0, 0.0), (1.0, 3.0)), limit=4,
    )  # fmt: skip
    obs, _, reward, _, _ = env.step(jax.random.key(0), env.reset(jax.random.key(0))[1], jnp.array([0.5, 2.0]))
    np.testing.assert_array_equal(obs, [0.5, 2.0])
    assert float(reward) == -2.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observation_shape": ()}, "a game has either an observation_shape"),
        ({"states": 4}, "a game has either an observation_shape"),
        ({"limit": 0}, "limit is 0, but an episode needs at least one step"),
    ],
)
def test_what_makes_no_game_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        corridor(**given)
