"""Several tasks, and one answer over all of them: `python -m benchmarks.suite --help`.

Runs each task as its own command would, into OUT/<task>/<protocol>, then aggregates the saved runs into
OUT/suite/<protocol>: suite.md, suite.json and one figure.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from loro_jax.errors import UserError, arguments, command, within
from loro_jax.records import identity
from loro_jax.running.command import MOST_DEVICES, MOST_SEEDS
from loro_jax.tasks import NAMES, SUITE, Task, load

if TYPE_CHECKING:
    from loro_jax.analysis import aggregate as aggregates

BASELINE = "pure_rl"
RUN = "benchmarks.run"
"""What `python -m` is given for each task."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Runs every task, and aggregates them over tasks and seeds."""

    seeds: int = 64
    """Seeds of each arm in each task."""
    protocol: str = "standard"
    """Each task's settings, the newest version where it names none (standard, or standard@1; untuned for
    tasks without any). They fix the budgets: a smaller one is a protocol of the task's own."""
    tasks: str = "all"
    """Tasks, separated by commas: the suite's six, or FILE.py:NAME for those of your own."""
    arms: str = "all"
    """Arms to run, separated by commas, or all that the protocol has."""
    out: pathlib.Path = pathlib.Path("results")
    """Folder that holds a folder for each task, and the aggregate in suite/."""
    resume: bool = False
    """Keep finished runs of this very configuration, and go on with interrupted ones."""
    aggregate_only: bool = False
    """Train nothing: aggregate the runs saved in --out, over the arms and seeds that all of them have."""
    seed: int = 0
    """The key that all of the runs' keys are folded from."""
    devices: int = 0
    """Devices that share the seeds; 0 takes all."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(
            Options, prog="python -m benchmarks.suite", description=__doc__, args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )  # fmt: skip
    within("--seeds", options.seeds, 1, MOST_SEEDS)
    within("--devices", options.devices, 0, MOST_DEVICES)
    from loro_jax import keys

    keys.check(options.seed)
    if not os.environ.get("JAX_PLATFORMS"):
        import jax

        jax.config.update("jax_platforms", "cpu")  # the accelerator is left to the tasks' own processes
    tasks = named(options.tasks)
    if not {"all", BASELINE} & {arm.strip() for arm in options.arms.split(",")}:
        raise UserError(f"--arms must include {BASELINE}, which the others are compared with, or be all")
    protocols = set()
    for task in tasks:  # before any is trained
        protocol = task.protocol(options.protocol)
        protocol.agent.for_game(task.under(protocol).action_space)
        protocols.add(protocol.name)
    name = protocols.pop() if len(protocols) == 1 else options.protocol
    for place, task in enumerate(tasks, start=1):
        if options.aggregate_only:
            break
        print(f"[{place}/{len(tasks)}] {task.name}", file=sys.stderr, flush=True)
        if status := train(task, options):
            return status
    from loro_jax import files, progress
    from loro_jax.analysis import aggregate, outputs
    from loro_jax.analysis.figures import suite as figure
    from loro_jax.records import results

    console = Console(stderr=True, highlight=False)
    with progress.waiting(console, f"aggregating {len(tasks)} tasks"):
        found = aggregate.aggregate([saved(task, options) for task in tasks], BASELINE)
        text = aggregate.markdown(found, name)
        out = options.out / "suite" / name
        with results.together(out, "suite.json") as folder:
            files.write_json(folder / "suite.json", {"protocol": name, **found})
            files.write_text(folder / "suite.md", text)
            outputs.write_tables(aggregate.tables(found), folder / outputs.TABLES)
            figure.draw(found, name, folder / "figures" / "suite")
    print(text)
    print(f"Aggregate and figure: {out}")
    return 0


def named(names: str) -> list[Task]:
    """The tasks called so; a `UserError` lists those there are, or names one that cannot be scored."""
    chosen = SUITE if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    tasks = [load(name) for name in chosen]
    if not tasks or len({task.name for task in tasks}) < len(tasks):
        raise UserError(f"--tasks must name tasks, each once; there are: {', '.join(NAMES)}")
    for task in tasks:
        if task.environment().best is None:
            raise UserError(
                f"{task.name} names no best known return, which is score 1; give its Environment one, or"
                " leave it out"
            )
    return tasks


def folder_of(task: Task, options: Options) -> pathlib.Path:
    return options.out / task.name / task.protocol(options.protocol).name


def train(task: Task, options: Options) -> int:
    """Runs one task in a process of its own, which gives its memory back -> its exit status."""
    out = folder_of(task, options)
    line = [sys.executable, "-m", RUN, "--task", task.source, "--seeds", str(options.seeds)]
    line += ["--protocol", options.protocol, "--arms", options.arms, "--seed", str(options.seed)]
    line += ["--devices", str(options.devices), "--out", str(out)]
    begun = (out / "run.json").exists() or (out / "checkpoints").exists()
    line += ["--resume"] if options.resume and begun else []
    child = subprocess.Popen(line)
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        status = None
        while status is None:
            try:
                status = child.wait()
            except KeyboardInterrupt:
                continue  # a terminal sends it to the child too, which stops at a checkpoint and says so
    finally:
        signal.signal(signal.SIGTERM, before)
    if status < 0:
        raise UserError(f"{task.name} was ended by signal {-status}; the same command with --resume goes on")
    return status


def saved(task: Task, options: Options) -> aggregates.Task:
    """The task's finished run, which has to be of the protocol as the task has it."""
    from loro_jax.analysis import aggregate
    from loro_jax.running import curves

    protocol = task.protocol(options.protocol)
    env = task.under(protocol).limited(protocol.schedule.eval_limit)  # what the curves' returns are of
    assert env.best is not None  # which `named` has seen to
    return aggregate.load(
        folder_of(task, options), task.name, env.best, lambda ran: identity.other_settings(ran, protocol),
        lambda seed: curves.random_returns(env, seed),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(command(main))
