"""The suite's aggregate against rliable and hand-worked numbers, and the command that makes it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from benchmarks import suite
from loro_jax import files, tasks
from loro_jax.analysis import aggregate, statistics
from loro_jax.analysis.aggregate import Task
from loro_jax.analysis.figures import suite as suite_figure
from loro_jax.errors import UserError, command
from loro_jax.records import identity as identities

ARMS = ("pure_rl", "loro")


def task(name: str, curves: dict[str, np.ndarray], low: float = 0.0, high: float = 1.0) -> Task:
    return Task(name, low, high, curves, {"random_policy": np.full(3, low)}, {"seed": 0, "episodes": None})


def random_tasks(seeds: int = 16, tasks: int = 3) -> list[Task]:
    rng = np.random.default_rng(0)
    return [
        task(
            f"t{k}",
            {arm: rng.normal(0.3 + 0.2 * i, 0.2 + 0.1 * k, (seeds, 10)) for i, arm in enumerate(ARMS)},
        )
        for k in range(tasks)
    ]


def matrix(tasks: list[Task], arm: str) -> np.ndarray:
    return np.stack([t.scores(arm, "whole") for t in tasks], axis=1)


def test_scores_by_hand() -> None:
    """From -200 (0) to -100 (1): a mean of -175 is a quarter, a last tenth of -90 a little more than all."""
    curve = np.full((1, 10), -200.0)
    curve[0, -1] = -90.0
    t = task("car", {"a": curve}, -200.0, -100.0)
    assert t.scores("a", "whole") == pytest.approx([0.11])
    assert t.scores("a", "final") == pytest.approx([1.1])


def test_aggregates_are_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    tasks = random_tasks()
    found = aggregate.aggregate(tasks, "pure_rl")["arms"]
    for arm in ARMS:
        scores = matrix(tasks, arm)
        whole = found[arm]["whole"]
        assert whole["iqm"] == pytest.approx(metrics.aggregate_iqm(scores), abs=1e-12)
        assert whole["mean"] == pytest.approx(metrics.aggregate_mean(scores), abs=1e-12)
        assert whole["median"] == pytest.approx(metrics.aggregate_median(scores), abs=1e-12)
        assert whole["optimality_gap"] == pytest.approx(metrics.aggregate_optimality_gap(scores), abs=1e-12)
    theirs = metrics.probability_of_improvement(matrix(tasks, "loro"), matrix(tasks, "pure_rl"))
    assert found["loro"]["whole"]["improvement"] == pytest.approx(float(theirs), abs=1e-12)
    assert found["pure_rl"]["whole"]["improvement"] is None


def test_intervals_are_rliables() -> None:
    """Two bootstraps of 2,000 resamples each; their ends scatter by about a twentieth of the width."""
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    names = {
        "iqm": "aggregate_iqm",
        "median": "aggregate_median",
        "optimality_gap": "aggregate_optimality_gap",
    }
    tasks = random_tasks()
    ours = aggregate.aggregate(tasks, "pure_rl")["arms"]["loro"]["whole"]
    np.random.seed(0)  # noqa: NPY002  rliable draws from numpy's global generator
    for name, theirs in names.items():
        _, ends = library.get_interval_estimates(
            {"a": matrix(tasks, "loro")}, lambda x, m=theirs: np.array([getattr(metrics, m)(x)]), reps=2000
        )
        low, high = ends["a"].ravel()
        np.testing.assert_allclose(ours[f"{name}_ci95"], (low, high), atol=0.2 * (high - low), err_msg=name)


def test_improvement_and_profile_by_hand() -> None:
    """Task 0: of four pairs three wins. Task 1: one win, two ties. Together (3 + 2) / 8."""
    arm, baseline = np.array([[1.0, 0.5], [0.3, 0.9]]), np.array([[0.2, 0.5], [0.6, 0.9]])
    estimate, _ = aggregate.improvement(arm, baseline)
    assert estimate == 0.625
    share, _, _ = aggregate.profile(arm)
    above = dict(zip(aggregate.THRESHOLDS.round(3).tolist(), share.tolist(), strict=True))
    assert [above[t] for t in (-0.25, 0.25, 0.4, 0.6, 0.95, 1.0, 1.25)] == [
        1.0,
        1.0,
        0.75,
        0.5,
        0.25,
        0.0,
        0.0,
    ]


def test_profiles_are_rliables() -> None:
    library = pytest.importorskip("rliable.library")
    scores = matrix(random_tasks(), "loro")
    np.random.seed(0)  # noqa: NPY002  rliable draws from numpy's global generator
    share, ends = library.create_performance_profile({"a": scores}, aggregate.THRESHOLDS, reps=2000)
    ours, low, high = aggregate.profile(scores)
    np.testing.assert_allclose(ours, share["a"], atol=1e-12)
    np.testing.assert_allclose(low, ends["a"][0], atol=0.03)
    np.testing.assert_allclose(high, ends["a"][1], atol=0.03)


def test_intervals_are_stratified() -> None:
    """An environment whose runs are all alike adds no width; one interval is not the runs' pooled spread."""
    rng = np.random.default_rng(1)
    constant = np.zeros((32, 5)), np.ones((32, 5))
    tasks = [task(f"t{k}", {"pure_rl": c, "loro": c}) for k, c in enumerate(constant)]
    found = aggregate.aggregate(tasks, "pure_rl")["arms"]["loro"]["whole"]
    assert found["mean_ci95"] == [0.5, 0.5] and found["improvement_ci95"] == [0.5, 0.5]
    noisy = rng.normal(0, 1, (32, 1)) * np.ones((32, 5))
    tasks.append(task("t2", {"pure_rl": noisy, "loro": noisy}))
    low, high = aggregate.aggregate(tasks, "pure_rl")["arms"]["loro"]["whole"]["mean_ci95"]
    alone = statistics.interval(noisy[:, 0], statistics.weighted_mean, seed=0)
    assert high - low == pytest.approx((alone[1] - alone[0]) / 3, rel=0.15)


