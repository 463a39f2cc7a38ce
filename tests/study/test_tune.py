"""Tuning: what is drawn is what is trained, looks prune, a second call goes on, the rule picks the winner."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np
import optuna
import pytest

from loro_jax import files
from loro_jax.agents import DDQN, PPO
from loro_jax.errors import UserError, command
from loro_jax.protocols import PAPER, SAC_PAPER
from loro_jax.tasks import NAMES, load
from studies import goals, spaces, tune, tuned

TUNING = pathlib.Path(__file__).parents[2] / "results/tuning"
SEARCHED = sorted(path for name in ("worlds", "games") for path in (TUNING / name).glob("*.json"))
"""The searches of tasks whose protocols are `common@1` and what was found from it."""


def test_settings_are_read_as_the_space_names_them() -> None:
    drawn = {
        "learning_rate": 0.00123456, "learning_rate_decay": 0.5, "learning_rate_left": 0.1, "batch_size": 64,
        "discount": 0.98, "layer_norm": True, "n_step": 3, "gradient_steps": 2, "learning_starts": 500,
        "hidden": "64-32", "target": "share 0.02", "epsilon": 0.05, "epsilon_decay": 0.2, "huber_delta": 10.0,
    }  # fmt: skip
    changes = spaces.read(drawn, PAPER.replace(budget=10_000)).changes(PAPER)
    assert changes == {
        "budget": 10_000, "learning_rate": 0.00123, "learning_rate_decay_steps": 5000,
        "learning_rate_end": 0.000123, "batch_size": 64, "discount": 0.98, "layer_norm": True, "n_step": 3,
        "gradient_steps": 2, "learning_starts": 500, "hidden": (64, 32), "polyak": 0.02, "epsilon": 0.05,
        "target_network_frequency": 1, "epsilon_decay_steps": 2000, "huber_delta": 10.0,
    }  # fmt: skip
    copied = spaces.read({"target": "copy 50", "learning_rate_decay": 0.0}, PAPER)
    assert copied.changes(PAPER) == {"target_network_frequency": 50}
    falling = {"learning_rate_decay_steps": 9000, "learning_rate_end": 1e-5, "epsilon_decay_steps": 9}
    constant = {"learning_rate_decay": 0.0, "learning_rate_left": 0.1, "epsilon_decay": 0.0}
    assert spaces.read(constant, PAPER.replace(**falling)) == PAPER
    fitted = spaces.read({"fit_steps": 300, "fit_learning_rate_factor": 3.0}, PAPER)
    assert fitted.prior.fit_learning_rate == pytest.approx(3 * PAPER.agent.learning_rate)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_begins_with_what_a_protocol_has(name: str) -> None:
    """As near as the space comes to it; and whatever is drawn is a protocol."""
    task = load(name)
    for protocol in task.settings().values():
        if protocol.name.startswith("standard"):
            space = spaces.space(protocol, "pure_rl", tune.inputs(task))
            agent = spaces.read(spaces.present(protocol, space), protocol).agent
            budget = protocol.schedule.budget
            for field in ("learning_rate_decay_steps", "epsilon_decay_steps"):
                nearest = {0: 0, 1: 0.1, 2: 0.2, 4: 0.4, 5: 0.5, 10: 1.0}
                share = getattr(protocol.agent, field, 0) / budget
                assert getattr(agent, field, 0) == round(nearest[round(10 * share)] * budget), field
    protocol = task.protocol("standard@1" if "standard@1" in task.settings() else "common@1")
    space = spaces.space(protocol, "pure_rl", tune.inputs(task))
    present = spaces.present(protocol, space)
    assert present.keys() == space.keys()
    for key, value in present.items():
        values = space[key]
        inside = values.low <= value <= values.high if isinstance(values, spaces.Log) else value in values
        assert inside, key
    assert spaces.read(present, protocol).agent.discount == present["discount"]
    tried = spaces.first(protocol, space)
    assert tried[0] == present and all(settings.keys() == space.keys() for settings in tried)
    assert len(tried) == {"mountain_car": 2, "pendulum": 5}.get(name, 4)
    for seed in range(20):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        spaces.suggested(study.ask(), protocol, space)


@pytest.mark.parametrize("name", ["cartpole", "frozen_lake"])
def test_a_search_of_ppo_begins_with_common_settings(name: str) -> None:
    """Also where the protocol says how DQN's targets move while pretraining, or has a tuned PPO."""
    task = load(name)
    began = tune.base(tune.Options(task=name, arm="ppo", protocol="standard@2"), task)
    interval, discount = began.schedule.eval_interval, task.protocol("standard@2").agent.discount
    assert began.agent == dataclasses.replace(PPO.within(interval), discount=discount) and began.others == ()


