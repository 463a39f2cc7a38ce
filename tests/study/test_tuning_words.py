"""Which row of its search each `standard` took, and the round's best, as the texts say it."""

from __future__ import annotations

import json
import math
import pathlib
import re
from typing import Any

import pytest

from loro_jax.protocols import Protocol
from loro_jax.tasks import SUITE, load

ROOT = pathlib.Path(__file__).parent.parent.parent
NUMBER = r"(-?[\d,]+(?:\.\d+)?)"
SCORE = rf"{NUMBER} \+- {NUMBER}"


OLD_NAMES = {
    "target_interval": "target_network_frequency", "warmup": "learning_starts", "soft_update": "polyak",
}  # fmt: skip
"""Names of settings in files from before they were renamed."""


def named(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the names that they have now."""
    return {OLD_NAMES.get(k, k): v for k, v in settings.items()}


def searched(protocol: Protocol, space: dict[str, Any]) -> dict[str, Any]:
    """A protocol's values of the searched settings, as JSON gives them back."""
    values = {k: v for k, v in protocol.flat().items() if k in space}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def row_taken(name: str) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """The round with the most seeds that the row of `standard` is in, that row, and the round's best."""
    path = ROOT / "results" / "tuning" / f"{name}.json"
    found = json.loads(path.read_text())
    rows = [row | {"settings": named(row["settings"])} for row in found["rows"]]
    space = named(found["space"])
    settings = searched(load(name).protocol("standard@1"), space)
    assert settings.keys() == space.keys()
    mine = max((r for r in rows if r["settings"] == settings), key=lambda r: r["seeds"])
    same = [r for r in rows if (r["seeds"], r["seed"]) == (mine["seeds"], mine["seed"])]
    return same, mine, max(same, key=lambda r: r["cumulative_return_mean"])


def otherwise(best: dict[str, Any], mine: dict[str, Any]) -> str:
    """Settings of `best` that `mine` has not, as the texts write them."""
    words = [
        f"{k} {' '.join(map(str, v)) if isinstance(v, list) else v}"
        for k, v in best["settings"].items()
        if v != mine["settings"][k]
    ]
    return ", ".join(words)


def assert_is(said: tuple[str, str], row: dict[str, Any]) -> None:
    """Mean and standard error, as written, are the row's to the digits written."""
    for text, value in zip(said, (row["cumulative_return_mean"], row["standard_error"]), strict=True):
        unit = 10.0 ** -len(text.partition(".")[2])
        assert abs(float(text.replace(",", "")) - value) <= unit / 2 + 1e-9, (text, value)


@pytest.mark.parametrize("name", SUITE)
def test_a_tasks_comment_says_which_row_it_took(name: str) -> None:
    rows, mine, best = row_taken(name)
    [path] = (p for p in (ROOT / "loro_jax" / "tasks").glob(f"{name}*") if p.stem == name)
    lines = (path / "__init__.py" if path.is_dir() else path).read_text().splitlines()
    text = " ".join(line.removeprefix("# ") for line in lines)
    where = re.search(r"Of the (\d+) rows on (\d+) seeds \(seed (\d+)\)", text)
    assert where and tuple(map(int, where.groups())) == (len(rows), mine["seeds"], mine["seed"])
    if mine is best:
        said = re.search(rf"this one is the best: {SCORE}", text)
        assert said
        assert_is(said.groups(), mine)
    else:
        said = re.search(rf"this one scores {SCORE} and the best {SCORE} \(([^)]*)\)", text)
        assert said
        assert_is(said.groups()[:2], mine)
        assert_is(said.groups()[2:4], best)
        assert said[5] == otherwise(best, mine)


def test_the_table_of_rows_taken_is_the_files() -> None:
    text = (ROOT / "results" / "standard@1.md").read_text()
    found = {}
    for name, seeds, key, count, *scores, other, why in re.findall(
        rf"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| {SCORE} \| {SCORE} \| ([^|]*)\| ([^|]*) \|$", text, re.M
    ):
        rows, mine, best = row_taken(name)
        assert (int(seeds), int(key), int(count)) == (mine["seeds"], mine["seed"], len(rows))
        assert_is(tuple(scores[:2]), mine)
        assert_is(tuple(scores[2:]), best)
        assert other.strip() == otherwise(best, mine)
        assert (why == "it was") is (mine is best)
        found[name] = (
            best["cumulative_return_mean"] - mine["cumulative_return_mean"],
            math.hypot(best["standard_error"], mine["standard_error"]),
        )
    assert sorted(found) == sorted(SUITE)
    said = re.search(rf"ahead by {SCORE} and by\s+{SCORE}", text)
    assert said
    expected = (*found["cartpole"], *found["pong"])
    assert tuple(map(int, said.groups())) == tuple(round(x) for x in expected)
    front = (ROOT / "docs" / "running.md").read_text()
    assert "[not always its best row](../results/standard@1.md#how-standard1-was-tuned)" in front
    assert {name for name, (ahead, _) in found.items() if ahead > 0} == {"cartpole", "pendulum", "pong"}
