"""`summary.json` is a contract: its shape, its strictness, and its numbers on curves worked by hand."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loro_jax import statistics, summary, tables

FIVE = {"mean", "iqm", "iqm_ci95", "median", "std"}


def arguments(seeds: int = 6, evaluations: int = 20, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ramp = np.linspace(10, 205, evaluations)
    curves = {
        arm: np.clip(ramp * speed + rng.normal(0, 5, (seeds, evaluations)), 8, 200)
        for arm, speed in (("pure_rl", 1.0), ("loro", 1.3), ("mix", 0.5))
    }
    given = {
        "benchmark": "cartpole",
        "protocol": "standard",
        "curves": curves,
        "env_steps": 200 * np.arange(1, evaluations + 1),
        "flat": {"llm_policy": np.array([20.0, 40, 200]), "random_policy": np.array([10.0, 30])},
        "baseline": "pure_rl",
        "threshold": 195.0,
        "llm_free": {arm: c[:, 2:] if arm == "loro" else c for arm, c in curves.items()},
        "notes": {"model": "a-model", "prompt": "plain"},
    }
    return given | changes


def test_shape_is_the_contract() -> None:
    found = summary.summarise(**arguments())
    assert found["benchmark"] == "cartpole" and found["protocol"] == "standard"
    assert found["seeds"] == 6 and found["baseline"] == "pure_rl"
    readings = (found, found["readings"]["llm_free"])
    for reading in readings:
        assert list(reading["arms"]) == ["pure_rl", "loro", "mix", "llm_policy", "random_policy"]
        for arm in reading["arms"].values():
            for metric in ("cumulative_return", "final_return", "steps_to_threshold"):
                assert set(arm[metric]) >= FIVE
                assert len(arm[metric]["iqm_ci95"]) == 2
        assert [(c["arm"], c["metric"]) for c in reading["comparisons"]] == [
            (arm, metric)
            for arm in ("loro", "mix")
            for metric in ("cumulative_return", "final_return", "steps_to_threshold")
        ]
        for c in reading["comparisons"]:
            assert c["baseline"] == "pure_rl"
            assert c["difference_ci95"][0] <= c["difference_mean"] <= c["difference_ci95"][1]
            low, high = c["probability_of_improvement_ci95"]
            assert 0 <= low <= c["probability_of_improvement"] <= high <= 1
            assert 0 < c["p_value"] <= c["p_holm"] <= 1
    assert readings[1]["evaluations"] == 18 and readings[1]["budget"] == 3600


def test_numbers_are_those_of_the_curves() -> None:
    given = arguments()
    found = summary.summarise(**given)
    totals = given["curves"]["loro"].sum(axis=1)
    loro = found["arms"]["loro"]["cumulative_return"]
    assert loro["mean"] == pytest.approx(totals.mean())
    assert loro["std"] == pytest.approx(totals.std(ddof=1))
    assert loro["median"] == pytest.approx(np.median(totals))
    assert loro["iqm"] == pytest.approx(statistics.iqm(totals))
    final = given["curves"]["loro"][:, -2:].mean(axis=1)  # the last tenth of 20 evaluations
    assert found["arms"]["loro"]["final_return"]["mean"] == pytest.approx(final.mean())
    difference = (totals - given["curves"]["pure_rl"].sum(axis=1)).mean()
    assert found["comparisons"][0]["difference_mean"] == pytest.approx(difference)
    p = [c["p_value"] for c in found["comparisons"]]
    assert [c["p_holm"] for c in found["comparisons"]] == pytest.approx(list(statistics.holm(p)))


def test_faster_is_better_and_censored_runs_are_kept() -> None:
    found = summary.summarise(**arguments())
    mix = found["arms"]["mix"]["steps_to_threshold"]  # it never gets beyond half the threshold
    assert (mix["mean"], mix["median"], mix["reached"], mix["censored"]) == (4000, None, 0, 6)
    loro = found["arms"]["loro"]["steps_to_threshold"]
    assert loro["reached"] == 1 and loro["median"] < 4000
    by = {(c["arm"], c["metric"]): c for c in found["comparisons"]}
    assert by["loro", "steps_to_threshold"]["difference_mean"] < 0
    assert by["loro", "steps_to_threshold"]["probability_of_improvement"] > 0.9
    assert by["mix", "steps_to_threshold"]["probability_of_improvement"] <= 0.5


def test_flat_lines_are_summarised_over_episodes_and_not_compared() -> None:
    found = summary.summarise(**arguments())
    llm = found["arms"]["llm_policy"]
    assert llm["flat"] is True and llm["episodes"] == 3
    assert llm["cumulative_return"]["mean"] == pytest.approx(20 * 260 / 3)
    assert llm["final_return"]["median"] == 40
    # One episode of 200 does not make a policy that solves the task.
    assert llm["steps_to_threshold"]["reached"] == 0
    assert not any(c["arm"] in ("llm_policy", "random_policy") for c in found["comparisons"])


def test_llm_free_arms_are_cut_to_their_common_length() -> None:
    found = summary.summarise(**arguments())["readings"]["llm_free"]
    given = arguments()
    expected = given["curves"]["pure_rl"][:, :18].sum(axis=1).mean()
    assert found["arms"]["pure_rl"]["cumulative_return"]["mean"] == pytest.approx(expected)
    expected = given["curves"]["loro"][:, 2:].sum(axis=1).mean()
    assert found["arms"]["loro"]["cumulative_return"]["mean"] == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("evaluations", [1, 3])
def test_tiny_runs_give_strict_json(seeds: int, evaluations: int, tmp_path: pathlib.Path) -> None:
    found = summary.summarise(**arguments(seeds, evaluations, notes={"x": np.float32(np.nan), "y": (1, 2)}))
    written = summary.write(found, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(written[0].read_text(), parse_constant=refuse) == found
    assert found["notes"] == {"x": None, "y": [1, 2]}
    if seeds == 1:
        loro = found["arms"]["loro"]["cumulative_return"]
        assert loro["std"] is None and loro["iqm_ci95"] == [None, None]
        assert found["comparisons"][0]["p_value"] == 1.0


def test_without_the_baseline_or_without_arms_there_is_no_comparison() -> None:
    given = arguments()
    alone = {"loro": given["curves"]["loro"]}
    found = summary.summarise(**given | {"curves": alone, "llm_free": alone})
    assert found["comparisons"] == [] and "loro" in found["arms"]
    empty = summary.summarise(**given | {"curves": {}, "llm_free": {}})
    assert empty["seeds"] == 0 and list(empty["arms"]) == ["llm_policy", "random_policy"]
    assert "llm_policy" in tables.render_markdown(empty)


def test_wrong_shapes_and_nan_are_refused() -> None:
    given = arguments()
    short = given["curves"] | {"mix": given["curves"]["mix"][:3]}
    with pytest.raises(ValueError, match="differ in shape"):
        summary.summarise(**given | {"curves": short})
    broken = {arm: np.where(curve > 150, np.nan, curve) for arm, curve in given["curves"].items()}
    with pytest.raises(ValueError, match="not finite"):
        summary.summarise(**given | {"curves": broken})
    with pytest.raises(ValueError, match="env_steps"):
        summary.summarise(**given | {"env_steps": np.arange(1, 5)})


def test_tables_say_what_the_summary_holds(tmp_path: pathlib.Path) -> None:
    found = summary.summarise(**arguments())
    _, markdown = summary.write(found, tmp_path)
    text = markdown.read_text()
    assert "LLM episodes: a-model, prompt 'plain'; 6 seeds; protocol 'standard'." in text
    assert "> 4,000 | 0%" in text  # mix: censored, not dropped
    value = found["arms"]["loro"]["cumulative_return"]
    assert f"{value['iqm']:,.0f} [{value['iqm_ci95'][0]:,.0f}, {value['iqm_ci95'][1]:,.0f}]" in text
    assert f"{found['comparisons'][0]['p_holm']:.4f}" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| loro")}
    assert widths == {6, 7}  # the arms' five columns and the comparisons' six
    out = io.StringIO()
    tables.print_tables(found, Console(file=out, width=60))
    assert "loro" in out.getvalue() and "prior data free" not in out.getvalue()


def test_no_partial_file_is_left(tmp_path: pathlib.Path) -> None:
    summary.write(summary.summarise(**arguments()), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["summary.json", "summary.md"]
