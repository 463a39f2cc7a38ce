"""Every benchmark, and one answer over all of them: `python -m benchmarks.suite --help`.

Runs each benchmark as its own command would, into OUT/<benchmark>/<protocol>, then aggregates the saved runs
into OUT/suite/<protocol>: suite.md, suite.json and one figure.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from loro_jax.errors import UserError, arguments, command, within
from loro_jax.running.benchmark import MOST_DEVICES, MOST_SEEDS, Benchmark

if TYPE_CHECKING:
    from loro_jax.analysis.aggregate import Task

PACKAGE = "benchmarks"
"""Holds a module for each benchmark; also what `python -m` is given."""
NAMES = ("cartpole", "frozen_lake", "cliff_walking", "mountain_car", "pendulum", "pong")
BASELINE = "pure_rl"


@dataclasses.dataclass(frozen=True)
class Options:
    """Runs every benchmark, and aggregates them over environments and seeds."""

    seeds: int = 64
    """Members of each arm in each environment."""
    protocol: Literal["standard", "paper", "released"] = "standard"
    """Each benchmark's settings."""
    benchmarks: str = "all"
    """Benchmarks, separated by commas."""
    arms: str = "all"
    """Arms to run, separated by commas, or all that the protocol has."""
    out: pathlib.Path = pathlib.Path("results")
    """Folder that holds a folder for each benchmark, and the aggregate in suite/."""
    resume: bool = False
    """Keep finished runs of this very configuration, and go on with interrupted ones."""
    aggregate_only: bool = False
    """Train nothing: aggregate the runs saved in --out, over the arms and seeds that all of them have."""
    seed: int = 0
    """The key that all of the runs' keys are folded from."""
    devices: int = 0
    """Devices that share the members; 0 takes all."""


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
    benchmarks = named(options.benchmarks)
    if not {"all", BASELINE} & {arm.strip() for arm in options.arms.split(",")}:
        raise UserError(f"--arms must include {BASELINE}, which the others are compared with, or be all")
    for place, benchmark in enumerate(benchmarks, start=1):
        if options.aggregate_only:
            break
        print(f"[{place}/{len(benchmarks)}] {benchmark.name}", file=sys.stderr, flush=True)
        if status := train(benchmark, options):
            return status
    from loro_jax import progress
    from loro_jax.analysis import aggregate, outputs
    from loro_jax.analysis.figures import suite as figure
    from loro_jax.running import results

    console = Console(stderr=True, highlight=False)
    with progress.waiting(console, f"aggregating {len(benchmarks)} benchmarks"):
        found = aggregate.aggregate([saved(benchmark, options) for benchmark in benchmarks], BASELINE)
        text = aggregate.markdown(found, options.protocol)
        out = options.out / "suite" / options.protocol
        with results.together(out, "suite.json") as folder:
            results.write_json(folder / "suite.json", {"protocol": options.protocol, **found})
            results.write_text(folder / "suite.md", text)
            outputs.write_tables(aggregate.tables(found), folder / outputs.TABLES)
            figure.draw(found, options.protocol, folder / "figures" / "suite")
    print(text)
    print(f"Aggregate and figure: {out}")
    return 0


def named(names: str) -> list[Benchmark]:
    """The benchmarks called so; a `UserError` lists those there are."""
    chosen = NAMES if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    for name in chosen:
        if name not in NAMES:
            raise UserError(f"no benchmark is called '{name}'; there are: {', '.join(NAMES)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"--benchmarks must name benchmarks, each once; there are: {', '.join(NAMES)}")
    return [getattr(importlib.import_module(f"{PACKAGE}.{n}"), n.upper()) for n in chosen]


def train(benchmark: Benchmark, options: Options) -> int:
    """Runs one benchmark in a process of its own, which gives its memory back -> its exit status."""
    out = options.out / benchmark.name / options.protocol
    line = [sys.executable, "-m", f"{PACKAGE}.{benchmark.name}", "--seeds", str(options.seeds)]
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
        raise UserError(
            f"{benchmark.name} was ended by signal {-status}; the same command with --resume goes on"
        )
    return status


def saved(benchmark: Benchmark, options: Options) -> Task:
    """The benchmark's finished run, which has to be of the protocol as the benchmark has it now."""
    from loro_jax.analysis import aggregate
    from loro_jax.running import experiment
    from loro_jax.training.protocols import relevant

    protocol = benchmark.protocols[options.protocol]
    env = benchmark.make(protocol).limited(protocol.eval_limit)  # what the curves' returns are of
    settings = json.loads(json.dumps(relevant(protocol, experiment.unused(benchmark, env))))  # as read back
    return aggregate.load(
        options.out / benchmark.name / options.protocol, benchmark.name, env.best, settings,
        lambda seed: experiment.random_returns(env, seed),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(command(main))