@pytest.mark.parametrize("path", SEARCHED, ids=lambda path: path.stem)
def test_a_protocol_is_what_its_searches_found(path: pathlib.Path) -> None:
    found = files.read_json(path)
    task = load(found["task"])
    began = task.protocol(found["from"])
    standard = began if began.name.startswith("standard") else task.protocol("standard@1")
    won = {k: tuple(v) if isinstance(v, list) else v for k, v in found["winner"]["settings"].items()}
    if (arm := found["arm"]) in spaces.ON_POLICY:
        fits = tune.base(tune.Options(task=task.name, arm=arm, protocol=began.name), task).agent
        assert [one for one in standard.others if one.name == arm] == [dataclasses.replace(fits, **won)]
    else:
        assert began != standard and standard.replace(others=()) == began.replace(name="standard@1", **won)


def test_a_lean_search_draws_what_costs_little() -> None:
    task = load("household")
    protocol = task.protocol("common@1")
    space = spaces.space(protocol, "pure_rl", tune.inputs(task), lean=True)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(20):
        agent = spaces.suggested(study.ask(), protocol, space).agent
        assert isinstance(agent, DDQN) and agent.hidden == (64, 64)
        assert agent.batch_size <= 64 and agent.gradient_steps == 1
    options = tune.Options(task="household", protocol="common@1")
    wide, lean = (tune.about(dataclasses.replace(options, lean=on), task) for on in (False, True))
    assert wide != lean and tune.space_of(dataclasses.replace(options, lean=True), task) == space


def test_a_lean_search_of_loros_own_settings_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="LORO's search leaves alone"):
        tune.main(["--task", "frozen_lake", "--arm", "loro", "--lean", "--out", str(tmp_path)])


def test_agents_that_copy_no_target_are_asked_for_a_share() -> None:
    copied, soft = "fit_target_network_frequency", "fit_polyak"
    assert soft in spaces.space(SAC_PAPER, "loro", 3) and copied not in spaces.space(SAC_PAPER, "loro", 3)
    assert copied in spaces.space(PAPER, "loro", 3) and soft not in spaces.space(PAPER, "loro", 3)
    assert soft in spaces.space(PAPER.replace(polyak=0.01), "loro", 3)


def test_finalists_are_the_best_by_score_and_by_goal_in_turn() -> None:
    rows = [{"settings": {"n": n}, "scores": {"score": s, "goal": g}}
            for n, (s, g) in enumerate([(5, 0), (4, 3), (3, 2), (2, 9), (1, 8)])]  # fmt: skip
    assert [s["n"] for s in tune.finalists(rows, 4)] == [0, 3, 1, 4]
    assert [s["n"] for s in tune.finalists(rows, 9)] == [0, 3, 1, 4, 2]
    assert tune.finalists([], 2) == [] == tune.finalists(rows, 0)


def row(goal: float, cumulative: float) -> dict[str, Any]:
    return {"scores": {"goal": goal, "cumulative": cumulative, "final_mean": goal}}


def test_the_winner_earns_most_among_those_that_reach_the_goal() -> None:
    task = load("cartpole")
    rows = [row(194.9, 9000), row(195.0, 7000), row(199.0, 6000)]
    assert goals.winner(task, rows) is rows[1]
    assert goals.winner(task, [rows[0], row(190.0, 9900)]) is rows[0]  # none does: the nearest to it


def test_a_task_without_a_goal_is_tuned_for_its_cumulative_return() -> None:
    import dataclasses

    task = dataclasses.replace(load("cartpole"), name="my_game")
    found = goals.scores(task, task.protocol("standard@1"), np.full((4, 50), 3.0), [])
    assert found["score"] == 3.0 and goals.says(task) == "cumulative return alone"
    assert goals.winner(task, [row(1.0, 5.0), row(9.0, 4.0)])["scores"]["cumulative"] == 5.0


def test_scores_by_hand() -> None:
    task = load("cartpole")
    curves = np.full((4, 50), 111.0)
    found = goals.scores(task, task.protocol("standard@1"), curves, [])
    assert found["goal"] == found["final_mean"] == 111 and found["cumulative"] == 50 * 111
    assert found["score"] == pytest.approx((111 - 22) / (200 - 22) - 2 * (195 - 111) / (195 - 22), abs=1e-6)
    cliff = load("cliff_walking")
    curves = np.where(np.arange(4)[:, None] < 3, -13.0, -14.0) * np.ones((4, 20))
    assert goals.scores(cliff, cliff.protocol("standard@1"), curves, [])["goal"] == 0.75
    lake = load("frozen_lake")
    values = [0.0, 0.7, 0.74, 0.744]
    assert goals.scores(lake, lake.protocol("standard@1"), curves, values)["goal"] == pytest.approx(0.72)


