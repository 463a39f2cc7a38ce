"""An evaluation's limit is the protocol's: Pong under `paper` and `released` goes on to 21 points."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, Sentinel, probe

from benchmarks import suite
from loro_jax import files
from loro_jax.agents import DDQN
from loro_jax.errors import UserError
from loro_jax.protocols import PAPER
from loro_jax.records import identity
from loro_jax.running import curves, estimate, experiment
from loro_jax.tasks import load
from loro_jax.tasks.pong import WHOLE_GAME
from loro_jax.tasks.pong.rules import FRAMES, frame, lead, observation, reference, start
from loro_jax.tasks.rollout import rollout, rollouts
from loro_jax.training.phases import Interact
from loro_jax.training.population import Layout
from loro_jax.training.world import Interaction, World, evaluate
from studies import pong_console

PONG, CLIFF_WALKING = load("pong"), load("cliff_walking")
STEP, SEE, REFERENCE = jax.jit(frame), jax.jit(observation), jax.jit(reference)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """An agent that learns nothing and plays one policy."""

    policy: Callable[[jax.Array], jax.Array]

    def act(self, state: Any, obs: jax.Array) -> jax.Array:
        return self.policy(obs)


def at_rest(obs: jax.Array) -> jax.Array:
    return jnp.int32(0)


def rallies(obs: jax.Array) -> jax.Array:
    """Follows the ball with a part of the paddle that gives one of the rallies without an end."""
    gap = obs[5] - obs[0] - 8
    move = jnp.where(gap < -8, 2, jnp.where(gap > 8, 3, 0))
    return jnp.where(obs[5] == 0, 0, move).astype(jnp.int32)


def evaluated(protocol: str, policy: Callable[[jax.Array], jax.Array]) -> float:
    """What stands on a curve where the greedy policy is `policy`."""
    ready = experiment.prepare_experiment(PONG, PONG.protocol(protocol), ("pure_rl",), 2, 0, "")
    world = dataclasses.replace(ready.world, agent=Fixed(policy))
    return float(jax.jit(lambda key: evaluate(world, None, key))(jax.random.key(0)))


@pytest.mark.parametrize(
    ("policy", "steps"),
    [(at_rest, 382), pytest.param(REFERENCE, 1536, marks=[pytest.mark.slow, pytest.mark.long])],
)
def test_pong_is_evaluated_to_21_points_as_in_the_study(
    policy: Callable[[jax.Array], jax.Array], steps: int
) -> None:
    """Against a game stepped frame by frame until it is over, and the console's with the same actions."""
    memory, seen, actions, halves = start(), SEE(start(), start()), [], []
    while max(int(memory.player_score), int(memory.enemy_score)) < 21:
        before, action = memory, policy(seen)
        actions.append(int(action))
        for _ in range(2):
            led = int(lead(memory))
            for _ in range(FRAMES):
                memory = STEP(memory, action)
            halves.append(int(lead(memory)) - led)
        seen = SEE(memory, before)
    rewards = np.reshape(halves, (-1, 2))
    assert len(rewards) == steps and (rewards.sum(0) < 0).all()  # both halves hold points
    assert evaluated("paper", policy) == rewards.sum()
    assert evaluated("released", policy) == rewards[:, 1].sum()
    assert evaluated("standard", policy) == rewards[:200].sum()

    pytest.importorskip("ale_py")
    console = pong_console.Console()
    theirs = [[sum(console.frame(a) for _ in range(FRAMES)) for _ in range(2)] for a in actions]
    np.testing.assert_array_equal(theirs, rewards)
    assert console.ale.game_over()


def test_a_rally_without_an_end_is_cut() -> None:
    env = PONG.under(PONG.protocol("paper"))

    def returned(limit: int) -> float:
        limited = env.limited(limit)
        policy = jax.jit(lambda key: rollout(limited, lambda obs, _: rallies(obs), key)[0])
        return float(policy(jax.random.key(0)))

    assert evaluated("paper", rallies) == returned(WHOLE_GAME) == returned(3 * WHOLE_GAME) > -21


