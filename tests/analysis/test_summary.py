"""`summary.json` is a contract: its shape, its strictness, and its numbers on curves worked by hand."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loro_jax.analysis import metrics, outputs, statistics, summary, tables

TABLES = ("arms", "arms_llm_free", "comparisons", "comparisons_llm_free")
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
    written = outputs.write(found, tmp_path)

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


def diverging(**changes: Any) -> dict[str, Any]:
    """Four seeds, ten evaluations: LORO's last one learns at once, and diverges in the sixth interval."""
    pure = np.repeat([[10.0], [20], [30], [40]], 10, axis=1)
    loro = np.full((4, 10), 200.0)
    loro[3, 5:] = np.nan
    curves = {"pure_rl": pure, "loro": loro}
    given = arguments(
        curves=curves,
        env_steps=200 * np.arange(1, 11),
        llm_free={arm: curve[:, :5] if arm == "loro" else curve for arm, curve in curves.items()},
        random_return=20.0,
        diverged={"pure_rl": np.full(4, -1), "loro": np.array([-1, -1, -1, 1017])},
    )
    return given | changes


def test_a_run_that_diverged_by_hand() -> None:
    found = summary.summarise(**diverging())
    assert found["diverged"] == {"loro": [{"seed": 3, "env_step": 1017}]} and found["random_return"] == 20
    assert (found["arms"]["loro"]["diverged"], found["arms"]["pure_rl"]["diverged"]) == (1, 0)
    total = found["arms"]["loro"]["cumulative_return"]  # 2,000 three times and 5 x 200 + 5 x 20
    assert (total["mean"], total["iqm"], total["median"]) == (1775, 2000, 2000)
    assert total["std"] == pytest.approx(450)  # (3 x 225^2 + 675^2) / 3 = 450^2
    assert found["arms"]["loro"]["final_return"]["mean"] == (200 + 200 + 200 + 20) / 4
    # It had reached the threshold at 1,000 steps, as the others, and counts as never.
    times = found["arms"]["loro"]["steps_to_threshold"]
    assert (times["reached"], times["censored"], times["median"]) == (0.75, 1, 1000)
    assert (times["mean"], times["iqm"]) == ((3 * 1000 + 2000) / 4, 1000)
    assert times["mean_ci95"][1] <= 2000
    total, final, steps = found["comparisons"]
    assert total["difference_mean"] == (1900 + 1800 + 1700 + 700) / 4
    assert final["difference_mean"] == (190 + 180 + 170 - 20) / 4
    assert steps["difference_mean"] == (3 * -1000 + 0) / 4
    # What diverged loses to every return, and ties with every run that reached no threshold.
    improved = [c["probability_of_improvement"] for c in found["comparisons"]]
    assert improved == [12 / 16, 12 / 16, (12 + 4 / 2) / 16]
    # Of 16 sign patterns all or none positive; also -20 as +20; also 0 either way.
    assert [c["p_value"] for c in found["comparisons"]] == pytest.approx([2 / 16, 4 / 16, 4 / 16])
    assert [c["p_holm"] for c in found["comparisons"]] == pytest.approx([3 * 2 / 16, 2 * 4 / 16, 2 * 4 / 16])
    assert [(c["diverged"], c["diverged_baseline"]) for c in found["comparisons"]] == [(1, 0)] * 3
    # The free reading ends before it diverged.
    free = found["readings"]["llm_free"]
    assert free["evaluations"] == 5 and free["arms"]["loro"]["diverged"] == 0
    assert free["arms"]["loro"]["steps_to_threshold"]["reached"] == 1


