"""Two runs of the same arms on one task, arm by arm: which differ, and what could have been found.

Every arm that both have is compared by every metric, prior data charged: a row is B less A. Where seeds pair,
row i of both being one seed, the differences of pairs are tested (`statistics.sign_flip`), elsewhere the two
groups of runs (`statistics.regrouping`); both tests look at means. Holm's correction runs over the whole
table, so that the error rate is that of the table: the chance that any row of it is called different although
both runs came from the same distribution. It says nothing of what was missed; `Row.detectable` does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import metrics, statistics
from loro_jax.analysis.formats import between, number, significant, strict
from loro_jax.analysis.metrics import Metric
from loro_jax.analysis.rendering import Cell, Column, Table, estimated
from loro_jax.analysis.statistics import RESAMPLES, SEED, Floats, Interval
from loro_jax.errors import UserError

POWER = 0.8
PERMUTATIONS = (9_999, 99_999)
"""At least and at most; between them five times as many as the first step of Holm's correction needs."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """What one run found.

    Attributes:
        curves: by learning arm, returns (seeds, evaluations), prior data charged; NaN where a seed diverged.
        env_steps: environment steps at each evaluation, (evaluations,).
        random_return: the random policy's mean return, where a seed diverged.
    """

    curves: Mapping[str, npt.NDArray[Any]]
    env_steps: npt.NDArray[Any]
    random_return: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One arm by one metric.

    Attributes:
        arm: its name.
        metric: its name.
        seeds: runs of A and of B that enter.
        means: of A and of B, in the metric's unit.
        difference: mean of B less that of A.
        difference_ci95: bootstrap interval.
        improvement: probability that a run of B is better than a run of A, ties counting half.
        improvement_ci95: bootstrap interval.
        p_value: permutation test of the difference of means, two-sided.
        p_holm: the same, corrected over all rows.
        detectable: the smallest true difference of means that this row's test finds with probability `POWER`,
            from the spread seen here; inf where no difference would do, NaN where nothing scattered.
        equal: the two arms' curves are equal to the bit.
        diverged: runs of A and of B that diverged.
        differs: `p_holm` is not above the error rate.
    """

    arm: str
    metric: str
    seeds: tuple[int, int]
    means: tuple[float, float]
    difference: float
    difference_ci95: Interval
    improvement: float
    improvement_ci95: Interval
    p_value: float
    p_holm: float
    detectable: float
    equal: bool
    diverged: tuple[int, int]
    differs: bool


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The table.

    Attributes:
        rows: by arm, then by metric.
        paired: by seed.
        error_rate: the chance of any false difference in the whole table.
        only_a: arms that A alone has.
        only_b: arms that B alone has.
        permutations: of each test, where not all of them are tried.
        smallest_p: the smallest p that the test of any row can give with so many runs.
    """

    rows: tuple[Row, ...]
    paired: bool
    error_rate: float
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    permutations: int
    smallest_p: float

    @property
    def differs(self) -> bool:
        return any(row.differs for row in self.rows)

    @property
    def equal(self) -> bool:
        """Every common arm is equal to the bit."""
        return all(row.equal for row in self.rows)

    @property
    def blind(self) -> bool:
        """No difference, however large, could be found: there are too few runs for so low an error rate."""
        return self.smallest_p * len(self.rows) > self.error_rate

    @property
    def remedy(self) -> str:
        """What to do where it is blind."""
        if self.smallest_p <= 2 / (self.permutations + 1):
            return f"--error-rate must be at least {self.smallest_p * len(self.rows):.2g}"
        return "run more seeds, or raise --error-rate"


def compare(
    a: Runs,
    b: Runs,
    threshold: float | None,
    *,
    paired: bool,
    error_rate: float,
    permutations: int | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """The table of B against A; `threshold` is the task's, None where the two do not share one.

    With `paired`, seed i of A and of B belong together, and seeds that only one of them has are left out.
    The draws are fixed (`statistics.SEED`): the same runs give the same table.

    Raises:
        UserError: the runs have no arm in common, or were not evaluated at the same environment steps.
        ValueError: curves are not finite although no seed diverged, or the error rate is no probability.
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"the error rate must lie between 0 and 1, got {error_rate}")
    if not np.array_equal(a.env_steps, b.env_steps):
        raise UserError(
            f"A and B were not evaluated at the same environment steps ({_span(a)} in A, {_span(b)} in B):"
            " their curves cannot be compared"
        )
    arms = [arm for arm in a.curves if arm in b.curves]
    if not arms:
        raise UserError("A and B have no learning arm in common")
    measured = metrics.applicable(threshold)
    rows = len(arms) * len(measured)
    if permutations is None:
        permutations = min(max(PERMUTATIONS[0], math.ceil(10 * rows / error_rate)), PERMUTATIONS[1])
    found, smallest = [], 1.0
    for arm in arms:
        pair = a.curves[arm], b.curves[arm]
        if paired:
            common = min(len(curve) for curve in pair)
            pair = pair[0][:common], pair[1][:common]
        sizes = len(pair[0]), len(pair[1])
        smallest = min(smallest, statistics.smallest_p(sizes[0], None if paired else sizes[1], permutations))
        for metric in measured:
            found.append(
                _row(arm, metric, pair, a, b, threshold, paired, error_rate / rows, permutations, resamples)
            )
    corrected = statistics.holm([row.p_value for row in found])
    return Comparison(
        rows=tuple(
            dataclasses.replace(row, p_holm=float(p), differs=bool(p <= error_rate))
            for row, p in zip(found, corrected, strict=True)
        ),
        paired=paired,
        error_rate=error_rate,
        only_a=tuple(arm for arm in a.curves if arm not in b.curves),
        only_b=tuple(arm for arm in b.curves if arm not in a.curves),
        permutations=permutations,
        smallest_p=smallest,
    )


