"""What of the machine decides a result's bits, and whose commit a run names."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

import loro_jax
from loro_jax.running import machine

PACKAGE = pathlib.Path(loro_jax.__file__).parent


def git(folder: pathlib.Path, *args: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: pathlib.Path) -> pathlib.Path:
    """A user's own repository, with a commit."""
    git(tmp_path, "init")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "mine")
    return tmp_path


def test_the_commit_of_somebody_elses_repository_is_not_ours(repository: pathlib.Path) -> None:
    """An installed package lies in an environment, which may lie in a user's repository."""
    site = repository / ".venv" / "lib" / "site-packages"
    (site / "loro_jax").mkdir(parents=True)
    assert machine.commit(site / "loro_jax") is None
    (site / "pyproject.toml").write_text("")
    assert machine.commit(site / "loro_jax") is None


def test_a_checkout_names_its_commit_and_whether_it_was_changed(
    repository: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "loro_jax").mkdir()
    (repository / "loro_jax" / "a.py").write_text("a = 1\n")
    (repository / "pyproject.toml").write_text("")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "package")
    head = git(repository, "rev-parse", "HEAD")
    assert machine.commit(repository / "loro_jax") == head
    other = repository / "other"
    other.mkdir()
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as within a hook
    assert machine.commit(repository / "loro_jax") == head
    monkeypatch.delenv("GIT_DIR")
    (repository / "notes.txt").write_text("changed")  # no code of ours
    assert machine.commit(repository / "loro_jax") == head
    (repository / "loro_jax" / "a.py").write_text("a = 2\n")
    assert machine.commit(repository / "loro_jax") == head + "+"


def test_the_working_folder_does_not_matter(tmp_path: pathlib.Path) -> None:
    git(tmp_path, "init")
    code = "from loro_jax.running import machine; print(machine.commit())"
    path = {"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(machine.commit())


def test_precision_and_random_numbers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.computed_on()
    assert json.loads(json.dumps(here)) == here
    assert here["backend"] == "cpu" and here["devices"] == 2 and here["jaxlib"] and here["processor"]
    with jax.enable_x64(True):
        assert machine.computed_on() == here | {"precision": "64 bits"}
    with jax.default_matmul_precision("bfloat16"):
        assert machine.computed_on() == here | {"matmul_precision": "bfloat16"}
    with jax.threefry_partitionable(False):
        assert machine.computed_on() == here | {"random_numbers": "threefry2x32"}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert machine.computed_on() == here | {"xla_flags": "--xla_cpu_enable_fast_math=true"}


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    assert shutil.which("git")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() is None


def test_what_does_not_say_its_arithmetic_has_the_first() -> None:
    now = machine.computed_on()
    before = {name: value for name, value in now.items() if name != "arithmetic"}
    assert machine.differences(before, now) == "arithmetic 1 there, 2 here"
    assert machine.differences(before, before) == machine.differences(now, now) == ""
