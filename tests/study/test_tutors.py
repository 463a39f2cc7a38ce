"""The study of tutors: what is read from curves by hand, and the whole of it, small."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.language import prompts, tables
from loro_jax.tasks import load
from loro_jax.tasks.reference import preferences
from studies.models import MODELS, drawn
from studies.tutors import measures, parts
from studies.tutors.command import main
from studies.tutors.games import named

STEPS = np.arange(1, 9) * 100


def test_a_rolling_mean_by_hand() -> None:
    found = measures.rolling(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), 3)
    np.testing.assert_allclose(found, [[1, 1.5, 2, 3, 4, 5]])


def test_convergence_is_where_a_level_is_reached_for_good() -> None:
    """Of windows of five: a seed that is there from the third evaluation on, one that falls below again and
    comes back, one that falls at the very end, and one that never gets there."""
    there = [0, 0, 5, 5, 5, 5, 5, 5]
    curves = np.array([there, [5, 5, 5, 5, -20, 5, 5, 5], [5] * 7 + [-50], [0] * 8], float)
    # Rolling: 0 0 1.67 2.5 3 4 5 5; then 5 5 5 5 0 0 0 0; then 5 .. 5 -6; then 0.
    np.testing.assert_array_equal(measures.converged(curves, STEPS, 3.0), [500, np.inf, np.inf, np.inf])
    np.testing.assert_array_equal(measures.converged(curves, STEPS, 0.0), [100, 100, np.inf, 100])


def test_the_level_is_a_share_of_the_way() -> None:
    assert measures.wanted(-1.0, 1.0) == pytest.approx(0.9)


def test_the_spread_is_of_the_evaluations_that_follow() -> None:
    curves = np.array([[9, 9, 9, 1, 2, 3, 4, 5], [1] * 8, [1] * 8], float)
    found = measures.spread(curves, STEPS, np.array([400.0, np.inf, 600.0]))
    assert found[0] == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1)) and np.isnan(found[1:]).all()


def test_a_speed_up_counts_the_budget_for_what_never_converged() -> None:
    """(400 + 800) / (200 + 400) = 2; both halves of the pairs are twice as fast."""
    found = measures.speed_up(np.array([400.0, np.inf] * 8), np.array([200.0, 400.0] * 8), 800.0, 0)
    assert found["ratio"] == pytest.approx(2) and found["ci95"] == pytest.approx([2, 2])
    assert found["censored"] == 0 and found["p"] < 1e-3
    slower = measures.speed_up(np.array([200.0] * 8), np.array([np.inf] * 8), 800.0, 0)
    assert slower["ratio"] == pytest.approx(0.25) and slower["censored"] == 1


def kept(folder: pathlib.Path, game: str) -> None:
    """Tables of two models, in the form that a survey leaves: one right in 9 of 10 answers, one in 4."""
    task, rng = load(game), np.random.default_rng(0)
    for tag, right in (("05b", 0.4), ("15b", 0.9)):

        def policy(obs: np.ndarray, right: float = right) -> np.ndarray:
            best = preferences(task, obs).argmax(axis=1)
            said = rng.integers(2, size=(len(obs), 8))
            return np.where(rng.random(said.shape) < right, best[:, None], said)

        table = tables.from_policy(policy, task, named(game).prompt)
        name = drawn(MODELS[tag], named(game).prompt)
        prompt = prompts.load(task, named(game).prompt)
        texts = [prompt.tail(table.coding.texts(d)) for d in table.digits.tolist()]
        card = table.card | {"name": name, "model": {"name": MODELS[tag]}, "complete": True}
        written = Answers(table.coding, table.digits, table.actions, table.asked, card)
        answers.save(written, texts, folder / game / name)


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_study_small(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All parts of Blackjack; a second call has nothing to do; the page's numbers are the curves'."""
    kept(tmp_path / "tables", "blackjack")
    out = tmp_path / "out"
    places = ["--tables", str(tmp_path / "tables"), "--out", str(out), "--work", str(tmp_path / "work")]
    command = ["--games", "blackjack", "--seeds", "3", "--budget", "3000", *places]
    assert main([*command, "--dry-run"]) == 0
    assert not out.exists() and "left: alone, cells, variants" in capsys.readouterr().err
    assert main(command) == 0
    written = {part: (out / "blackjack" / f"{part}.json").read_bytes() for part in parts.PARTS}
    told = {part: json.loads(text) for part, text in written.items()}
    assert len(told["cells"]["arms"]) == 3 * 5 * 2 and len(told["variants"]["arms"]) == 2 * (
        3 * 2 + 1 + 2 * 3
    )
    assert told["cells"]["best"] == "15b"
    assert told["alone"]["tutors"]["reference"]["agreement"] == pytest.approx(1)
    assert told["alone"]["tutors"]["adversary"]["return"] < told["alone"]["tutors"]["reference"]["return"]
    counts = told["cells"]["guidance"]["dqn-15b-reuse"]
    assert counts["consultations"] == counts["advice_draws"] + counts["advice_reuses"] > 0
    curves = np.load(out / "blackjack/cells.npz")
    assert curves["ppo-15b"].shape == (3, 3)
    page = (out / "README.md").read_text()
    assert "a tutor makes learning converge sooner" in page and "`a2c-reference-cloned`" in page
    assert (out / "figures/speed.png").stat().st_size > 5000
    assert main(command) == 0
    assert {part: (out / "blackjack" / f"{part}.json").read_bytes() for part in parts.PARTS} == written


def test_names_that_there_are_not_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="the study has no game 'pong'; there are: blackjack"):
        main(["--games", "pong"])
    with pytest.raises(UserError, match="the study has no part 'all'; there are: alone"):
        main(["--parts", "all"])
    with pytest.raises(UserError, match="no model was asked with the prompt hint"):
        main(["--games", "blackjack", "--tables", str(tmp_path)])
