"""The figures of a benchmark, as .png and .pdf; they draw what `loro_jax.analysis.statistics` computes.

Every figure is one column wide (3.4 inches), says in a footer where its numbers come from and what there is
to doubt (runs that diverged, prior data), and tells the arms apart by colour (Okabe and Ito's palette, safe
for the colour-blind), line style and legend together.
"""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import statistics
from loro_jax.analysis.summary import METRICS, SEED, doubts, provenance

WIDTH = 3.4  # inches: one column of a two-column page
DPI = 300
FOOTER = 88  # characters in a line of the footer
LINE = 0.09  # inches that it takes
STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "savefig.dpi": DPI,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults and `STYLE`, whatever the user's matplotlibrc says (usetex needs a LaTeX)."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


class Look(NamedTuple):
    """How an arm is drawn, in every figure alike."""

    label: str
    colour: str
    line: Any


LOOKS = {
    "loro": Look("LORO", "#D55E00", "-"),
    "pure_rl": Look("pure RL", "#000000", "-"),
    "mix": Look("naive mixing", "#009E73", (0, (5, 1.5))),
    "loro_keep": Look("LORO, data kept", "#E69F00", (0, (3, 1, 1, 1))),
    "random_data": Look("random data", "#56B4E9", (0, (1.5, 1))),
    "on_policy": Look("on-policy pretraining", "#CC79A7", (0, (6, 1.5, 1, 1.5))),
    "llm_policy": Look("LLM policy", "#0072B2", (0, (2, 2))),
    "random_policy": Look("random policy", "#7f7f7f", (0, (1, 2))),
}
OTHERS = ("#332288", "#88CCEE", "#117733", "#882255", "#999933", "#AA4499")  # Paul Tol's muted


def look(arm: str, index: int = 0) -> Look:
    """The look of `arm`; an arm of one's own gets a colour by its place in the run."""
    return LOOKS.get(arm, Look(arm.replace("_", " "), OTHERS[index % len(OTHERS)], (0, (4, 1, 1, 1, 1, 1))))


def draw_all(
    summary: Mapping[str, Any],
    curves: Mapping[str, npt.NDArray[Any]],
    env_steps: npt.NDArray[Any],
    flat: Mapping[str, npt.NDArray[Any]],
    out: pathlib.Path,
    *,
    prior_steps: float = 0,
    steps_per_episode: int = 200,
) -> list[pathlib.Path]:
    """Draws learning curves, the study's main figure and the probability of improvement into `out`.

    `curves` are (seeds, evaluations) with prior data charged, `env_steps` (evaluations,), `flat`
    episode returns (episodes,) of the policies that do not learn; the first `prior_steps` environment
    steps are shaded. A figure that has nothing to show is left out. -> the paths written.
    """
    out.mkdir(parents=True, exist_ok=True)
    steps = np.asarray(env_steps, np.float64)
    random_return = summary["random_return"]
    study = {arm: curves[arm] for arm in ("loro", "pure_rl") if arm in curves}
    written: list[pathlib.Path] = []
    if curves:
        with _figure(summary, out / "learning_curves", 2.75, written) as axes:
            learning_curves(axes, curves, steps, flat, statistics.weighted_iqm, prior_steps, random_return)
            axes.set(xlabel="environment steps", ylabel=_return_label("IQM, 95 % interval"))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    if study:
        with _figure(summary, out / "main", 2.45, written) as axes:
            chosen = {k: v for k, v in flat.items() if k in ("llm_policy", "random_policy")}
            scaled = steps / steps_per_episode
            prior = prior_steps / steps_per_episode
            learning_curves(axes, study, scaled, chosen, statistics.weighted_mean, prior, random_return)
            axes.set(
                xlabel=f"episodes of {steps_per_episode} environment steps",
                ylabel=_return_label("mean, 95 % interval"),
            )
    if summary["comparisons"]:
        rows = len({c["arm"] for c in summary["comparisons"]})
        with _figure(summary, out / "probability_of_improvement", 0.95 + 0.42 * rows, written) as axes:
            probability_of_improvement(axes, summary["comparisons"], summary["baseline"])
    return written


