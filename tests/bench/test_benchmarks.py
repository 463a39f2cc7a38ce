"""One contract over every task of the suite: it is whole, and a small run of every arm comes out."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from loro_jax.agents import DDQN, SAC
from loro_jax.data import episodes
from loro_jax.language import play
from loro_jax.records import identity
from loro_jax.running import command, experiment
from loro_jax.spaces import Discrete
from loro_jax.tasks import SUITE, Task, load
from loro_jax.training import arms
from loro_jax.types import Transition

STUDY = {  # intervals of 200 steps, ../shared/paper/README.md
    "cartpole": 150, "frozen_lake": 150, "cliff_walking": 200, "pendulum": 600, "mountain_car": 6000,
    "pong": 200,
}  # fmt: skip


def uniform(task: Task, folder: pathlib.Path, games: int = 3) -> pathlib.Path:
    """Episodes of a uniform policy, as the collector would leave them."""
    env = task.environment()
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


@pytest.mark.parametrize("name", SUITE)
def test_the_task_is_whole(name: str) -> None:
    task = load(name)
    assert task.environment().name == name and task.environment().threshold is not None
    assert list(task.settings()) == ["standard@1", "standard@2", "paper@1", "released@1"]
    paper, released = task.protocol("paper"), task.protocol("released")
    for protocol in (paper, released):
        assert (protocol.schedule.budget, protocol.schedule.eval_interval) == (200 * STUDY[name], 200)
    assert (paper.prior.tau, paper.prior.fit_steps) == (10, 3000)
    assert (paper.agent.hidden, paper.agent.batch_size) == ((256, 256), 256)
    departures = released.departures
    assert departures.alignment == "released" and departures.limits_terminal and departures.drop_cut
    env = task.under(released)
    agent = experiment.fitted(released.agent, env, 10**9)
    if isinstance(env.action_space, Discrete):
        assert isinstance(agent, DDQN) and agent.learning_rate == 5e-5
        assert agent.target_network_frequency == 1000
        assert departures.pretrain_target_frequency == 200
    else:
        assert isinstance(agent, SAC) and agent.learning_rate == 3e-4
        assert agent.actions == env.action_space
        assert (agent.exploration, agent.action_range) == ("mode", "unit")
        kept = experiment.fitted(paper.agent, env, 10**9)
        assert isinstance(kept, SAC) and (kept.exploration, kept.action_range) == ("policy", "environment")


@pytest.mark.parametrize("name", SUITE)
def test_its_shipped_episodes_load_and_are_thirty(name: str) -> None:
    task = load(name)
    env = task.environment()
    data = episodes.load(episodes.resolve(task.episodes, name), name, env.observation_shape, env.action_space)
    assert len(data.episode_lengths) >= 30 and data.card["complete"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITE)
def test_a_small_run_of_every_arm(name: str, tmp_path: pathlib.Path) -> None:
    task = load(name)
    data = uniform(task, tmp_path / "episodes")
    seeds, budget, interval = 2, 1600, task.protocol("standard").schedule.eval_interval
    status = command.main(
        name,
        ["--episodes", str(data), "--seeds", str(seeds), "--budget", str(budget), "--tau", "2",
         "--fit-steps", "10", "--hidden", "8", "--batch-size", "8", "--learning-starts", "20",
         "--eval-episodes", "1", "--devices", "2", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert status == 0
    with (
        np.load(tmp_path / "out" / "curves.npz") as curves,
        np.load(tmp_path / "out" / "details.npz") as details,
    ):
        for arm in set(arms.names(task.protocol("standard"))) - {"llm_policy", "random_policy"}:
            assert curves[arm].shape == (seeds, budget // interval) and np.isfinite(curves[arm]).all()
            steps = details[f"counters/{arm}/env_steps"] + details[f"counters/{arm}/prior_steps"]
            assert (steps <= budget).all() and (steps > budget - 3 * interval).all()
        assert len(details["flat/random_policy"]) == 1000
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["benchmark"] == name and len(summary["comparisons"]) == 15


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--pretrain-target-frequency", "5"), "--pretrain-target-frequency is for agents that copy their"),
        (("--initial-temperature", "inf"), "initial_temperature must be a finite number"),
        (("--target-network-frequency", "5"), "Unrecognized options: --target-network-frequency"),
        (("--huber-delta", "5"), "Unrecognized options: --huber-delta"),
    ],
)
def test_settings_of_another_agent_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, argv: tuple[str, ...], says: str
) -> None:
    assert command.main("pendulum", [*argv, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_settings_of_another_agent_or_game_are_no_part_of_a_run() -> None:
    """So that a setting for one environment does not make another's finished runs look foreign."""
    cartpole = load("cartpole")
    ready = experiment.prepare_experiment(cartpole, cartpole.protocol("standard@1"), ("pure_rl",), 2, 0, "")
    named = {k for group in ready.identity["settings"].values() for k in group}
    assert not {"initial_temperature", "exploration", "drop_first_half"} & named
    saved = json.loads((episodes.SHIPPED.parent / "cartpole" / "standard@1" / "run.json").read_text())
    assert identity.protocol_of(ready.identity) == identity.protocol_of(saved["identity"])


def test_rows_of_vectors_are_stored_as_they_are(tmp_path: pathlib.Path) -> None:
    task = load("pendulum")
    env = task.environment()
    folder = uniform(task, tmp_path)
    data = episodes.load(folder, "pendulum", env.observation_shape, env.action_space)
    t: Transition = data.transitions
    assert t.action.shape == (len(t.reward), 1) and t.action.dtype == np.float32
    assert np.abs(t.action).max() <= 2 and t.truncated.sum() == 3 and not t.terminated.any()
