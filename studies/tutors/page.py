"""The study's page and figures, from what is kept in its folder alone."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.analysis import statistics
from loro_jax.analysis.figures.style import WIDTH, footer, page
from loro_jax.analysis.formats import between, significant
from loro_jax.errors import UserError
from studies import runs
from studies.blocks import BEST, UNIFORM, WORST
from studies.models import MODELS
from studies.pages import COLOURS, HOLDS, curve, folded, legend, panels, sized, table, title
from studies.tutors import arms, measures, parts
from studies.tutors.games import GAMES

SAYS = {
    "135m": "135 M",
    "05b": "0.5 B",
    "15b": "1.5 B",
    BEST: "perfect",
    UNIFORM: "uniform",
    WORST: "adversary",
}

Found = dict[str, dict[str, Any]]
"""By game: what is kept of each part, its curves, and what follows from them (`read`)."""


def write(folder: pathlib.Path) -> pathlib.Path:
    """README.md and figures of what is finished; -> the page.

    Raises:
        UserError: nothing is.
    """
    found = read(folder)
    if not found:
        raise UserError(f"{folder}: nothing of the study is finished")
    figures = folder / "figures"
    drawn = {"speed": speed(found, figures / "speed"), "curves": learning(found, figures / "curves")}
    path = folder / "README.md"
    files.write_text(path, markdown(found, drawn))
    return path


def read(folder: pathlib.Path) -> Found:
    """What is kept of each game whose learners without a tutor are there, and its comparisons."""
    found: Found = {}
    for game in GAMES:
        where = folder / game.task
        kept = runs.kept(where, parts.PARTS)
        if "alone" not in kept:
            continue
        curves = {part: files.read_npz(where / f"{part}.npz") for part in kept}
        one: dict[str, Any] = {"kept": kept, "curves": curves, "compared": {}}
        for part in ("cells", "variants"):
            if part in kept:
                one["compared"][part] = parts.compared(kept["alone"], curves["alone"], curves[part])
        if "cells" in kept:
            steps = np.asarray(kept["alone"]["env_steps"])
            one["reused"] = parts.reused(curves["cells"], levels(kept["alone"], curves["alone"]), steps)
        found[game.task] = one
    return found


def levels(alone: Mapping[str, Any], curves: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The return at which each agent has converged."""
    ends = {agent: statistics.iqm(x) for agent, x in parts.finals(curves).items()}
    return {agent: measures.wanted(alone["random_return"], end) for agent, end in ends.items()}


def tutors(told: Mapping[str, Any]) -> list[str]:
    """A game's tutors: its models, and those that are none."""
    return list(told["kept"]["alone"]["tutors"])


def speed(found: Found, stem: pathlib.Path) -> bool:
    """A heat map of speed-ups: agents with reuse and without by games and tutors; a star where it holds."""
    here = {game: told for game, told in found.items() if "cells" in told["compared"]}
    if not here:
        return False
    rows = [(agent, reuse) for agent in arms.AGENTS for reuse in ("", "-reuse")]
    columns = [(game, tutor) for game, told in here.items() for tutor in tutors(told)]
    cells = {
        (row, column): here[column[0]]["compared"]["cells"].get(f"{row[0]}-{column[1]}{row[1]}")
        for row in rows
        for column in columns
    }
    ratio = [[cells[r, c]["speed_up"]["ratio"] if cells[r, c] else np.nan for c in columns] for r in rows]
    grid = np.log2(np.array(ratio, np.float64))
    with page(stem, WIDTH * 2.1, 0.32 * len(rows) + 1.3) as figure:
        axes = figure.subplots()
        most = max(1.0, float(np.nanmax(np.abs(grid))))
        axes.imshow(grid, aspect="auto", cmap="PuOr_r", vmin=-most, vmax=most)
        for i, r in enumerate(rows):
            for j, c in enumerate(columns):
                if (cell := cells[r, c]) is None:
                    continue
                star = "*" if cell["speed_up"]["holm"] < HOLDS else ""
                dark = abs(grid[i, j]) > 0.6 * most
                axes.text(j, i, f"{ratio[i][j]:.2g}{star}", ha="center", va="center", fontsize=6,
                          color="white" if dark else "black")  # fmt: skip
        axes.set_xticks(range(len(columns)), [SAYS[tutor] for _, tutor in columns], fontsize=6, rotation=30)
        axes.set_yticks(range(len(rows)), [a.upper() + (", reuse" if r else "") for a, r in rows], fontsize=6)
        for at in range(1, len(columns)):
            if columns[at][0] != columns[at - 1][0]:
                axes.axvline(at - 0.5, color="black", lw=1.2)
        axes.set(title="   |   ".join(title(game) for game in here))
        axes.grid(visible=False)
        footer(figure, "Times sooner than without a tutor; * Holm's p below 0.05.")
    return True


