"""`python -m loro_jax.compare`: two finished runs, without JAX; what its exit status and its lines say."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from without_jax import HIDE

from loro_jax import compare, files
from loro_jax.errors import command

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"
RUN = RESULTS / "frozen_lake" / "standard@1"


def save(
    folder: pathlib.Path, draw: int = 0, seeds: int = 20, shift: float = 0.0, **changes: Any
) -> pathlib.Path:
    """A finished run of two arms and 10 evaluations; `shift` is added to LORO's returns."""
    rng = np.random.default_rng(draw)
    curves = {arm: rng.normal(100, 10, (seeds, 10)) for arm in ("pure_rl", "loro")}
    curves["loro"] += shift
    threshold = changes.pop("threshold", 100.0)
    identity = {
        "benchmark": "cartpole",
        "protocol": {"name": "standard", "learning_rate": 0.001, "hidden": [64]},
        "seeds": seeds,
        "seed": 0,
        "episodes": None,
        "arms": {"pure_rl": ["Interact(2000)"], "loro": ["Load(9)", "Interact(1800)"]},
    }
    folder.mkdir(parents=True)
    files.write_json(folder / "run.json", {"identity": identity | changes})
    files.write_npz(folder / "curves.npz", {**curves, "env_steps": 200 * np.arange(1, 11)})
    files.write_npz(folder / "details.npz", {"flat/random_policy": np.array([20.0, 22.0])})
    files.write_json(folder / "summary.json", {"threshold": threshold, "random_return": None})
    return folder


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = command(lambda: compare.main([str(word) for word in argv]))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_identical_folders_are_equal(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(RUN, tmp_path / "copy")
    status, said, _ = run(capsys, RUN, copy)
    assert status == 0 and said.count("equal to the bit") == 6 * 3 + 1
    assert said.splitlines()[:2] == [f"A: {RUN}", f"B: {copy}"]
    assert said.endswith("Equal: every common arm's curves are equal to the bit.\n")
    for arm in ("pure_rl", "loro", "mix"):
        assert sum(line.split()[0] == arm for line in said.splitlines() if line.strip()) == 3


@pytest.mark.slow
def test_without_jax(tmp_path: pathlib.Path) -> None:
    code = HIDE + "from loro_jax import compare, errors; errors.run(compare.main)"

    def shell(*argv: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True)

    a, b = save(tmp_path / "a"), save(tmp_path / "b", shift=30)
    done = shell(a, b, "--json", tmp_path / "found.json")
    assert done.returncode == 1 and done.stderr == ""
    assert "Different, at an error rate of 0.01: loro by cumulative_return (B better); loro by" in done.stdout
    done = shell(a, tmp_path / "nothing")
    assert done.returncode == 2 and "holds no finished run" in done.stderr and done.stderr.count("\n") == 1
    done = shell(a)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_table_as_json(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = {"name": "standard", "learning_rate": 0.002, "hidden": [64]}
    a, b = save(tmp_path / "a"), save(tmp_path / "b", shift=30, protocol=protocol)
    out = tmp_path / "found.json"
    status, said, _ = run(capsys, a, b, "--json", out)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(out.read_text(), parse_constant=refuse)
    assert (
        status == 1 and found["differs"] is True and found["paired"] is True and found["error_rate"] == 0.01
    )
    assert (found["a"], found["b"], found["task"]) == (str(a), str(b), "cartpole")
    assert found["settings"] == {"settings.agent.learning_rate": [0.001, 0.002]}
    assert "Settings differ: settings.agent.learning_rate 0.001 in A, 0.002 in B." in said
    rows = {(row["arm"], row["metric"]): row for row in found["rows"]}
    assert len(rows) == 6 and rows["pure_rl", "final_return"]["equal"]
    row = rows["loro", "cumulative_return"]
    assert row["difference"] == pytest.approx(300) and row["p_holm"] < 0.01 and row["differs"]
    low, high = row["difference_ci95"]
    assert low <= 300 + 1e-9 and high >= 300 - 1e-9
    missing = tmp_path / "no" / "folder.json"
    status, _, error = run(capsys, a, b, "--json", missing)
    assert status == 2 and error.count("\n") == 1 and "No such file or directory" in error


def test_what_is_named_on_one_side_counts_unless_the_other_run_is_older() -> None:
    a = {"schema": 2, "settings.agent.x": 1, "settings.game.slippery": False, "arms.mine": ["Load(9)"]}
    assert compare.differences(a, {"schema": 2}) == {
        "settings.agent.x": [1, None], "settings.game.slippery": [False, None]
    }  # fmt: skip
    assert compare.differences(a, {"schema": 1}) == {"settings.game.slippery": [False, None]}


def test_other_seeds_do_not_pair_and_equal_distributions_are_not_called_different(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save(tmp_path / "a"), save(tmp_path / "b", draw=1, seed=7, seeds=24)
    status, said, _ = run(capsys, a, b)
    assert status == 0 and "not paired" in said and "--seed 0 in A and 7 in B: they do not pair" in said
    assert "Error rate: if A and B came from the same distribution" in said and "Would find:" in said
    assert said.endswith("No difference found, at an error rate of 0.01.\n")
    c = save(tmp_path / "c", draw=1, seeds=24, arms={"loro": ["Load(9)"]})
    status, said, _ = run(capsys, a, c)
    assert status == 0 and "A has 20 seeds and B 24: the first 20 of both are paired." in said
    assert "Settings differ: arms.loro ['Load(9)', 'Interact(1800)'] in A, ['Load(9)'] in B." in said


def test_arms_of_one_run_are_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = save(tmp_path / "a"), save(tmp_path / "b")
    arrays = files.read_npz(a / "curves.npz")
    files.write_npz(a / "curves.npz", arrays | {"mine": arrays["loro"]})
    status, said, _ = run(capsys, a, b)
    assert status == 0 and "In A alone, not compared: mine." in said and "Equal: every common arm" in said


@pytest.mark.parametrize(("mine", "theirs"), [(100.0, 90.0), (None, 90.0)])
def test_other_thresholds_are_said(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], mine: float | None, theirs: float
) -> None:
    a, b = save(tmp_path / "a", threshold=mine), save(tmp_path / "b", threshold=theirs)
    status, said, _ = run(capsys, a, b)
    there = "none" if mine is None else "100"
    assert (
        status == 0
        and f"The threshold is {there} in A and 90 in B: metrics that need it are left out." in said
    )
    assert "steps to threshold" not in said and "final return" in said


def test_what_the_user_must_mend(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = save(tmp_path / "a")

    def refused(*argv: object) -> str:
        status, _, error = run(capsys, *argv)
        assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, error
        return error

    assert "is a run of cartpole" in refused(a, save(tmp_path / "pong", benchmark="pong"))
    assert "--error-rate must lie between 0 and 1, got 1" in refused(a, a, "--error-rate", "1")
    assert "got nan" in refused(a, a, "--error-rate", "nan")
    few = [save(tmp_path / f"few{i}", draw=i, seeds=5) for i in range(2)]
    assert "smallest p that these tests give is 0.062, and 6 rows" in refused(*few)
    assert run(capsys, few[0], few[0])[0] == 0  # nothing has to be tested there
    assert "--error-rate must be at least 0.00012" in refused(
        a, save(tmp_path / "d", 1), "--error-rate", "1e-6"
    )
    arrays = files.read_npz(a / "curves.npz")
    short = save(tmp_path / "short")
    files.write_npz(short / "curves.npz", {name: x[..., :9] for name, x in arrays.items()})
    assert "were not evaluated at the same environment steps (10 times up to 2,000 in A" in refused(a, short)
    broken = save(tmp_path / "broken")
    files.write_json(broken / "run.json", {"identity": {}})
    assert "broken: its identity is missing: nobody knows what it is of" in refused(a, broken)
    (broken / "curves.npz").write_bytes(b"PK")
    assert "damaged or not an .npz file" in refused(broken, a)
    files.write_npz(short / "curves.npz", {**arrays, "loro": np.full((20, 10), np.inf)})
    assert "do not fit together" in refused(a, short)


def test_diverged_seeds_count_as_the_random_policy(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save(tmp_path / "a"), save(tmp_path / "b")
    arrays = files.read_npz(b / "curves.npz")
    arrays["loro"][:, 5:] = np.nan
    files.write_npz(b / "curves.npz", arrays)
    out = tmp_path / "found.json"
    status, said, _ = run(capsys, a, b, "--json", out)
    assert status == 1 and "loro (diverged: 20 of B)" in said
    row = json.loads(out.read_text())["rows"][4]
    assert (row["arm"], row["metric"], row["means"][1], row["diverged"]) == (
        "loro",
        "final_return",
        21.0,
        [0, 20],
    )
