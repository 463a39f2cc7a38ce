"""What the texts in results/ say stands in the saved results beside them."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"


def test_the_table_of_the_standard_run_is_its_summary() -> None:
    summary = json.loads((RESULTS / "cartpole" / "standard@1" / "summary.json").read_text())
    text = (RESULTS / "README.md").read_text()
    for arm in ("pure_rl", "loro", "mix", "loro_keep", "random_data", "on_policy"):
        value = summary["arms"][arm]["cumulative_return"]
        low, high = value["iqm_ci95"]
        assert f"| `{arm}` | {value['iqm']:,.0f} [{low:,.0f}, {high:,.0f}] |" in text
    for c in summary["comparisons"]:
        if c["metric"] == "cumulative_return":
            low, high = c["difference_ci95"]
            assert f"{c['difference_mean']:+,.0f} [{low:+,.0f}, {high:+,.0f}]" in text


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
