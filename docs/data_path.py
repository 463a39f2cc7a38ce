"""Draws docs/data-path.svg, the picture in the README: `python docs/data_path.py`."""

from __future__ import annotations

import pathlib

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

STAGES = (
    ("task", "rules, words,\nprompts", "loro_jax/tasks/"),
    ("language model", "plays a few episodes\nonce, llama.cpp", "loro_jax/language/"),
    ("prior data", "card, transcript,\nhashes", "results/episodes/"),
    ("arms", "Load · Fit · Forget\n· Interact", "loro_jax/training/"),
    ("hundreds of seeds", "one jitted, vmapped\nprogram", "loro_jax/running/"),
    ("answers", "intervals, tables,\nfigures", "loro_jax/analysis/"),
)
WIDTH, GAP = 1.62, 0.34
COLOURS = ("#E8EEF4", "#FDEBD9", "#FDEBD9", "#E3F1E9", "#E3F1E9", "#E8EEF4")


def main() -> None:
    total = len(STAGES) * WIDTH + (len(STAGES) - 1) * GAP
    figure = Figure(figsize=(total + 0.2, 1.5))
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, total + 0.1), ylim=(0, 1.5))
    axes.set_axis_off()
    for i, ((title, says, where), colour) in enumerate(zip(STAGES, COLOURS, strict=True)):
        x = i * (WIDTH + GAP)
        box = FancyBboxPatch(
            (x, 0.36), WIDTH, 1.0, boxstyle="round,pad=0,rounding_size=0.08", fc=colour, ec="#5c6b7a", lw=0.9
        )
        axes.add_patch(box)
        middle = x + WIDTH / 2
        axes.text(middle, 1.16, title, ha="center", va="center", size=10.5, weight="bold", color="#1b2733")
        axes.text(middle, 0.72, says, ha="center", va="center", size=9, color="#1b2733")
        axes.text(middle, 0.16, where, ha="center", va="center", size=8, color="#5c6b7a", family="monospace")
        if i:
            arrow = FancyArrowPatch((x - GAP + 0.03, 0.86), (x - 0.03, 0.86), arrowstyle="-|>")
            arrow.set(mutation_scale=12, color="#5c6b7a", lw=1.1)
            axes.add_patch(arrow)
    out = pathlib.Path(__file__).with_name("data-path.svg")
    figure.savefig(out, metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=110)
    print(out)


if __name__ == "__main__":
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "loro_jax"
    main()
