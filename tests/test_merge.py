"""Runs of neighbouring seeds, merged, are the run of all of them, to the bit; other runs are refused."""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import loro_jax as lj
from loro_jax import compare, files, merge, report, rerun
from loro_jax.analysis import outputs
from loro_jax.errors import command
from loro_jax.records import results
from loro_jax.running.command import main

SHIPPED = pathlib.Path(__file__).parent.parent / "results" / "frozen_lake" / "standard@1"
ARGV = [
    "--arms", "pure_rl,mix,llm_policy,random_policy", "--tau", "1", "--budget", "1000", "--hidden", "8",
    "--batch-size", "8", "--learning-starts", "20", "--eval-episodes", "1", "--save-policies",
]  # fmt: skip


def assert_same_files(one: pathlib.Path, other: pathlib.Path, *names: str) -> None:
    for name in names:
        if name.endswith(".npz"):
            ours, theirs = files.read_npz(one / name), files.read_npz(other / name)
            assert ours.keys() == theirs.keys()
            for key, array in ours.items():
                np.testing.assert_array_equal(array, theirs[key], err_msg=f"{name}: {key}", strict=True)
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.long
@pytest.mark.slow
def test_parts_whose_seeds_play_llm_episodes_of_their_own(tmp_path: pathlib.Path) -> None:
    """Charged differently, and one arm learns offline."""
    argv = [
        "--answers", "qwen2.5-coder-0.5b-instruct-rate", "--arms", "loro,cql", "--tau", "4", "--fit-steps",
        "10", "--budget", "1600", "--eval-interval", "100", "--hidden", "8", "--batch-size", "8",
        "--learning-starts", "20", "--eval-episodes", "1",
    ]  # fmt: skip
    whole, out = tmp_path / "whole", tmp_path / "merged"
    parts = {"0:9": tmp_path / "a", "9:12": tmp_path / "b"}
    assert main("cartpole", ["--seeds", "12", "--out", str(whole), *argv]) == 0
    for seeds, folder in parts.items():
        assert main("cartpole", ["--seed-range", seeds, "--out", str(folder), *argv]) == 0
    details = [files.read_npz(folder / "details.npz") for folder in parts.values()]
    charged = {int(-(-steps // 100)) for part in details for steps in part["counters/loro/prior_steps"]}
    assert len(charged) > 1
    assert merge.main([str(out), *map(str, parts.values())]) == 0
    assert_same_files(out, whole, "curves.npz", "details.npz", "summary.json", "summary.md")


@pytest.mark.long
@pytest.mark.slow
def test_parts_that_were_trained_apart(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, out = tmp_path / "whole", tmp_path / "merged"
    assert main("frozen_lake", ["--seeds", "4", "--out", str(whole), *ARGV]) == 0
    parts = {seeds: tmp_path / seeds.replace(":", "-") for seeds in ("2:4", "0:1", "1:2")}
    for seeds, folder in parts.items():
        assert main("frozen_lake", ["--seed-range", seeds, "--out", str(folder), *ARGV]) == 0
    capsys.readouterr()
    assert merge.main([str(out), *map(str, parts.values())]) == 0
    assert capsys.readouterr().out == f"{out}: seeds 0 to 3, of 3 parts\n"

    assert_same_files(out, whole, "curves.npz", "details.npz", "policies.npz", "summary.json", "summary.md")
    drawn = sorted(p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.parent.name != whole.name)
    assert any(name.startswith("figures/") for name in drawn)
    assert_same_files(out, whole, *(name for name in drawn if not name.endswith(".pdf")))  # which are dated
    ran, before = (files.read_json(folder / "run.json") for folder in (out, whole))
    assert ran["identity"] == before["identity"] and ran["files"].keys() == before["files"].keys()
    assert [part["seeds"] for part in ran["merged"]] == [[0, 1], [1, 2], [2, 4]]

    # A part knows its seeds; a merged run is a run like any other.
    assert lj.read(parts["2:4"]).returns.sel(arm="mix", seed=3).values.tolist() == (
        lj.read(out).returns.sel(arm="mix", seed=3).values.tolist()
    )
    late, same = (lj.load_policy(folder, "pure_rl", seed=3).play(5) for folder in (parts["2:4"], out))
    assert late.tolist() == same.tolist()
    for line in (["--seed-range", "2:4", "--out", str(parts["2:4"])], ["--seeds", "4", "--out", str(out)]):
        assert main("frozen_lake", [*line, *ARGV, "--resume"]) == 0
        assert "holds this run already, complete" in capsys.readouterr().out
    report.remake(out, draw=False)
    assert_same_files(out, whole, "summary.json", "tables/arms.csv")
    assert compare.main([str(out), str(whole), "--error-rate", "0.9"]) == 0
    assert "equal to the bit" in capsys.readouterr().out
    assert rerun.main([str(parts["2:4"] / "run.json"), "--out", str(tmp_path / "again")]) == 0
    assert "equal to the bit: 2 arms, 2 seeds" in capsys.readouterr().out


def cut(folder: pathlib.Path, first: int, end: int, change: Callable[[Any], object] = lambda run: 0) -> str:
    """Seeds of a shipped run as a part of its own in `folder`, after `change` of its run.json."""
    saved, summary, ran = results.finished(SHIPPED)
    run = dict(saved.run) | {"identity": dict(ran) | {"seeds": end - first, "first_seed": first}}
    run = json.loads(json.dumps(run | {"computed_on": {"devices": 2, "jaxlib": "1", "processor": "one"}}))
    change(run)
    with results.together(folder) as staging:
        curves = {arm: curve[first:end] for arm, curve in saved.curves.items()}
        files.write_npz(staging / "curves.npz", {**curves, "env_steps": saved.env_steps})
        kept = {k: v[first:end] if k.startswith(merge.PER_SEED) else v for k, v in saved.details.items()}
        files.write_npz(staging / "details.npz", kept)
        outputs.write(summary, staging)
        files.write_json(staging / "run.json", run)
    return str(folder)


def test_a_published_run_cut_and_merged(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of any sizes, in any order; its tables come out as they were published."""
    monkeypatch.setattr(report, "drawn", lambda *args: None)
    ends = [0, 20, 21, 31, 32]
    parts = [cut(tmp_path / f"{a}", a, b) for a, b in itertools.pairwise(ends)]
    assert merge.main([str(tmp_path / "out"), *reversed(parts)]) == 0
    assert_same_files(tmp_path / "out", SHIPPED, "curves.npz", "details.npz", "summary.json", "summary.md")
    assert files.read_json(tmp_path / "out" / "run.json")["identity"]["seeds"] == 32
    # A part may be merged, and so may what does not begin with the first seed.
    assert merge.main([str(tmp_path / "late"), *parts[1:]]) == 0
    assert merge.main([str(tmp_path / "both"), str(tmp_path / "late"), parts[0]]) == 0
    assert_same_files(tmp_path / "both", SHIPPED, "curves.npz", "details.npz", "summary.json")


def setting(run: Any) -> None:
    run["identity"]["settings"]["agent"]["learning_rate"] = 0.5


def dataset(run: Any) -> None:
    run["identity"]["episodes"]["arrays_sha256"] = "0"


def arms(run: Any) -> None:
    run["identity"]["arms"].pop("mix")


def key(run: Any) -> None:
    run["identity"]["seed"] = 1


def jaxlib(run: Any) -> None:
    run["computed_on"]["jaxlib"] = "0.1"


def devices(run: Any) -> None:
    run["computed_on"]["devices"] = 64


def commit(run: Any) -> None:
    run["commit"] = "0" * 40


def package(run: Any) -> None:
    run["packages"]["loro_jax"] = "0.0.1"


def processor(run: Any) -> None:
    run["computed_on"]["processor"] = "a chip"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (setting, "learning_rate"), (dataset, "episodes.arrays_sha256"), (arms, "arms"),
        (key, "seed 0 there, 1"),
        (jaxlib, "jaxlib"), (devices, "devices"), (commit, "commit"), (package, "loro jax"),
        (processor, "--any-processor"),
    ],
)  # fmt: skip
def test_parts_of_other_runs_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    parts = [cut(tmp_path / "first", 0, 3), cut(tmp_path / "second", 3, 5, change)]
    out = tmp_path / "out"
    assert command(lambda: merge.main([str(out), *parts])) == 2
    said = capsys.readouterr().err
    assert f"{parts[0]} (there) and {parts[1]} (here) are not parts of one run" in said and words in said
    assert "run" in said.split(";")[-1] and said.count("\n") == 1
    assert not out.exists()


def test_what_is_missing_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "drawn", lambda *args: None)
    first, second, last = (cut(tmp_path / f"{a}-{b}", a, b) for a, b in ((0, 3), (2, 4), (4, 6)))
    begun, other = tmp_path / "begun", tmp_path / "other"
    (begun / "checkpoints").mkdir(parents=True)
    files.write_npz(pathlib.Path(last) / "policies.npz", {"pure_rl/w": np.zeros((2, 1))})
    third, chip = cut(tmp_path / "third", 3, 4), cut(tmp_path / "chip", 3, 5, processor)
    cases = [
        ([first, last], "the seeds 3:4 are missing"),
        ([first, last], "--seed-range 3:4"),
        ([first, second], "which overlap; leave one out, or run it with --seed-range 3:4"),
        ([first, first], "which overlap; leave one out\n"),
        ([first], "at least two parts"),
        ([first, str(begun)], f"not finished: {begun}; the command that began each goes on with --resume"),
        ([first, str(other)], f"{other} holds no finished run"),
        ([first, third, last], "only one has policies.npz"),
    ]
    for parts, words in cases:
        assert command(lambda parts=parts: merge.main([str(tmp_path / "out"), *parts])) == 2  # type: ignore[misc]
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said
    assert command(lambda: merge.main([first, first, third])) == 2
    assert "is one of the parts" in capsys.readouterr().err
    assert command(lambda: merge.main([str(begun), first, third])) == 2
    assert "holds an interrupted run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert merge.main([str(tmp_path / "out"), first, chip, "--any-processor"]) == 0
    ran = files.read_json(tmp_path / "out" / "run.json")
    assert [part["processor"] for part in ran["merged"]][1] == "a chip"


def test_a_damaged_part_is_named(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [cut(tmp_path / "first", 0, 3), cut(tmp_path / "second", 3, 5)]
    shutil.copyfile(tmp_path / "first" / "curves.npz", tmp_path / "second" / "curves.npz")
    assert command(lambda: merge.main([str(tmp_path / "out"), *parts])) == 2
    said = capsys.readouterr().err
    assert "second/curves.npz: is another run's, or was changed" in said and said.count("\n") == 1


@pytest.mark.parametrize("words", ["3", "3:3", "4:2", "-1:2", "a:b", "0:9999999", "1:2:3", ":4", "²:3"])
def test_a_range_that_is_none(words: str, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    assert main("cartpole", [f"--seed-range={words}", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "--seed-range takes FIRST:END, such as 0:64" in said and said.count("\n") == 1