def test_a_frozen_lakes_exact_values_are_what_many_episodes_earn() -> None:
    """The reference policy's chance within the limit, against the simulator's 20,000 episodes (4 errors)."""
    from loro_jax.tasks.frozen_lake import reference, value_of

    policy = reference(np.eye(16)).argmax(axis=1)
    value = value_of(policy.tolist())
    assert 0.73 < value <= load("frozen_lake").environment().best + 1e-9
    assert value_of([0] * 16) == 0.0  # left for ever
    import gymnasium

    env = gymnasium.make("FrozenLake-v1")
    chance = env.unwrapped.P  # type: ignore[attr-defined]
    expected = np.zeros(16)
    for _ in range(100):
        expected = np.array(
            [sum(p * (r + (0 if done else expected[s])) for p, s, r, done in chance[cell][policy[cell]])
             for cell in range(16)]
        )  # fmt: skip
    assert value == pytest.approx(expected[0], abs=1e-9)


def test_a_search_is_kept_and_goes_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained by a stand-in, in one process; the looks, the log, the finalists and the file are real."""
    trained: list[tuple[int, int]] = []

    def stand_in(
        task: Any, protocol: Any, arm: str, seeds: int, key: int, first: int = 0
    ) -> tuple[np.ndarray, list[float]]:
        trained.append((key, first))
        level = 200 * min(protocol.agent.learning_rate / 5e-3, 1)
        return np.full((seeds, protocol.schedule.evaluations), level), []

    monkeypatch.setattr(tune, "trained", stand_in)
    monkeypatch.setattr(
        tune, "_together", lambda options, console: tune._search(options, 0, tune.os.getppid())
    )
    argv = ["--trials", "12", "--finalists", "2", "--seeds", "8", "--out", str(tmp_path)]
    argv += ["--protocol", "standard@1"]
    assert command(lambda: tune.main(argv)) == 0
    found = json.loads((tmp_path / "cartpole-pure_rl.json").read_text())
    assert len(found["trials"]) == 12 and found["trials"][0]["settings"] == {}
    seeds = [t["seeds"] for t in found["trials"]]
    assert set(seeds) == {4, 16} and seeds[:8] == [16] * 8  # the first eight are not pruned
    assert {t["state"] for t in found["trials"]} == {"complete", "pruned"}
    assert [r["seeds"] for r in found["finalists"]] == [8, 8]
    best = max(found["finalists"], key=lambda r: r["scores"]["score"])
    assert found["winner"] == best and (tune.FINAL_KEY, 0) in trained
    assert command(lambda: tune.main([*argv, "--out", str(tmp_path / "loro"), "--arm", "loro"])) == 0
    loro = json.loads((tmp_path / "loro" / "cartpole-loro.json").read_text())
    assert [r["settings"] for r in loro["finalists"]][-1] == {} and len(loro["finalists"]) == 3
    before = len(trained)
    assert command(lambda: tune.main(argv)) == 0  # all is there
    assert len(trained) == before
    argv[1] = "14"
    leads = [w for rate in ("0.0001", "0.0002") for w in ("--lead", f'{{"learning_rate": {rate}}}')]
    with open(tmp_path / "cartpole-pure_rl.log", "a") as log:
        log.write('{"op_code": 4, "worker_')  # what a kill leaves of a line
    assert command(lambda: tune.main([*argv, *leads])) == 0
    record = json.loads((tmp_path / "cartpole-pure_rl.json").read_text())
    assert len(record["trials"]) == 14
    led = [t for t in record["trials"] if t["settings"].get("learning_rate") in (1e-4, 2e-4)]
    assert [t["seeds"] for t in led] == [16, 16]  # to the end, the worst of all though they are
    for other in (("--budget", "2000"), ("--protocol", "standard@2")):
        capsys.readouterr()
        assert command(lambda other=other: tune.main([*argv, *other])) == 2  # type: ignore[misc]
        assert "is of another search" in capsys.readouterr().err
    (tmp_path / "cartpole-pure_rl.json").rename(tmp_path / "aside.json")
    assert command(lambda: tune.main([*argv, "--budget", "2000"])) == 2  # the log says so too
    assert "is of another search (budget 10000, not 2000); choose another --out" in capsys.readouterr().err
    (tmp_path / "aside.json").rename(tmp_path / "cartpole-pure_rl.json")
    assert command(lambda: tuned.main(["--out", str(tmp_path)])) == 0
    said = (tmp_path / "README.md").read_text()
    scores = record["winner"]["scores"]
    assert f"| cartpole | 10,000 | 14 | {sum(t['state'] == 'pruned' for t in record['trials'])} |" in said
    assert f" {scores['goal']:.4g} | {'yes' if scores['goal'] >= 195 else '**no**'} |" in said
    assert said.count("(winner)") == 1 and "LORO's own settings" not in said
    assert "Begun with standard@1, in which" in said
    grown = tuned.page([record | {"budget": 20_000}])
    assert "Begun with standard@1, with 20,000 steps in the place of 10,000, in which" in grown
    assert command(lambda: tuned.main(["--out", str(tmp_path / "none")])) == 2
    assert "no search with a winner" in capsys.readouterr().err
    for damage in ({"winner": 1}, {"trials": None}, {"arm": "x"}, {"task": "a|b\n# h"}, {"finalists": [{}]},
                   {"winner": {"settings": {}, "backend": "cpu"}}):  # fmt: skip
        files.write_json(tmp_path / "cartpole-pure_rl.json", record | damage)
        assert command(lambda: tuned.main(["--out", str(tmp_path)])) == 2
        assert "damaged, no search as studies.tune keeps it; move it away" in capsys.readouterr().err


class Sooner(BaseException):
    """What stops a search in the middle of a setting."""


def test_what_was_interrupted_is_taken_up_again_and_counts_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in trains; a lead that a killed search left half done is tried by the next one."""
    stopping = [True]

    def stand_in(
        task: Any, protocol: Any, arm: str, seeds: int, key: int, first: int = 0
    ) -> tuple[np.ndarray, list[float]]:
        if stopping[0] and protocol.agent.learning_rate == 1e-4 and first:
            raise Sooner
        return np.full((seeds, protocol.schedule.evaluations), 100.0), []

    monkeypatch.setattr(tune, "trained", stand_in)
    lead = ("--lead", '{"learning_rate": 0.0001}')
    argv = ["--protocol", "standard@1", "--trials", "5", "--finalists", "0", "--out", str(tmp_path), *lead]
    options = tune.Options(protocol="standard@1", trials=5, lead=lead[1:], out=tmp_path)
    with pytest.raises(Sooner):
        tune._search(options, 0, tune.os.getppid())
    study = tune.study_of(options, load("cartpole"))
    [half] = [t for t in study.trials if t.state == optuna.trial.TrialState.RUNNING]
    stopping[0] = False
    monkeypatch.setattr(tune, "_together", lambda options, _: tune._search(options, 0, tune.os.getppid()))
    assert command(lambda: tune.main(argv)) == 0
    found = files.read_json(tmp_path / "cartpole-pure_rl.json")["trials"]
    [led] = [t for t in found if t["settings"].get("learning_rate") == 1e-4]
    assert led["seeds"] == 16 and led["number"] > half.number and len(found) == 5


