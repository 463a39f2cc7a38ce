"""Several tasks as one answer: scores normalised between the random policy and the best known return.

Statistics over environments x seeds follow Agarwal et al., "Deep reinforcement learning at the edge of the
statistical precipice" (NeurIPS 2021): interquartile mean, optimality gap, performance profile, probability of
improvement, each with a bootstrap that resamples runs within each environment. A run that diverged scores as
the random policy from there on, and is the worst by rank (see `statistics`). Knows numpy alone, so that saved
runs can be aggregated without JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import rendering, statistics
from loro_jax.analysis.formats import between, significant
from loro_jax.analysis.metrics import final_return
from loro_jax.analysis.rendering import Cell, Column, Table, estimate, estimated, word
from loro_jax.analysis.statistics import SEED, Floats, weighted_iqm, weighted_mean
from loro_jax.errors import UserError
from loro_jax.records import identity as identities
from loro_jax.records import results

SCORES = {"whole": "mean return over the whole budget", "final": "final return"}
"""Of what a score is made, one for each run."""
THRESHOLDS = np.linspace(-0.25, 1.25, 61)
"""Normalised scores at which a performance profile is evaluated."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One task's saved run.

    Attributes:
        name: the task's.
        low: the random policy's mean return, which is score 0.
        high: the best known return, which is score 1.
        curves: by learning arm, returns (seeds, evaluations), prior data charged; NaN where a seed has
            diverged.
        flat: by policy that does not learn, its episode returns, (episodes,).
        run: what of its `run.json` the aggregate repeats: seed, and name of the LLM episodes, or of the
            answers that each seed's own were played by.
        precision: what it was computed in; empty where an older run does not say.
    """

    name: str
    low: float
    high: float
    curves: Mapping[str, Floats]
    flat: Mapping[str, Floats]
    run: Mapping[str, Any]
    precision: str = ""

    @property
    def seeds(self) -> int:
        return min((len(curve) for curve in self.curves.values()), default=0)

    def score(self, returns: Floats) -> Floats:
        """Returns as scores, not clipped."""
        return (np.asarray(returns, np.float64) - self.low) / (self.high - self.low)

    def scores(self, arm: str, metric: str) -> Floats:
        """One score per seed, (seeds,)."""
        curve, _ = statistics.filled(self.curves[arm], self.low)
        return self.score(curve.mean(axis=1) if metric == "whole" else final_return.last_mean(curve))

    def diverged(self, arm: str) -> npt.NDArray[np.bool_]:
        """Which seeds diverged, (seeds,)."""
        return np.asarray(np.isnan(np.asarray(self.curves[arm], np.float64)).any(axis=1))


def load(
    folder: pathlib.Path,
    name: str,
    best: float,
    different: Callable[[Mapping[str, Any]], Sequence[str]],
    random: Callable[[int], npt.NDArray[Any]],
) -> Task:
    """The run saved in `folder`, which has to be of task `name` with the settings that are asked for.

    `best` is the best known return. `different` says in what a run's identity differs from these settings, a
    phrase each. `random` gives the random policy's episode returns, (episodes,), from the run's seed; it is
    called only where the run itself left that arm out.

    Raises:
        UserError: the run is not finished, cannot be read, or is of another configuration.
    """
    try:
        saved = results.read(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: no such file; {name} has no finished run there: run it, or leave it out of"
            " --tasks"
        ) from None
    try:
        identity = identities.upgraded(saved.run["identity"])
        kept: dict[str, Any] = {
            "seed": int(identity["seed"]),
            "episodes": (identity["episodes"] or identity.get("answers") or {}).get("name"),
        }
        precision = str((saved.run.get("computed_on") or {}).get("precision", ""))
        if identity["task"] != name:
            raise UserError(f"{folder}: holds {identity['task']}, not {name}")
        other = different(identity)
    except UserError as error:
        raise UserError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from None
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a finished run ({' '.join(str(error).split())})") from None
    if other:
        raise UserError(
            f"{folder}: was run under other settings ({'; '.join(other[:2])}); run it again, or choose"
            " another --out"
        )
    flat = saved.group("flat")
    if "random_policy" not in flat:
        flat["random_policy"] = random(kept["seed"])
    for learning, arrays in ((True, saved.curves), (False, flat)):
        for arm, returns in arrays.items():
            if why := _unusable(returns, learning):
                raise UserError(f"{folder}: {arm} {why}; run it again")
    return Task(name, float(flat["random_policy"].mean()), best, saved.curves, flat, kept, precision)


def _unusable(returns: npt.NDArray[Any], learning: bool) -> str:
    """What is wrong with saved returns, or nothing: curves of seeds that diverged become NaN and stay so."""
    if returns.dtype.kind not in "fiu" or returns.ndim != 1 + learning or returns.size == 0:
        return f"holds no returns but {returns.dtype} of shape {returns.shape}"
    if not learning:
        return "" if np.isfinite(returns).all() else "holds returns that are not finite"
    try:
        statistics.filled(returns, 0.0)
    except ValueError:
        return "holds returns that are not finite, and not as a seed that diverged leaves them"
    return ""


def aggregate(tasks: Sequence[Task], baseline: str) -> dict[str, Any]:
    """`suite.json`: aggregates of the arms that all tasks have, over the first seeds that all tasks have."""
    if len(precisions := {task.precision: task.name for task in tasks if task.precision}) > 1:
        which = ", ".join(f"{name} in {precision}" for precision, name in precisions.items())
        raise UserError(f"runs of different precision are not aggregated ({which}); run one of them again")
    if not tasks:
        raise UserError("no task to aggregate")
    arms = [arm for arm in tasks[0].curves if all(arm in task.curves for task in tasks)]
    if baseline not in arms:
        lacking = [task.name for task in tasks if baseline not in task.curves]
        raise UserError(f"the arm {baseline} was not run in {', '.join(lacking)}; run it, to compare with")
    left_out = sorted({arm for task in tasks for arm in task.curves} - set(arms))
    seeds = min(task.seeds for task in tasks)
    found: dict[str, Any] = {
        "benchmarks": [task.name for task in tasks],
        "seeds": seeds,
        "baseline": baseline,
        "left_out": left_out,
        "diverged": {arm: lost for arm in arms if (lost := _lost(tasks, arm, seeds))},
        "normalisation": {
            task.name: {"random": task.low, "best": task.high, "seeds": task.seeds, **task.run}
            for task in tasks
        },
        "metrics": SCORES,
        "thresholds": THRESHOLDS.tolist(),
        "arms": {},
    }
    matrices = {
        metric: {arm: np.stack([t.scores(arm, metric)[:seeds] for t in tasks], axis=1) for arm in arms}
        for metric in SCORES
    }
    gone = {arm: np.stack([t.diverged(arm)[:seeds] for t in tasks], axis=1) for arm in arms}
    for arm in arms:
        found["arms"][arm] = {}
        for metric, of in matrices.items():
            ranks = {a: statistics.ranked(of[a], gone[a]) for a in (arm, baseline)}
            found["arms"][arm][metric] = _describe(of[arm], ranks[arm], tasks) | (
                _nothing() if arm == baseline else _improvement(*(_or(ranks[a], of[a]) for a in ranks))
            )
    found["policies"] = {
        policy: {t.name: float(t.score(t.flat[policy]).mean()) for t in tasks if policy in t.flat}
        for policy in ("llm_policy", "random_policy")
    }
    return found


def _lost(tasks: Sequence[Task], arm: str, seeds: int) -> dict[str, int]:
    """How many of an arm's first `seeds` seeds diverged, by task, where some did."""
    counts = {task.name: int(task.diverged(arm)[:seeds].sum()) for task in tasks}
    return {name: count for name, count in counts.items() if count}


