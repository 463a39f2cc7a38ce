"""Rows as a table, and two figures: the roofline, and steps per second against seeds."""

from __future__ import annotations

import itertools
import pathlib
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from loro_jax import files
from loro_jax.analysis import outputs, rendering
from loro_jax.analysis.figures import style
from loro_jax.analysis.rendering import Cell, Column, Table

GIGA, MEBI = 1e9, 2**20
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = {"paper@1": "o", "standard@1": "s", "standard@2": "v", "small@1": "^"}


def machine(about: Mapping[str, Any]) -> str:
    """The machine, and what JAX sees of it."""
    where, cores = about["computed_on"], about["cores"]
    several = "s" * (cores > 1)
    return f"{where['processor']}, {cores} core{several}, {where['backend']} x {where['devices']}"


def lines(saved: Mapping[str, Any]) -> list[str]:
    """The tables in Markdown, each with what stands above it."""
    about, rows = saved["machine"], saved["rows"]
    where = about["computed_on"]
    commits = ", ".join(sorted({str(row["commit"])[:10] for row in rows}))
    said = [
        "# Throughput",
        "",
        f"{machine(about)}; jax {where['jax']}, numpy {about['numpy']} with {about['blas']}; commit"
        f" {commits}. Medians over rounds [least, most]; docs/performance.md says what each number means.",
        "",
    ]
    for table in tables(saved):
        said += [f"## {table.title}", "", *rendering.markdown(table), ""]
    for row in rows:
        if row["stages"]:
            table = stages(row)
            said += [f"## {table.title}", "", *rendering.markdown(table), "", checked(row), ""]
    return said[:-1]


def tables(saved: Mapping[str, Any]) -> list[Table]:
    """Speed; what the machine gives; and memory."""
    rows = saved["rows"]
    on_cpu = saved["machine"]["computed_on"]["backend"] == "cpu"
    whose, share = ("numpy's sgemm", "share_of_sgemm") if on_cpu else ("XLA's product", "share_of_xla")
    peers = sorted({k.removeprefix("ratio_") for row in rows for k in row["found"] if k.startswith("ratio_")})
    ratios = [rendering.estimated(f"times {name}", f"ratio_{name}") for name in peers]
    named = (Column("task", ("task",)), Column("sizes", ("protocol",)), Column("seeds", ("seeds",)))
    speed = Table(
        "throughput",
        "Training, all seeds together",
        (
            *named,
            rendering.estimated("environment steps/s", "env_steps_per_second"),
            rendering.estimated("gradient steps/s", "gradient_steps_per_second"),
            rendering.estimated("GFLOP/s", "gflops"),
            rendering.estimated(f"of {whose}, %", share),
            rendering.estimated("of the roof, %", "share_of_roof"),
            *ratios,
            Column("compile, s", ("compile_seconds",)),
        ),
        [
            (
                *_named(row),
                spread(row["found"]["env_steps_per_second"]),
                spread(row["found"]["gradient_steps_per_second"]),
                spread(row["found"]["flops"], 1 / GIGA),
                spread(row["found"][share], 100),
                spread(row["found"]["share_of_roof"], 100),
                *(spread(row["found"].get(f"ratio_{name}")) for name in peers),
                number(row["compile_seconds"]),
            )
            for row in rows
        ],
    )
    beside = [
        (
            *_named(row),
            rendering.word(way),
            spread(middle([r[way]["env_steps_per_second"] for r in row["rounds"]])),
            spread(middle([_ratio(r["ours"], r[way]) for r in row["rounds"]])),
        )
        for row in rows
        for way in row["peers"]
    ]
    others = Table(
        "peers",
        "Beside other packages, each in every way that it was run",
        (
            *named,
            Column("package", ("peer",)),
            rendering.estimated("environment steps/s", "env_steps_per_second"),
            rendering.estimated("ours, times as many", "ratio"),
        ),
        beside,
    )
    rates = Table(
        "rates",
        "What the machine gave in the same rounds",
        (
            *named,
            rendering.estimated("numpy's sgemm, GFLOP/s", "sgemm"),
            rendering.estimated("XLA, same squares", "xla"),
            rendering.estimated("XLA, the row's shapes", "shapes"),
            Column("triad, GB/s", ("bandwidth",)),
            Column("MFLOP a gradient step", ("needed",)),
            Column("XLA counts", ("counted",)),
            Column("FLOP a byte, at most", ("intensity",)),
            Column("by XLA's bytes", ("intensity_xla",)),
        ),
        [
            (
                *_named(row),
                *(spread(row["found"][k], 1 / GIGA) for k in ("sgemm", "xla", "shapes")),
                number(row["bandwidth"] / GIGA),
                number(row["needed"]["gradient_step"] / 1e6),
                number(_scaled(row["one_step"]["flops"], 1e-6)),
                number(row["found"]["intensity"]),
                number(
                    row["needed"]["gradient_step"] / row["one_step"]["bytes"]
                    if row["one_step"]["bytes"]
                    else None
                ),
            )
            for row in rows
        ],
    )
    memory = Table(
        "memory",
        "Memory, MiB",
        (
            *named,
            Column("a seed", ("bytes_a_seed",)),
            Column("all seeds", ("state",)),
            Column("beside them, in the program", ("temp",)),
            Column("the process before", ("idle",)),
            Column("at most", ("peak_memory",)),
            Column("on the device, at most", ("device_peak_memory",)),
        ),
        [
            (
                *_named(row),
                number(row["bytes_a_seed"] / MEBI),
                number(row["bytes_a_seed"] * row["layout"]["seeds_trained"] / MEBI),
                number(_scaled(row["memory"].get("temp"), 1 / MEBI)),
                number(row["memory"]["idle"] / MEBI),
                number(row["peak_memory"] / MEBI),
                number(_scaled(row["device_peak_memory"], 1 / MEBI)),
            )
            for row in rows
        ],
    )
    return [speed, *([others] if beside else []), rates, memory]


