"""The comparison with published curves, on numbers worked by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from loro_jax import files
from loro_jax.errors import command
from loro_jax.interchange.published import blocks, compare, main


def test_blocks_are_means_of_whole_blocks() -> None:
    assert blocks(np.arange(7.0)[None], 3).tolist() == [[1.0, 4.0]]


def test_compare_takes_what_both_have_and_counts_in_standard_errors() -> None:
    ours = np.array([[1.0, 1.0, 0.0, 9.0], [3.0, 3.0, 0.0, 9.0]])
    theirs = np.array([[4.0, 4.0], [6.0, 6.0]])
    (row,) = compare(ours, theirs, block=2)
    # means 2 and 5; each standard error is sqrt(2) / sqrt(2) = 1, so the difference has sqrt(2)
    assert (row["ours"], row["published"]) == (2.0, 5.0)
    assert (row["ours_se"], row["published_se"]) == (1.0, 1.0)
    assert row["z"] == pytest.approx(-3 / 2**0.5)


def test_one_published_run_is_held_against_the_spread_of_seeds() -> None:
    ours = np.array([[1.0], [3.0]])
    (row,) = compare(ours, np.array([[4.0]]), block=1)
    # seeds have standard deviation sqrt(2); one further draw differs from their mean with sqrt(2 * 1.5)
    assert row["z"] == pytest.approx(-2 / 3**0.5)
    assert np.isnan(row["published_se"])


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    """A run of three seeds and four evaluations, the last seed diverged from the third on; random play 7."""
    folder = tmp_path / "run"
    folder.mkdir()
    curve = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, np.nan, np.nan]])
    files.write_npz(folder / "curves.npz", {"pure_rl": curve, "env_steps": np.arange(4)})
    files.write_npz(folder / "details.npz", {})
    files.write_json(folder / "run.json", {"identity": {}})
    files.write_json(folder / "summary.json", {"random_return": 7.0})
    return folder


@pytest.fixture
def study(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two published runs of four evaluations."""
    files.write_npz(tmp_path / "study.npz", {"online": np.ones((2, 4)), "short": np.ones((2, 2))})
    return tmp_path / "study.npz"


def ask(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = command(lambda: main([str(word) for word in argv]))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_diverged_seed_counts_as_random_play_and_is_named(
    capsys: pytest.CaptureFixture[str], run: pathlib.Path, study: pathlib.Path
) -> None:
    status, out, err = ask(capsys, run, study, "--block", 2)
    assert (status, err) == (0, "")
    assert "1 of our seeds diverged: from there on they count as the random policy's return" in out
    assert f"{(3.5 + 3.5 + 7) / 3:.3f}" in out
    files.write_npz(run / "details.npz", {"flat/random_policy": np.array([8.0, 12.0])})  # comes first
    assert f"{(3.5 + 3.5 + 10) / 3:.3f}" in ask(capsys, run, study, "--block", 2)[1]
    # What is compared ends before the seed diverged:
    assert "diverged" not in ask(capsys, run, study, "--key", "short", "--block", 2)[1]


def damage(name: str, what: Any) -> Any:
    def does(run: pathlib.Path, study: pathlib.Path) -> None:
        path = study if name == "study.npz" else run / name
        if what is None:
            path.unlink()
        elif isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, dict) and name.endswith(".npz"):
            files.write_npz(path, what)
        else:
            files.write_json(path, what)

    return does


STEPS = {"env_steps": np.arange(3)}


@pytest.mark.parametrize(
    ("damaged", "argv", "says"),
    [
        (damage("run.json", None), (), "run.json: no such file; give the folder of a finished run"),
        (damage("curves.npz", None), (), "curves.npz: no such file; give the folder of a finished run"),
        (damage("curves.npz", b"PK"), (), "curves.npz: damaged or not an .npz file"),
        (
            damage("run.json", {"files": {"curves.npz": "0", "details.npz": "0"}}),
            (),
            "is another run's, or was changed",
        ),
        (damage("summary.json", None), (), "seeds diverged, and summary.json does not say what random play"),
        (damage("summary.json", {}), (), "seeds diverged, and summary.json does not say what random play"),
        (damage("summary.json", {"random_return": None}), (), "does not say what random play returns"),
        (
            damage("curves.npz", {"pure_rl": np.array([[1, np.inf, 2]]), **STEPS}),
            (),
            "pure_rl: a curve holds values that are not finite",
        ),
        (
            damage("curves.npz", {"pure_rl": np.array([[1, np.nan, 2]]), **STEPS}),
            (),
            "pure_rl: a curve holds values that are not finite",
        ),
        (damage("curves.npz", {"pure_rl": np.array([["a"] * 3]), **STEPS}), (), "'pure_rl' holds no curves"),
        (damage("run.json", {}), ("--arm", "loro"), "has no curve 'loro'; there are: pure_rl"),
        (damage("run.json", {}), ("--skip", "4"), "--skip 4 leaves nothing of pure_rl, which has 4"),
        (damage("run.json", {}), ("--skip", "-1"), "--skip must be at least 0, got -1"),
        (damage("run.json", {}), ("--block", "0"), "--block must be at least 1, got 0"),
        (damage("run.json", {}), ("--run", "2"), "--run 2: there are 2 published runs, counted from 0"),
        (damage("study.npz", None), (), "study.npz: no such file"),
        (damage("study.npz", b"PK"), (), "study.npz: damaged or not an .npz file"),
        (damage("study.npz", {"online": np.full((2, 4), np.nan)}), (), "'online' holds values that are not"),
        (damage("study.npz", {"online": np.ones(4)}), (), "'online' holds no curves but float64 of shape"),
        (damage("study.npz", {"offline": np.ones((2, 4))}), (), "has no curve 'online'; there are: offline"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    capsys: pytest.CaptureFixture[str], run: pathlib.Path, study: pathlib.Path, damaged: Any,
    argv: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    damaged(run, study)
    status, out, err = ask(capsys, run, study, *argv)
    assert (status, out) == (2, "") and says in err and err.count("\n") == 1


def test_files_of_several_lengths_are_refused(
    capsys: pytest.CaptureFixture[str], run: pathlib.Path, study: pathlib.Path
) -> None:
    other = study.with_name("other.npz")
    files.write_npz(other, {"online": np.ones((1, 3))})
    status, _, err = ask(capsys, run, study, other)
    assert status == 2 and "differ in length (4, 3 evaluations)" in err and err.count("\n") == 1
