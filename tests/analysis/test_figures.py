"""Figures are made in every case a run can produce, with their provenance, and leave no state behind."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zlib
from typing import Any

import matplotlib
import numpy as np
import pytest
from test_summary import arguments

from loro_jax.analysis import figures, statistics, summary
from loro_jax.analysis.figures import learning_curves, style

NAMES = tuple(figure.name for figure in figures.FIGURES)


def draw(out: pathlib.Path, seeds: int = 6, **changes: object) -> list[pathlib.Path]:
    given = arguments(seeds, **changes)  # type: ignore[arg-type]
    found = summary.summarise(**given)
    return figures.draw_all(found, given["curves"], given["env_steps"], given["flat"], out, prior_steps=400)


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.slow), 6])
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


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one drawing, by name."""
    return {p.name: p.read_bytes() for p in draw(tmp_path_factory.mktemp("first"))}


def test_same_results_same_file(first: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    again = {p.name: zlib.crc32(p.read_bytes()) for p in draw(tmp_path)}
    assert again == {name: zlib.crc32(data) for name, data in first.items()}


def test_curves_drawn_are_the_statistics() -> None:
    from matplotlib.figure import Figure

    given = arguments()
    axes = Figure().add_subplot()
    steps = given["env_steps"].astype(float)
    learning_curves.lines(axes, given["curves"], steps, given["flat"], statistics.weighted_iqm, 400)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"pure RL", "LORO", "naive mixing", "LLM policy", "random policy"}
    centre, _, _ = statistics.band(given["curves"]["loro"], seed=0)
    np.testing.assert_array_equal(lines["LORO"].get_ydata(), centre)
    np.testing.assert_array_equal(lines["LORO"].get_xdata(), steps)
    assert lines["LLM policy"].get_ydata()[0] == pytest.approx(260 / 3)  # type: ignore[index]


@pytest.mark.slow
def test_footers_name_what_is_doubtful_and_leave_the_axes_their_room(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn: list[Figure] = []

    def keep(figure: Figure, _: pathlib.Path) -> list[pathlib.Path]:
        figure.draw_without_rendering()
        drawn.append(figure)
        return []

    monkeypatch.setattr(style, "save", keep)
    arms = [arm for arm in style.LOOKS if not arm.endswith("policy")]
    model = {"model": "qwen2.5-coder-32b-instruct-q4_k_m", "prompt": "hint"}
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):  # of the seeds diverge
        curves = {arm: rng.uniform(8, 200, (150, 8)) for arm in arms}
        for curve in curves.values():
            curve[rng.random(150) < share, 0 if share == 1 else 3 :] = np.nan
        notes = model | {"warnings": ["much of it is random"] if share else []}
        draw(tmp_path, 150, evaluations=8, curves=curves, llm_free={}, notes=notes, random_return=20.0)
        for figure in drawn[-len(NAMES) :]:
            footer, axes = figure.get_supxlabel(), figure.get_axes()[0]
            (box,) = [
                text.get_window_extent()
                for text in figure.findobj(Text)
                if isinstance(text, Text) and text.get_text() == footer
            ]
            page, tight = figure.bbox, axes.get_tightbbox()
            assert 0 <= box.x0 < box.x1 <= page.width and box.y0 >= 0
            assert tight is not None and box.y1 < tight.y0
            assert ("doubtful prior data: see summary.md" in footer) == bool(share)
            assert footer.replace("\n", " ").count(" of 150 of ") == (len(arms) if share else 0)
            if share == 1:
                assert "150 of 150 of loro (seed 0 at step 200, seed 1 at step 200, 148 more)" in footer
    heights = np.array([figure.get_axes()[0].get_window_extent().height for figure in drawn]).reshape(3, -1)
    np.testing.assert_allclose(heights, heights[[0, 0, 0]], rtol=0.1)


def test_curves_drawn_count_a_run_that_diverged_as_random_and_worst() -> None:
    from matplotlib.figure import Figure

    # Of four runs one is cut from each end: 1 2 3 9, then 0.5 (diverged) 1 2 3.
    curve = np.array([[1.0, 1], [2, 2], [3, 3], [9, np.nan]])
    axes = Figure().add_subplot()
    steps = np.array([1.0, 2])
    learning_curves.lines(axes, {"loro": curve}, steps, {}, statistics.weighted_iqm, 0, 0.5)
    assert axes.get_lines()[0].get_ydata().tolist() == [2.5, 1.5]  # type: ignore[union-attr]
    axes = Figure().add_subplot()
    learning_curves.lines(axes, {"loro": curve}, steps, {}, statistics.weighted_mean, 0, 0.5)
    assert axes.get_lines()[0].get_ydata().tolist() == [15 / 4, 6.5 / 4]  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_matplotlibrc_changes_nothing(first: dict[str, bytes], tmp_path: pathlib.Path) -> None:
    rc = tmp_path / "matplotlibrc"
    rc.write_text(
        "text.usetex: True\nfont.family: serif\nfont.serif: Nonesuch\naxes.facecolor: black\n"
        "savefig.facecolor: red\nsavefig.bbox: tight\nfigure.dpi: 31\nlines.linewidth: 9\n"
    )
    code = "import sys, pathlib, test_figures; test_figures.draw(pathlib.Path(sys.argv[1]))"
    there = tmp_path / "there"
    path = os.pathsep.join([str(pathlib.Path(__file__).parent), *sys.path])
    environment = os.environ | {"MATPLOTLIBRC": str(rc), "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(there)], env=environment, check=True)
    assert first
    for name, data in first.items():
        assert data == (there / name).read_bytes(), name


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
    looks = list(style.LOOKS.values())
    assert len({look.colour for look in looks}) == len({look.label for look in looks}) == len(looks)
    dashed = [str(look.line) for name, look in style.LOOKS.items() if name not in ("loro", "pure_rl")]
    assert len(set(dashed)) == len(dashed)


def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    stem = tmp_path / "a.figure"
    with style.page(stem, 2, 1) as page:
        page.add_subplot()
    assert [p.name for p in style.paths(stem)] == ["a.png", "a.pdf"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(KeyError), style.page(stem, 2, 1) as page:
        raise KeyError
    savefig = Figure.savefig

    def full(figure: Figure, path: pathlib.Path, **more: object) -> None:
        savefig(figure, path, **more)  # type: ignore[arg-type]
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="no space left"), style.page(stem, 3, 2) as page:
        page.add_subplot()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_figure_is_a_line_of_the_tuple(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(axes: Any, found: figures.Found) -> None:
        axes.plot(found.env_steps)

    mine = figures.Drawing("mine", lambda found: 2.0, steps)
    nothing = figures.Drawing("nothing", lambda found: None, steps)
    monkeypatch.setattr(figures, "FIGURES", (mine, nothing))
    assert [p.name for p in draw(tmp_path)] == ["mine.png", "mine.pdf"]


def test_a_task_without_a_threshold_is_drawn(tmp_path: pathlib.Path) -> None:
    assert {p.stem for p in draw(tmp_path, threshold=None)} == set(NAMES)