def _describe(scores: Floats, ranks: Floats | None, tasks: Sequence[Task]) -> dict[str, Any]:
    """Aggregates of scores (seeds, tasks), each with its interval; `ranks` as `statistics.ranked` has it."""
    described: dict[str, Any] = {}
    one = np.ones((scores.size, 1))
    statistic_of: dict[str, statistics.Statistic] = {
        "iqm": weighted_iqm,
        "mean": weighted_mean,
        "median": functools.partial(_median, len(tasks)),
        "optimality_gap": _gap,
    }
    for name, statistic in statistic_of.items():
        by = None if ranks is None else ranks.ravel()
        described[name] = float(statistic(scores.ravel(), one, by)[0])
        described[f"{name}_ci95"] = _ends(statistics.interval(scores, statistic, seed=SEED, ranks=ranks))
    described["per_environment"] = {
        task.name: {
            "mean": float(column.mean()),
            "mean_ci95": _ends(statistics.interval(column, weighted_mean, seed=SEED)),
        }
        for task, column in zip(tasks, scores.T, strict=True)
    }
    centre, *band = (_strict(end) for end in profile(_or(ranks, scores)))
    described["profile"] = {"share": centre, "low": band[0], "high": band[1]}
    return described


def _gap(values: Floats, counts: Floats, ranks: Floats | None = None) -> Floats:
    """Optimality gap of each resample: how far scores fall short of 1 on average, above 1 counting as 1."""
    return weighted_mean(1.0 - np.minimum(values, 1.0), counts)


