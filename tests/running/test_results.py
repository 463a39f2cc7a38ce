"""What the texts in results/ say stands in the saved results beside them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"


def written(comparison: dict[str, Any], places: int = 0) -> str:
    """A difference as the texts write it."""
    numbers = (comparison["difference_mean"], *comparison["difference_ci95"])
    mean, low, high = (f"{x:+,.{places}f}" for x in numbers)
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize(("protocol", "page"), [("standard@1", "standard@1.md"), ("standard@2", "README.md")])
def test_the_table_of_the_standard_run_is_its_summary(protocol: str, page: str) -> None:
    summary = json.loads((RESULTS / "cartpole" / protocol / "summary.json").read_text())
    text = (RESULTS / page).read_text()
    for arm in ("pure_rl", "loro", "mix", "loro_keep", "random_data", "on_policy"):
        value = summary["arms"][arm]["cumulative_return"]
        low, high = value["iqm_ci95"]
        assert f"| `{arm}` | {value['iqm']:,.0f} [{low:,.0f}, {high:,.0f}] |" in text
    for c in summary["comparisons"]:
        if c["metric"] == "cumulative_return":
            assert written(c) in text


@pytest.mark.parametrize("task", ["cartpole", "frozen_lake", "cliff_walking", "mountain_car", "pendulum"])
def test_the_row_of_a_task_is_its_summary(task: str) -> None:
    summary = json.loads((RESULTS / task / "standard@2" / "summary.json").read_text())
    [row] = (
        line for line in (RESULTS / "README.md").read_text().splitlines()
        if line.startswith(f"| [{task}]({task}/standard@2/summary.md) |")
    )  # fmt: skip
    places = 1 if task == "frozen_lake" else 0
    said = [cell.strip() for cell in row.split("|")[2:-1]]
    charged, free = (
        next(c for c in found if (c["arm"], c["metric"]) == ("loro", "cumulative_return"))
        for found in (summary["comparisons"], summary["readings"]["llm_free"]["comparisons"])
    )
    digits = 3 if task == "frozen_lake" else 1
    arms = summary["arms"]
    finals = [arms["llm_policy"]["final_return"]["mean"]]
    finals += [arms[arm]["final_return"]["iqm"] for arm in ("pure_rl", "loro")]
    assert said[:2] == [str(summary["seeds"]), summary["notes"]["dataset"]]
    assert said[2:5] == [f"{value:,.{digits}f}" for value in finals]
    assert (said[5], said[8]) == (written(charged, places), written(free, places))
    assert said[7] == f"{charged['p_holm']:.3f}"


def test_what_is_said_over_the_tasks_is_the_aggregates() -> None:
    found = json.loads((RESULTS / "suite" / "standard@2" / "suite.json").read_text())
    texts = [(RESULTS / "README.md").read_text(), (RESULTS.parent / "README.md").read_text()]
    whole = found["arms"]["loro"]["whole"]
    low, high = whole["improvement_ci95"]
    said = f"{whole['improvement']:.2f} [{low:.2f}, {high:.2f}]"
    assert all(said in " ".join(text.split()) for text in texts)


@pytest.mark.parametrize(("run", "arm", "skip", "blocks"), [
    ("released-loro", "loro", 10, (114.4, 198.3)),
    ("paper-loro", "loro", 10, (40.9, 148.5)),
    ("released-shared-pretraining", "pure_rl", 0, (15.5, 43.9, 152.9, 179.1)),
])  # fmt: skip
def test_the_blocks_of_the_replication_are_its_curves(
    run: str, arm: str, skip: int, blocks: tuple[float, ...]
) -> None:
    with np.load(RESULTS / "replication" / "cartpole" / run / "curves.npz") as archive:
        curves = archive[arm][:, skip:]
    text = (RESULTS / "README.md").read_text()
    for i, said in enumerate(blocks):
        mean = curves[:, 10 * i : 10 * i + 10].mean()
        assert said == pytest.approx(mean, abs=0.051)
        assert f"{said} +-" in text
