"""Arms of one's own, also with an agent of their own; and tasks that no language model has played."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from loro_jax.agents import DDQN, SAC
from loro_jax.data import episodes
from loro_jax.errors import UserError
from loro_jax.language import play
from loro_jax.protocols import Protocol
from loro_jax.records.results import Result
from loro_jax.running import command, trainer
from loro_jax.running.experiment import Experiment, knowledge, prepare_experiment
from loro_jax.running.store import Nowhere, Store
from loro_jax.spaces import Discrete
from loro_jax.tasks import Task, load
from loro_jax.tasks.rules import environment
from loro_jax.training.arms import FIRST, Plan, build, loro, names, pure_rl
from loro_jax.training.phases import Collect, Fit, Forget, Interact, Load
from loro_jax.training.population import Programs
from loro_jax.types import Arm, Phase

BUDGET, INTERVAL, SEEDS, TAU, LIMIT = 600, 100, 2, 2, 12
FREE = ("pure_rl", "random_data", "on_policy", "random_policy")
"""Arms without a language model."""


def reset(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    place = jax.random.randint(key, (), 0, 3)
    return jnp.stack([place, 5 - place]).astype(jnp.float32), place


def step(key: jax.Array, place: jax.Array, action: jax.Array) -> tuple[Any, ...]:
    """Action 1 goes on; the end of the corridor ends the episode."""
    place = jnp.clip(place + 2 * action - 1, 0, 5)
    obs = jnp.stack([place, 5 - place]).astype(jnp.float32)
    return obs, place, -1.0, place == 5


CORRIDOR = Task(
    "corridor",
    environment(
        reset, step, observation_shape=(2,), actions=Discrete(2), limit=LIMIT, threshold=-4.0, best=-4.0,
        magnitudes=(5.0, 5.0),
    ),
    seeds=4,
)  # fmt: skip


def small(**settings: Any) -> Protocol:
    common = {
        "budget": BUDGET, "eval_interval": INTERVAL, "eval_episodes": 1, "tau": TAU, "fit_steps": 6,
        "hidden": (4,), "batch_size": 8, "learning_starts": 20,
    }  # fmt: skip
    return CORRIDOR.protocol().replace(**common | settings)


def wide(p: Plan) -> Arm:
    """Pure RL with another network, normalised."""
    agent = DDQN(
        hidden=(8,), learning_rate=3e-3, batch_size=8, learning_starts=20, normalise_observations=True
    )
    return Arm("wide", (Interact(p.protocol.schedule.budget),), "pure RL with a wider network", agent=agent)


def warmed(p: Plan) -> Arm:
    """Uniform play that is kept, under the protocol's agent."""
    sentence: tuple[Phase, ...] = (p.uniform, Fit(6), Interact(p.online))  # as long as the protocol fits
    return Arm("warmed", sentence, "uniform play, fitted and kept", "uniform")


def prepared(chosen: tuple[Any, ...], protocol: Protocol | None = None, **more: Any) -> Experiment:
    return prepare_experiment(CORRIDOR, protocol or small(), chosen, SEEDS, 0, **more)


def trained(ready: Experiment) -> Result:
    return trainer.run(ready, Nowhere(), Console(quiet=True))[0]


@pytest.fixture(scope="module")
def together() -> Result:
    """The suite's arms beside one's own."""
    return trained(prepared((*FREE, warmed)))


@pytest.mark.slow
def test_an_arm_with_its_own_agent_trains_as_under_a_protocol_with_it() -> None:
    """Neither it nor the arms beside it are touched: to the bit, each is as it is alone."""
    together = trained(prepared((*FREE, wide, warmed)))
    assert set(together.curves) == {"pure_rl", "random_data", "on_policy", "wide", "warmed"}
    assert all((c["llm_queries"] == 0).all() for c in together.counters.values())
    own = dataclasses.replace(wide(Plan(small(), 1, INTERVAL, LIMIT)).agent)
    alone = trained(prepared(("pure_rl",), small().replace(agent=own)))
    np.testing.assert_array_equal(together.curves["wide"], alone.curves["pure_rl"])
    assert (together.curves["wide"] != together.curves["pure_rl"]).any()
    plain = trained(prepared(("pure_rl", "on_policy")))
    for name in ("pure_rl", "on_policy"):
        np.testing.assert_array_equal(together.curves[name], plain.curves[name])
        for counter, values in plain.counters[name].items():
            np.testing.assert_array_equal(together.counters[name][counter], values)


