"""What a run would take, before anything is trained: `--dry-run`."""

from __future__ import annotations

import jax
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loro_jax import keys, progress
from loro_jax.running import experiment
from loro_jax.running.experiment import Experiment
from loro_jax.training import population
from loro_jax.training.phases import AsPrior, Fit, Interact
from loro_jax.training.world import World
from loro_jax.types import Phase


def show(e: Experiment, console: Console) -> None:
    """Prints each arm's sentence and its cost for one seed; then time and memory of the whole."""
    if not console.is_terminal:
        console.width = max(console.width, 140)
    title = f"{e.task.name}, {e.protocol.name}"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name, justify in (("arm", "left"), ("sentence", "left"), ("environment steps", "right"),
                          ("gradient steps", "right"), ("about", "right")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    total = 0.0
    for arm in e.arms:
        sentence = " · ".join(map(repr, arm.phases)) or "no learning: a flat line"
        seconds = experiment.expected_seconds(e, [arm])
        total += seconds
        steps, gradients = (f"{n:,}" for n in cost(arm.phases, e.world_of(arm)))
        time = progress.words(seconds) if arm.phases else ""
        table.add_row(arm.name, sentence, steps, gradients, time)
    console.print(table)
    size = sum(memory(world, e.seeds) for world in e.worlds)
    charged, budget = e.plan.prior, e.protocol.schedule.budget
    for line in (
        f"{e.seeds} seeds of each learning arm; {charged:,} of {budget:,} environment steps are charged for"
        " prior data.",
        f"About {progress.words(total)} of training (right within a factor of two), and up to a minute"
        " of compiling.",
        f"The seeds' state takes {size / 2**20:,.0f} MiB, and as much again while a piece runs.",
        "Nothing was trained.",
    ):
        console.print(line, soft_wrap=True, markup=False)


def cost(phases: tuple[Phase, ...], world: World) -> tuple[int, int]:
    """Environment steps of online learning, and gradient steps at most, of one seed."""
    steps = gradients = 0
    for phase in phases:
        if isinstance(phase, AsPrior):
            phase = phase.phase
        if isinstance(phase, Interact):
            steps += phase.steps
            gradients += phase.steps // world.agent.train_frequency
        elif isinstance(phase, Fit):
            gradients += phase.steps
    return steps, gradients


def memory(world: World, seeds: int) -> int:
    """Bytes that the state of one arm's seeds takes, those that fill the last block included."""
    key = keys.of_seed(0, 0)
    run = jax.eval_shape(world.begin, key, key)
    one = sum(_bytes(leaf) for leaf in jax.tree.leaves(run))
    return one * population.layout(seeds, world.agent.hidden).padded(seeds)


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 8
    return int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
