"""Runs of neighbouring seeds, merged, are the run of all of them, to the bit."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from loro_jax import files, merge
from loro_jax.errors import command
from loro_jax.running.command import main

ARGV = [
    "--arms", "pure_rl,loro,random_policy", "--budget", "3000", "--hidden", "8", "--batch-size", "8",
    "--learning-starts", "20", "--fit-steps", "20", "--eval-episodes", "1", "--save-policies",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Six seeds in one run, `all`, and in parts of three, one and two."""
    folder = tmp_path_factory.mktemp("merge")
    assert main("cartpole", ["--seeds", "6", "--out", str(folder / "all"), *ARGV]) == 0
    for seeds in ("0:3", "3:4", "4:6"):
        out = folder / seeds.replace(":", "-")
        assert main("cartpole", ["--seed-range", seeds, "--out", str(out), *ARGV]) == 0
    return folder


def parts(folder: pathlib.Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def test_the_merged_run_is_the_whole_one(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "merged"
    assert merge.main([str(out), *parts(folder, "4-6", "0-3", "3-4")]) == 0
    assert "3 parts, 6 seeds" in capsys.readouterr().out
    whole = folder / "all"
    for name in ("curves.npz", "details.npz", "policies.npz"):
        ours, theirs = files.read_npz(out / name), files.read_npz(whole / name)
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            np.testing.assert_array_equal(array, theirs[key], err_msg=f"{name}: {key}")
    for name in ("summary.json", "summary.md", "tables/arms.csv"):
        assert (out / name).read_text() == (whole / name).read_text()
    ran, before = files.read_json(out / "run.json"), files.read_json(whole / "run.json")
    assert ran["identity"] == before["identity"]
    assert [part["seeds"] for part in ran["merged"]] == [[0, 3], [3, 4], [4, 6]]
    assert (out / "figures" / "learning_curves.png").exists()
    argv = ["--seeds", "6", "--out", str(out), *ARGV, "--resume"]
    assert main("cartpole", argv) == 0
    assert "holds this run already, complete" in capsys.readouterr().out


def changed(folder: pathlib.Path, name: str, change: Any) -> str:
    """A copy of a part whose run.json was changed."""
    copy = folder / f"{name}-changed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / name, copy)
    run = json.loads((copy / "run.json").read_text())
    change(run)
    (copy / "run.json").write_text(json.dumps(run))
    return str(copy)


def test_what_does_not_fit_is_refused(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    def budget(run: Any) -> None:
        run["identity"]["settings"]["schedule"]["budget"] = 4000

    def elsewhere(run: Any) -> None:
        run["computed_on"]["jax"] = "0.1"

    first, last = parts(folder, "0-3", "4-6")
    cases = [
        ([first, last], "they leave seeds out"),
        ([first, first], "they overlap"),
        ([first], "at least two parts"),
        ([first, changed(folder, "3-4", budget)], "is another run than"),
        ([first, changed(folder, "3-4", elsewhere)], "was computed elsewhere than"),
        ([first, str(folder / "none")], "holds no finished run"),
    ]
    for argv, says in cases:
        assert command(lambda argv=argv: merge.main([str(folder / "out"), *argv])) == 2  # type: ignore[misc]
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert command(lambda: merge.main([first, first, last])) == 2
    assert "is one of the parts" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("words", ["3", "3:3", "4:2", "-1:2", "a:b", "0:9999999", "1:2:3", ":4"])
def test_a_range_that_is_none(words: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    assert main("cartpole", [f"--seed-range={words}", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "--seed-range takes FIRST:END, such as 0:64" in said and said.count("\n") == 1
