"""`python -m loro_jax.report`: tables and figures anew from saved results, without JAX."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from loro_jax import report, results
from loro_jax.errors import UserError

RESULTS = pathlib.Path(__file__).parent.parent / "results"
RUN = RESULTS / "frozen_lake" / "standard"


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
    for name in ("summary.json", "summary.md", "curves.npz", "details.npz"):
        assert after[name] == before[name], name
    results.read(copy)


@pytest.mark.parametrize(
    "folder", sorted(str(p.parent.relative_to(RESULTS)) for p in RESULTS.glob("**/curves.npz"))
)
def test_every_saved_run_can_be_read(folder: str) -> None:
    saved = results.read(RESULTS / folder)
    assert {"curves.npz", "details.npz", "summary.json", "summary.md"} <= saved.run["files"].keys()
    assert set(saved.group("diverged")) == set(saved.group("llm_free")) == set(saved.curves)


def test_a_changed_table_is_noticed_and_remade(copy: pathlib.Path) -> None:
    (copy / "details.npz").unlink()
    with pytest.raises(UserError, match=r"details.npz: is missing"):
        report.remake(copy)
    shutil.copyfile(RUN / "curves.npz", copy / "details.npz")
    with pytest.raises(UserError, match=r"details.npz: is another run's, or was changed"):
        report.remake(copy)


def test_the_command(copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def shell(*argv: object) -> subprocess.CompletedProcess[str]:
        code = """if True:
            import sys
            sys.modules["jax"] = None
            from loro_jax import errors, report
            errors.run(report.main)"""
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