@pytest.mark.slow
def test_an_agent_of_its_own_has_programs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each phase and agent; an arm under the protocol's agent shares those of the others."""
    compiled: list[tuple[tuple[int, ...], Phase]] = []
    prepare = Programs.prepare

    def watched(self: Programs, phases: Any, runs: Any, data: Any) -> None:
        new = [p for p in phases if p not in self.compiled]
        compiled.extend((self.world.agent.hidden, p) for p in new)
        prepare(self, phases, runs, data)

    monkeypatch.setattr(Programs, "prepare", watched)
    ready = prepared(("pure_rl", wide, "random_data"))
    trained(ready)
    piece = Interact(INTERVAL)
    uniform = ready.plan.uniform
    assert sorted(compiled, key=repr) == sorted(
        [((4,), piece), ((8,), piece), ((4,), uniform), ((4,), Fit(6)), ((4,), Forget())], key=repr
    )
    assert len(ready.worlds) == 2


@pytest.mark.long
@pytest.mark.slow
def test_every_world_gets_prior_data_in_its_own_form() -> None:
    """Of a lake's 16 cells, the protocol's agent takes the numbers, one with batches of 8 one-hot rows."""

    def narrow(p: Plan) -> Arm:
        agent = dataclasses.replace(p.protocol.agent, batch_size=8)  # type: ignore[type-var]
        return dataclasses.replace(loro(p), name="narrow", agent=agent)

    task = load("frozen_lake")
    protocol = task.protocol("standard@1").replace(
        budget=400, tau=2, fit_steps=6, hidden=(4,), batch_size=16, learning_starts=20, eval_episodes=1
    )
    ready = prepare_experiment(task, protocol, ("loro", narrow), SEEDS, 0)
    numbers, one_hot = (knowledge(ready, world).rows for world in ready.worlds)
    assert numbers.obs.dtype == jnp.int32 and one_hot.obs.shape == (*numbers.obs.shape, 16)
    for name in ("obs", "next_obs"):
        np.testing.assert_array_equal(getattr(one_hot, name).argmax(axis=1), getattr(numbers, name))
    np.testing.assert_array_equal(one_hot.action, numbers.action)
    result = trained(ready)
    assert result.curves["loro"].shape == result.curves["narrow"].shape


def test_its_agent_is_fitted_to_the_game_like_the_protocols() -> None:
    ready = prepared(("pure_rl", wide, "random_policy"))
    common, own = ready.worlds
    assert (common.agent.hidden, own.agent.hidden) == ((4,), (8,))
    assert common.agent.replay_capacity == own.agent.replay_capacity < 100_000  # no more than they can hold
    assert (common.agent.magnitudes, own.agent.magnitudes) == ((), (5.0, 5.0))
    assert (own.environment, own.interaction) == (common.environment, common.interaction)
    assert ready.identity["agents"]["wide"]["learning_rate"] == 0.003
    assert ready.identity["arms"]["pure_rl"] == [f"Interact(steps={BUDGET})"]


