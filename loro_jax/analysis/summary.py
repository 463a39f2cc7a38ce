"""What a run found, as the dictionary of `summary.json`, from plain arrays; `outputs` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import metrics, statistics
from loro_jax.analysis.formats import strict
from loro_jax.analysis.metrics import Metric
from loro_jax.analysis.statistics import SEED

EQUAL_BUDGET = "equal total budget: the environment steps of prior data are charged to the arm that uses them"
LLM_FREE = "prior data is free: evaluations are counted from the start of online training"


POLICIES = ("llm_policy", "random_policy")
"""Flat lines that learn nothing at all; other flat lines are of arms that learn offline, seed by seed."""


def summarise(
    benchmark: str,
    protocol: str,
    curves: Mapping[str, npt.NDArray[Any]],
    env_steps: npt.NDArray[Any],
    flat: Mapping[str, npt.NDArray[Any]],
    baseline: str,
    threshold: float | None,
    llm_free: Mapping[str, npt.NDArray[Any]],
    notes: Mapping[str, Any],
    random_return: float | None = None,
    diverged: Mapping[str, npt.NDArray[Any]] | None = None,
) -> dict[str, Any]:
    """The contract of `summary.json`: strict JSON values only, null where a number does not exist.

    Args:
        benchmark: the task's name.
        protocol: the protocol's name.
        curves: per learning arm, returns (seeds, evaluations) with prior data charged; row i of every
            arm is seed i.
        env_steps: environment steps at each evaluation, (evaluations,); the last one is the budget.
        flat: per policy that does not learn, its episode returns, (episodes,); per arm that learns offline,
            its seeds' mean returns, (seeds,).
        baseline: the arm that the others are compared with; without its curves there is no comparison.
        threshold: the return at which the task counts as solved; None where the task names none, and the
            metrics that need it are left out.
        llm_free: as `curves`, evaluations counted from the start of online training; the arms are cut
            to their common number of evaluations.
        notes: JSON values about the run. `model`, `prompt` and `dataset` say where the episodes come
            from (`source_line`); `charging` says how this protocol charges prior data; `warnings` are
            sentences that a reader has to see.
        random_return: the random policy's mean return, which a diverged run counts as.
        diverged: per learning arm, the environment step at which each seed diverged, -1 for those that did
            not, (seeds,); without it that of the first evaluation that is NaN.

    Raises:
        ValueError: values that are not finite where no run diverged, or arms whose shapes differ.
    """
    if len({np.shape(curve) for curve in curves.values()}) > 1:
        raise ValueError(f"arms differ in shape: { {name: np.shape(c) for name, c in curves.items()} }")
    common = min((np.shape(c)[1] for c in llm_free.values()), default=0)
    free = {name: np.asarray(curve)[:, :common] for name, curve in llm_free.items()}
    steps = np.asarray(env_steps, np.float64)
    measured = metrics.applicable(threshold)
    lost = {arm: named for arm in curves if (named := _named(curves[arm], steps, (diverged or {}).get(arm)))}
    offline = {arm: np.isnan(returns) for arm, returns in flat.items() if arm not in POLICIES}
    lost |= {
        arm: [{"seed": int(i), "env_step": 0} for i in np.flatnonzero(nan)]
        for arm, nan in offline.items()
        if nan.any()
    }
    if random_return is not None:
        flat = dict(flat) | {arm: np.where(nan, random_return, flat[arm]) for arm, nan in offline.items()}
    equal = _reading(measured, curves, steps, flat, baseline, threshold, random_return)
    other = _reading(measured, free, steps[:common], flat, baseline, threshold, random_return)
    times = ", ".join(metric.name for metric in measured if metric.censored)
    summary = {
        "benchmark": benchmark,
        "protocol": protocol,
        "seeds": len(next(iter(curves.values()))) if curves else 0,
        "baseline": baseline,
        "threshold": threshold,
        "random_return": random_return if lost else None,
        "diverged": lost,
        **equal,
        "readings": {
            "equal_budget": {"says": EQUAL_BUDGET + " (the tables at the top level)"},
            "llm_free": {"says": LLM_FREE, **other},
        },
        "statistics": {
            "interval": "95 % percentile bootstrap over seeds",
            "resamples": statistics.RESAMPLES,
            "seed": SEED,
            **{metric.name: metric.definition for metric in measured if metric.definition},
            "probability_of_improvement": "that a run of the arm is better than a run of the baseline"
            f"{f' (faster, for {times})' if times else ''}, ties counting half; its interval resamples paired"
            " seeds",
            "difference": "arm - baseline, paired by seed"
            f"{f' ({times}: negative is faster)' if times else ''}",
            "p_value": "paired sign-flip permutation test, two-sided; p_holm over all of a reading",
            "diverged": "runs whose loss, gradients, parameters or evaluation stopped being finite: their"
            " curves are NaN from there on, which counts as random_return in means and differences; by rank"
            " (iqm, median, probability of improvement) they are the worst"
            f"{', and they reach no threshold' if times else ''}",
            "flat_lines": "policies that do not learn: their numbers are over episodes, not seeds, and they"
            " enter no paired comparison"
            + (
                "; arms that learn offline likewise, but over seeds, and without a cumulative return, as"
                " their data is no part of the budget"
                if offline
                else ""
            ),
        },
        "notes": dict(notes),
    }
    return strict(summary)


def _reading(
    measured: Sequence[Metric],
    curves: Mapping[str, npt.NDArray[Any]],
    steps: statistics.Floats,
    flat: Mapping[str, npt.NDArray[Any]],
    baseline: str,
    threshold: float | None,
    random_return: float | None,
) -> dict[str, Any]:
    """Arms and comparisons of one way to count environment steps."""
    if len(steps) == 0:
        return {"evaluations": 0, "budget": 0, "arms": {}, "comparisons": []}
    if any(np.shape(curve)[1] != len(steps) for curve in curves.values()):
        raise ValueError(f"curves do not have one value per entry of env_steps ({len(steps)})")
    budget = float(steps[-1])
    whole = {arm: statistics.filled(curve, random_return) for arm, curve in curves.items()}
    lost = {arm: diverged for arm, (_, diverged) in whole.items()}
    values = {
        arm: {m.name: m.values(curve, lost[arm], steps, threshold) for m in measured}
        for arm, (curve, _) in whole.items()
    }
    arms: dict[str, Any] = {
        arm: {m.name: _describe(m, of_arm[m.name], budget, lost[arm]) for m in measured}
        | {"diverged": int(lost[arm].sum())}
        for arm, of_arm in values.items()
    }
    for name, returns in flat.items():
        constant = np.repeat(np.asarray(returns, np.float64)[:, None], len(steps), axis=1)
        # One lucky episode does not make a policy that solves the task: times use the mean return.
        level = np.full_like(constant, constant.mean())
        arms[name] = {
            "flat": True,
            "episodes": len(constant),
            **{
                m.name: _describe(m, m.of(level if m.censored else constant, steps, threshold), budget)
                for m in measured
                if name in POLICIES or not m.of_budget
            },
        }
    comparisons = [
        _compare(arm, baseline, m, values, budget, lost)
        for arm in values
        for m in measured
        if arm != baseline and baseline in values
    ]
    for comparison, p in zip(comparisons, statistics.holm([c["p_value"] for c in comparisons]), strict=True):
        comparison["p_holm"] = float(p)
    return {"evaluations": len(steps), "budget": budget, "arms": arms, "comparisons": comparisons}


def _named(
    curve: npt.NDArray[Any], steps: statistics.Floats, diverged: npt.NDArray[Any] | None
) -> list[dict[str, int]]:
    """The seeds of an arm that diverged, and the environment step at which each did."""
    nan = np.isnan(np.asarray(curve, np.float64))
    lost = np.flatnonzero(nan.any(axis=1))
    if diverged is not None and (np.asarray(diverged)[lost] < 0).any():
        raise ValueError("a curve holds values that are not finite, and its seed did not diverge")
    return [
        {"seed": int(i), "env_step": int(steps[nan[i].argmax()] if diverged is None else diverged[i])}
        for i in lost
    ]


def _describe(
    metric: Metric, values: statistics.Floats, budget: float, lost: npt.NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """The five statistics of one metric of one arm; std is null with one run."""
    finite = np.minimum(values, budget) if metric.censored else values
    ranks = None if lost is None else metric.ranks(finite, lost)
    described: dict[str, Any] = {
        "mean": float(finite.mean()),
        "iqm": statistics.iqm(finite, ranks),
        "iqm_ci95": statistics.interval(finite, seed=SEED, ranks=ranks),
        "median": statistics.median(finite, ranks),
        "std": float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
    }
    if metric.censored:
        times = statistics.censored_times(values, budget, seed=SEED)
        described |= {
            "mean_ci95": times.restricted_mean_ci,
            "median": times.median,
            "median_ci95": times.median_ci,
            "reached": times.reached,
            "reached_ci95": times.reached_ci,
            "censored": times.censored,
        }
    return described


def _compare(
    arm: str,
    baseline: str,
    metric: Metric,
    values: dict[str, dict[str, statistics.Floats]],
    budget: float,
    lost: dict[str, npt.NDArray[np.bool_]],
) -> dict[str, Any]:
    ranks = tuple(metric.ranks(values[a][metric.name], lost[a]) for a in (arm, baseline))
    found = statistics.paired(
        values[arm][metric.name],
        values[baseline][metric.name],
        seed=SEED,
        lower_is_better=metric.lower_is_better,
        budget=budget if metric.censored else math.inf,
        ranks=(ranks[0], ranks[1]),
    )
    return {
        "arm": arm,
        "baseline": baseline,
        "metric": metric.name,
        "difference_mean": found.difference,
        "difference_ci95": found.difference_ci,
        "probability_of_improvement": found.improvement,
        "probability_of_improvement_ci95": found.improvement_ci,
        "p_value": found.p_value,
        "p_holm": math.nan,  # corrected once all comparisons are known
        "diverged": int(lost[arm].sum()),
        "diverged_baseline": int(lost[baseline].sum()),
    }


def source_line(summary: Mapping[str, Any]) -> str:
    """One line that says where the numbers come from, for tables and figures."""
    notes = summary["notes"]
    if notes.get("model"):
        source = f"LLM episodes: {notes['model']}, prompt '{notes.get('prompt', 'unknown')}'"
    elif notes.get("dataset"):
        source = f"LLM episodes: {notes['dataset']}"
    else:
        source = "no LLM episodes"
    seeds = f"{summary['seeds']} seed{'' if summary['seeds'] == 1 else 's'}"
    return f"{source}; {seeds}; protocol '{summary['protocol']}'"


def doubts(summary: Mapping[str, Any]) -> list[str]:
    """What a figure has to say of its numbers, in short phrases: runs that diverged, doubtful prior data."""
    doubtful = ["doubtful prior data: see summary.md"] if summary["notes"].get("warnings") else []
    return divergence(summary, most=2) + doubtful


def divergence(summary: Mapping[str, Any], most: int = 3) -> list[str]:
    """The runs that diverged, a phrase for each arm that has some; of many the first `most` are named."""
    phrases = []
    for arm, lost in summary["diverged"].items():
        names = [f"seed {run['seed']} at step {run['env_step']:,}" for run in lost[:most]]
        more = [f"{len(lost) - most} more"] if len(lost) > most else []
        phrases.append(f"diverged: {len(lost)} of {summary['seeds']} of {arm} ({', '.join(names + more)})")
    return phrases
