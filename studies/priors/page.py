"""The study's page and figures, from what is kept in its folder alone."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.analysis.figures.style import WIDTH, footer, page
from loro_jax.analysis.formats import between, significant
from loro_jax.errors import UserError
from studies import runs
from studies.blocks import BEST, UNIFORM, WORST
from studies.models import MODELS
from studies.pages import COLOURS, HOLDS, curve, folded, legend, panels, sized, table, title
from studies.priors import arms
from studies.priors.parts import PARTS, SAME, needed
from studies.priors.worlds import WORLDS

SAYS = {"135m": "135 M", "05b": "0.5 B", "15b": "1.5 B", BEST: "reference", UNIFORM: "uniform",
        WORST: "adversary", "pure_rl": "DQN", "cql": "CQL", "ppo": "PPO"}  # fmt: skip

Found = dict[str, dict[str, dict[str, Any]]]
"""By world and part."""


def write(folder: pathlib.Path) -> pathlib.Path:
    """README.md and figures of what is finished; -> the page.

    Raises:
        UserError: nothing is.
    """
    found: Found = {}
    for world in WORLDS:
        kept = runs.kept(folder / world.task, PARTS)
        if "offline" in kept and kept.get("online", {}).get("random_return") is not None:
            told, values = kept["offline"], files.read_npz(folder / world.task / "offline.npz")
            methods = arms.offline_names([m for m in told["values"] if m != "cql"], told["weight"])
            told["needed"] = needed(values, methods, kept["online"]["random_return"])
        if {"online", "coverage"} <= kept.keys():
            kept["online"]["against_uniform"] = against_uniform(folder / world.task)
        if kept:
            found[world.task] = kept
    if not found:
        raise UserError(f"{folder}: nothing of the study is finished")
    figures = folder / "figures"
    drawn = {
        "said": first_answers(found, figures / "said"),
        "online": online(found, folder, figures / "online"),
        "offline": offline(found, figures / "offline"),
        "coverage": coverage(found, figures / "coverage"),
        "sweeps": sweeps(found, figures / "sweeps"),
        "inference": inference(found, figures / "inference"),
    }
    path = folder / "README.md"
    files.write_text(path, markdown(found, drawn))
    return path


EVEN = f"on-{BEST}-{UNIFORM}-1"
"""The arm of the coverage part all of whose proposals are uniform actions."""


def against_uniform(folder: pathlib.Path) -> list[dict[str, Any]]:
    """DQN-Prior on each model's answers, each seed's own draw, less DQN-Prior on as many uniform actions."""
    both = files.read_npz(folder / "coverage.npz") | files.read_npz(folder / "online.npz")
    pairs = [(f"dqn-{model}-own", EVEN) for model in MODELS if f"dqn-{model}-own" in both]
    chosen = {name: both[name] for name in {name for pair in pairs for name in pair}}
    return runs.against(runs.means(chosen), pairs)


def having(found: Found, part: str) -> dict[str, dict[str, Any]]:
    """The part's numbers, by the worlds that have it."""
    return {world: kept[part] for world, kept in found.items() if part in kept}


def first_answers(found: Found, stem: pathlib.Path) -> bool:
    """How often a best action is among k answers, for every k: of any k of a table's, and of the first k."""
    here = having(found, "online")
    if not here:
        return False
    with page(stem, *sized(len(here))) as figure:
        for axes, (world, told) in zip(panels(figure, len(here)), here.items(), strict=True):
            for name in (*MODELS, UNIFORM):
                if name not in told["policies"]:
                    continue
                one, colour = told["policies"][name], COLOURS[name]
                ks = range(1, len(one["best_among_any"]) + 1)
                line = "-" if name in MODELS else (0, (4, 1.5))
                axes.plot(ks, one["best_among_any"], color=colour, ls=line, label=f"{SAYS[name]}, any k")
                if name in MODELS:
                    label = f"{SAYS[name]}, first k"
                    axes.plot(ks, one["best_among_first"], color=colour, ls=(0, (1, 1)), lw=0.9, label=label)
            label = "P(a best action is among k)" if axes.get_subplotspec().is_first_col() else ""
            axes.set(title=title(world), xlabel="k", ylabel=label, ylim=(0, 1.03))
            axes.set_xticks((1, 4, 8, 12, 16))
        legend(figure, 4)
        footer(figure, "Of play: uniform, the reference's and each table's own, a like share of each.")
    return True


