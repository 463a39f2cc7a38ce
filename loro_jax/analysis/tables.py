"""A summary as tables that a person reads: markdown for `summary.md`, rich for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from loro_jax.analysis.summary import METRICS, WINDOW, divergence, provenance


class Table(NamedTuple):
    """A titled table of strings."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(summary: Mapping[str, Any]) -> list[Table]:
    """Arms, then comparisons, first of the equal-budget reading and then with prior data free."""
    free = summary["readings"]["llm_free"]
    found = []
    for reading, name in ((summary, "prior data charged"), (free, "prior data free")):
        size = f"{reading['budget']:,.0f} environment steps, {reading['evaluations']} evaluations"
        if reading["arms"]:
            found.append(_arms(reading, f"Arms, {name} ({size})", summary["threshold"]))
        if reading["comparisons"]:
            found.append(_comparisons(reading, f"Against {summary['baseline']}, paired by seed, {name}"))
    return found


def render_markdown(summary: Mapping[str, Any]) -> str:
    """`summary.md`."""
    lines = [f"# {summary['benchmark']}, protocol `{summary['protocol']}`", "", provenance(summary) + ".", ""]
    for warning in warnings(summary):
        lines += [f"**{warning}**", ""]
    if summary["notes"].get("charging"):
        lines += [f"Prior data: {summary['notes']['charging']}.", ""]
    for table in tables(summary):
        lines += [f"## {table.title}", "", _row(table.columns), _row(("---",) * len(table.columns))]
        lines += [*(_row(row) for row in table.rows), ""]
    if phrases := divergence(summary, most=summary["seeds"]):
        lines += ["## Runs that diverged", "", *(f"- {phrase}" for phrase in phrases), ""]
    lines += ["## How to read this", "", *_reading_guide(summary), ""]
    return "\n".join(lines)


def print_tables(summary: Mapping[str, Any], console: Any = None) -> None:
    """Prints the equal-budget tables; `console` is a `rich.console.Console`."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = console or Console()
    if not console.is_terminal:  # a log file or a pipe has no width to keep to
        console.width = max(console.width, 120)
    shown = [t for t in tables(summary) if "prior data free" not in t.title]
    for table in shown:
        drawn = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        name = max(len(word) for row in table.rows for word in row[0].split())
        for index, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if index else "left", min_width=None if index else name)
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)
    console.print(provenance(summary), highlight=False, markup=False)
    for warning in warnings(summary):
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before the numbers: doubtful prior data, and runs that diverged."""
    found = list(summary["notes"].get("warnings") or [])
    if phrases := divergence(summary):
        found.append(
            f"{'; '.join(phrases)}. From there on such a run counts as the random policy's"
            f" return ({summary['random_return']:.4g}) in means and differences, and as the worst by rank."
            " summary.json names them all."
        )
    return found


def _arms(reading: Mapping[str, Any], title: str, threshold: float) -> Table:
    columns = ["arm"]
    for metric in METRICS:
        if metric.censored:
            columns += [f"median {metric.title} ({threshold:g})", "reached"]
        else:
            columns += [f"{metric.title}, IQM [95 %]"]
    rows = []
    for arm, found in reading["arms"].items():
        row = [f"{arm} ({found['diverged']} diverged)" if found.get("diverged") else arm]
        for metric in METRICS:
            value = found[metric.name]
            if not metric.censored:
                row.append(_with_interval(value["iqm"], value["iqm_ci95"]))
            elif found.get("flat"):
                row += ["does not learn", f"({found['episodes']} episodes)"]
            else:
                row += [_median(value, reading["budget"]), f"{value['reached']:.0%}"]
        rows.append(tuple(row))
    return Table(title, tuple(columns), rows)


def _comparisons(reading: Mapping[str, Any], title: str) -> Table:
    titles = {metric.name: metric.title for metric in METRICS}
    columns = ("arm", "metric", "mean difference [95 %]", "P(improvement) [95 %]", "p", "p (Holm)")
    rows: list[tuple[str, ...]] = [
        (
            _compared(c),
            titles[c["metric"]],
            _with_interval(c["difference_mean"], c["difference_ci95"], sign="+"),
            _with_interval(c["probability_of_improvement"], c["probability_of_improvement_ci95"], digits=2),
            f"{c['p_value']:.4f}",
            f"{c['p_holm']:.4f}",
        )
        for c in reading["comparisons"]
    ]
    return Table(title, columns, rows)


def _compared(comparison: Mapping[str, Any]) -> str:
    """The arm, and how many runs of the two arms diverged, if any did."""
    pairs = ((comparison["arm"], "diverged"), (comparison["baseline"], "diverged_baseline"))
    lost = [f"{comparison[count]} of {arm}" for arm, count in pairs if comparison.get(count)]
    return f"{comparison['arm']} (diverged: {', '.join(lost)})" if lost else str(comparison["arm"])


def _reading_guide(summary: Mapping[str, Any]) -> list[str]:
    return [
        "IQM is the mean of the middle half of the seeds. Intervals are percentile bootstraps over seeds;"
        " with one seed there are none.",
        f"Steps to threshold: environment steps at which the mean of the last {WINDOW} evaluations first"
        f" reaches {summary['threshold']:g}; runs that never do are censored at the budget, not dropped, and"
        " the median exists where at least half of the runs got there.",
        "P(improvement) is the probability that a run of the arm is better (for steps: faster) than a run of"
        " the baseline; 0.5 is no difference. A negative difference in steps is faster. p is a paired"
        " sign-flip permutation test, corrected by Holm over all comparisons of the table.",
        "Policies that do not learn are summarised over episodes and enter no paired comparison. More in"
        " docs/statistics.md.",
    ]


def _median(value: Mapping[str, Any], budget: float) -> str:
    if value["median"] is None:
        return f"> {budget:,.0f}"
    low, high = value["median_ci95"]
    if low is None and high is None:
        return f"{value['median']:,.0f}"
    return f"{value['median']:,.0f} [{low:,.0f}, {'> budget' if high is None else format(high, ',.0f')}]"


def _with_interval(
    value: float, ends: tuple[float | None, float | None], digits: int | None = None, sign: str = ""
) -> str:
    low, high = ends
    size = max(abs(x) for x in (value, low, high) if x is not None)
    places = digits if digits is not None else 0 if size >= 1000 else 1 if size >= 10 else 3
    if low is None or high is None:
        return f"{value:{sign},.{places}f}"
    return f"{value:{sign},.{places}f} [{low:{sign},.{places}f}, {high:{sign},.{places}f}]"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