def _median(tasks: int, values: Floats, counts: Floats, ranks: Floats | None = None) -> Floats:
    """Median over tasks of each resample's mean over runs; `values` is (seeds, tasks), raveled."""
    each = (values[:, None] * counts).reshape(-1, tasks, counts.shape[1]).sum(axis=0)
    return np.median(each * tasks / len(values), axis=0)


def profile(scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Share of runs (seeds, tasks) above each threshold, with the ends of its pointwise 95 % band.

    A score of -inf is above none of them.
    """
    seeds, tasks = scores.shape
    above = (scores.ravel()[None] > THRESHOLDS[:, None]).astype(np.float64)
    if seeds < 2:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return above.mean(axis=1), nothing, nothing
    drawn = above @ statistics.resample(seeds, tasks, SEED) / scores.size
    low, high = np.quantile(drawn, (0.025, 0.975), axis=1)
    return above.mean(axis=1), low, high


def improvement(arm: Floats, baseline: Floats) -> tuple[float, statistics.Interval]:
    """Probability that a run of the arm beats one of the baseline, averaged over tasks, and its interval.

    Both are (seeds, tasks), row i being seed i, and -inf ties with -inf: the bootstrap takes both arms' runs
    of a seed together, within each task.
    """
    seeds, tasks = arm.shape
    wins = [
        (arm[:, None, k] > baseline[None, :, k]) + 0.5 * (arm[:, None, k] == baseline[None, :, k])
        for k in range(tasks)
    ]
    estimate = float(np.mean([w.mean() for w in wins]))
    if seeds < 2:
        return estimate, (float("nan"), float("nan"))
    counts = statistics.resample(seeds, tasks, SEED).reshape(seeds, tasks, -1)
    drawn = np.mean(
        [np.einsum("ir,ir->r", counts[:, k], w @ counts[:, k]) / seeds**2 for k, w in enumerate(wins)], axis=0
    )
    low, high = np.quantile(drawn, (0.025, 0.975))
    return estimate, (float(low), float(high))


def _improvement(arm: Floats, baseline: Floats) -> dict[str, Any]:
    estimate, ends = improvement(arm, baseline)
    return {"improvement": estimate, "improvement_ci95": _ends(ends)}


def _nothing() -> dict[str, Any]:
    return {"improvement": None, "improvement_ci95": [None, None]}


def _or(ranks: Floats | None, scores: Floats) -> Floats:
    return scores if ranks is None else ranks


def _strict(values: Floats) -> list[float | None]:
    """As JSON has them: what is not finite is null."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _ends(ends: statistics.Interval) -> list[float | None]:
    return [end if np.isfinite(end) else None for end in ends]


def divergence(found: Mapping[str, Any]) -> list[str]:
    """How many of the seeds that enter diverged, a phrase for each arm of which some did."""
    return [
        f"{arm}: " + ", ".join(f"{count} of {found['seeds']} in {name}" for name, count in lost.items())
        for arm, lost in found["diverged"].items()
    ]


def tables(found: Mapping[str, Any]) -> list[Table]:
    """The aggregates; the mean scores by environment; what scores 0 and 1 there."""
    return [_aggregates(found), _environments(found), _normalisation(found)]


def _aggregates(found: Mapping[str, Any]) -> Table:
    shown = {
        "IQM, whole": ("whole", "iqm"),
        "IQM, final": ("final", "iqm"),
        "optimality gap, whole": ("whole", "optimality_gap"),
        "P(improvement)": ("whole", "improvement"),
    }
    columns = [Column("arm", ("arm", "diverged"))]
    columns += [estimated(title, "_".join(of)) for title, of in shown.items()]
    rows = []
    for arm, scores in found["arms"].items():
        lost = sum(found["diverged"].get(arm, {}).values())
        cells = [
            estimate(scores[score][name], scores[score][f"{name}_ci95"], 2) for score, name in shown.values()
        ]
        rows.append((Cell(f"{arm}{_beside(lost)}", (arm, lost)), *cells))
    title = f"{len(found['benchmarks'])} environments, {found['seeds']} seeds of each"
    return Table("suite", title, tuple(columns), rows)


def _environments(found: Mapping[str, Any]) -> Table:
    names = found["benchmarks"]
    of = ("", "_low", "_high", "_diverged")
    columns = (Column("arm", ("arm",)), *(Column(n, tuple(f"{n}{end}" for end in of)) for n in names))
    rows = []
    for arm, scores in found["arms"].items():
        each, lost = scores["whole"]["per_environment"], found["diverged"].get(arm, {})
        rows.append(
            (word(arm), *(_cell(each[n]["mean"], each[n]["mean_ci95"], lost.get(n, 0)) for n in names))
        )
    for policy, score in found["policies"].items():
        if not score:  # of no task
            continue
        cells = [_cell(score.get(name), (None, None), None) for name in names]
        rows.append((word(policy), *cells))
    return Table("environments", "By environment (mean score, whole budget)", columns, rows)


def _normalisation(found: Mapping[str, Any]) -> Table:
    columns = (
        Column("", ("environment",)),
        Column("random policy (0)", ("random",)),
        Column("best known (1)", ("best",)),
        Column("seeds run", ("seeds",)),
        Column("LLM episodes", ("episodes",)),
    )
    rows = [
        (
            word(name),
            *(Cell(significant(n[level]), (n[level],)) for level in ("random", "best")),
            Cell(str(n["seeds"]), (n["seeds"],)),
            word(n["episodes"] or ""),
        )
        for name, n in found["normalisation"].items()
    ]
    return Table("normalisation", "What scores 0 and 1", columns, rows)


def markdown(found: Mapping[str, Any], protocol: str) -> str:
    """`suite.md`."""
    names = ", ".join(found["benchmarks"])
    aggregates, environments, normalisation = tables(found)
    lines = [
        f"# Suite, protocol `{protocol}`",
        "",
        f"{len(found['benchmarks'])} environments ({names}), {found['seeds']} seeds of each. Scores: 0 is"
        " the random policy, 1 the best known return; not clipped. `whole` is the mean return over the whole"
        " budget, prior data charged; `final` the mean of the last tenth of the evaluations. Intervals: 95 %"
        " percentile bootstrap, runs resampled within each environment. P(improvement) is over"
        f" {found['baseline']}, on `whole`, averaged over environments.",
        "",
        *rendering.markdown(aggregates),
    ]
    if phrases := divergence(found):
        lines += [
            "",
            f"**Diverged: {'; '.join(phrases)}.** From there on such a run counts as the random policy's"
            " return (mean, median, optimality gap); by rank (IQM, profile, P(improvement)) it is the worst.",
        ]
    if found["left_out"]:
        lines += ["", f"Left out, since not every environment has them: {', '.join(found['left_out'])}."]
    lines += ["", f"## {environments.title}", "", *rendering.markdown(environments)]
    lines += ["", *rendering.markdown(normalisation)]
    return "\n".join(lines) + "\n"


def _beside(lost: int | None) -> str:
    """The number of runs that diverged, for beside a figure that they enter."""
    return f" ({lost} diverged)" if lost else ""


def _cell(value: float | None, ends: Sequence[float | None], lost: int | None) -> Cell:
    """A score with its interval, and how many of the runs behind it diverged."""
    return Cell(between(value, ends, places=2) + _beside(lost), (value, *ends, lost))