def online(found: Found, folder: pathlib.Path, stem: pathlib.Path) -> bool:
    """Learning curves: IQM and 95 % band, of each model's proposals beside DQN, PPO and LORO."""
    here = having(found, "online")
    if not here:
        return False
    with page(stem, *sized(len(here))) as figure:
        for axes, (world, told) in zip(panels(figure, len(here)), here.items(), strict=True):
            kept = files.read_npz(folder / world / "online.npz")
            steps = np.array(told["env_steps"])
            lines: list[tuple[str, str, str, Any]] = [
                ("pure_rl", "DQN", "#000000", "-"),
                ("ppo", "PPO", "#8B4513", (0, (1, 1))),
            ]
            for tag in MODELS:
                label = f"DQN-Prior, {arms.K} of {SAYS[tag]}, own draws"
                lines += [(f"dqn-{tag}-own", label, COLOURS[tag], "-")]
            model = best(told)
            most = len(told["policies"][model]["best_among_first"])
            lines += [(f"dqn-{model}-k{most}", "DQN-Prior, all of the best model", "#0072B2", (0, (5, 1.5)))]
            lines += [(f"kl-{model}-forward", "PPO with a KL term, best model", "#8B4513", (0, (5, 1.5)))]
            lines += [(f"loro-{model}", "LORO, best model", "#009E73", (0, (3, 1, 1, 1)))]
            for name, label, colour, line in lines:
                if name in kept:
                    curve(axes, steps, kept[name], label, colour, line)
            which_best = f"{title(world)} (best: {SAYS[model]})"
            label = "return, IQM" if axes.get_subplotspec().is_first_col() else ""
            axes.set(title=which_best, xlabel="environment steps", ylabel=label)
        legend(figure, 3)
        footer(figure, "Greedy evaluations; bands are 95 % bootstrap intervals over seeds.")
    return True


def best(told: Mapping[str, Any]) -> str:
    """The model most of whose first answers are best actions, as `arms.best` finds it."""
    models = [name for name in told["policies"] if name in MODELS]
    return max(models, key=lambda name: told["policies"][name]["best_among_first"][0])


def offline(found: Found, stem: pathlib.Path) -> bool:
    """Return after learning offline, by the share of the dataset's rows."""
    here = having(found, "offline")
    if not here:
        return False
    with page(stem, *sized(len(here))) as figure:
        for axes, (world, told) in zip(panels(figure, len(here)), here.items(), strict=True):
            for method, rows in told["values"].items():
                x = [row["percent"] for row in rows]
                low, high = np.array([row["ci95"] for row in rows]).T
                label = "CQL" if method == "cql" else f"CQL-Prior, {SAYS[method]}"
                colour, line = COLOURS[method], "-" if method == "cql" else (0, (5, 1.5))
                axes.plot(
                    x, [row["mean"] for row in rows], color=colour, ls=line, marker="o", ms=2.5, label=label
                )
                axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            axes.axhline(
                told["data_return"],
                color="#999999",
                lw=0.8,
                ls=(0, (1, 2)),
                label="mean return of the dataset",
            )
            axes.set(xscale="log", title=title(world), xlabel="rows, % of the dataset", ylabel="return, mean")
            axes.set_xticks(list(arms.PERCENT), [str(p) for p in arms.PERCENT])
            axes.minorticks_off()
        legend(figure, 4)
        said = "Bands are 95 % intervals over seeds, each with its own rows of one dataset and proposals."
        footer(figure, said)
    return True