def test_to_diverge_where_the_threshold_was_reached_is_never_better() -> None:
    whole = diverging(random_return=None, diverged=None)
    whole["curves"] = whole["curves"] | {"loro": np.full((4, 10), 200.0)}
    before, after = (summary.summarise(**given) for given in (whole, diverging()))
    assert before["diverged"] == {} and before["random_return"] is None
    for was, now in zip(before["comparisons"], after["comparisons"], strict=True):
        assert now["probability_of_improvement"] < was["probability_of_improvement"]
    assert before["arms"]["pure_rl"] == after["arms"]["pure_rl"]


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("which", [("loro",), ("pure_rl",), ("pure_rl", "loro", "mix")])
def test_every_seed_diverged_at_its_first_evaluation(
    seeds: int, which: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    given = arguments(seeds, random_return=np.float32(20))
    given["curves"] = {
        arm: np.full_like(c, np.nan) if arm in which else c for arm, c in given["curves"].items()
    }
    given["llm_free"] = {arm: c[:, 2:] if arm == "loro" else c for arm, c in given["curves"].items()}
    found = summary.summarise(**given)
    written = outputs.write(found, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(written[0].read_text(), parse_constant=refuse) == found
    for reading in (found, found["readings"]["llm_free"]):
        for arm in which:
            described = reading["arms"][arm]
            assert described["diverged"] == seeds
            for name in ("mean", "iqm", "median"):
                assert described["cumulative_return"][name] == 20 * reading["evaluations"]
            assert described["steps_to_threshold"]["mean"] == reading["budget"]
            assert described["steps_to_threshold"]["median"] is None
            assert described["steps_to_threshold"]["censored"] == seeds
        compared = {c["arm"]: c for c in reading["comparisons"] if c["metric"] == "final_return"}
        assert compared["loro"]["probability_of_improvement"] == {
            ("loro",): 0.0, ("pure_rl",): 1.0, ("pure_rl", "loro", "mix"): 0.5,
        }[which]  # fmt: skip
    assert found["diverged"][which[0]][0] == {"seed": 0, "env_step": 200}


def test_what_is_not_finite_without_a_reason_is_refused() -> None:
    given = diverging()
    with pytest.raises(ValueError, match="did not diverge"):
        summary.summarise(**given | {"diverged": {"loro": np.full(4, -1)}})
    for broken in (np.inf, -np.inf):
        loro = np.where(np.isnan(given["curves"]["loro"]), broken, given["curves"]["loro"])
        with pytest.raises(ValueError, match="not finite"):
            summary.summarise(**given | {"curves": given["curves"] | {"loro": loro}})
    with pytest.raises(ValueError, match="not finite"):
        summary.summarise(**given | {"flat": {"llm_policy": np.array([1.0, np.nan])}})
    with pytest.raises(ValueError, match="no random return"):
        summary.summarise(**given | {"random_return": None})


def test_tables_count_the_runs_that_diverged_beside_their_numbers() -> None:
    doubt = "half of the prior data's actions were drawn at random [card.json]"
    given = diverging(notes={"model": "a-model [q4]", "warnings": [doubt]})
    given["curves"]["pure_rl"][0, 9] = np.nan
    given["diverged"]["pure_rl"][0] = 1801
    found = summary.summarise(**given)
    text = tables.render_markdown(found)
    assert "| loro (1 diverged) |" in text and "| pure_rl (1 diverged) |" in text
    assert "| loro (diverged: 1 of loro, 1 of pure_rl) | final return |" in text
    assert "| loro | final return |" in text  # the free reading ends before
    assert f"**{doubt}**" in text and "the random policy's return (20)" in text
    says = "diverged: 1 of 4 of loro (seed 3 at step 1,017)"
    assert f"- {says}\n" in text and says in tables.warnings(found)[-1]
    for width in (60, 80, 120):
        out = io.StringIO()
        tables.print_tables(found, Console(file=out, width=width, force_terminal=True, no_color=True))
        printed = out.getvalue()
        assert f"warning: {doubt}" in printed and says in printed and "a-model [q4]" in printed
        assert "pure_rl" in printed and "diverged" in printed.split("warning")[0]
        if width > 60:
            assert all(f"{c['p_holm']:.4f}" in printed for c in found["comparisons"])
    plain = tables.render_markdown(summary.summarise(**arguments()))
    assert "diverged" not in plain


def test_of_many_runs_that_diverged_the_first_are_named_and_all_are_listed() -> None:
    given = arguments(64, random_return=20.0)
    given["curves"]["loro"][:, 7:] = np.nan
    given["llm_free"]["loro"] = given["curves"]["loro"][:, 2:]
    found = summary.summarise(**given)
    (warning,) = tables.warnings(found)
    assert "64 of 64 of loro (seed 0 at step 1,600, seed 1" in warning and "61 more)" in warning
    assert "seed 63 at step 1,600" not in warning
    assert "seed 63 at step 1,600)\n" in tables.render_markdown(found)
    assert len(found["diverged"]["loro"]) == 64


def test_tables_say_what_the_summary_holds(tmp_path: pathlib.Path) -> None:
    found = summary.summarise(**arguments())
    _, markdown, *_ = outputs.write(found, tmp_path)
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


def test_a_task_without_a_threshold_has_no_metric_that_needs_one(tmp_path: pathlib.Path) -> None:
    found = summary.summarise(**arguments(threshold=None))
    whole = summary.summarise(**arguments())
    assert found["threshold"] is None
    for reading, before in ((found, whole), (found["readings"]["llm_free"], whole["readings"]["llm_free"])):
        for arm, described in reading["arms"].items():
            assert set(before["arms"][arm]) - set(described) == {"steps_to_threshold"}
            assert described["final_return"] == before["arms"][arm]["final_return"]
        assert {c["metric"] for c in reading["comparisons"]} == {"cumulative_return", "final_return"}
        assert [c["p_holm"] for c in reading["comparisons"]] == pytest.approx(
            list(statistics.holm([c["p_value"] for c in reading["comparisons"]]))
        )
    for path in outputs.write(found, tmp_path):
        assert "threshold" not in path.read_text().replace('"threshold": null', ""), path.name
    out = io.StringIO()
    tables.print_tables(found, Console(file=out, width=120))
    assert "loro" in out.getvalue() and "threshold" not in out.getvalue()


def test_metrics_have_names_and_titles_of_their_own() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len({metric.title for metric in metrics.METRICS}) == len(names)
    assert metrics.applicable(0.0) == metrics.METRICS
    with pytest.raises(ValueError, match="need one"):
        metrics.METRICS[names.index("steps_to_threshold")].of(np.ones((2, 9)), np.arange(9.0), None)


def test_a_metric_is_a_line_of_the_tuple(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    best = metrics.Metric(
        "best",
        "best evaluation",
        lambda curves, steps, threshold: curves.max(axis=1),
        definition="the best of all evaluations",
        guide="Best: at {threshold} or not.",
    )
    monkeypatch.setattr(metrics, "METRICS", (best, *metrics.METRICS))
    found = summary.summarise(**arguments())
    assert found["arms"]["loro"]["best"]["mean"] == 200 and found["statistics"]["best"].startswith("the best")
    text = tables.render_markdown(found)
    assert (
        "| arm | best evaluation, IQM [95 %] | cumulative return" in text and "Best: at 195 or not." in text
    )
    assert [c["metric"] for c in found["comparisons"]][:2] == ["best", "cumulative_return"]
    outputs.write(found, tmp_path)
    assert (
        (tmp_path / "tables" / "arms.csv")
        .read_text()
        .startswith("arm,diverged,episodes,best_iqm,best_iqm_low,")
    )


def test_no_partial_file_is_left(tmp_path: pathlib.Path) -> None:
    outputs.write(summary.summarise(**arguments()), tmp_path)
    names = [f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "tex")]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        *names,
        "summary.json",
        "summary.md",
    ]
