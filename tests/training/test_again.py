"""`Environment.again`: how an episode begins after another, wherever one follows another in training."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import assert_same

from loro_jax.agents import DDQN, PPO
from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks import Environment, rules
from loro_jax.tasks.rollout import rollouts, uniform
from loro_jax.training.phases import Collect, Interact
from loro_jax.training.population import Layout, Programs, begin
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge, Run, Transition

INTERVAL, LIMIT = 36, 5
SHORT = 3
"""Steps after which an episode of an even number ends; one of an odd number is cut by the limit."""
AGENT = DDQN(hidden=(4,), batch_size=8, learning_starts=8, replay_capacity=200, epsilon=0.5)
GAMES = PPO(hidden=(4,), games=3, rollout=4, epochs=1, minibatches=2)


def observed(state: jax.Array) -> jax.Array:
    return state.astype(jnp.float32)


def reset(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An episode's number, its step, and a number of the key: the first one is number 0."""
    state = jnp.stack([0, 0, jax.random.randint(key, (), 0, 2**20)])
    return observed(state), state


def again(key: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next number."""
    _, fresh = reset(key)
    state = fresh.at[0].set(state[0] + 1)
    return observed(state), state


def step(key: jax.Array, state: jax.Array, action: jax.Array) -> Any:
    """The reward is the episode's number."""
    state = state.at[1].add(1)
    return observed(state), state, state[0], (state[0] % 2 == 0) & (state[1] == SHORT)


def game(**more: Any) -> Environment:
    settings = {"observation_shape": (3,), "actions": Discrete(2), "limit": LIMIT}
    return rules.environment(reset, step, **settings | more)


COUNTING = game(again=again)


def world(env: Environment = COUNTING, agent: Any = AGENT, cut: bool = False) -> World:
    return World(env, agent.for_game(env.action_space), Interaction(INTERVAL, 4, cut))


def after(w: World, *phases: Any) -> tuple[Run, list[np.ndarray]]:
    known = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), w.example))

    @jax.jit
    def run() -> tuple[Run, list[jax.Array]]:
        run, records = w.begin(jax.random.key(0), jax.random.key(0)), []
        for phase in phases:
            run, record = phase(run, w, known)
            records.append(record)
        return run, records

    run_, records = run()
    return run_, [np.asarray(r) for r in records]


def held(run: Run) -> Transition:
    n = int(run.replay.insertions)
    return jax.tree.map(lambda x: np.asarray(x)[:n], run.replay.storage)


def assert_counted(rows: Transition) -> None:
    """The first episode is number 0, and each begins at step 0 with the number after the one before."""
    number, time = rows.obs[:, :2].T
    over = rows.terminated | rows.truncated
    assert (number[0], time[0]) == (0, 0)
    np.testing.assert_array_equal(np.diff(number), over[:-1])
    np.testing.assert_array_equal(time[1:], np.where(over[:-1], 0, time[:-1] + 1))
    np.testing.assert_array_equal(rows.next_obs[:, 0], number)  # never the next episode's
    np.testing.assert_array_equal(rows.reward, number)


@pytest.mark.parametrize("phase", [Interact(2 * INTERVAL), Collect(2 * INTERVAL, 0, 2)], ids=repr)
def test_each_episode_follows_from_the_one_before(phase: Any) -> None:
    """Whether that one ended or was cut; its key is a new one."""
    rows = held(after(world(), phase)[0])
    assert_counted(rows)
    number, time, tag = rows.obs.T
    np.testing.assert_array_equal(rows.terminated, (number % 2 == 0) & (time == SHORT - 1))
    np.testing.assert_array_equal(rows.truncated, (number % 2 == 1) & (time == LIMIT - 1))
    assert len(np.unique(tag)) == len(np.unique(number)) > 8


def test_a_cut_by_the_interval_is_followed_too() -> None:
    rows = held(after(world(cut=True), Interact(3 * INTERVAL))[0])
    assert_counted(rows)
    last = np.arange(3 * INTERVAL) % INTERVAL == INTERVAL - 1
    assert (rows.truncated | rows.terminated)[last].all()
    assert (rows.truncated & (rows.obs[:, 1] < LIMIT - 1)).any()


