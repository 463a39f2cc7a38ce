"""Two processes of one device are one process of two, to the bit: trained, stopped, killed, gone on with."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from loro_jax import files, processes
from loro_jax.analysis import figures
from loro_jax.errors import UserError
from loro_jax.running import command, store
from loro_jax.running.command import main
from loro_jax.running.options import Options

HERE = pathlib.Path(__file__).parent
ARGV = [
    "--seeds", "3", "--arms", "pure_rl", "--budget", "1000", "--hidden", "8",
    "--batch-size", "8", "--learning-starts", "20", "--eval-episodes", "1", "--save-policies",
]  # fmt: skip


def two(
    out: pathlib.Path, cache: pathlib.Path, *argv: str, stop: tuple[int, int, str] = (0, 0, "")
) -> list[tuple[int, str, str]]:
    """Two processes train into `out`; `stop`: a signal, after which piece, to which of them.

    Returns:
        Of each its status, output and errors.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent), "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip
    line = [sys.executable, str(HERE / "one_of_several.py"), *(str(word) for word in stop), *ARGV, *argv]
    line += ["--out", str(out)]
    line += ["--distributed", "--coordinator-address", f"127.0.0.1:{port}", "--num-processes", "2"]
    started = [
        subprocess.Popen(
            [*line, "--devices", "1", "--process-id", str(index)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in started]
    return [(p.returncode, *words) for p, words in zip(started, said, strict=True)]


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    for name in ("curves.npz", "details.npz", "policies.npz"):
        ours, theirs = files.read_npz(one / name), files.read_npz(other / name)
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            np.testing.assert_array_equal(array, theirs[key], err_msg=f"{name}: {key}", strict=True)
    assert (one / "summary.json").read_bytes() == (other / "summary.json").read_bytes()
    ran = [files.read_json(folder / "run.json") for folder in (one, other)]
    assert ran[0]["identity"] == ran[1]["identity"] and ran[0]["computed_on"] == ran[1]["computed_on"]


def steps(out: pathlib.Path) -> list[str]:
    """Of the first arm's checkpoints, without the hashes beside them."""
    return sorted(path.name for path in (out / "checkpoints" / "pure_rl").iterdir() if path.is_dir())


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is told to stop, and both do; one is killed, and the other ends; gone on with by one and by two."""
    monkeypatch.setattr(figures, "draw_all", lambda *args, **settings: None)
    whole, out, cache = tmp_path / "whole", tmp_path / "out", tmp_path / "cache"
    assert main("frozen_lake", [*ARGV, "--out", str(whole)]) == 0

    stopped = two(out, cache, stop=(signal.SIGTERM, 2, "1"))
    assert [status for status, *_ in stopped] == [130, 130]
    assert "stopped at a checkpoint" in stopped[0][2] and "in 2 processes" in stopped[0][2]
    assert stopped[1][2] == ""  # the first alone talks
    assert steps(out) == ["2", "3"]
    shutil.copytree(out, tmp_path / "alone")
    assert main("frozen_lake", [*ARGV, "--out", str(tmp_path / "alone"), "--resume"]) == 0
    assert_same_run(tmp_path / "alone", whole)

    left, killed = two(out, cache, "--resume", stop=(signal.SIGKILL, 2, "1"))
    assert (left[0], killed[0]) == (2, -signal.SIGKILL)
    assert left[2].splitlines()[-1].startswith("error: another process of this run has ended")
    assert steps(out) == ["3", "4"]

    gone_on = two(out, cache, "--resume")
    assert [status for status, *_ in gone_on] == [0, 0]
    assert "Results, figures and what ran" in gone_on[0][1]
    assert "Results" not in gone_on[1][1] and gone_on[1][2] == ""
    assert_same_run(out, whole)
    assert files.read_json(out / "run.json")["device"]["processes"] == 2
    assert not (out / "checkpoints").exists()


def test_without_a_cluster() -> None:
    """In a process of its own: JAX runs in this one."""
    line = [sys.executable, "-m", "benchmarks.cartpole", "--distributed", "--dry-run"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))}
    done = subprocess.run(line, cwd=HERE.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.startswith("error: --distributed finds no cluster here") and done.stderr.count("\n") == 1
    )
    assert "give --coordinator-address HOST:PORT, --num-processes N and --process-id I" in done.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--num-processes", "2"], "need --distributed: add it"),
        (
            ["--distributed", "--coordinator-address", "here"],
            "--coordinator-address takes HOST:PORT, got 'here'",
        ),
        (["--distributed", "--coordinator-address", "a:1"], "cannot join the others"),  # JAX runs already
    ],
)
def test_flags_that_do_not_fit(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("cartpole", argv) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_who_waits_for_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **settings: over.wait(60))
    monkeypatch.setattr(processes, "WAIT", 0.05)
    with pytest.raises(UserError, match=r"not all processes came to a:1 in 1 s; check --coordinator-address"):
        processes.join(processes.Cluster("a:1", 2, 0))
    over.set()


class Others:
    """Lets one process say what each of several would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *said: object) -> None:
        monkeypatch.setattr(jax, "process_count", lambda: len(said) + 1)
        monkeypatch.setattr(processes, "each", lambda value, everywhere=True: [value, *said])


def test_an_error_of_one_is_an_error_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise UserError("the disk is full")

    Others(monkeypatch, "no such file")
    with pytest.raises(UserError, match=r"^process 1: no such file$"):
        processes.together(lambda: 3)
    with pytest.raises(UserError, match=r"^the disk is full$"):
        processes.together(full)
    Others(monkeypatch, "")
    assert processes.together(lambda: 3) == 3


def test_processes_that_would_run_other_things_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {"schema": 2, "task": "cartpole", "protocol": "standard@1", "settings": {}, "seeds": 3, "arms": {}}
    here = [ran, {"jax": "1"}]
    for other, words in (
        ([ran | {"seeds": 4}, {"jax": "1"}], "seeds 3 there, 4"),
        ([ran, {"jax": "2"}], "jax 1"),
    ):
        Others(monkeypatch, other)
        with pytest.raises(UserError, match=f"process 1 would run something else than process 0 .{words}"):
            store.agree(*here)
    Others(monkeypatch, here)
    store.agree(*here)


def test_processes_with_other_options_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it would not show in what is trained: such processes would wait for one another for ever."""
    options = Options(task="cartpole", process_id=0)
    given = {name: repr(value) for name, value in vars(options).items()}
    Others(monkeypatch, given | {"save_policies": "True", "process_id": "1"})
    with pytest.raises(UserError, match="process 1 was started with another --save-policies than process 0"):
        command.same_options(options)
    Others(monkeypatch, given | {"process_id": "1"})
    command.same_options(options)


def test_long_and_short_messages_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of two sizes alone, each a compiled program."""
    sizes = set()

    def allgather(own: np.ndarray) -> np.ndarray:
        sizes.add(own.size)
        return np.stack([own, own])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    for size in (0, processes.HEAD - 50, processes.HEAD, 2 * processes.PIECE + 1):
        said = np.arange(size, dtype=np.uint8)
        for heard in processes.each(said):
            np.testing.assert_array_equal(heard, said)
    assert sizes == {processes.HEAD, processes.PIECE}