def test_training_and_prior_data_keep_the_games_own_limit() -> None:
    ready = experiment.prepare_experiment(PONG, PONG.protocol("released"), ("pure_rl",), 2, 0, "")
    assert (ready.world.environment.limit, ready.plan.limit, ready.world.evaluation.limit) == (
        200, 200, WHOLE_GAME,
    )  # fmt: skip
    for protocol in CLIFF_WALKING.protocols.values():  # the study: at most 200 steps
        ready = experiment.prepare_experiment(CLIFF_WALKING, protocol, ("pure_rl",), 2, 0, "")
        assert ready.world.evaluation is ready.world.environment and ready.world.evaluation.limit == 200
    assert CLIFF_WALKING.protocol("paper").schedule.eval_episodes == 10


def test_another_limit_changes_where_an_episode_is_cut_and_nothing_else() -> None:
    env = probe(Sentinel, SENTINEL_LIMIT)
    keys = jax.random.split(jax.random.key(0), 100)
    lengths = {}
    for limit in (0, 4, 100):
        game = env.limited(limit)
        found, steps = rollouts(game, lambda obs, key: jnp.int32(1), keys)
        by_return = {sum(10 * t + 1 for t in range(n)): n for n in range(9)}
        lengths[limit] = np.array([by_return[int(r)] for r in found])
        np.testing.assert_array_equal(lengths[limit], steps)
    assert lengths[100].max() == 7
    np.testing.assert_array_equal(lengths[0], np.minimum(lengths[100], SENTINEL_LIMIT))
    np.testing.assert_array_equal(lengths[4], np.minimum(lengths[100], 4))


@pytest.mark.slow
def test_the_random_policy_plays_under_the_evaluations_limit(tmp_path: pathlib.Path) -> None:
    """In a run, and where the suite needs what a saved run left out; its scores reach to a won game."""
    protocol = PONG.protocol("paper")
    ready = experiment.prepare_experiment(PONG, protocol, ("random_policy",), 2, 0, "")
    line = curves.result(ready, {}).flat["random_policy"]
    assert line.shape == (1000,) and line.min() >= -21 and -20.8 < line.mean() < -20.4

    folder = tmp_path / "pong" / "paper@1"
    folder.mkdir(parents=True)
    files.write_json(folder / "run.json", {"identity": ready.identity})
    files.write_npz(folder / "curves.npz", {"pure_rl": np.zeros((2, 3)), "env_steps": np.arange(3)})
    files.write_npz(folder / "details.npz", {})
    task = suite.saved(PONG, suite.Options(protocol="paper", out=tmp_path))
    np.testing.assert_array_equal(task.flat["random_policy"], line)
    assert task.high == 21
    assert (
        PONG.under(protocol).best == 5 == PONG.under(protocol).limited(100).best
    )  # of episodes of 200 steps


def test_every_run_names_its_limit_and_one_that_does_not_had_the_games_own() -> None:
    for name, limit in (("standard", 0), ("paper", WHOLE_GAME), ("released", WHOLE_GAME)):
        ready = experiment.prepare_experiment(PONG, PONG.protocol(name), ("pure_rl",), 2, 0, "")
        assert ready.identity["settings"]["schedule"]["eval_limit"] == limit
    path = pathlib.Path(__file__).parent.parent.parent / "results" / "pong" / "standard@1" / "run.json"
    saved = json.loads(path.read_text())["identity"]  # from before the setting existed
    assert "eval_limit" not in saved["protocol"]
    assert not identity.other_settings(saved, PONG.protocol("standard@1"))
    assert identity.other_settings(saved, PONG.protocol("standard@1").replace(eval_limit=7)) == [
        "eval_limit 0 there, 7 here"
    ]
    with pytest.raises(UserError, match=r"eval_limit must lie between 0 and 2\*\*31 - 1 \(--eval-limit\)"):
        PAPER.replace(eval_limit=-1)


def test_the_estimate_counts_longer_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their steps: three quarters of a short limit, and a usual game where the limit is far."""
    monkeypatch.setattr(estimate, "_rate", lambda layout, agent: 1.0)
    budget, interval, layout = 30_000, 200, Layout(1, 2)

    def flops(limit: int) -> float:
        how = Interaction(interval, 1, reset_each_interval=True, eval_limit=limit)
        world = World(load("cartpole").environment(), DDQN(), how)
        return estimate.seconds([Interact(budget)], world, layout, 2)

    forward = 2 * (4 * 256 + 256 * 256 + 256 * 2) * layout.padded(2)
    assert flops(200) == flops(0)  # the game's own
    for limit, steps in ((100, 75), (WHOLE_GAME, 500)):
        assert flops(limit) - flops(200) == pytest.approx(budget // interval * (steps - 150) * forward)
