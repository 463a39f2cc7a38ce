"""How figures look, and how they are saved: all of them in one place.

Figures are in columns of 3.4 inches. Arms are told apart by colour (Okabe and Ito's palette, safe for the
colour-blind), line style and legend together.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from loro_jax import files

WIDTH = 3.4  # inches: one column of a two-column page
DPI = 300
FOOTER = 88  # characters in a line of the footer
LINE = 0.0925  # inches that it takes
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
    "loro_chained": Look("LORO, chained repeats", "#8B4513", (0, (8, 1.5))),
    "llm_policy": Look("LLM policy", "#0072B2", (0, (2, 2))),
    "random_policy": Look("random policy", "#7f7f7f", (0, (1, 2))),
    "half_batches": Look("half prior data", "#882255", (0, (8, 2))),
    "dqn_prior": Look("DQN-Prior", "#AA4499", (0, (4, 1, 1, 1, 1, 1))),
    "dqn_prior_softmax": Look("DQN-Prior, softmax", "#EE8866", (0, (1, 1, 3, 1))),
    "dqn_prior_both": Look("DQN-Prior, both", "#BB5566", (0, (6, 2))),
    "ppo": Look("PPO", "#6699CC", (0, (9, 1))),
    "kl_prior": Look("PPO, KL to the answers", "#004488", (0, (4, 1.5))),
    "soft_prior": Look("soft prior", "#332288", (0, (1, 1))),
    "tutor": Look("tutor", "#117733", (0, (5, 1, 2, 1))),
    "tutor_reuse": Look("tutor, reuse", "#44AA99", (0, (3, 2))),
    "jsrl": Look("JSRL", "#999933", (0, (6, 1, 1, 1))),
    "cql": Look("CQL, offline", "#DDCC77", (0, (2, 1))),
    "cql_prior": Look("CQL-Prior, offline", "#661100", (0, (2, 3))),
}
DASHES = ((0, (4, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (1, 1)), (0, (5, 1, 2, 1)), (0, (3, 3)))
OTHERS = ("#332288", "#88CCEE", "#117733", "#882255", "#999933", "#AA4499")  # Paul Tol's muted


def look(arm: str, index: int = 0) -> Look:
    """The look of `arm`; an arm of one's own gets a colour by its place in the run."""
    own = Look(arm.replace("_", " "), OTHERS[index % len(OTHERS)], DASHES[index % len(DASHES)])
    return LOOKS.get(arm, own)


@contextmanager
def page(stem: pathlib.Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure in this style, in inches, to draw on; it is then saved as `paths(stem)`.

    The folder is made.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure = blank(width, height)
        yield figure
        save(figure, stem)


def blank(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches. No global state of pyplot's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def footer(figure: Any, text: str, left: float = 0.02) -> None:
    """Small print below the axes, from `left`, a share of the width."""
    figure.supxlabel(text, size=5.3, color="#555555", x=left, ha="left", parse_math=False)


def paths(stem: pathlib.Path) -> list[pathlib.Path]:
    """The files of a figure; what follows a point in the stem's name is replaced."""
    return [stem.with_suffix(suffix) for suffix in (".png", ".pdf")]


def save(figure: Any, stem: pathlib.Path) -> list[pathlib.Path]:
    """Writes a figure as .png and .pdf -> their paths. The same figure gives the same files: none has a date.

    Each is written aside and then moved, so that no reader meets half of one.
    """
    for path in paths(stem):
        metadata: dict[str, Any] = {"CreationDate": None} if path.suffix == ".pdf" else {}
        with files.replacing(path) as stream:
            figure.savefig(stream, format=path.suffix[1:], metadata=metadata)
    return paths(stem)