def test_improvement_takes_both_arms_runs_of_a_seed_together() -> None:
    """Where the arm is the baseline itself, pairs cancel: the interval is far narrower than unpaired."""
    rng = np.random.default_rng(2)
    same = rng.normal(0, 1, (40, 2))
    estimate, (low, high) = aggregate.improvement(same, same)
    assert estimate == 0.5 and high - low < 1e-9
    _, (low, high) = aggregate.improvement(same, rng.normal(0, 1, (40, 2)))
    assert 0.1 < high - low < 0.35


def test_arms_that_are_not_everywhere_are_left_out_and_seeds_are_cut_to_the_fewest() -> None:
    one, two = random_tasks(16, 1)[0], random_tasks(8, 1)[0]
    more = Task("t9", 0.0, 1.0, {**two.curves, "mix": two.curves["loro"]}, two.flat, two.run)
    found = aggregate.aggregate([one, more], "pure_rl")
    assert found["seeds"] == 8 and found["left_out"] == ["mix"] and set(found["arms"]) == set(ARMS)
    assert {n: v["seeds"] for n, v in found["normalisation"].items()} == {"t0": 16, "t9": 8}
    assert "Left out, since not every environment has them: mix." in aggregate.markdown(found, "standard")


def test_one_seed_has_no_interval() -> None:
    found = aggregate.aggregate(random_tasks(1), "pure_rl")
    assert found["arms"]["loro"]["whole"]["iqm_ci95"] == [None, None]
    assert set(found["arms"]["loro"]["whole"]["profile"]["low"]) == {None}
    json.dumps(found, allow_nan=False)


def lose(curves: np.ndarray, seed: int, first: int) -> np.ndarray:
    """The curves with one seed diverged from evaluation `first` on."""
    curves = curves.copy()
    curves[seed, first:] = np.nan
    return curves


def test_a_diverged_run_scores_as_random_play_and_is_the_worst_by_rank() -> None:
    """Eight runs score 0 to 7, the best of them diverges half-way: 3.5 in means, below 0 by rank."""
    curves = {arm: np.tile(np.arange(8.0)[:, None], 4) for arm in ARMS}
    curves["loro"] = lose(curves["loro"], 7, 2)
    found = aggregate.aggregate([task("t", curves)], "pure_rl")
    assert found["diverged"] == {"loro": {"t": 1}}
    whole, plain = (found["arms"][arm]["whole"] for arm in ("loro", "pure_rl"))
    assert whole["mean"] == whole["median"] == whole["per_environment"]["t"]["mean"] == (21 + 3.5) / 8
    assert whole["optimality_gap"] == 1 / 8  # the one at 0; half of 7 is above 1
    assert whole["iqm"] == (1 + 2 + 3 + 4) / 4 and plain["iqm"] == (2 + 3 + 4 + 5) / 4
    above = dict(zip(aggregate.THRESHOLDS.round(3).tolist(), whole["profile"]["share"], strict=True))
    assert above[-0.25] == 7 / 8 and above[0.0] == 6 / 8
    # Seven of the eight tie with one and beat as many as their score; the eighth beats none.
    assert whole["improvement"] == (sum(range(7)) + 7 / 2) / 64
    assert found["arms"]["loro"]["final"]["mean"] == 21 / 8
    interval = statistics.interval(
        np.append(np.arange(7.0), 3.5), seed=0, ranks=np.append(np.arange(7.0), -np.inf)
    )
    assert whole["iqm_ci95"] == list(interval)
    json.dumps(found, allow_nan=False)
    text = aggregate.markdown(found, "standard")
    assert "| loro (1 diverged) |" in text and "**Diverged: loro: 1 of 8 in t.**" in text
    assert "| pure_rl |" in text and " (1 diverged) |" in text.split("## By environment")[1]


