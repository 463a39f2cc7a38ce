"""One contract over every benchmark module: it is whole, and a small run of every arm comes out."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib

import numpy as np
import pytest
from loro_jax.running.benchmark import Benchmark

from loro_jax.agents import DDQN, SAC
from loro_jax.data import episodes
from loro_jax.language import play
from loro_jax.running import experiment
from loro_jax.running.command import main
from loro_jax.spaces import Discrete
from loro_jax.tasks import REGISTRY
from loro_jax.training import arms
from loro_jax.types import Transition

NAMES = sorted(REGISTRY)
STUDY = {  # chunks of 200 steps, ../shared/paper/README.md
    "cartpole": 150, "frozen_lake": 150, "cliff_walking": 200, "pendulum": 600, "mountain_car": 6000,
    "pong": 200,
}  # fmt: skip


def benchmark(name: str) -> Benchmark:
    return getattr(importlib.import_module(f"benchmarks.{name}"), name.upper())


def uniform(bench: Benchmark, folder: pathlib.Path, games: int = 3) -> pathlib.Path:
    """Episodes of a uniform policy, as the collector would leave them."""
    env = bench.make(bench.protocols["standard"])
    simulator, rng, played = play.Simulator(env, seed=0), np.random.default_rng(0), []
    for index in range(games):
        game = simulator.begin(index)
        while not game.done:
            space = env.action_space
            action = (
                rng.integers(space.n) if isinstance(space, Discrete) else rng.uniform(space.low, space.high)
            )
            simulator.advance(game, action)
        played.append(game)
    card = {"name": "uniform", "environment": env.name, "model": {"name": "uniform"}, "prompt": "none"}
    episodes.save(play.gather(played, card), folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_module_is_whole(name: str) -> None:
    bench = benchmark(name)
    assert (bench.name, bench.environment) == (name, name)
    assert set(bench.protocols) == {"standard", "paper", "released"}
    paper, released = bench.protocols["paper"], bench.protocols["released"]
    assert (
        paper.budget == released.budget == 200 * STUDY[name]
        and paper.eval_every == released.eval_every == 200
    )
    assert (paper.tau, paper.fit_steps, paper.hidden, paper.batch_size) == (10, 3000, (256, 256), 256)
    assert released.alignment == "released" and released.limits_terminal and released.drop_cut
    env = bench.make(released)
    agent = experiment.agent(released, env)
    if isinstance(env.action_space, Discrete):
        assert isinstance(agent, DDQN) and agent.learning_rate == 5e-5 and agent.target_interval == 1000
        assert released.pretrain_target_interval == 200
    else:
        assert isinstance(agent, SAC) and agent.learning_rate == 3e-4
        assert (agent.exploration, agent.action_range) == ("mode", "unit")
        kept = experiment.agent(paper, env)
        assert isinstance(kept, SAC) and (kept.exploration, kept.action_range) == ("policy", "environment")


@pytest.mark.parametrize("name", NAMES)
def test_its_shipped_episodes_load_and_are_thirty(name: str) -> None:
    bench = benchmark(name)
    env = bench.make(bench.protocols["standard"])
    data = episodes.load(
        episodes.resolve(bench.episodes, name), name, env.observation_shape, env.action_space
    )
    assert len(data.episode_lengths) >= 30 and data.card["complete"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in NAMES if n != "cartpole"]
)  # which test_command.py runs at length
def test_a_small_run_of_every_arm(name: str, tmp_path: pathlib.Path) -> None:
    bench = benchmark(name)
    data = uniform(bench, tmp_path / "episodes")
    seeds, budget, chunk = 2, 1600, bench.protocols["standard"].eval_every
    status = main(
        dataclasses.replace(bench, episodes=str(data)),
        ["--seeds", str(seeds), "--budget", str(budget), "--tau", "2", "--fit-steps", "10", "--hidden", "8",
         "--batch-size", "8", "--warmup", "20", "--eval-episodes", "1", "--devices", "2",
         "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert status == 0
    with (
        np.load(tmp_path / "out" / "curves.npz") as curves,
        np.load(tmp_path / "out" / "details.npz") as details,
    ):
        for arm in set(arms.names(bench.protocols["standard"])) - {"llm_policy", "random_policy"}:
            assert curves[arm].shape == (seeds, budget // chunk) and np.isfinite(curves[arm]).all()
            steps = details[f"counters/{arm}/env_steps"] + details[f"counters/{arm}/prior_steps"]
            assert (steps <= budget).all() and (steps > budget - 3 * chunk).all()
        assert len(details["flat/random_policy"]) == 1000
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["benchmark"] == name and len(summary["comparisons"]) == 15


def test_a_target_interval_for_sac_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    bench = benchmark("pendulum")
    assert main(bench, ["--pretrain-target-interval", "5", "--out", str(tmp_path / "out")]) == 2
    assert "--pretrain-target-interval is for Double DQN" in capsys.readouterr().err


def test_settings_that_change_nothing_are_no_part_of_a_run() -> None:
    """So that a setting for one environment does not make another's finished runs look foreign."""
    cartpole = benchmark("cartpole")
    ready = experiment.prepare_experiment(cartpole, cartpole.protocols["standard"], ("pure_rl",), 2, 0, "")
    named = ready.identity["protocol"]
    assert not {"soft_update", "exploration", "drop_first_half", "normalise_observations"} & set(named)
    saved = json.loads((episodes.SHIPPED.parent / "cartpole" / "standard@1" / "run.json").read_text())
    assert named == saved["identity"]["protocol"]


def test_rows_of_vectors_are_stored_as_they_are(tmp_path: pathlib.Path) -> None:
    bench = benchmark("pendulum")
    env = bench.make(bench.protocols["standard"])
    folder = uniform(bench, tmp_path)
    data = episodes.load(folder, "pendulum", env.observation_shape, env.action_space)
    t: Transition = data.transitions
    assert t.action.shape == (len(t.reward), 1) and t.action.dtype == np.float32
    assert np.abs(t.action).max() <= 2 and t.truncated.sum() == 3 and not t.terminated.any()
