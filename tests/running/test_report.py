"""`python -m loro_jax.report`: tables and figures anew from saved results, without JAX."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from without_jax import HIDE

from loro_jax import files, report
from loro_jax.analysis.summary import POLICIES
from loro_jax.errors import UserError
from loro_jax.records import identity, results

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"
RUN = RESULTS / "mountain_car" / "standard@1"


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(RUN, tmp_path / "run"))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_shipped_tables_and_figures_are_those_of_the_saved_curves(copy: pathlib.Path) -> None:
    """Figures are the same where matplotlib is; tables everywhere."""
    report.remake(copy)
    before, after = contents(RUN), contents(copy)
    assert set(after) == set(before)
    for name in (n for n in before if not n.startswith("figures") and n != "run.json"):
        assert after[name] == before[name], name
    results.read(copy)


@pytest.mark.parametrize(
    "folder", sorted(str(p.parent.relative_to(RESULTS)) for p in RESULTS.glob("**/curves.npz"))
)
def test_every_saved_run_can_be_read(folder: str) -> None:
    saved = results.read(RESULTS / folder)
    assert {"curves.npz", "details.npz", "summary.json", "summary.md"} <= saved.run["files"].keys()
    assert set(saved.group("llm_free")) == set(saved.curves)
    offline = set(saved.group("flat")) - set(POLICIES)
    assert set(saved.group("diverged")) == set(saved.curves) | offline


def test_a_changed_table_is_noticed_and_remade(copy: pathlib.Path) -> None:
    (copy / "details.npz").unlink()
    with pytest.raises(UserError, match=r"details.npz: is missing"):
        report.remake(copy)
    shutil.copyfile(RUN / "curves.npz", copy / "details.npz")
    with pytest.raises(UserError, match=r"details.npz: is another run's, or was changed"):
        report.remake(copy)


@pytest.mark.slow
def test_the_command(copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def shell(*argv: object) -> subprocess.CompletedProcess[str]:
        code = HIDE + "from loro_jax import errors, report; errors.run(report.main)"
        line = [sys.executable, "-c", code, *map(str, argv)]
        return subprocess.run(line, capture_output=True, text=True)

    done = shell(copy, "--no-draw")
    assert done.returncode == 0 and done.stdout == f"{copy}: tables made anew\n", done.stderr
    assert set(contents(copy)) == set(contents(RUN))
    assert json.loads((copy / "run.json").read_text())["files"].keys() == contents(copy).keys() - {"run.json"}
    done = shell(tmp_path / "nothing")
    assert done.returncode == 2 and "holds no finished run" in done.stderr and done.stderr.count("\n") == 1
    done = shell()
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "after", [n if n % 4 == 3 else pytest.param(n, marks=pytest.mark.slow) for n in range(20)]
)
def test_an_interrupted_move_is_finished_by_whoever_comes_next(
    copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The process ends after so many files were moved: no run is lost, and none is a mixture."""
    (copy / "summary.md").write_text("old")
    run = files.read_json(copy / "run.json")
    del run["files"]["summary.md"]
    files.write_json(copy / "run.json", run)
    replace, moved = os.replace, []

    class Killed(BaseException):
        pass

    def until(source: pathlib.Path, target: pathlib.Path) -> None:
        if "run.partial" in str(source) and "run.partial" not in str(target):
            if len(moved) == after:
                raise Killed
            moved.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", until)
    try:
        report.remake(copy, draw=False)
    except Killed:
        assert (copy / "run.partial" / "run.json").exists()
    monkeypatch.undo()
    saved = results.read(copy)
    assert set(saved.run["files"]) == contents(copy).keys() - {"run.json"}
    assert (copy / "summary.md").read_bytes() == (RUN / "summary.md").read_bytes()
    assert not (copy / "run.partial").exists()


def test_two_writers_at_once_are_kept_apart(copy: pathlib.Path) -> None:
    before = contents(copy)
    with results.together(copy) as staging:
        with pytest.raises(UserError, match="another run is writing to"):
            report.remake(copy)
        with pytest.raises(UserError, match="another run is writing to"):
            results.read(copy)
        for name in ("curves.npz", "details.npz"):
            shutil.copyfile(copy / name, staging / name)
        files.write_json(staging / "run.json", {"identity": {}})
    after = contents(copy)
    assert (
        set(after) == {"run.json", "curves.npz", "details.npz"}
        and after["curves.npz"] == before["curves.npz"]
    )
    results.read(copy)


@pytest.mark.parametrize("interval", ["x", 0, None, 2.5])
@pytest.mark.parametrize("schema", [1, 2])
def test_a_run_of_nonsense_is_one_line(copy: pathlib.Path, interval: object, schema: int) -> None:
    run = files.read_json(copy / "run.json")
    if schema == 1:
        run["identity"]["protocol"]["eval_every"] = interval
    else:
        run["identity"] = identity.upgraded(run["identity"])
        run["identity"]["settings"]["schedule"]["eval_interval"] = interval
    files.write_json(copy / "run.json", run)
    with pytest.raises(UserError, match="do not fit together"):
        report.remake(copy)


@pytest.mark.parametrize("wrong", [{}, {"schema": 9}, None, []])
def test_a_run_that_does_not_say_what_it_is_of_is_one_line(copy: pathlib.Path, wrong: object) -> None:
    run = files.read_json(copy / "run.json")
    files.write_json(copy / "run.json", run | {"identity": wrong})
    with pytest.raises(UserError) as refusal:
        report.remake(copy)
    assert str(refusal.value).startswith(f"{copy}: its ") and "\n" not in str(refusal.value)


def test_a_run_of_the_newest_schema_is_remade_and_keeps_its_policies(copy: pathlib.Path) -> None:
    run = files.read_json(copy / "run.json")
    files.write_npz(copy / results.POLICIES, {"loro/x": np.ones(3)})
    hashes = {**run["files"], results.POLICIES: files.digest(copy / results.POLICIES)}
    new = run | {"identity": identity.upgraded(run["identity"]), "files": dict(sorted(hashes.items()))}
    files.write_json(copy / "run.json", files.sealed(new))
    before = contents(copy)
    report.remake(copy, draw=False)
    assert contents(copy) == before