def middle(values: Sequence[float]) -> list[float]:
    """Median, least and most."""
    return [statistics.median(values), min(values), max(values)]


def _ratio(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    return ours["env_steps_per_second"] / theirs["env_steps_per_second"]


def stages(row: Mapping[str, Any]) -> Table:
    """Where a row's time goes."""
    found = row["stages"]
    whole = found["seconds"]
    steps = row["work"]["eval_interval"] * row["layout"]["seeds_trained"]
    lines_: list[tuple[Cell, ...]] = [
        (rendering.word(name), number(1e6 * spent / steps), number(100 * spent / whole))
        for name, spent in [*found["stages"].items(), ("all", whole)]
    ]
    return Table(
        "-".join(("stages", row["task"], row["protocol"], str(row["seeds"]))),
        f"Where the time goes: {row['task']}, {row['protocol']}, {row['seeds']} seeds",
        (
            Column("stage", ("stage",)),
            Column("microseconds a seed's step", ("microseconds",)),
            Column("%", ("percent",)),
        ),
        lines_,
    )


def checked(row: Mapping[str, Any]) -> str:
    """What the stages of a gradient step are held against."""
    found = row["stages"]
    products = row["needed"]["gradient_step"] / row["found"]["shapes"][0] * row["work"]["eval_interval"]
    products *= row["layout"]["seeds_trained"] / row["work"]["train_frequency"]
    return (
        f"Gradient steps alone (`Fit`) take {1e3 * found['fit']:.3g} ms, the four stages that they consist"
        f" of {1e3 * found['fit_stages']:.3g} ms here. Their matrix products would take"
        f" {1e3 * products:.3g} ms at XLA's rate for these shapes."
    )


def write(saved: Mapping[str, Any], out: pathlib.Path) -> None:
    """README.md, tables/ and figures/ in the folder of the rows."""
    figures = [roofline(saved, out / "figures" / "roofline"), steps(saved, out / "figures" / "steps")]
    pictures = [
        f"![{name}](figures/{path.name})" for name, path in zip(("Roofline", "Steps"), figures, strict=True)
    ]
    files.write_text(out / "README.md", "\n".join([*lines(saved), "", *pictures]) + "\n")
    found = [*tables(saved), *(stages(row) for row in saved["rows"] if row["stages"])]
    outputs.write_tables(found, out / outputs.TABLES)


def spread(found: Sequence[float] | None, times: float = 1.0) -> Cell:
    """A median with its least and most."""
    if found is None:
        return Cell("", (None, None, None))
    median, least, most = (x * times for x in found)
    return Cell(f"{_short(median)} [{_short(least)}, {_short(most)}]", (median, least, most))


def number(value: float | None) -> Cell:
    return Cell("" if value is None else _short(value), (value,))


def _short(value: float) -> str:
    """Three digits, and thousands whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scaled(value: float | None, times: float) -> float | None:
    return None if value is None else value * times


def _named(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        rendering.word(row["task"]),
        rendering.word(row["protocol"]),
        Cell(str(row["seeds"]), (row["seeds"],)),
    )


def footer(saved: Mapping[str, Any]) -> str:
    text = f"{machine(saved['machine'])}; medians, bars from least to most over rounds"
    return textwrap.fill(text, style.FOOTER)


def roofline(saved: Mapping[str, Any], stem: pathlib.Path) -> pathlib.Path:
    """Attained FLOP/s against arithmetic intensity, under the roof of the median rates."""
    import numpy as np

    rows = saved["rows"]
    bandwidth = float(np.median([row["bandwidth"] for row in rows]))
    peak = float(np.median([max(row["found"]["sgemm"][0], row["found"]["xla"][0]) for row in rows]))
    with style.page(stem, style.WIDTH, 2.75) as figure:
        axes = figure.add_subplot()
        low = min(row["found"]["intensity"] for row in rows) / 4
        x = np.geomspace(
            min(low, peak / bandwidth / 4), max(row["found"]["intensity"] for row in rows) * 3, 200
        )
        axes.plot(x, np.minimum(peak, bandwidth * x) / GIGA, color="#000000", lw=1)
        tasks = list(dict.fromkeys(row["task"] for row in rows))
        for row in rows:
            median, least, most = (v / GIGA for v in row["found"]["flops"])
            colour = COLOURS[tasks.index(row["task"]) % len(COLOURS)]
            axes.errorbar(
                row["found"]["intensity"], median, yerr=[[median - least], [most - median]], color=colour,
                marker=MARKERS.get(row["protocol"], "d"), ms=3, lw=0.8, mfc="none",
            )  # fmt: skip
        legend(axes, rows, tasks)
        axes.set(
            xscale="log", yscale="log", ylabel="GFLOP/s",
            xlabel="FLOP a byte moved at least",
        )  # fmt: skip
        style.footer(figure, footer(saved))
    return stem.with_suffix(".png")


def steps(saved: Mapping[str, Any], stem: pathlib.Path) -> pathlib.Path:
    """Environment steps per second over all seeds, against seeds."""
    rows = saved["rows"]
    with style.page(stem, style.WIDTH, 2.75) as figure:
        axes = figure.add_subplot()
        tasks = list(dict.fromkeys(row["task"] for row in rows))
        groups = itertools.groupby(rows, lambda row: (row["task"], row["protocol"]))
        for (task, protocol), group in groups:
            some = list(group)
            values = [row["found"]["env_steps_per_second"] for row in some]
            axes.errorbar(
                [row["seeds"] for row in some], [v[0] for v in values],
                yerr=[[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]],
                color=COLOURS[tasks.index(task) % len(COLOURS)], marker=MARKERS.get(protocol, "d"), ms=3,
                lw=0.8, mfc="none",
            )  # fmt: skip
        legend(axes, rows, tasks)
        shown = sorted({row["seeds"] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(shown, [str(n) for n in shown])
        axes.set(yscale="log", xlabel="seeds", ylabel="environment steps/s, all seeds")
        style.footer(figure, footer(saved))
    return stem.with_suffix(".png")


def legend(axes: Any, rows: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> None:
    """Tasks by colour, sizes by marker."""
    handles = [
        axes.plot([], [], color=COLOURS[i % len(COLOURS)], label=task.replace("_", " "))[0]
        for i, task in enumerate(tasks)
    ]
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        marker = MARKERS.get(protocol, "d")
        handles += axes.plot([], [], marker, color="#444444", mfc="none", ms=3, label=protocol)
    axes.figure.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.1)