def test_an_agent_that_cannot_play_the_game_is_refused_before_training() -> None:
    def continuous(p: Plan) -> Arm:
        return Arm("continuous", (Interact(p.protocol.schedule.budget),), "no", agent=SAC())

    with pytest.raises(UserError) as refusal:
        prepared(("pure_rl", continuous))
    assert str(refusal.value) == "SAC cannot choose among Discrete(n=2); name another agent"


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        (lambda p: Arm("free", (Load(9), Interact(BUDGET)), "no"), "free loads LLM episodes: its Arm needs"),
        (
            lambda p: Arm("free", (Load(9, 100), Interact(BUDGET - 100)), "no", "llm"),
            "no LLM has played corridor yet",
        ),
        (lambda p: Arm("idle", (), "no"), "idle has no phases: an arm of one's own learns"),
        (lambda p: Arm("it", (Interact(BUDGET),), "no", agent=SAC), "it: agent must be an agent, such as"),
    ],
)  # fmt: skip
def test_a_sentence_that_cannot_be_is_refused_before_training(arm: Any, says: str) -> None:
    with pytest.raises(UserError) as refusal:
        prepared(("pure_rl", arm))
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_prior_data_is_loaded_with_its_whole_charge() -> None:
    task = load("cartpole")

    def cheap(p: Plan) -> Arm:
        return Arm("cheap", (Load(p.rows), Interact(p.protocol.schedule.budget)), "no", "llm")

    def twice(p: Plan) -> Arm:
        return Arm("twice", (p.load, p.load, Interact(p.online)), "no", "llm")

    for arm in (cheap, twice):
        with pytest.raises(UserError, match=f"^{arm.__name__}: prior data is loaded once, with its whole"):
            prepare_experiment(task, task.protocol("standard@1"), (arm,), SEEDS, 0)


@pytest.mark.slow
@pytest.mark.parametrize("own", [warmed, wide])
def test_a_finished_arm_of_ones_own_is_kept(own: Any, tmp_path: pathlib.Path) -> None:
    """And gone on from, next to one that was not begun; also one that brings its agent."""
    ready = prepared(("random_data", "pure_rl", own))
    ready = dataclasses.replace(ready, arms=ready.arms[1:])
    with Store(tmp_path, ready.identity, resume=False) as store:
        alone = dataclasses.replace(ready, arms=ready.arms[1:])
        first, _ = trainer.run(alone, store, Console(quiet=True))
    with Store(tmp_path, ready.identity, resume=True) as store:
        assert store.finished(own.__name__) is not None and store.finished("pure_rl") is None
        both, _ = trainer.run(ready, store, Console(quiet=True))
    np.testing.assert_array_equal(both.curves[own.__name__], first.curves[own.__name__])
    assert list(both.curves) == ["pure_rl", own.__name__]