def test_a_setting_that_is_drawn_again_costs_nothing_and_counts_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator, where the seeds of the last look are trained at once."""
    import jax

    trained: list[tuple[int, float]] = []

    def stand_in(
        task: Any, protocol: Any, arm: str, seeds: int, key: int, first: int = 0
    ) -> tuple[np.ndarray, list[float]]:
        trained.append((seeds, protocol.prior.fit_steps))
        return np.full((seeds, protocol.schedule.evaluations), float(protocol.prior.fit_steps)), []

    monkeypatch.setattr(tune, "trained", stand_in)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(spaces, "space", lambda *_: {"fit_steps": (300, 1000, 3000)})
    options = tune.Options(protocol="standard@1", arm="loro", trials=5, out=tmp_path)
    tune._search(options, 0, tune.os.getppid())
    assert sorted(trained) == [(16, 300), (16, 1000), (16, 3000)]
    study = tune.study_of(options, load("cartpole"))
    assert len(study.trials) == tune.MOST_DRAWN * 5 and len(tune._tried(study)) == 3


@pytest.mark.long
@pytest.mark.slow
def test_settings_are_trained_by_the_suites_own_programs(tmp_path: pathlib.Path) -> None:
    """Two processes, real training, LORO's own settings; FrozenLake's policies have exact values."""
    argv = ["--task", "frozen_lake", "--trials", "2", "--finalists", "1", "--seeds", "4", "--jobs", "2"]
    argv += ["--protocol", "standard@1", "--budget", "2400", "--arm", "loro", "--out", str(tmp_path)]
    assert command(lambda: tune.main(argv)) == 0
    found = files.read_json(tmp_path / "frozen_lake-loro.json")
    assert len(found["trials"]) >= 2 and 0 <= found["winner"]["scores"]["goal"] <= 0.7442
    assert found["winner"]["settings"].keys() <= {
        "fit_steps", "fit_learning_rate", "fit_target_network_frequency"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--lead", "{"), "--lead takes JSON such as "),
        (("--lead", "[1]"), "--lead takes JSON such as "),
        (("--lead", '{"colour": 1}'), "--lead: the space has no 'colour'; it has: learning_rate, "),
        (("--lead", '{"learning_rate": 1.0}'), "--lead: learning_rate 1.0 is outside [0.0001, 0.005, 'log']"),
        (("--lead", '{"learning_rate": "x"}'), "--lead: learning_rate 'x' is outside"),
        (("--lead", '{"n_step": true}'), "--lead: n_step True is outside [1, 3, 5]"),
        (("--lead", '{"n_step": 3.0}'), "--lead: n_step 3.0 is outside [1, 3, 5]"),
        (("--lead", '{"layer_norm": 1}'), "--lead: layer_norm 1 is outside [False, True]"),
        (("--lead", '{"n_step": 3, "n_step": 5}'), "--lead takes JSON such as "),
        (("--lead", "[" * 100_000), "--lead takes JSON such as "),
        (("--seconds", "-5"), "--seconds must be a number from 0 on, got -5.0"),
        (("--seconds", "nan"), "--seconds must be a number from 0 on, got nan"),
        (("--protocol", "released@1", "--arm", "loro"), "released@1 says how often LORO copies its target"),
        (("--trials", "0"), "--trials must be at least 1, got 0"),
        (("--seeds", "1"), "--seeds must be at least 2, got 1"),
        (("--seeds", "99999999999"), "--seeds must be at most 1000000"),
        (("--finalists", "-1"), "--finalists must be at least 0"),
        (("--jobs", "0"), "--jobs must be at least 1"),
        (("--task", "tune"), "no task is called 'tune'; there are: cartpole, "),
        (("--task", "no.such:TASK"), "no.such: cannot be imported"),
        (("--task", "no_such.py"), "no_such.py: no such file"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, argv: tuple[str, ...], says: str
) -> None:
    assert command(lambda: tune.main([*argv, "--out", str(tmp_path / "out")])) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"finalists": [{"seeds": 2}]}', '{"finalists": [], "budget": 7}',
        '{"finalists": [{"seeds": 2, "settings": {}, "backend": "cpu", "scores": 3}]}',
        '{"finalists": [{"seeds": 2, "settings": "x", "backend": "cpu", "scores": {}}]}',
    ],
)  # fmt: skip
def test_finalists_that_cannot_be_read_are_never_written_over(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, text: str
) -> None:
    (tmp_path / "cartpole-pure_rl.json").write_text(text)
    assert command(lambda: tune.main(["--out", str(tmp_path)])) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "cartpole-pure_rl.json").read_text() == text


GOOD = {"settings": {}, "seeds": 4, "scores": dict.fromkeys(tune.SCORES, 1.0)}


def logged(folder: pathlib.Path, row: dict[str, Any]) -> pathlib.Path:
    """A log with one setting that was tried."""
    study = tune.study_of(tune.Options(protocol="standard@1", out=folder), load("cartpole"))
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=row))
    return folder / "cartpole-pure_rl.log"


def refused(folder: pathlib.Path, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(lambda: tune.main(["--protocol", "standard@1", "--out", str(folder)])) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "line", ["nonsense", "\x00", "[1]", "[" * 100_000, '{"op_code": 99, "worker_id": "w"}']
)
def test_a_log_that_cannot_be_read_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, line: str
) -> None:
    log = logged(tmp_path, GOOD)
    options = tune.Options(protocol="standard@1", out=tmp_path)
    assert tune._opened(options, load("cartpole"), log.with_suffix(".json")).trials
    with open(log, "a") as stream:
        stream.write(line + "\n")
    refused(tmp_path, f"{log}: damaged (", capsys)


@pytest.mark.parametrize(
    "row",
    [
        GOOD | {"scores": GOOD["scores"] | {"score": math.inf}},  # type: ignore[operator]
        GOOD | {"scores": 3},
        GOOD | {"seeds": "4"},
        GOOD | {"settings": ["learning_rate"]},
        GOOD | {"settings": {"budget": 200}},
        GOOD | {"settings": {"colour": 1}},
        {"seeds": 4},
    ],
)
def test_a_log_of_other_things_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, row: dict[str, Any]
) -> None:
    logged(tmp_path, row)
    refused(tmp_path, "damaged, its settings or scores are none; move it away", capsys)