def learning(found: Found, stem: pathlib.Path) -> bool:
    """Learning curves: IQM and 95 % band, each agent beside its tutors, dashed where advice is reused."""
    here = {game: told for game, told in found.items() if "cells" in told["kept"]}
    if not here:
        return False
    with page(stem, *sized(3 * len(here))) as figure:
        grid = panels(figure, 3 * len(here))
        for i, (game, told) in enumerate(here.items()):
            steps = np.asarray(told["kept"]["alone"]["env_steps"])
            best = told["kept"]["cells"]["best"]
            for j, agent in enumerate(arms.AGENTS):
                axes, curves = grid[3 * i + j], told["curves"]["cells"]
                untaught = told["curves"]["alone"][agent]
                lines: list[tuple[Any, str, str, Any]] = [(untaught, "no tutor", "#000000", "-")]
                for tutor in (best, BEST, WORST):
                    label = "the best model" if tutor == best else SAYS[tutor]
                    colour = COLOURS["05b"] if tutor == best else COLOURS[tutor]
                    lines += [(curves[f"{agent}-{tutor}"], label, colour, "-")]
                    lines += [(curves[f"{agent}-{tutor}-reuse"], f"{label}, reuse", colour, (0, (4, 1.5)))]
                for values, label, colour, line in lines:
                    curve(axes, steps, values, label, colour, line)
                axes.set(title=f"{title(game)}, {agent.upper()}", xlabel="environment steps")
                if not j:
                    axes.set_ylabel("return, IQM")
        legend(figure, 4)
        footer(figure, "Greedy evaluations without the tutor; bands are 95 % bootstrap intervals over seeds.")
    return True


def markdown(found: Found, drawn: Mapping[str, bool]) -> str:
    """The page."""
    lines = [
        "# LLM tutors", "",
        "    python -m studies.tutors --dry-run    # what would run, and how long it takes",
        "    python -m studies.tutors", "",
        "An LLM's answer replaces the student's action with a probability that falls from 1 to 0.1 over the"
        f" first {arms.THETA:.0%} of the budget (arXiv 2509.08329); with reuse an answer is taken"
        f" {arms.REUSES} times more before it is drawn anew. Evaluations are without the tutor. An agent has"
        " converged at the first environment steps after which the rolling mean of"
        f" {measures.WINDOW} evaluations stays at random + {measures.SHARE:.0%} of (its own final return"
        " without a tutor - random); seeds that never get there count with the budget. A speed-up is the"
        " ratio of mean times, the untutored one's over the tutored one's; above 1 is sooner. Intervals are"
        " 95 % bootstrap intervals over seeds, in pairs; p by sign flips, Holm's correction over a game's"
        " table. The uniform tutor without reuse is uniform exploration of the same share. What is read from"
        " these numbers: [docs/tutors.md](../../docs/tutors.md).", "",
    ]  # fmt: skip
    if said := claims(found):
        lines += ["## The study's claims", "", *said, ""]
    if drawn.get("speed"):
        lines += ["![Speed-ups](figures/speed.png)", ""]
    if drawn.get("curves"):
        lines += ["![Learning curves](figures/curves.png)", ""]
    for game, told in found.items():
        lines += [f"## {game}", "", *of_game(told), ""]
    return "\n".join(lines).rstrip() + "\n"


def claims(found: Found) -> list[str]:
    """Of each claim of the study, in how many of the models' cells it holds, over all games."""
    cells = [
        (game, arm, cell, told)
        for game, told in found.items()
        for arm, cell in told["compared"].get("cells", {}).items()
        if arm.removesuffix("-reuse").partition("-")[2] in MODELS
    ]
    if not cells:
        return []

    def held(kind: str, sign: int) -> int:
        value = "ratio" if kind == "speed_up" else "difference"
        usual = 1.0 if kind == "speed_up" else 0.0
        return sum(c[kind]["holm"] < HOLDS and sign * (c[kind][value] - usual) > 0 for _, _, c, _ in cells)

    n = len(cells)
    again = [x for told in found.values() for arm, x in told.get("reused", {}).items()
             if arm.removesuffix("-reuse").partition("-")[2] in MODELS]  # fmt: skip
    faster = sum(x["speed_up"]["holm"] < HOLDS and x["speed_up"]["ratio"] > 1 for x in again)
    slower = sum(x["speed_up"]["holm"] < HOLDS and x["speed_up"]["ratio"] < 1 for x in again)
    spreads = [x["spread"] for x in again if x["spread"]["ci95"] is not None]
    less = sum(s["ci95"][0] > 0 for s in spreads)
    more = sum(s["ci95"][1] < 0 for s in spreads)
    rows = [
        ["a tutor makes learning converge sooner",
         f"{held('speed_up', 1)} of {n} cells sooner, {held('speed_up', -1)} later"],
        ["the optimum is the same",
         f"final return higher in {held('final', 1)} of {n} cells, lower in {held('final', -1)}"],
        ["with reuse it is faster still",
         f"{faster} of {len(again)} pairs sooner with reuse, {slower} later"],
        ["and less stable",
         f"spread after convergence greater in {less} of {len(spreads)} pairs whose seeds tell, smaller in"
         f" {more} (intervals, not corrected)"],
        ["it depends on game, agent and model", by_part(cells)],
    ]  # fmt: skip
    return [
        "Cells are agent x model x game x reuse; a cell counts where Holm's p is below 0.05.", "",
        *table(["claim of arXiv 2509.08329", "here"], rows),
    ]  # fmt: skip