def test_a_baseline_that_diverged_ties_with_an_arm_that_did() -> None:
    curves = {arm: lose(np.ones((2, 3)), 0, 1) for arm in ARMS}
    whole = aggregate.aggregate([task("t", curves)], "pure_rl")["arms"]["loro"]["whole"]
    assert whole["improvement"] == 0.5 and whole["mean"] == (1 + 1 / 3) / 2


def test_only_diverged_seeds_that_enter_are_counted() -> None:
    one, two = random_tasks(16, 1)[0], random_tasks(8, 1)[0]
    of = lambda seed: Task(  # noqa: E731
        "t9", 0.0, 1.0, {**one.curves, "loro": lose(one.curves["loro"], seed, 3)}, one.flat, one.run
    )
    assert aggregate.aggregate([of(7), two], "pure_rl")["diverged"] == {"loro": {"t9": 1}}
    found = aggregate.aggregate([of(8), two], "pure_rl")
    assert found["diverged"] == {} and "iverged" not in aggregate.markdown(found, "standard")


def test_the_figure_names_diverged_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    said: list[str] = []
    monkeypatch.setattr(Figure, "supxlabel", lambda self, text, **_: said.append(" ".join(text.split())))
    curves = {arm: np.ones((4, 3)) for arm in ARMS}
    for arms in (curves, curves | {"loro": lose(curves["loro"], 0, 1)}):
        found = aggregate.aggregate([task("t", arms)], "pure_rl")
        suite_figure.draw(found, "standard", tmp_path / "suite")
    assert "diverged" not in said[0] and said[1].endswith("; diverged: loro: 1 of 4 in t")