def test_functions_are_arms_like_names(together: Result) -> None:
    plan = Plan(small(), 1, 2 * INTERVAL, LIMIT)
    built = build((warmed, "pure_rl"), plan)
    assert [arm.name for arm in built] == ["warmed", "pure_rl"]
    assert built[1] == build((pure_rl,), plan)[0]
    assert set(together.curves) == {"pure_rl", "random_data", "on_policy", "warmed"}
    assert together.curves["warmed"].shape == (SEEDS, BUDGET // INTERVAL)
    with pytest.raises(UserError, match=r"^an arm is named twice: pure_rl, pure_rl$"):
        build(("pure_rl", pure_rl), plan)


def test_departures_hold_for_functions_too() -> None:
    from loro_jax.departures.phases import ShiftedCollect

    protocol = small(alignment="released", keep_baseline_data=True)
    (arm,) = build((warmed,), Plan(protocol, 7, 2 * INTERVAL, LIMIT))
    assert arm.phases[0] == ShiftedCollect(7, 0, 2)
    assert build((warmed,), Plan(small(), 7, 2 * INTERVAL, LIMIT))[0].phases[0] == Collect(7, 0, 2)


def test_a_task_without_llm_episodes_runs_what_needs_none(together: Result) -> None:
    """Baselines' own data is charged as much as tau evaluation intervals."""
    evaluations = BUDGET // INTERVAL
    for name in ("pure_rl", "random_data", "on_policy"):
        assert together.curves[name].shape == (SEEDS, evaluations), name
        assert (together.curves[name] <= -3).all() and (together.curves[name] >= -LIMIT).all()
    counters = {
        name: {k: v.tolist() for k, v in together.counters[name].items()} for name in together.counters
    }
    share = TAU * INTERVAL
    assert counters["random_data"]["prior_steps"] == [share] * SEEDS
    assert counters["random_data"]["env_steps"] == [BUDGET - share] * SEEDS
    assert counters["on_policy"]["env_steps"] == counters["pure_rl"]["env_steps"] == [BUDGET] * SEEDS
    assert all(c["llm_queries"] == [0] * SEEDS for c in counters.values())
    np.testing.assert_array_equal(
        together.curves["on_policy"][:, :TAU], together.curves["pure_rl"][:, :TAU]
    )  # the same first steps
    assert together.identity["episodes"] is None
    assert list(together.flat) == ["random_policy"] and len(together.flat["random_policy"]) == 1000
    assert {c.shape[1] for c in together.llm_free.values()} == {evaluations - TAU}


def test_charged_by_episodes_it_plays_tau_of_them() -> None:
    found = trained(prepared(("random_data",), small(charge="episodes")))
    steps = found.counters["random_data"]["prior_steps"]
    assert (steps >= TAU * 3).all() and (steps <= TAU * LIMIT).all()
    assert found.curves["random_data"].shape == (SEEDS, BUDGET // INTERVAL)


@pytest.mark.parametrize("name", [n for n in FIRST if n not in FREE])
def test_an_arm_on_llm_episodes_is_refused_there_in_one_line(name: str) -> None:
    for task, how in ((CORRIDOR, "corridor"), (dataclasses.replace(CORRIDOR, source="a.py:T"), "a.py:T")):
        with pytest.raises(UserError) as refusal:
            prepare_experiment(task, small(), ("pure_rl", name), SEEDS, 0)
        assert str(refusal.value) == (
            "no LLM has played corridor yet: name --episodes, or let one play (python -m"
            f" loro_jax.language.collect --task {how} --model NAME)"
        )


def test_tau_intervals_that_use_up_the_budget_are_refused() -> None:
    protocol = small(tau=BUDGET // INTERVAL)
    for name in ("random_data", "on_policy"):
        with pytest.raises(UserError, match=r"^tau = 6 intervals of 100 steps use up the --budget$"):
            prepared((name,), protocol)
    assert prepared(("pure_rl", "random_policy"), protocol).plan.prior == 0  # which use none


def test_all_arms_are_those_there_is_prior_data_for(tmp_path: pathlib.Path) -> None:
    assert command.named("all", small(), False) == FREE == names(small(), prior_episodes=False)
    assert set(command.named("all", small(), True)) == set(FIRST) - {"loro_chained"}

    simulator, game = play.Simulator(CORRIDOR.environment(), seed=0), []
    for index in range(TAU):
        game.append(simulator.begin(index))
        while not game[-1].done:
            simulator.advance(game[-1], (index + game[-1].step) % 2)
    card = {"name": "own", "environment": "corridor", "model": {"name": "script"}, "prompt": "none"}
    episodes.save(play.gather(game, card), tmp_path / "own")
    ready = prepared(names(small()), dataset=str(tmp_path / "own"))  # episodes may be named, too
    assert [arm.name for arm in ready.arms] == [n for n in FIRST if n != "loro_chained"]
    assert ready.identity["episodes"]["name"] == "own"
    assert ready.plan.rows == sum(g.step for g in game)


@pytest.mark.slow
def test_the_command_runs_all_that_a_task_of_ones_own_has(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file that stands in no package."""
    path = tmp_path / "game.py"
    path.write_text(
        "from loro_jax.tasks import Task, load\n"
        "TASK = Task('short_pole', lambda: load('cartpole').environment().limited(20))\n"
    )
    out = tmp_path / "out"
    argv = [
        "--task", f"{path}:TASK", "--seeds", "2", "--devices", "2", "--budget", "600", "--eval-interval",
        "100", "--eval-episodes", "1", "--tau", "2", "--fit-steps", "6", "--hidden", "4", "--batch-size",
        "8", "--learning-starts", "20", "--out", str(out),
    ]  # fmt: skip
    assert command.main("", argv) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["arms"]) == set(FREE)
    assert summary["protocol"].startswith("untuned@1 with budget=600, eval_interval=100")
    ran = json.loads((out / "run.json").read_text())
    assert (ran["source"], ran["identity"]["task"]) == (f"{path}:TASK", "short_pole")
    assert len(ran["identity"]["task_sha256"]) == 64
    capsys.readouterr()
    assert command.main("", [*argv, "--arms", "loro"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no LLM has played short_pole yet: ") and error.count("\n") == 1