def coverage(found: Found, stem: pathlib.Path) -> bool:
    """What DQN-Prior gains on DQN, by how often a best action is among its proposals."""
    here = having(found, "coverage")
    if not here:
        return False
    with page(stem, *sized(len(here))) as figure:
        for axes, (world, told) in zip(panels(figure, len(here)), here.items(), strict=True):
            gains = {c["arm"]: c for c in told["contrasts"]}
            kinds: dict[tuple[str, str], list[tuple[float, float, Any]]] = {}
            for name, cell in told["cells"].items():
                key = (cell["base"], cell["other"])
                point = (cell["share"], cell["best_among"], gains[name])
                kinds.setdefault(key, []).append(point)
                if not cell["share"]:  # nothing replaced: the beginning of both
                    kinds.setdefault((cell["base"], WORST), []).append(point)
                if cell["share"] == 1:  # all replaced: the end of both
                    kinds.setdefault((told["model"], cell["other"]), []).append(point)
            for (base, other), points in kinds.items():
                # In the order of the shares: by where they lie a line would jump between them.
                points = sorted(points, key=lambda point: point[0])
                x = [1 - among for _, among, _ in points]
                y = [c["difference"] for *_, c in points]
                low, high = np.array([c["ci95"] for *_, c in points]).T
                colour = COLOURS[base] if base == BEST else "#332288"
                line, mark = ("-", "o") if other == UNIFORM else ((0, (2, 1.5)), "v")
                label = f"{'the reference' if base == BEST else 'the best model'}, {SAYS[other]} instead"
                axes.plot(x, y, color=colour, ls=line, marker=mark, ms=3, label=label)
                axes.plot(x[:1], y[:1], ls="none", marker="s", ms=5, mfc="none", color=colour)
                axes.vlines(x, low, high, color=colour, lw=0.8)
            axes.axhline(0, color="#000000", lw=0.8)
            axes.set_xscale("symlog", linthresh=0.01, linscale=0.5)
            axes.set_xlim(1.1, -0.003)
            ticks = (1, 0.3, 0.1, 0.03, 0.01, 0)
            axes.set_xticks(ticks, [f"{1 - x:g}" for x in ticks])
            axes.minorticks_off()
            label = "gain on DQN, mean return" if axes.get_subplotspec().is_first_col() else ""
            model = SAYS[told["model"]]
            axes.set(title=f"{title(world)} ({model})", xlabel="P(a best action among the 4)", ylabel=label)
        legend(figure, 2)
        footer(
            figure,
            "Mean return over all evaluations less DQN's, paired by seed; bars are 95 % intervals. Lines"
            " begin at the squares, where no answer is replaced.",
        )
    return True


def sweeps(found: Found, stem: pathlib.Path) -> bool:
    """Temperature of DQN-Prior's softmax, and weight of the KL term, each beside learning without a prior."""
    here = having(found, "sweeps")
    if not here:
        return False
    columns = 2 if len(here) == 1 else 4
    with page(stem, *sized(2 * len(here), columns)) as figure:
        grid = panels(figure, 2 * len(here), columns)
        for i, (world, told) in enumerate(here.items()):
            numbers = told["arms"]
            left, right = grid[2 * i : 2 * i + 2]
            series(
                left, numbers, [(t, f"temperature-{arms.tag(t)}") for t in arms.TEMPERATURES], "#0072B2", "o"
            )
            level(left, numbers["pure_rl"], "DQN alone", "#000000")
            label = "mean return, IQM" if 2 * i % columns == 0 else ""
            said = f"{title(world)} ({SAYS[told['model']]})"
            left.set(xscale="log", title=said, xlabel="temperature", ylabel=label)
            for estimator, colour in (("forward", "#D55E00"), ("reverse", "#009E73")):
                points = [(j, f"{estimator}-{arms.tag(w)}") for j, w in enumerate(arms.WEIGHTS)]
                series(right, numbers, points, colour, "o", f"KL, {estimator}")
            level(right, numbers["ppo"], "PPO alone", COLOURS["ppo"])
            right.set_xticks(range(len(arms.WEIGHTS)), [f"{w:g}" for w in arms.WEIGHTS])
            right.set(title=said, xlabel="weight of the KL term")
        legend(figure, 5)
        footer(
            figure,
            "IQM of mean returns, 95 % intervals. Each panel has its own scale; weights at equal distances.",
        )
    return True


