"""The suite's aggregate against rliable and hand-worked numbers, and the command that makes it."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from benchmarks import suite
from loro_jax import aggregate, results, statistics
from loro_jax.aggregate import Task
from loro_jax.errors import UserError, command

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
        assert whole["optimality_gap"] == pytest.approx(metrics.aggregate_optimality_gap(scores), abs=1e-12)
    theirs = metrics.probability_of_improvement(matrix(tasks, "loro"), matrix(tasks, "pure_rl"))
    assert found["loro"]["whole"]["improvement"] == pytest.approx(float(theirs), abs=1e-12)
    assert found["pure_rl"]["whole"]["improvement"] is None


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
    json.dumps(found["arms"]["loro"]["whole"]["improvement_ci95"], allow_nan=False)


def save(folder: pathlib.Path, name: str, protocol: str = "standard", flat: bool = True) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    identity = {"benchmark": name, "protocol": {"name": protocol}, "seed": 0, "episodes": {"name": "some"}}
    results.write_json(folder / "run.json", {"identity": identity})
    curves = {arm: rng.normal(0, 1, (4, 6)) for arm in ARMS}
    results.write_npz(folder / "curves.npz", {**curves, "env_steps": np.arange(6)})
    details = {"flat/random_policy": np.full(5, -1.0), "flat/llm_policy": np.zeros(4)} if flat else {}
    results.write_npz(folder / "details.npz", details)


def test_the_command_aggregates_what_is_saved(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cartpole", "pendulum"):
        save(tmp_path / name / "standard", name)
    chosen = ["--aggregate-only", "--benchmarks", "cartpole,pendulum", "--out", str(tmp_path)]
    assert command(lambda: suite.main(chosen)) == 0
    out = tmp_path / "suite" / "standard"
    assert {p.name for p in out.rglob("*") if p.is_file()} == {
        "suite.json",
        "suite.md",
        "suite.png",
        "suite.pdf",
    }
    found = json.loads((out / "suite.json").read_text())
    assert found["benchmarks"] == ["cartpole", "pendulum"] and found["seeds"] == 4
    assert found["normalisation"]["cartpole"]["best"] == 200.0
    assert "| `llm_policy` |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--benchmarks", "cartpole,pendlum"], "no benchmark is called 'pendlum'; there are: cartpole,"),
        (["--benchmarks", "pong,pong"], "--benchmarks must name benchmarks, each once"),
        (
            ["--aggregate-only", "--benchmarks", "cartpole"],
            "no such file; cartpole has no finished run there",
        ),
        (["--sedes", "3"], "perhaps you meant --seeds"),
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
    with pytest.raises(UserError, match="holds cartpole under 'paper', not cartpole under 'standard'"):
        aggregate.load(tmp_path / "a", "cartpole", 200.0, "standard")
    save(tmp_path / "b", "cartpole", flat=False)
    with pytest.raises(UserError, match="without the arm random_policy"):
        aggregate.load(tmp_path / "b", "cartpole", 200.0, "standard")
    (tmp_path / "b" / "curves.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="not a finished run"):
        aggregate.load(tmp_path / "b", "cartpole", 200.0, "standard")


@pytest.mark.slow
def test_the_command_trains_each_benchmark(tmp_path: pathlib.Path) -> None:
    """Two real benchmarks, two seeds; a second call with --resume trains nothing."""
    argv = ["--seeds", "2", "--arms", "random_policy", "--benchmarks", "frozen_lake,cliff_walking"]
    argv += ["--out", str(tmp_path), "--devices", "2"]
    with pytest.raises(UserError, match="no learning arm in common"):
        suite.main(argv)
    before = (tmp_path / "frozen_lake" / "standard" / "run.json").read_bytes()
    with pytest.raises(UserError, match="no learning arm in common"):
        suite.main([*argv, "--resume"])
    assert (tmp_path / "frozen_lake" / "standard" / "run.json").read_bytes() == before