def test_every_phase_begins_anew() -> None:
    """What was collected is of episodes of its own."""
    run, _ = after(world(), Interact(INTERVAL), Collect(INTERVAL, 0, 1))
    rows = held(run)
    for part in (slice(0, INTERVAL), slice(INTERVAL, None)):
        assert_counted(jax.tree.map(lambda x, part=part: x[part], rows))


def test_games_side_by_side_follow_each_its_own() -> None:
    """Of 3 and 5 steps in turn: in 36 steps each of three games comes to the first step of episode 9."""
    run, (record,) = after(world(agent=GAMES), Interact(3 * INTERVAL))
    seen = np.asarray(run.obs)
    np.testing.assert_array_equal(seen[:, :2], [[9, 1]] * 3)
    assert len(np.unique(seen[:, 2])) == 3
    assert int(run.counters.episodes) == 3 * 9
    assert (record == 0).all()


def test_an_evaluation_plays_first_episodes_alone() -> None:
    """They pay nothing, which is their number; neither does an episode played beside training."""
    run, records = after(world(), Interact(2 * INTERVAL))
    assert float(held(run).reward.max()) > 5 and (records[0] == 0).all()
    returns, lengths = rollouts(COUNTING, uniform(COUNTING), jax.random.split(jax.random.key(1), 8))
    assert (returns == 0).all() and (lengths == SHORT).all()


@pytest.mark.slow
def test_interact_a_then_b_is_interact_a_plus_b() -> None:
    w, layout = world(), Layout(2, 2)
    programs = Programs(w, layout)
    known = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), w.example))

    def play(*phases: Any) -> Run:
        runs = begin(w, layout, 0, 4, False)
        for phase in phases:
            runs, _ = programs(phase, runs, known)
        return runs

    once = play(Interact(2 * INTERVAL))
    assert_same(play(Interact(INTERVAL), Interact(INTERVAL)), once)
    np.testing.assert_array_equal(np.asarray(once.obs)[:, 0], 18)


@pytest.mark.parametrize("agent", [AGENT, GAMES], ids=["ddqn", "ppo"])
def test_without_it_an_episode_begins_as_the_first_does(agent: Any) -> None:
    """To the bit as where it says so itself, and by the same keys."""
    w, collect = world(game(), agent), () if agent is GAMES else (Collect(INTERVAL, 3, 3),)
    plain = after(w, *collect, Interact(2 * INTERVAL))
    said = after(world(game(again=lambda key, state: reset(key)), agent), *collect, Interact(2 * INTERVAL))
    assert_same(plain, said)
    assert not np.asarray(plain[0].obs)[..., 0].any()
    key = jax.random.key(3)
    _, state, *_ = w.environment.step(key, w.environment.reset(key)[1], jnp.int32(0))
    assert_same(w.environment.anew(key, state), w.environment.reset(key))


def test_an_environment_keeps_it() -> None:
    """Whatever its limit becomes; two with the same functions are the same, so that programs are shared."""
    assert COUNTING.limited(9).again == COUNTING.again != game().again
    assert game(again=again) == COUNTING and hash(game(again=again)) == hash(COUNTING)
    obs, state = COUNTING.anew(jax.random.key(0), COUNTING.reset(jax.random.key(1))[1])
    assert (int(state.time), obs.dtype, float(obs[0])) == (0, jnp.float32, 1.0)


def test_observations_that_are_numbers_are_given_as_ever() -> None:
    """One-hot, or as they are where an agent takes numbers."""

    def first(key: jax.Array) -> Any:
        return jnp.int32(0), jnp.int32(0)

    def go(key: jax.Array, state: jax.Array, action: jax.Array) -> Any:
        return state, state, jnp.float32(0), jnp.bool_(True)

    def on(key: jax.Array, state: jax.Array) -> Any:
        return (state + 1) % 4, (state + 1) % 4

    env = rules.environment(first, go, states=4, actions=Discrete(2), limit=5, again=on)
    _, state = env.reset(jax.random.key(0))
    obs, _ = env.anew(jax.random.key(0), state)
    assert obs.tolist() == [0, 1, 0, 0]
    assert int(dataclasses.replace(env, indexed=True).anew(jax.random.key(0), state)[0]) == 1
    rows = held(after(world(env), Interact(INTERVAL))[0])
    np.testing.assert_array_equal(rows.obs, np.arange(INTERVAL) % 4)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(UserError, match=r"^again is a function, key, state -> observation, state; got 3$"):
        game(again=3)