def series(
    axes: Any, numbers: Mapping[str, Any], points: Sequence[tuple[float, str]], colour: str, mark: str,
    label: str = "DQN-Prior, softmax",
) -> None:  # fmt: skip
    """IQMs with intervals, by a swept number."""
    x = [p for p, _ in points]
    told = [numbers[name]["mean"] for _, name in points]
    low, high = np.array([t["ci95"] for t in told]).T
    axes.plot(x, [t["iqm"] for t in told], color=colour, marker=mark, ms=3, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def level(axes: Any, told: Mapping[str, Any], label: str, colour: str) -> None:
    """A learner without a prior as a band across."""
    low, high = told["mean"]["ci95"]
    axes.axhspan(low, high, color=colour, alpha=0.12, lw=0)
    axes.axhline(told["mean"]["iqm"], color=colour, ls=(0, (1, 1)), label=label)


def inference(found: Found, stem: pathlib.Path) -> bool:
    """Returns by whose proposals a learner was trained among, and whose it chooses among then."""
    here = having(found, "inference")
    if not here:
        return False
    from matplotlib.patches import Rectangle

    with page(stem, WIDTH * 2.1, 1.5 * len(here) + 0.3) as figure:
        for axes, (world, told) in zip(
            np.atleast_1d(figure.subplots(len(here), 1)), here.items(), strict=True
        ):
            rows = list(dict.fromkeys((c["trained"], c["game"]) for c in told["cells"]))
            columns = list(dict.fromkeys(c["proposals"] for c in told["cells"]))
            values = {(c["trained"], c["game"], c["proposals"]): c for c in told["cells"]}
            grid = np.array([[values[(*row, column)]["mean"] for column in columns] for row in rows])
            shown = axes.imshow(grid, aspect="auto", cmap="viridis")
            for i, row in enumerate(rows):
                for j, column in enumerate(columns):
                    cell = values[(*row, column)]
                    light = shown.norm(cell["mean"]) < 0.6
                    star = "*" if cell.get("holm", 1) < 0.05 else ""
                    said, colour = f"{cell['mean']:.2f}{star}", "white" if light else "black"
                    axes.text(j, i, said, ha="center", va="center", fontsize=6, color=colour)
                    if "p" not in cell:  # what the others of its row are held against
                        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="#D55E00", lw=1.2))
            said_by = [told_name(c).replace(", ", "\n") for c in columns]
            axes.set_xticks(range(len(columns)), said_by, fontsize=6)
            labels = [told_name(t.removeprefix("dqn-")) + (f", {g} games" if g else "") for t, g in rows]
            axes.set_yticks(range(len(rows)), labels, fontsize=6)
            axes.set(title=f"{title(world)}: trained among (rows), choosing among (columns)")
            axes.grid(visible=False)
        footer(figure, "Mean returns; boxed: its own proposals; * differs from these, Holm's p below 0.05.")
    return True


def block_name(name: str) -> str:
    """A block in words: whose answers, and how they became actions, if that is said."""
    model, _, kind = name.partition(" ")
    return SAYS.get(model, model) + (f", {kind}" if kind else "")


def told_name(name: str) -> str:
    """A block, and its number of answers, in words."""
    model, _, k = name.partition("-k")
    return f"{SAYS.get(model, model)}" + (f", k={k}" if k else "")


