"""A record may name a file: nothing of it is run unless it is the one that the record has the hash of."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import bases
import guard
import numpy as np
import pytest

import loro_jax as lj
from loro_jax import compare, files, rerun
from loro_jax.errors import command
from loro_jax.language import show
from loro_jax.records import results
from loro_jax.tasks import load, recorded

GAME = "import dataclasses, pathlib\nfrom loro_jax.tasks import load\npathlib.Path({mark!r}).write_text('')\n"
GAME += "TASK = dataclasses.replace(load('frozen_lake'), name='mine')\n"


@pytest.fixture
def game(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A task's file, and the file that it makes where it is run."""
    mark = tmp_path / "ran"
    (tmp_path / "game.py").write_text(GAME.format(mark=str(mark)))
    return tmp_path / "game.py", mark


def unsealed(folder: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> pathlib.Path:
    """A finished run, its record changed, as one from before there were seals."""
    bases.run(folder)
    run = files.read_json(folder / "run.json")
    del run[files.SEAL]
    change(run)
    files.write_json(folder / "run.json", run)
    return folder


@pytest.mark.parametrize("where", ["{}", "{}:TASK", "game:TASK", "os:system", "no.such.module:TASK"])
@pytest.mark.parametrize("field", ["source", "task"])
def test_a_file_that_a_record_names_is_not_run(
    where: str,
    field: str,
    game: tuple[pathlib.Path, pathlib.Path],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, mark = game
    monkeypatch.syspath_prepend(tmp_path)

    def change(run: dict[str, Any]) -> None:
        (run if field == "source" else run["identity"])[field] = where.format(path)
        if field == "task":
            del run["source"]

    folder = unsealed(tmp_path / "run", change)
    files.write_npz(folder / results.POLICIES, {"pure_rl/w": np.zeros((4, 1))})
    assert command(lambda: rerun.main([str(folder), "--out", str(tmp_path / "again")])) == 2
    with pytest.raises(lj.UserError):
        lj.load_policy(folder, "pure_rl")
    ran = files.read_json(folder / "run.json")
    with guard.watching(tmp_path) as seen, pytest.raises(lj.UserError):
        rerun.prepared(ran)
    assert not seen and not mark.exists() and not (tmp_path / "again").exists()
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_the_file_that_ran_is_found_again(game: tuple[pathlib.Path, pathlib.Path]) -> None:
    path, mark = game
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(lj.UserError, match="is not the file that ran"):
        recorded("mine", f"{path}:TASK", "0" * 64)
    assert not mark.exists()
    assert recorded("mine", f"{path}:TASK", sha256).file_sha256 == sha256
    assert mark.exists()
    with pytest.raises(lj.UserError, match="does not come from"):
        recorded("other", f"{path}:TASK", sha256)
    assert recorded("frozen_lake", None, None).name == load("frozen_lake").name


ESCAPE = "\x1b]0;title\x07\x1b[31m\nline\r\u202e" + "x" * 2000


def test_what_files_say_does_not_reach_the_terminal(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in errors, nor where two runs' settings differ."""

    def change(run: dict[str, Any]) -> None:
        run["identity"]["settings"]["agent"][ESCAPE] = ESCAPE
        run["identity"]["arms"]["pure_rl"] = [ESCAPE]

    sound, other = tmp_path / "sound", unsealed(tmp_path / "other", change)
    bases.run(sound)
    assert command(lambda: compare.main([str(sound), str(other)])) in (0, 2)
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "answers.npz").write_bytes(b"")
    files.write_json(tmp_path / "answers" / "card.json", {"environment": ESCAPE})
    assert command(lambda: show.main([str(tmp_path / "answers")])) == 2
    with pytest.raises(lj.UserError) as refused:
        raise lj.UserError(f"a file says {ESCAPE}")
    assert str(refused.value).isprintable() and len(str(refused.value)) <= 500
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert said.err.count("\n") <= 2


def test_a_folder_that_a_record_names_is_left_alone(tmp_path: pathlib.Path) -> None:
    """Files that a run.json names outside its folder are neither read nor removed."""
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    for name in ("../outside.txt", str(outside), "a/../../outside.txt", "nul\x00", "x" * 5000):

        def change(run: dict[str, Any], name: str = name) -> None:
            run["files"][name] = "0" * 64

        folder = unsealed(tmp_path / f"run-{len(name)}", change)
        with pytest.raises(lj.UserError):
            results.read(folder)
        with results.together(folder) as staging:
            for kept in ("curves.npz", "details.npz"):
                (staging / kept).write_bytes((folder / kept).read_bytes())
            files.write_json(staging / "run.json", {})
        assert outside.read_text() == "mine"
