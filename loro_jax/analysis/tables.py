"""The tables of a summary, which `rendering` writes as markdown, for the terminal, as CSV and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loro_jax.analysis import metrics, rendering
from loro_jax.analysis.formats import number, significant
from loro_jax.analysis.rendering import Cell, Column, Table, estimate, estimated
from loro_jax.analysis.summary import POLICIES, divergence, source_line


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Arms, then comparisons, first of the equal-budget reading and then with prior data free."""
    free = summary["readings"]["llm_free"]
    found = []
    for reading, says, suffix in (
        (summary, "prior data charged", ""),
        (free, "prior data free", "_llm_free"),
    ):
        size = f"{number(reading['budget'])} environment steps, {reading['evaluations']} evaluations"
        against = f"Against {summary['baseline']}, paired by seed, {says}"
        if reading["arms"]:
            found.append(_arms(reading, f"arms{suffix}", f"Arms, {says} ({size})", summary["threshold"]))
        if reading["comparisons"]:
            found.append(_comparisons(reading, f"comparisons{suffix}", against))
    return found


def render_markdown(summary: Mapping[str, Any]) -> str:
    """`summary.md`."""
    lines = [
        f"# {summary['benchmark']}, protocol `{summary['protocol']}`",
        "",
        source_line(summary) + ".",
        "",
    ]
    for warning in warnings(summary):
        lines += [f"**{warning}**", ""]
    if summary["notes"].get("charging"):
        lines += [f"Prior data: {summary['notes']['charging']}.", ""]
    for table in tables(summary):
        lines += [f"## {table.title}", "", *rendering.markdown(table), ""]
    if phrases := divergence(summary, most=summary["seeds"]):
        lines += ["## Runs that diverged", "", *(f"- {phrase}" for phrase in phrases), ""]
    lines += ["## How to read this", "", *_reading_guide(summary), ""]
    return "\n".join(lines)


def print_tables(summary: Mapping[str, Any], console: Any = None) -> None:
    """Prints the equal-budget tables; `console` is a `rich.console.Console`."""
    from rich.console import Console

    console = console or Console()
    if not console.is_terminal:  # a log file or a pipe has no width to keep to
        console.width = max(console.width, 120)
    for table in tables(summary):
        if not table.name.endswith("_llm_free"):
            console.print(rendering.drawn(table))
    console.print(source_line(summary), highlight=False, markup=False)
    for warning in warnings(summary):
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before the numbers: doubtful prior data, and runs that diverged."""
    found = list(summary["notes"].get("warnings") or [])
    if phrases := divergence(summary):
        found.append(
            f"{'; '.join(phrases)}. From there on such a run counts as the random policy's"
            f" return ({significant(summary['random_return'])}) in means and differences, and as the worst by"
            " rank. summary.json names them all."
        )
    return found


def _arms(reading: Mapping[str, Any], name: str, title: str, threshold: float | None) -> Table:
    measured = [
        m for m in metrics.applicable(threshold) if any(m.name in a for a in reading["arms"].values())
    ]
    columns = [Column("arm", ("arm", "diverged", "episodes"))]
    for metric in measured:
        if metric.censored:
            at = "" if threshold is None else f" ({significant(threshold, 6)})"
            columns += [
                estimated(f"median {metric.title}{at}", f"{metric.name}_median"),
                estimated("reached", f"{metric.name}_reached"),
            ]
        else:
            columns += [estimated(f"{metric.title}, IQM [95 %]", f"{metric.name}_iqm")]
    rows = []
    for arm, found in reading["arms"].items():
        lost = found.get("diverged")
        row = [Cell(f"{arm} ({lost} diverged)" if lost else arm, (arm, lost, found.get("episodes")))]
        for metric in measured:
            value = found.get(metric.name)
            if value is None:
                row += [Cell("", (None,) * 3)] * (1 + metric.censored)
            elif not metric.censored:
                row.append(estimate(value["iqm"], value["iqm_ci95"]))
            elif found.get("flat"):
                plays = arm in POLICIES
                row += [
                    Cell("does not learn" if plays else "learns offline", (None,) * 3),
                    Cell(f"({number(found['episodes'])} {'episodes' if plays else 'seeds'})", (None,) * 3),
                ]
            else:
                row.append(Cell(_median(value, reading["budget"]), (value["median"], *value["median_ci95"])))
                row.append(Cell(f"{value['reached']:.0%}", (value["reached"], *value["reached_ci95"])))
        rows.append(tuple(row))
    return Table(name, title, tuple(columns), rows)


def _comparisons(reading: Mapping[str, Any], name: str, title: str) -> Table:
    titles = {metric.name: metric.title for metric in metrics.METRICS}
    columns = (
        Column("arm", ("arm", "baseline", "diverged", "diverged_baseline")),
        Column("metric", ("metric",)),
        estimated("mean difference [95 %]", "difference"),
        estimated("P(improvement) [95 %]", "improvement"),
        Column("p", ("p",)),
        Column("p (Holm)", ("p_holm",)),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            Cell(_compared(c), (c["arm"], c["baseline"], c["diverged"], c["diverged_baseline"])),
            Cell(titles[c["metric"]], (c["metric"],)),
            estimate(c["difference_mean"], c["difference_ci95"], sign="+"),
            estimate(c["probability_of_improvement"], c["probability_of_improvement_ci95"], places=2),
            Cell(f"{c['p_value']:.4f}", (c["p_value"],)),
            Cell(f"{c['p_holm']:.4f}", (c["p_holm"],)),
        )
        for c in reading["comparisons"]
    ]
    return Table(name, title, columns, rows)


def _compared(comparison: Mapping[str, Any]) -> str:
    """The arm, and how many runs of the two arms diverged, if any did."""
    pairs = ((comparison["arm"], "diverged"), (comparison["baseline"], "diverged_baseline"))
    lost = [f"{comparison[count]} of {arm}" for arm, count in pairs if comparison.get(count)]
    return f"{comparison['arm']} (diverged: {', '.join(lost)})" if lost else str(comparison["arm"])


def _reading_guide(summary: Mapping[str, Any]) -> list[str]:
    threshold = summary["threshold"]
    measured = metrics.applicable(threshold)
    timed = any(metric.censored for metric in measured)
    faster, negative = (
        (" (for steps: faster)", " A negative difference in steps is faster.") if timed else ("", "")
    )
    return [
        "IQM is the mean of the middle half of the seeds. Intervals are percentile bootstraps over seeds;"
        " with one seed there are none.",
        *(metric.guide.format(threshold=significant(threshold, 6)) for metric in measured if metric.guide),
        f"P(improvement) is the probability that a run of the arm is better{faster} than a run of the"
        f" baseline; 0.5 is no difference.{negative} p is a paired sign-flip permutation test, corrected by"
        " Holm over all comparisons of the table.",
        "Policies that do not learn are summarised over episodes and enter no paired comparison."
        + (
            " Arms that learn offline are summarised over seeds, and enter none either."
            if any(found.get("flat") and arm not in POLICIES for arm, found in summary["arms"].items())
            else ""
        )
        + " More in docs/statistics.md.",
    ]


def _median(value: Mapping[str, Any], budget: float) -> str:
    if value["median"] is None:
        return f"> {number(budget)}"
    low, high = value["median_ci95"]
    if low is None and high is None:
        return number(value["median"])
    return f"{number(value['median'])} [{number(low)}, {'> budget' if high is None else number(high)}]"