def markdown(found: Found, drawn: Mapping[str, bool]) -> str:
    """The page."""
    lines = [
        "# LLM priors over actions", "",
        "    python -m studies.priors --dry-run    # what would run, and how long it takes",
        "    python -m studies.priors", "",
        "DQN-Prior, CQL-Prior and PPO with a KL term (arXiv 2410.07927) in the worlds of"
        " [docs/worlds.md](../../docs/worlds.md), beside the same learners without a prior. What is read"
        " from these numbers: [docs/priors.md](../../docs/priors.md). Intervals are 95 % bootstrap"
        " intervals over seeds; contrasts are paired by seed, p by sign flips, Holm's correction over a"
        " world's table. A seed that diverges counts as a random policy. Where proposals are each seed's"
        " *own* draw of a text's answers, intervals cover which of the answers that were given a seed has"
        " (all of them where it takes all); else they hold for the first ones of these tables. A best"
        " action is one that the task's reference would take; of the kitchens that is the way to the"
        " dish, of `household` that of who knows where things are.", "",
    ]  # fmt: skip
    if short := in_short(found):
        lines += ["## In short", "", *short, ""]
    lines += ["## What the models say", ""]
    if drawn.get("said"):
        lines += ["![What the models say](figures/said.png)", ""]
    lines += [*policies(found), ""]
    sections = {
        "online": ("Online", of_online),
        "offline": ("Offline", of_offline),
        "coverage": ("Coverage", of_coverage),
        "sweeps": ("Temperature and KL weight", of_sweeps),
        "inference": ("Another model at inference", of_inference),
        "projection": ("Free answers and scores", of_projection),
    }
    for part, (heading, told) in sections.items():
        here = having(found, part)
        if not here:
            continue
        lines += [f"## {heading}", ""]
        if drawn.get(part):
            lines += [f"![{heading}](figures/{part}.png)", ""]
        for world, kept in here.items():
            body = told(kept)
            if body:
                lines += [f"### {world}", "", *body, ""]
    return "\n".join([*lines, *FILES]).rstrip() + "\n"


def in_short(found: Found) -> list[str]:
    """A row a world: what its best model's answers are worth, in the same comparisons everywhere."""
    rows = []
    for world, kept in having(found, "online").items():
        model, spread = best(kept), found[world].get("coverage")
        gains = {c["arm"]: c for c in kept["contrasts"]}
        gains |= {c["arm"]: c for c in ([] if spread is None else spread["contrasts"])}
        most = len(kept["policies"][model]["best_among_first"])
        need = found[world].get("offline", {}).get("needed", {})
        percents = [percent(need[m]["percent"]) if need and need[m]["level"] else "-" for m in ("cql", model)]
        rows.append([
            world, SAYS[model], between(*(kept["arms"]["pure_rl"]["mean"][k] for k in ("iqm", "ci95"))),
            *(gain(gains.get(arm)) for arm in (f"dqn-{model}-own", EVEN, f"dqn-{model}-k{most}")),
            gain(gains.get(f"kl-{model}-forward")), gain(gains.get(f"loro-{model}")),
            f"{percents[0]}; {percents[1]}", breaks_even(spread),
        ])  # fmt: skip
    if not rows:
        return []
    head = [
        "world", "best model", "DQN, mean return, IQM [95 %]",
        f"DQN-Prior, own {arms.K} answers, less DQN", f"the same, {arms.K} uniform actions",
        "the same, all answers", "PPO with a KL term less PPO", "LORO less DQN", "rows CQL needs; CQL-Prior",
        f"highest P(best among the {arms.K}) with which DQN-Prior loses, lowest with which it gains",
    ]  # fmt: skip
    lines = [
        "The best model is the one most of whose first answers are best actions, be they fewer than by"
        " chance. Differences are of the mean return over all evaluations, plain means over seeds, which need"
        " not agree with IQMs, paired by seed; bold where Holm's p is below 0.05, by which the last column"
        " goes as well. The KL term is forward, with weight 0.1; rows are those with which a learner comes"
        f" {SAME:.0%} of the way from a uniform policy to where CQL comes with all.", "",
        *table(head, rows),
    ]  # fmt: skip
    return [*lines, "", *beside_uniform(found)]


def gain(c: Mapping[str, Any] | None) -> str:
    """A contrast with its interval, bold where it holds."""
    if c is None:
        return "-"
    said = between(c["difference"], c["ci95"], sign="+")
    return f"**{said}**" if c["holm"] < HOLDS else said