def _row(
    arm: str,
    metric: Metric,
    pair: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    a: Runs,
    b: Runs,
    threshold: float | None,
    paired: bool,
    first_step: float,
    permutations: int,
    resamples: int,
) -> Row:
    """One row, not yet corrected; `first_step` is the level that the smallest p of the table has to meet."""
    steps = np.asarray(a.env_steps, np.float64)
    budget = float(steps[-1]) if metric.censored else math.inf
    values: list[Floats] = []
    ranks: list[Floats | None] = []
    lost: list[int] = []
    for curve, level in zip(pair, (a.random_return, b.random_return), strict=True):
        whole, gone = statistics.filled(curve, level)
        values.append(metric.values(whole, gone, steps, threshold))
        ranks.append(metric.ranks(values[-1], gone))
        lost.append(int(gone.sum()))
    against = statistics.paired if paired else statistics.unpaired
    contrast = against(
        values[1],
        values[0],
        seed=SEED,
        lower_is_better=metric.lower_is_better,
        budget=budget,
        resamples=resamples,
        permutations=permutations,
        ranks=(ranks[1], ranks[0]),
    )
    before, after = (np.minimum(x, budget) for x in values)
    return Row(
        arm=arm,
        metric=metric.name,
        seeds=(len(before), len(after)),
        means=(float(before.mean()), float(after.mean())),
        difference=contrast.difference,
        difference_ci95=contrast.difference_ci,
        improvement=contrast.improvement,
        improvement_ci95=contrast.improvement_ci,
        p_value=contrast.p_value,
        p_holm=math.nan,
        detectable=_detectable(before, after, paired, first_step, permutations),
        equal=_same_bits(*pair),
        diverged=(lost[0], lost[1]),
        differs=False,
    )


def _detectable(before: Floats, after: Floats, paired: bool, first_step: float, permutations: int) -> float:
    others = None if paired else len(after)
    if statistics.smallest_p(len(before), others, permutations) > first_step:
        return math.inf
    least = statistics.detectable(after - before if paired else (before, after), first_step, POWER)
    return least if least else math.nan