def learning_curves(
    axes: Any,
    curves: Mapping[str, npt.NDArray[Any]],
    x: statistics.Floats,
    flat: Mapping[str, npt.NDArray[Any]],
    statistic: statistics.Statistic,
    prior: float,
    random_return: float | None = None,
) -> None:
    """Curves (seeds, evaluations) over x (evaluations,) with bands; flat lines; prior phase shaded.

    Where a run has diverged it counts as `random_return`, and as the worst by rank.
    """
    if prior > 0:
        axes.axvspan(0, prior, color="#f0f0f0", lw=0, zorder=0)
        where = {"transform": axes.get_xaxis_transform(), "va": "bottom", "size": 6, "c": "#666666"}
        axes.text(0, 1.01, "prior data", **where)
    for index, (arm, curve) in enumerate(curves.items()):
        style = look(arm, index)
        values, _ = statistics.filled(curve, random_return)
        ranks = statistics.ranked(values, np.isnan(curve))
        centre, low, high = statistics.band(values, statistic, seed=SEED, ranks=ranks)
        lost = np.isnan(curve)
        label = f"{style.label} ({lost.any(axis=1).sum()} diverged)" if lost.any() else style.label
        axes.plot(x, centre, color=style.colour, ls=style.line, label=label, zorder=3)
        if lost.any():  # from here on some of it is the random policy's return
            first = lost.any(axis=0).argmax()
            axes.plot(x[first], centre[first], "x", color=style.colour, ms=5, mew=1.2, zorder=3.5)
        axes.fill_between(x, low, high, color=style.colour, alpha=0.2, lw=0, zorder=2)
    for index, (policy, returns) in enumerate(flat.items()):
        style = look(policy, index + len(curves))
        values = np.asarray(returns, np.float64)
        level = statistic(values, np.ones((len(values), 1)))[0]
        below, above = statistics.interval(values, statistic, seed=SEED)
        axes.axhline(level, color=style.colour, ls=style.line, lw=1, label=style.label, zorder=2.5)
        if np.isfinite(below):
            axes.axhspan(below, above, color=style.colour, alpha=0.12, lw=0, zorder=1)
    axes.set_xlim(0, x[-1])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    # Filled by columns: arms first, then policies; above the axes, since curves fill the inside.
    axes.figure.legend(
        loc="outside upper center", ncols=3 if len(curves) + len(flat) > 4 else 2, columnspacing=1.1
    )


def probability_of_improvement(axes: Any, comparisons: Sequence[Mapping[str, Any]], baseline: str) -> None:
    """One row per arm and metric: the estimate with its 95 % interval, 0.5 marked as no difference."""
    arms = list(dict.fromkeys(c["arm"] for c in comparisons))
    metrics = [m for m in METRICS if any(c["metric"] == m.name for c in comparisons)]
    markers = ("o", "s", "^", "D", "v")
    for c in comparisons:
        index = next(i for i, m in enumerate(metrics) if m.name == c["metric"])
        y = arms.index(c["arm"]) + 0.24 * (index - (len(metrics) - 1) / 2)
        colour = look(c["arm"], arms.index(c["arm"])).colour
        estimate = c["probability_of_improvement"]
        low, high = c["probability_of_improvement_ci95"]
        if low is not None:
            axes.plot((low, high), (y, y), color=colour, lw=1.2, solid_capstyle="butt")
        solid = c["p_holm"] is not None and c["p_holm"] < 0.05
        axes.plot(
            estimate, y, markers[index % 5], color=colour, ms=4, mew=0.9, mfc=colour if solid else "white"
        )
    for index, metric in enumerate(metrics):
        axes.plot([], [], markers[index % 5], color="#444444", ms=4, ls="", label=metric.title)
    axes.axvline(0.5, color="#444444", lw=0.8, ls=(0, (3, 2)), zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(arms) - 0.45, -0.55))
    axes.set_yticks(range(len(arms)), [look(arm).label for arm in arms])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(
        f"probability of improvement over {look(baseline).label}\n(95 % interval; filled: Holm p < 0.05)"
    )
    axes.figure.legend(loc="outside upper center", ncols=3, columnspacing=0.8, handletextpad=0.1)


def _return_label(what: str) -> str:
    return f"return per episode\n({what})"


@contextmanager
def _figure(
    summary: Mapping[str, Any], stem: pathlib.Path, height: float, written: list[pathlib.Path]
) -> Iterator[Any]:
    """An axes to draw on; then the footer, and `stem`.png and .pdf. No global state of pyplot's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    source = textwrap.wrap(provenance(summary), FOOTER)
    more = [line for phrase in doubts(summary) for line in textwrap.wrap(phrase, FOOTER)]
    with style():
        # Doubts make the page longer, not the axes smaller.
        figure = Figure(figsize=(WIDTH, height + LINE * len(more)), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.add_subplot()
        figure.supxlabel(
            "\n".join(source + more), size=5.3, color="#555555", x=0.02, ha="left", parse_math=False
        )
        for suffix in (".png", ".pdf"):
            path = stem.with_suffix(suffix)
            # Without a creation date the same results give the same file.
            metadata: dict[str, Any] = {"CreationDate": None} if suffix == ".pdf" else {}
            figure.savefig(path, metadata=metadata)
            written.append(path)
