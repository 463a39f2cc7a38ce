"""Curves while they grow: what TensorBoard's event files hold, read back, is what was evaluated."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
import struct
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from loro_jax import api
from loro_jax.errors import UserError
from loro_jax.running import watching
from loro_jax.running.command import main
from loro_jax.running.watching import FPS, HIGH, IQM, LOST, LOW, MEAN, Watch

ABOUT = {"task": "cartpole", "protocol": "standard@1"}


def events(folder: pathlib.Path) -> list[Any]:
    """Of a run's event files, as TensorFlow's record format has them: length, checksum, message, checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.name):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event()
            event.ParseFromString(data[at + 12 : at + 12 + length])
            found.append(event)
            at += 12 + length + 4
    return found


def scalars(folder: pathlib.Path) -> dict[str, dict[int, float]]:
    """By tag and step; what a later session has purged is gone, as TensorBoard has it."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            found = {tag: {s: v for s, v in by.items() if s < event.step} for tag, by in found.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert event.step not in found.setdefault(value.tag, {}), "written twice"
                found[value.tag][event.step] = value.simple_value
    return found


def test_what_is_written_is_the_seeds_mean_and_iqm_with_its_interval(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(100, 10, (40, 3)).astype(np.float32)
    with Watch(ABOUT, tmp_path, "", tmp_path) as watch:
        watch.saw("pure_rl", np.array([200]), returns[:, :1], 50.0)
        watch.saw("pure_rl", np.array([200, 400, 600]), returns, 60.0)  # the first is not written again
        watch.saw("loro", np.array([200]), returns[:, :1], 50.0)
    found = scalars(tmp_path / "cartpole-standard@1" / "pure_rl")
    assert found.keys() == {MEAN, IQM, LOW, HIGH, FPS}
    assert list(found[IQM]) == [200, 400, 600] and found[FPS] == {200: 50, 400: 60, 600: 60}
    for i, step in enumerate(found[IQM]):
        middle = np.sort(returns[:, i].astype(np.float64))[10:30].mean()
        np.testing.assert_allclose(found[IQM][step], middle, rtol=1e-6)
        np.testing.assert_allclose(found[MEAN][step], returns[:, i].mean(), rtol=1e-6)
        assert found[LOW][step] < middle < found[HIGH][step] < found[LOW][step] + 15
    assert list(scalars(tmp_path / "cartpole-standard@1" / "loro")[MEAN]) == [200]


def test_seeds_that_diverged_are_counted_and_left_out() -> None:
    found = watching.summary(np.array([1.0, np.nan, 3.0]))
    assert found[LOST] == 1 and found[MEAN] == 2.0
    assert watching.summary(np.array([np.nan])) == {LOST: 1.0}
    assert watching.summary(np.array([2.0])) == {MEAN: 2.0, IQM: 2.0}  # one seed has no interval


def test_what_a_resumed_run_writes_takes_the_place_of_what_it_wrote_before(tmp_path: pathlib.Path) -> None:
    returns = np.ones((4, 5), np.float32)
    for evaluations in (3, 5):
        with Watch(ABOUT, tmp_path, "", tmp_path) as watch:
            watch.saw("loro", 10 * np.arange(1, evaluations + 1), returns[:, :evaluations] * evaluations, 1.0)
    found = scalars(tmp_path / "cartpole-standard@1" / "loro")
    assert found[MEAN] == dict.fromkeys([10, 20, 30, 40, 50], 5.0)


@pytest.mark.long
@pytest.mark.slow
def test_the_command_writes_a_run_an_arm(tmp_path: pathlib.Path) -> None:
    argv = ["--protocol", "standard@1", "--arms", "pure_rl,loro", "--seeds", "2", "--budget", "1200"]
    argv += ["--tau", "2", "--fit-steps", "20"]
    argv += ["--out", str(tmp_path / "run"), "--tensorboard", str(tmp_path / "tb")]
    assert main("cartpole", argv) == 0
    curves = api.read(tmp_path / "run").returns
    for arm in ("pure_rl", "loro"):
        [name] = (tmp_path / "tb").iterdir()
        found = scalars(name / arm)[MEAN]
        means = dict(zip(curves.coords["env_steps"], curves.sel(arm=arm).values.mean(axis=0), strict=True))
        assert found and max(found) == 1200
        for step, value in found.items():  # loaded episodes have no evaluations of their own
            np.testing.assert_allclose(value, means[step], rtol=1e-5)
    assert len(scalars(name / "pure_rl")[MEAN]) == 6 > len(found)


@pytest.mark.slow
def test_what_was_lost_of_a_finished_arm_is_written_by_the_run_that_goes_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between an arm's checkpoint and the next arm: its events are gone, and come back."""
    argv = ["--protocol", "standard@1", "--arms", "pure_rl,random_data", "--seeds", "2", "--budget", "1200"]
    argv += ["--tau", "2", "--fit-steps", "20", "--out", str(tmp_path / "run")]
    argv += ["--tensorboard", str(tmp_path / "tb")]

    class Killed(Exception):
        pass

    saw = Watch.saw

    def until_the_second(self: Watch, name: str, *given: Any) -> None:
        if name == "random_data":
            raise Killed
        saw(self, name, *given)

    monkeypatch.setattr(Watch, "saw", until_the_second)
    with pytest.raises(Killed):
        main("cartpole", argv)
    monkeypatch.undo()
    [folder] = (tmp_path / "tb").iterdir()
    shutil.rmtree(folder / "pure_rl")
    assert main("cartpole", [*argv, "--resume"]) == 0
    assert len(scalars(folder / "pure_rl")[MEAN]) == 6


@pytest.mark.parametrize("extra", ["tensorboard", "wandb"])
def test_a_missing_package_is_named(
    extra: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    given = (tmp_path / "tb", "") if extra == "tensorboard" else (None, "project")
    with pytest.raises(UserError, match=rf"--{extra} needs .*: pip install 'loro_jax\[{extra}\]'"):
        Watch(ABOUT, *given, tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file/tb: .*; choose another"):
        Watch(ABOUT, tmp_path / "file" / "tb", "", tmp_path)
    (tmp_path / "cartpole-standard@1").write_text("")  # where the runs' folder would be
    for folder in (tmp_path, pathlib.Path("/proc")):
        with pytest.raises(UserError, match=rf"cannot write to {folder}: .*; choose another"):
            Watch(ABOUT, folder, "", tmp_path)


def test_what_weights_and_biases_would_refuse_later_is_refused_at_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    with pytest.raises(UserError, match=r"--wandb: a project's name has no '/', got 'a/b:c'"):
        Watch(ABOUT, None, "a/b:c", tmp_path)
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    with pytest.raises(UserError, match="WANDB_MODE is 'nonsense'; it can be: offline, online"):
        Watch(ABOUT, None, "project", tmp_path)


@pytest.mark.slow
def test_weights_and_biases_gets_the_same_offline(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with Watch(ABOUT, None, "project", tmp_path) as watch:
        watch.saw("loro", np.array([10, 20]), np.ones((4, 2), np.float32), 1.0)
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
