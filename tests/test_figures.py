"""Figures are made in every case a run can produce, with their provenance, and leave no state behind."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zlib

import matplotlib
import numpy as np
import pytest
from test_summary import arguments

from loro_jax import figures, statistics, summary

NAMES = ("learning_curves", "main", "probability_of_improvement")


def draw(out: pathlib.Path, seeds: int = 6, **changes: object) -> list[pathlib.Path]:
    given = arguments(seeds, **changes)  # type: ignore[arg-type]
    found = summary.summarise(**given)
    return figures.draw_all(found, given["curves"], given["env_steps"], given["flat"], out, prior_steps=400)


@pytest.mark.parametrize("seeds", [1, 6])
def test_every_figure_as_png_and_pdf(tmp_path: pathlib.Path, seeds: int) -> None:
    before = dict(matplotlib.rcParams)
    paths = draw(tmp_path, seeds)
    assert sorted(p.name for p in paths) == sorted(f"{n}.{s}" for n in NAMES for s in ("png", "pdf"))
    for path in paths:
        assert path.stat().st_size > 5_000
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")
    for name in NAMES:  # the PNG's header holds its width: one column of 3.4 inches at 200 dpi or more
        width = int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20], "big")
        assert width >= 3.4 * 200
    assert dict(matplotlib.rcParams) == before


def test_same_results_same_file(tmp_path: pathlib.Path) -> None:
    first = {p.name: zlib.crc32(p.read_bytes()) for p in draw(tmp_path / "a")}
    assert first == {p.name: zlib.crc32(p.read_bytes()) for p in draw(tmp_path / "b")}


def test_curves_drawn_are_the_statistics() -> None:
    from matplotlib.figure import Figure

    given = arguments()
    axes = Figure().add_subplot()
    steps = given["env_steps"].astype(float)
    figures.learning_curves(axes, given["curves"], steps, given["flat"], statistics.weighted_iqm, 400)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"pure RL", "LORO", "naive mixing", "LLM policy", "random policy"}
    centre, _, _ = statistics.band(given["curves"]["loro"], seed=0)
    np.testing.assert_array_equal(lines["LORO"].get_ydata(), centre)
    np.testing.assert_array_equal(lines["LORO"].get_xdata(), steps)
    assert lines["LLM policy"].get_ydata()[0] == pytest.approx(260 / 3)  # type: ignore[index]


def test_arms_of_ones_own_and_missing_arms(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    mine = {"pure_rl": rng.normal(size=(3, 5)), "my_arm": rng.normal(size=(3, 5))}
    paths = draw(tmp_path / "a", evaluations=5, curves=mine, llm_free=mine, flat={})
    assert len(paths) == 6
    only = {"my_arm": mine["my_arm"]}
    paths = draw(tmp_path / "b", evaluations=5, curves=only, llm_free=only, flat={})
    assert {p.stem for p in paths} == {"learning_curves"}
    assert draw(tmp_path / "c", curves={}, llm_free={}) == []


def test_looks_differ() -> None:
    looks = list(figures.LOOKS.values())
    assert len({look.colour for look in looks}) == len({look.label for look in looks}) == len(looks)
    dashed = [str(look.line) for name, look in figures.LOOKS.items() if name not in ("loro", "pure_rl")]
    assert len(set(dashed)) == len(dashed)


def test_import_is_light() -> None:
    code = "import sys, loro_jax.figures; print([m for m in ('jax', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