def _same_bits(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _span(runs: Runs) -> str:
    return f"{len(runs.env_steps)} times up to {number(float(runs.env_steps[-1]))}"


def table(found: Comparison) -> Table:
    """For `rendering`; in CSV an empty field is a number that does not exist."""
    titles = {metric.name: metric.title for metric in metrics.METRICS}
    columns = (
        Column("arm", ("arm", "diverged_a", "diverged_b")),
        Column("metric", ("metric",)),
        Column("A", ("seeds_a", "mean_a")),
        Column("B", ("seeds_b", "mean_b")),
        estimated("B - A [95 %]", "difference"),
        estimated("P(B better)", "improvement"),
        Column("p", ("p",)),
        Column("p (Holm)", ("p_holm",)),
        Column("would find", ("detectable",)),
        Column("", ("differs", "equal")),
    )
    rows = []
    for row in found.rows:
        lost = [f"{count} of {name}" for name, count in zip("AB", row.diverged, strict=True) if count]
        ends = strict(row.difference_ci95)
        says = between(row.difference, ends, sign="+")
        rows.append(
            (
                Cell(
                    f"{row.arm} (diverged: {', '.join(lost)})" if lost else row.arm, (row.arm, *row.diverged)
                ),
                Cell(titles[row.metric], (row.metric,)),
                *(Cell(between(m, None), (n, m)) for n, m in zip(row.seeds, row.means, strict=True)),
                Cell("equal to the bit" if row.equal else says, (row.difference, *ends)),
                Cell(number(row.improvement, 2), (row.improvement, *strict(row.improvement_ci95))),
                Cell(number(row.p_value, 4), (row.p_value,)),
                Cell(number(row.p_holm, 4), (row.p_holm,)),
                Cell(_found(row), (strict(row.detectable),)),
                Cell(_verdict(row), (str(row.differs).lower(), str(row.equal).lower())),
            )
        )
    title = f"B against A, {'paired by seed' if found.paired else 'not paired'}"
    return Table("comparison", title, columns, rows)


def _found(row: Row) -> str:
    if row.equal:
        return "any"
    if math.isnan(row.detectable):
        return "no spread"
    return "nothing" if math.isinf(row.detectable) else significant(row.detectable, 3)


def _verdict(row: Row) -> str:
    if not row.differs:
        return ""
    lower = {metric.name: metric.lower_is_better for metric in metrics.METRICS}[row.metric]
    return "B better" if (row.difference < 0) == lower else "B worse"


def verdict(found: Comparison) -> str:
    """The answer in one line."""
    if found.equal:
        return "Equal: every common arm's curves are equal to the bit."
    if found.differs:
        which = [f"{row.arm} by {row.metric} ({_verdict(row)})" for row in found.rows if row.differs]
        return f"Different, at an error rate of {found.error_rate:g}: {'; '.join(which)}."
    if found.blind and not found.equal:
        return f"Too few seeds to find any difference at an error rate of {found.error_rate:g}."
    return f"No difference found, at an error rate of {found.error_rate:g}."


def guide(found: Comparison) -> list[str]:
    """What the numbers mean, and what they cannot show: sentences for below the table."""
    rows = len(found.rows)
    rate = f"{found.error_rate:g}"
    pairs = "a sign-flip test of paired seeds" if found.paired else "a test that regroups the runs of A and B"
    return [
        f"Error rate: if A and B came from the same distribution, any of the {rows} rows would be called"
        f" different with a probability of at most {rate}. p is {pairs}, by means; p (Holm) is corrected over"
        f" all rows, and a row differs where it is at most {rate}.",
        f"Would find: the smallest true difference of means that a row finds with {POWER:.0%} probability,"
        " estimated from the spread seen here; a smaller one may be there and not show. A change that leaves"
        " these means as they are, such as one of the spread, never shows.",
    ]


def as_json(found: Comparison) -> dict[str, Any]:
    """Strict JSON of the table and of what it was made with; null where a number does not exist."""
    answer = {"verdict": verdict(found), "differs": found.differs, "equal": found.equal, "power": POWER}
    return strict(answer | dataclasses.asdict(found) | {"guide": guide(found)})


def only(found: Comparison) -> Sequence[str]:
    """A line for each run that has arms of its own."""
    sides = (("A", found.only_a), ("B", found.only_b))
    return [f"In {name} alone, not compared: {', '.join(arms)}." for name, arms in sides if arms]
