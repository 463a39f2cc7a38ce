"""What tables are worth: a perfect one, one that is nobody's, and one that is not complete."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from loro_jax.language import tables
from loro_jax.tasks import load
from loro_jax.tasks.reference import preferences
from studies import answer_tables

LAKE = load("frozen_lake")


def written(folder: pathlib.Path, best: bool, complete: bool = True) -> None:
    """Two answers about each text: twice the reference's, or the first two actions."""

    def policy(obs: np.ndarray) -> np.ndarray:
        one = preferences(LAKE, obs).argmax(axis=1) if best else np.zeros(len(obs), int)
        return np.stack([one, one if best else one + 1], axis=1)

    made = tables.from_policy(policy, LAKE, "map", folder.name)
    more = {
        "complete": complete, "coverage": {"uniform": 1.0, "answers": 0.99}, "prompt_tokens": 100,
        "read_tokens": 10, "tail_tokens": 20, "answer_tokens": 30, "seconds": 1.5,
    }  # fmt: skip
    tables.save(dataclasses.replace(made, card=made.card | more), LAKE, folder)


@pytest.mark.slow
def test_tables_are_described(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "answers" / "frozen_lake"
    written(root / "best", True)
    written(root / "first_two", False)
    written(root / "unfinished", True, complete=False)
    argv = ["--tasks", "frozen_lake", "--folder", str(root.parent), "--out", str(tmp_path / "tables")]
    assert answer_tables.main(argv) == 0
    best, two = json.loads((tmp_path / "tables.json").read_text())["frozen_lake"]
    assert (best["name"], two["name"]) == ("best", "first_two")
    assert best["agreement"] == pytest.approx(1) and best["least_covered"] == "answers" and not best["scored"]
    # The best policy reaches the goal in 0.744 of the episodes of 100 steps.
    assert abs(best["return"] - 0.744) < 4 * (0.744 * 0.256 / best["episodes"]) ** 0.5
    assert best["returns_of_single_answers"] == [best["return"]] * 2
    assert two["returns_of_single_answers"][0] != two["return"]
    assert best["optimal_among_first"] == pytest.approx([1, 1])
    first, both = two["optimal_among_first"]
    assert 0 < first < both <= 1
    printed = capsys.readouterr().out
    assert "| `best` | 1.00 | 1.00 |" in printed
    assert "`best` | 11 x 2 | 99.0% (answers) | 0.0% | 100%" in printed and "unfinished" not in printed
