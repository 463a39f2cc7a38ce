"""What a run would take, before anything is trained: `--dry-run`."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loro_jax import progress
from loro_jax.agents.base import steps_of_update
from loro_jax.running import experiment
from loro_jax.running.experiment import Experiment
from loro_jax.training import memory
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
    division = {world: memory.divide(world, e.seeds, e.memory_limit) for world in e.worlds}
    needs = [memory.needed(w, d.layout, d.wave) for w, d in division.items()]
    each = max((memory.of_seed(world) for world in e.worlds), default=0)
    waves = max((d.waves for d in division.values()), default=1)
    charged, budget = e.plan.prior, e.protocol.schedule.budget
    for line in (
        f"{e.seeds} seeds of each learning arm; {charged:,} of {budget:,} environment steps are charged for"
        " prior data.",
        f"About {progress.words(total)} of training (right within a factor of two), and"
        f" {experiment.compiling(e.arms)} of compiling.",
        f"A seed's state takes {each / 2**20:,.1f} MiB, training them about"
        f" {max(needs, default=0) / 2**20:,.0f} MiB at a time"
        + (f", {waves} groups of seeds one after the other." if waves > 1 else "."),
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
            gradients += phase.steps // world.agent.train_frequency * steps_of_update(world.agent)
        elif isinstance(phase, Fit):
            gradients += phase.steps
    return steps, gradients