def save(
    folder: pathlib.Path, name: str, protocol: str = "standard@1", flat: bool = True, **other: Any
) -> None:
    """A finished run's files, as if of `protocol` with `other` settings."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    chosen = tasks.load(name)
    ran = chosen.protocol(protocol).replace(**other)
    identity = identities.identify(chosen, ran, 4, 0, {"name": "some"}, ())
    files.write_json(folder / "run.json", {"identity": identity})
    curves = {arm: rng.normal(0, 1, (4, 6)) for arm in ARMS}
    curves["loro"][0, 4:] = np.nan  # a seed that diverged
    files.write_npz(folder / "curves.npz", {**curves, "env_steps": np.arange(6)})
    details = {"flat/random_policy": np.full(5, -1.0), "flat/llm_policy": np.zeros(4)} if flat else {}
    files.write_npz(folder / "details.npz", details)


def load(folder: pathlib.Path) -> Task:
    """`folder` as a run of cartpole under standard@1; a random policy not run returns 7 plus the seed."""
    standard = tasks.load("cartpole").protocol("standard@1")
    return aggregate.load(
        folder,
        "cartpole",
        200.0,
        lambda ran: identities.other_settings(ran, standard),
        lambda seed: np.array([7.0 + seed]),
    )


def test_the_command_aggregates_what_is_saved(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cartpole", "pendulum"):
        save(tmp_path / name / "standard@1", name)
    chosen = ["--aggregate-only", "--tasks", "cartpole,pendulum", "--out", str(tmp_path)]
    assert command(lambda: suite.main([*chosen, "--protocol", "standard@1"])) == 0
    out = tmp_path / "suite" / "standard@1"
    names = {f"tables/{n}.{s}" for n in ("suite", "environments", "normalisation") for s in ("csv", "tex")}
    names |= {"suite.md", "figures/suite.png", "figures/suite.pdf"}
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert there == names | {"suite.json"}
    found = json.loads((out / "suite.json").read_text())
    assert found["files"] == {name: files.digest(out / name) for name in names}
    assert found["protocol"] == "standard@1"
    assert found["benchmarks"] == ["cartpole", "pendulum"] and found["seeds"] == 4
    assert found["normalisation"]["cartpole"]["best"] == 200.0
    assert found["diverged"] == {"loro": {"cartpole": 1, "pendulum": 1}}
    printed = capsys.readouterr().out
    assert "| llm_policy |" in printed and "| random_policy | 0.00 | 0.00 |" in printed


def test_it_names_the_episodes_or_the_answers_that_each_seeds_own_were_played_by(
    tmp_path: pathlib.Path,
) -> None:
    save(tmp_path / "a", "cartpole", "standard@1")
    assert load(tmp_path / "a").run == {"seed": 0, "episodes": "some"}
    run = files.read_json(tmp_path / "a" / "run.json")
    run["identity"] |= {"episodes": None, "answers": {"name": "a-table"}}
    files.write_json(tmp_path / "a" / "run.json", run)
    assert load(tmp_path / "a").run == {"seed": 0, "episodes": "a-table"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--tasks", "cartpole,pendlum"], "no task is called 'pendlum'; there are: cartpole,"),
        (["--tasks", "pong,pong"], "--tasks must name tasks, each once"),
        (
            ["--aggregate-only", "--tasks", "cartpole"],
            "no such file; cartpole has no finished run there",
        ),
        (["--arms", "loro,random_policy"], "--arms must include pure_rl, which the others are compared with"),
        (
            ["--tasks", "gymnax:Catch-bsuite"],
            "gymnax_catch_bsuite names no best known return, which is score 1",
        ),
        (["--sedes", "3"], "perhaps you meant --seeds"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--seeds", "99999999999"], "--seeds must be at most 1000000, got 99999999999"),
        (["--devices", "-1"], "--devices must be at least 0, got -1"),
        (["--seed", "4294967296"], "--seed must lie between 0 and 4294967295, got 4294967296"),
        (["--seed", "-1"], "--seed must lie between 0 and 4294967295, got -1"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert command(lambda: suite.main([*argv, "--out", str(tmp_path)])) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_foreign_runs_are_refused(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a", "cartpole", "paper")
    with pytest.raises(UserError, match="protocol paper@1 there, standard@1 here"):
        load(tmp_path / "a")
    save(tmp_path / "b", "cartpole", budget=400)
    with pytest.raises(UserError, match=r"other settings \(budget 400 there, 10000 here\); run it"):
        load(tmp_path / "b")
    save(tmp_path / "c", "cartpole")
    (tmp_path / "c" / "curves.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"curves.npz: damaged or not an .npz file"):
        load(tmp_path / "c")
    for identity in ({}, {"benchmark": "cartpole", "protocol": {}, "seed": 0, "episodes": "some"}):
        files.write_json(tmp_path / "b" / "run.json", {"identity": identity})
        with pytest.raises(UserError, match=r"not a finished run|its identity"):
            load(tmp_path / "b")


@pytest.mark.parametrize(
    ("curve", "flat", "says"),
    [
        ((0, 1, np.inf), (1.0,), "loro holds returns that are not finite, and not as a seed that diverged"),
        ((0, np.nan, 1), (1.0,), "loro holds returns that are not finite, and not as a seed that diverged"),
        (("a", "b", "c"), (1.0,), "loro holds no returns but <U1 of shape"),
        ((0, 1, 1j), (1.0,), "loro holds no returns but complex128 of shape"),
        ((0, 1, np.nan), (1.0, np.nan), "random_policy holds returns that are not finite; run it again"),
        ((0, 1, np.nan), ((1.0, 2.0),), "random_policy holds no returns but float64 of shape"),
        ((0, 1, np.nan), (), "random_policy holds no returns but float64 of shape"),
        ((0, 1, np.nan), (1.0,), ""),
    ],
)
def test_returns_that_no_run_leaves_are_refused(
    tmp_path: pathlib.Path, curve: tuple[Any, ...], flat: tuple[Any, ...], says: str
) -> None:
    """Not finite is what a seed becomes that diverged, and stays; everything else is damage."""
    save(tmp_path / "a", "cartpole")
    curves = {"pure_rl": np.zeros((2, 3)), "loro": np.array([curve, curve])}
    files.write_npz(tmp_path / "a" / "curves.npz", {**curves, "env_steps": np.arange(3)})
    files.write_npz(tmp_path / "a" / "details.npz", {"flat/random_policy": np.array(flat)})
    if not says:
        assert load(tmp_path / "a").diverged("loro").all()
        return
    with pytest.raises(UserError) as refused:
        load(tmp_path / "a")
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_files_of_two_runs_are_not_aggregated(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a", "cartpole")
    run = files.read_json(tmp_path / "a" / "run.json")
    names = ("curves.npz", "details.npz")
    hashes = {name: files.digest(tmp_path / "a" / name) for name in names}
    files.write_json(tmp_path / "a" / "run.json", run | {"files": hashes})
    assert load(tmp_path / "a").seeds == 4
    files.write_npz(tmp_path / "a" / "details.npz", {"flat/random_policy": np.zeros(3)})
    with pytest.raises(UserError, match=r"details.npz: is another run's, or was changed"):
        load(tmp_path / "a")


def test_a_random_policy_that_was_not_run_is_played(tmp_path: pathlib.Path) -> None:
    save(tmp_path / "a", "cartpole", flat=False)
    assert load(tmp_path / "a").low == 7.0
    save(tmp_path / "b", "cartpole")
    assert load(tmp_path / "b").low == -1.0


def test_without_the_baseline_there_is_no_aggregate() -> None:
    one, two = random_tasks(4, 2)
    alone = Task("t1", 0.0, 1.0, {"loro": two.curves["loro"]}, two.flat, two.run)
    with pytest.raises(UserError, match="the arm pure_rl was not run in t1; run it"):
        aggregate.aggregate([one, alone], "pure_rl")


TINY = """
import dataclasses
from loro_jax.protocols import by_name
from loro_jax.tasks import load
cartpole = load("cartpole")
standard = cartpole.protocol("standard").replace(
    budget=400, hidden=(8,), batch_size=8, learning_starts=20, eval_episodes=1
)
TASK = dataclasses.replace(cartpole, name="{name}", protocols=by_name([standard]), source="")
"""
SLOW = """
import pathlib, signal, sys, time
asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: asked.append(1))
pathlib.Path("begun").touch()
while not asked:
    time.sleep(0.01)