def beside_uniform(found: Found) -> list[str]:
    """Whether a model's answers are worth more than as many uniform actions."""
    rows = []
    for world, kept in having(found, "online").items():
        told = {c["arm"]: c for c in kept.get("against_uniform", ())}
        if told:
            cells = [told.get(f"dqn-{model}-own") for model in MODELS]
            rows.append([world, *(gain(c) for c in cells)])
    if not rows:
        return []
    lines = [
        f"DQN-Prior on {arms.K} answers of a model less DQN-Prior on {arms.K} uniform actions, each seed with"
        " a draw of its own of either; bold where Holm's p over a world's models is below 0.05:", "",
    ]  # fmt: skip
    return [*lines, *table(["world", *(SAYS[model] for model in MODELS)], rows)]


def breaks_even(kept: Mapping[str, Any] | None) -> str:
    """The largest coverage of a cell that loses to DQN, and the smallest of one that gains, by Holm's p."""
    if kept is None:
        return "-"
    gains = {c["arm"]: c["difference"] for c in kept["contrasts"] if c["holm"] < HOLDS}
    loses = [cell["best_among"] for name, cell in kept["cells"].items() if gains.get(name, 0) < 0]
    wins = [cell["best_among"] for name, cell in kept["cells"].items() if gains.get(name, 0) > 0]
    return (
        f"{max(loses):.2f}, {min(wins):.2f}"
        if loses and wins
        else (f"{max(loses):.2f}, none" if loses else f"none, {min(wins):.2f}" if wins else "none, none")
    )


def policies(found: Found) -> list[str]:
    """How often a best action is among the first k, and the return of play by the answers."""
    lines = [
        "Share of play (uniform, the reference's and each table's own, a like share of each) in texts whose"
        " best action is among k answers: the first k of the table, which are one draw, or any k of it, which"
        " is the mean over all draws of k. And the mean return of play that takes one of the answers at each"
        " step (2,000 episodes). An unreadable answer stands for a uniform action.", "",
    ]  # fmt: skip
    ks = (1, 2, 4, 8, 16)
    rows = []
    for world, kept in found.items():
        for name, told in kept.get("online", {}).get("policies", {}).items():
            among = told["best_among_first"]
            cells = [f"{among[k - 1]:.2f}" if k <= len(among) else "-" for k in ks]
            cells += [f"{told['best_among_any'][k - 1]:.2f}" for k in (1, arms.K)]
            rows.append(
                [
                    world,
                    block_name(name),
                    *cells,
                    f"{told['unreadable']:.1%}",
                    between(told["return"], told["ci95"]),
                ]
            )
    head = ["world", "answers of", *(f"first {k}" for k in ks), "any 1", f"any {arms.K}", "unreadable",
            "return [95 %]"]  # fmt: skip
    return [*lines, *table(head, rows)]


def contrast(c: Mapping[str, Any]) -> list[str]:
    return [
        between(c["difference"], c["ci95"], sign="+"), between(c["improvement"], c["improvement_ci95"]),
        f"{c['holm']:.3f}",
    ]  # fmt: skip