def by_part(cells: Sequence[Any]) -> str:
    """Speed-ups by game, agent and model, each the geometric mean over its cells."""
    logs: list[tuple[tuple[str, str, str], float]] = []
    for game, arm, cell, _ in cells:
        agent, _, model = arm.removesuffix("-reuse").partition("-")
        logs.append(((game, agent, model), float(np.log(cell["speed_up"]["ratio"]))))
    said = []
    for place, what in enumerate(("games", "agents", "models")):
        groups: dict[str, list[float]] = {}
        for key, value in logs:
            groups.setdefault(key[place], []).append(value)
        means = {name: float(np.exp(np.mean(values))) for name, values in groups.items()}
        named = ", ".join(f"{SAYS.get(name, name)} {mean:.2f}" for name, mean in means.items())
        said.append(f"{what}: {named}")
    return "; ".join(said)


def of_game(told: Mapping[str, Any]) -> list[str]:
    """A game's tables."""
    alone, of = told["kept"]["alone"], told["kept"]["alone"]["of"]
    best = "" if alone["best"] is None else f" The best return known is {significant(alone['best'])}."
    lines = [
        f"{of['seeds']} seeds, {of['settings']['budget']:,} steps, {of['protocol']}. A uniform policy returns"
        f" {significant(alone['random_return'])}.{best}", "",
    ]  # fmt: skip
    level, rows = levels(alone, told["curves"]["alone"]), []
    for agent in arms.AGENTS:
        each = [alone["arms"][agent][kind] for kind in ("mean", "final")]
        said = [between(x["iqm"], x["ci95"]) for x in each]
        rows.append([agent.upper(), *said, significant(level[agent])])
    head = ["agent alone", "mean return, IQM [95 %]", "final, IQM [95 %]", "converged at"]
    lines += [*table(head, rows), ""]
    rows = [
        [SAYS[name], between(t["return"], t["ci95"]), f"{t['agreement']:.2f}"]
        for name, t in alone["tutors"].items()
    ]
    head = ["tutor alone", "return [95 %]", "P(its first answer is a best action)"]
    lines += [*table(head, rows), ""]
    for part, heading in (("cells", "Beside a tutor"), ("variants", "Other rules")):
        if part in told["compared"]:
            lines += [f"### {heading}", "", *of_cells(told, part), ""]
    if told.get("reused"):
        lines += ["### Reuse against none", "", *of_reuse(told["reused"]), ""]
    return lines


def of_cells(told: Mapping[str, Any], part: str) -> list[str]:
    guidance, rows = told["kept"][part]["guidance"], []
    for arm, cell in told["compared"][part].items():
        c, seen = cell["speed_up"], guidance.get(arm, {})
        spread = cell["spread"]
        share = seen.get("advice_agreements", 0) / max(seen.get("consultations", 0), 1)
        rows.append([
            f"`{arm}`", between(c["ratio"], c["ci95"]), f"{c['holm']:.3f}", f"{c['censored']:.0%}",
            *(text for kind in ("mean", "final") for text in difference(cell[kind])),
            "-" if spread["ci95"] is None else between(spread["difference"], spread["ci95"], sign="+"),
            *(f"{seen.get(k, 0):,.0f}" for k in ("consultations", "advice_draws", "advice_reuses")),
            f"{share:.0%}",
        ])  # fmt: skip
    head = ["arm", "speed-up [95 %]", "p (Holm)", "never converged", "mean return, difference [95 %]",
            "p (Holm)", "final, difference [95 %]", "p (Holm)", "spread after convergence, difference [95 %]",
            "consultations", "draws", "reuses", "the student's own action"]  # fmt: skip
    return folded("Every cell", table(head, rows)) if part == "cells" else table(head, rows)


def difference(c: Mapping[str, Any]) -> tuple[str, str]:
    return between(c["difference"], c["ci95"], sign="+"), f"{c['holm']:.3f}"


def of_reuse(reused: Mapping[str, Any]) -> list[str]:
    rows = []
    for arm, x in reused.items():
        c, spread = x["speed_up"], x["spread"]
        said = "-" if spread["ci95"] is None else between(spread["difference"], spread["ci95"], sign="+")
        rows.append([f"`{arm}`", between(c["ratio"], c["ci95"]), f"{c['holm']:.3f}", said])
    head = ["arm", "speed-up on the same tutor without reuse [95 %]", "p (Holm)",
            "spread after convergence, difference [95 %]"]  # fmt: skip
    return table(head, rows)