time.sleep(1)  # as long as a checkpoint may take
pathlib.Path("stopped").touch()
sys.exit(130)
"""


@pytest.fixture
def two(tmp_path: pathlib.Path) -> str:
    """Two tasks in files of their own, small enough to be trained here and in child processes."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(TINY.format(name=name))
    return ",".join(f"{tmp_path / name}.py:TASK" for name in ("one", "two"))


@pytest.mark.long
@pytest.mark.slow
def test_the_command_trains_each_task(
    tmp_path: pathlib.Path, two: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two tiny tasks, two seeds; --resume trains nothing again, and refuses another configuration."""
    out = tmp_path / "out"
    argv = ["--seeds", "2", "--arms", "pure_rl", "--out", str(out), "--devices", "2", "--tasks", two]
    assert command(lambda: suite.main(argv)) == 0
    assert "[2/2] two" in capfd.readouterr().err
    newest = tasks.load("cartpole").protocol("standard").name
    found = json.loads((out / "suite" / newest / "suite.json").read_text())
    assert found["benchmarks"] == ["one", "two"] and found["seeds"] == 2 and set(found["arms"]) == {"pure_rl"}
    with np.load(out / "one" / newest / "curves.npz") as archive:
        curve = archive["pure_rl"]
    low, high = found["normalisation"]["one"]["random"], found["normalisation"]["one"]["best"]
    assert 15 < low < 30 and high == 200.0  # a uniform policy's episodes last about 22 steps
    each = found["arms"]["pure_rl"]["whole"]["per_environment"]["one"]
    assert each["mean"] == pytest.approx((curve.mean() - low) / (high - low))
    before = {p: p.stat().st_mtime_ns for p in out.rglob("run.json")}
    assert len(before) == 2
    argv[1] = "3"
    assert command(lambda: suite.main([*argv, "--resume"])) == 2
    said = capfd.readouterr().err
    assert "holds another configuration (seeds 2 there, 3 here)" in said and said.count("error:") == 1
    argv[1], argv[-1] = "2", two.split(",")[0]
    assert command(lambda: suite.main([*argv, "--resume"])) == 0
    assert "holds this run already, complete" in capfd.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("run.json")} == before


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_waits_for_the_checkpoint(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    """Ctrl-C reaches the whole group, as from a terminal, and a terminating signal the parent alone, which
    passes it on; the child is left the time to stop by itself."""
    (tmp_path / "slow.py").write_text(SLOW)
    code = (
        "import sys; from benchmarks import suite; from loro_jax.tasks import load; suite.RUN = 'slow';"
        " sys.exit(suite.train(load('cartpole'), suite.Options()))"
    )
    root = pathlib.Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, start_new_session=True
    )
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)
    assert parent.wait() == 130
    assert (tmp_path / "stopped").exists()
