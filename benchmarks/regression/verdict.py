"""What has moved: one test for the whole table, and how it is told. Knows numpy and scipy alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy import stats

FALSE_ALARM = 0.01
"""The chance that a run of unchanged code is called moved, over all rows together (Bonferroni)."""
POWER = 0.9
EFFICIENCY = 3 / math.pi
"""Of the rank test against the test of means, where numbers are normal."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One reading of one arm.

    Attributes:
        before, now: its mean, in the reference and in this run; of a speed the ratio to the kernel's time.
        shift: the difference in standard deviations of the reference's seeds (of a speed: its runs).
        p: two-sided, of this row alone; of a speed one-sided, for slower.
        moved: p is below this row's share of the false alarms.
        notices: the smallest shift, in the same unit, that is noticed with probability `POWER`.
    """

    case: str
    arm: str
    reading: str
    before: float
    now: float
    shift: float
    p: float
    moved: bool
    notices: float


def compared(
    case: str, arm: str, reading: str, before: Sequence[float], now: Sequence[float], share: float
) -> Row:
    """A reading of seeds (n,) against the reference's (m,), by the Mann-Whitney test.

    `share`: of the false alarms, this row's.
    """
    x, y = np.asarray(before, np.float64), np.asarray(now, np.float64)
    same = len(np.unique(np.concatenate([x, y]))) == 1
    p = 1.0 if same else float(stats.mannwhitneyu(y, x, method="asymptotic").pvalue)
    spread = float(x.std(ddof=1))
    shift = float(y.mean() - x.mean()) / spread if spread else (0.0 if same else math.inf)
    return Row(
        case, arm, reading, float(x.mean()), float(y.mean()), shift, p, p < share,
        smallest(len(x), len(y), share),
    )  # fmt: skip


def smallest(before: int, now: int, share: float) -> float:
    """The shift, in standard deviations, that the test notices with probability `POWER` where numbers are
    normal."""
    threshold = stats.norm.isf(share / 2) + stats.norm.isf(1 - POWER)
    return float(threshold * math.sqrt((1 / before + 1 / now) / EFFICIENCY))


def timed(case: str, arm: str, before: Sequence[float], now: float, share: float) -> Row:
    """A log-ratio to the kernel against those of the reference's runs (m,): slower than a further run of them
    would be (Student's t)."""
    x = np.asarray(before, np.float64)
    spread = float(x.std(ddof=1)) * math.sqrt(1 + 1 / len(x))
    t = (now - float(x.mean())) / spread
    p = float(stats.t.sf(t, len(x) - 1))
    threshold = float(stats.t.isf(share, len(x) - 1)) + float(stats.t.isf(1 - POWER, len(x) - 1))
    return Row(
        case, arm, "time", math.exp(float(x.mean())), math.exp(now), t * math.sqrt(1 + 1 / len(x)), p,
        p < share, threshold * math.sqrt(1 + 1 / len(x)),
    )  # fmt: skip


def summary(rows: Sequence[Row]) -> str:
    """The last line: what moved, or that nothing did, and what would have been noticed."""
    moved = [row for row in rows if row.moved]
    learned = [row.notices for row in rows if row.reading != "time"]
    noticed = f"{min(learned):.2f} to {max(learned):.2f} standard deviations of a seed"
    power = f"a shift of {noticed} would be noticed with probability {POWER:.0%}"
    if not moved:
        return f"nothing moved in {len(rows)} rows (false alarms: {FALSE_ALARM:.0%} of runs; {power})"
    return f"{len(moved)} of {len(rows)} rows moved (false alarms: {FALSE_ALARM:.0%} of runs)"


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, what moved first."""
    lines = ["| case | arm | reading | reference | now | shift / sd | p | |", "| --- " * 8 + "|"]
    for row in sorted(rows, key=lambda row: (not row.moved, row.p)):
        lines.append(
            f"| {row.case} | {row.arm} | {row.reading} | {row.before:.4g} | {row.now:.4g} |"
            f" {row.shift:+.2f} | {row.p:.2g} | {'MOVED' if row.moved else ''} |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """All that was found, for machines."""
    return {
        **about,
        "false_alarm": FALSE_ALARM,
        "power": POWER,
        "moved": sum(row.moved for row in rows),
        "rows": [
            {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in vars(row).items()}
            for row in rows
        ],
    }


def as_junit(rows: Sequence[Row]) -> str:
    """A test case a row, as JUnit has it and CI shows it."""
    suite = ElementTree.Element(
        "testsuite", name="regression", tests=str(len(rows)), failures=str(sum(row.moved for row in rows))
    )
    for row in rows:
        found = ElementTree.SubElement(
            suite, "testcase", classname=f"regression.{row.case}.{row.arm}", name=row.reading
        )
        if row.moved:
            said = f"{row.before:.4g} before, {row.now:.4g} now, {row.shift:+.2f} sd, p = {row.p:.2g}"
            ElementTree.SubElement(found, "failure", message=said)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