def of_arms(numbers: Mapping[str, Any], contrasts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row an arm: mean return over all evaluations, final return, and the contrast of the former."""
    against = {c["arm"]: c for c in contrasts}
    rows = []
    for name, told in numbers.items():
        c = against.get(name)
        cells = [c["baseline"], *contrast(c)] if c else ["", "", "", ""]
        rows.append(
            [f"`{name}`", *(between(told[k]["iqm"], told[k]["ci95"]) for k in ("mean", "final")), *cells]
        )
    head = ["arm", "mean return, IQM [95 %]", "final, IQM [95 %]", "against", "difference of means [95 %]",
            "P(improvement) [95 %]", "p (Holm)"]  # fmt: skip
    return table(head, rows)


def of_online(kept: Mapping[str, Any]) -> list[str]:
    of = kept["of"]
    about = f"{of['seeds']} seeds, {of['settings']['budget']:,} steps, {of['protocol']}."
    if kept["random_return"] is not None:
        about += f" A uniform policy returns {significant(kept['random_return'])}."
    if kept["diverged"]:
        about += " Diverged: " + ", ".join(f"{n} of `{arm}`" for arm, n in kept["diverged"].items()) + "."
    return [about, "", *of_arms(kept["arms"], kept["contrasts"])]


def of_sweeps(kept: Mapping[str, Any]) -> list[str]:
    return [f"Answers of {SAYS[kept['model']]}.", "", *of_arms(kept["arms"], kept["contrasts"])]


def of_offline(kept: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{kept['rows']:,} rows of {kept['episodes']} episodes, {kept['successes']:.0%} of which succeed"
        f" (mean return {significant(kept['data_return'])}); CQL's weight {kept['weight']:g}, with which CQL"
        " earns most over the shares, for all. Rows needed are those with which a method comes"
        f" {SAME:.0%} of the way from a uniform policy to where CQL comes with all.", "",
    ]  # fmt: skip
    rows = []
    for method, values in kept["values"].items():
        cells = [between(v["mean"], v["ci95"]) for v in values]
        said, fewer = rows_needed(kept, method)
        among = kept["in_dataset"].get(method)
        rows.append(["CQL" if method == "cql" else f"CQL-Prior, {SAYS[method]}", *cells, said, fewer,
                     "" if among is None else f"{among:.0%}"])  # fmt: skip
    head = ["method", *(f"{p} %" for p in arms.PERCENT), "rows needed [95 %]", "fewer than CQL [95 %]",
            "data's action among the 4"]  # fmt: skip
    lines += table(head, rows)
    rows = [[f"`{c['arm']}`", f"`{c['baseline']}`", *contrast(c)] for c in kept["contrasts"]]
    head = ["arm", "against", "difference [95 %]", "P(improvement) [95 %]", "p (Holm)"]
    return [*lines, "", *folded("Every comparison with CQL", table(head, rows))]


def rows_needed(kept: Mapping[str, Any], method: str) -> tuple[str, str]:
    """The share of rows that a method needs, and how many fewer than CQL that is, with intervals."""
    need = kept.get("needed", {}).get(method)
    if need is None or not need["level"]:
        return "-", "-"
    low, high = need["ci95"]
    said = f"{percent(need['percent'])} [{percent(low)}, {percent(high)}]"
    if method == "cql" or need["fewer"] is None:
        return said, "" if method == "cql" else "-"
    ends = [f"{end:.0%}" if end is not None else "-" for end in need["fewer_ci95"]]
    least = "" if need["percent"] > arms.PERCENT[0] * (1 + 1e-9) else "at least "
    return said, f"{least}{need['fewer']:.0%} [{', '.join(ends)}]"


def percent(value: float | None) -> str:
    if value is None:
        return "more than all"
    return f"{value:.3g} %" if value > arms.PERCENT[0] * (1 + 1e-9) else f"{arms.PERCENT[0]} % or less"


def of_coverage(kept: Mapping[str, Any]) -> list[str]:
    gains = {c["arm"]: c for c in kept["contrasts"]}
    rows = [
        [SAYS[cell["base"]], SAYS[cell["other"]], f"{cell['share']:.0%}", f"{cell['best_among']:.2f}",
         *contrast(gains[name])]
        for name, cell in kept["cells"].items()
    ]  # fmt: skip
    head = ["answers of", "replaced by", "share", "P(best among the 4)", "gain on DQN [95 %]",
            "P(improvement) [95 %]", "p (Holm)"]  # fmt: skip
    return table(head, rows)


def of_inference(kept: Mapping[str, Any]) -> list[str]:
    rows = [
        [f"`{c['trained']}`", told_name(c["proposals"]), c["game"] or "trained on",
         between(c["mean"], c["ci95"]), *differs(c)]
        for c in kept["cells"]
    ]  # fmt: skip
    head = ["trained", "chooses among", "games", "return [95 %]", "against its own [95 %]", "p (Holm)"]
    return folded("Every cell", table(head, rows))


def differs(cell: Mapping[str, Any]) -> tuple[str, str]:
    """How far a cell is from the learner's own proposals, and Holm's p; nothing of these themselves."""
    if "p" not in cell:
        return "", ""
    return between(cell["difference"], cell["difference_ci95"], sign="+"), f"{cell['holm']:.3f}"


def of_projection(kept: Mapping[str, Any]) -> list[str]:
    if not kept["arms"]:
        return []
    gains, rows = {c["arm"]: c for c in kept["contrasts"]}, []
    for model, kinds in kept["policies"].items():
        tokens = kept["tokens"][model]
        for kind, told in kinds.items():
            among, c = told["best_among_any"], gains.get(f"dqn-{model}-{kind}")
            cost = tokens.get(kind)
            said = "" if kind == "released" else "not known" if cost is None else f"{cost:.0f}"
            rows.append([
                SAYS[model], PROJECTIONS[kind], f"{among[0]:.2f}", f"{among[min(4, len(among)) - 1]:.2f}",
                f"{told['unreadable']:.1%}", between(told["return"], told["ci95"]),
                *(contrast(c) if c else ["", "", ""]), said,
            ])  # fmt: skip
    head = [
        "model", "answers become actions", "P(best), any 1", "any 4", "unreadable", "play by them [95 %]",
        "DQN-Prior less that on answers [95 %]", "P(improvement) [95 %]", "p (Holm)", "tokens a text",
    ]  # fmt: skip
    return table(head, rows)


PROJECTIONS = {
    "map": "the phrase or word that is said (p_map)",
    "released": "p_map by the scripts' rules",
    "dist": "drawn by scores (p_dist)",
}


FILES = [
    "## Files", "",
    "`WORLD/PART.npz` has the learning curves of each arm of a part by its name, float32 (seeds, evaluations)"
    " (*offline*: returns, (seeds,); *inference*: returns, (seeds,) by trained, proposals and game);"
    " `WORLD/PART.json` the numbers above, `env_steps`, the budget at each evaluation, and under `of` all"
    " that decides the numbers. Arms' names:", "",
    *table(
        ["name", "arm"],
        [
            ["`pure_rl`, `ppo`, `cql-30-0p2`", "DQN; PPO; CQL on 30 % of the rows, its penalty times 0.2"],
            ["`dqn-05b-k4`, `-own`", "DQN-Prior on the first 4 answers of the 0.5 B model, the same for all"
             " seeds; on 4 of its answers about each text, each seed's own draw"],
            ["`dqn-05b-softmax`, `-both`", "on the first 4, acting by a softmax of the values at 0.1; so, and"
             " in a fifth of the steps uniform"],
            ["`kl-05b-forward`, `-reverse`", "PPO with a KL term to all answers of the model, weight 0.1"],
            ["`loro-05b`", "LORO on episodes that each seed plays by the table"],
            ["`on-05b-uniform-0p1`, `on-reference-adversary-1`", "DQN-Prior on each seed's own 4 answers of"
             " the model, a tenth of them replaced by uniform actions; of the reference, all replaced by the"
             " adversary's"],
            ["`temperature-0p1`, `forward-0p05`", "DQN-Prior on the first 4 of the best model, softmax at"
             " 0.1; PPO with a forward KL term of weight 0.05 to all of its answers"],
            ["`prior-05b-30`", "CQL-Prior on each seed's own 4 answers and 30 % of the rows"],
            ["`dqn-05b-map`, `-dist`, `-released`", "DQN-Prior on each seed's own 4 answers, on 4 draws by"
             " the model's scores, on 4 answers read by the scripts' rules"],
        ],
    ), "",
    "    import numpy as np",
    '    curves = np.load("results/priors/overcooked_tomato/online.npz")',
    '    (curves["dqn-05b-own"].mean(axis=1) - curves["pure_rl"].mean(axis=1)).mean()',
]  # fmt: skip
