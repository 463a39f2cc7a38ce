"""The command line that every benchmark module shares: `python -m benchmarks.<name> --help`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console

from loro_jax.errors import INTERRUPTED, UserError, arguments, command, run, within
from loro_jax.running.benchmark import MOST_DEVICES, MOST_SEEDS, Benchmark
from loro_jax.training.protocols import Protocol

if TYPE_CHECKING:
    from loro_jax.running.experiment import Experiment
    from loro_jax.running.store import Store


@dataclasses.dataclass(frozen=True)
class Options:
    seeds: int = 256
    """Members of each arm. The same seed gives every arm the same initial network and starts."""
    protocol: Literal["standard", "paper", "released"] = "standard"
    """Settings to start from; every field below can be changed on its own."""
    arms: str = "all"
    """Arms to run, separated by commas, or all that the protocol has."""
    episodes: str = ""
    """LLM episodes: the name of a shipped dataset, or a folder with card.json and episodes.npz."""
    out: pathlib.Path | None = None
    """Folder for the results; results/<benchmark>/<protocol> when not given."""
    resume: bool = False
    """Go on with an interrupted run in --out; every other option must be as it was."""
    seed: int = 0
    """The key that all of the run's keys are folded from."""
    devices: int = 0
    """Devices that share the members: CPU cores, or GPUs. 0 takes all."""
    settings: Protocol = dataclasses.field(default_factory=lambda: Protocol("standard"))
    """Settings of the protocol, one by one."""


def main(benchmark: Benchmark, argv: list[str] | None = None) -> int:
    """Runs `benchmark` as `argv` asks -> the exit status; as the command line asks, it ends the process."""
    sitting = Sitting()
    if argv is None:
        run(lambda: _main(benchmark, sys.argv[1:], sitting), sitting.stopped)
    return command(lambda: _main(benchmark, argv, sitting))


@dataclasses.dataclass
class Sitting:
    """What Ctrl-C has to tell the user: what is kept, and where."""

    store: Store | None = None

    def stopped(self) -> str:
        if self.store is None or not self.store.folder.exists():
            if self.store is not None:
                self.store.close()
            return "stopped; nothing was trained yet, and nothing is kept"
        return f"stopped; what is kept is in {self.store.folder}: the same command with --resume goes on"


def _main(benchmark: Benchmark, argv: list[str], sitting: Sitting) -> int:
    options = parse(benchmark, argv)
    within("--seeds", options.seeds, 1, MOST_SEEDS)
    within("--devices", options.devices, 0, MOST_DEVICES)
    from loro_jax.running import machine

    machine.start(options.devices)  # after the arguments are known to be good: mistakes answer at once
    from loro_jax import keys
    from loro_jax.running import experiment, results
    from loro_jax.running.store import Store
    from loro_jax.training import arms

    keys.check(options.seed)

    protocol = options.settings
    named = tuple(a.strip() for a in options.arms.split(",") if a.strip())
    chosen = arms.names(protocol) if named == ("all",) else named
    if not chosen:
        raise UserError(f"--arms names no arm; there are: {', '.join(arms.ARMS)}")
    ready = experiment.prepare_experiment(
        benchmark, protocol, chosen, options.seeds, options.seed, options.episodes
    )
    out = options.out or pathlib.Path("results") / benchmark.name / protocol.name
    console = Console(stderr=True, highlight=False)
    for warning in ready.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    with Store(out, ready.identity, options.resume, machine.computed_on()) as store:
        sitting.store = store
        if store.complete:
            print(f"{out} holds this run already, complete; without --resume it runs anew")
            return 0
        if (out / results.RUN).exists():
            console.print(
                f"{out} holds a finished run, which this one will replace", soft_wrap=True, markup=False
            )
        try:
            result, seconds = experiment.run(ready, store, console)
            report(ready, result, seconds, out, console)
        except experiment.Interrupted:
            console.print(
                f"stopped at a checkpoint in {store.folder}; the same command with --resume goes on",
                soft_wrap=True,
            )
            return INTERRUPTED
        except KeyboardInterrupt:
            console.print(sitting.stopped(), soft_wrap=True, markup=False)
            return INTERRUPTED
        store.clear()
    return 0


def report(
    ready: Experiment, result: Any, seconds: dict[str, float], out: pathlib.Path, console: Console
) -> None:
    """Writes every output of a finished run, prints the table, and says where the rest is."""
    from loro_jax.analysis import figures, outputs, tables
    from loro_jax.running import machine, results

    steps = sum(int(c["env_steps"].sum()) for c in result.counters.values())
    gradient_steps = sum(int(c["gradient_steps"].sum()) for c in result.counters.values())
    per = max(seconds["training"], 1e-9)
    written = summarise(ready, result)
    run = {
        "identity": result.identity,
        **machine.provenance(),
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "throughput": {
            "env_steps_per_second": round(steps / per),
            "gradient_steps_per_second": round(gradient_steps / per),
        },
    }
    try:
        with results.together(out) as folder, console.status("drawing figures"):
            results.save(result, folder)
            outputs.write(written, folder)
            figures.draw_all(
                written, result.curves, result.env_steps, result.flat, folder / "figures",
                prior_steps=ready.plan.prior, steps_per_episode=ready.protocol.eval_every,
            )  # fmt: skip
            results.write_json(folder / results.RUN, run)
    except UserError as error:
        raise UserError(f"{error}; nothing is lost: make room, then the same command with --resume") from None
    tables.print_tables(written, Console(highlight=False))
    print(f"Results, figures and what ran: {out}{os.sep}")


def summarise(ready: Experiment, result: Any) -> dict[str, Any]:
    """`summary.json` of a result."""
    from loro_jax.analysis import summary
    from loro_jax.training import arms

    card, p = result.identity["episodes"] or {}, ready.protocol
    model = card.get("model")
    charging = {
        "episodes": f"each of the {p.tau} prior episodes uses one chunk of {p.eval_every} steps",
        "steps": f"the steps of the {p.tau} prior episodes are charged, in whole chunks of"
        f" {p.eval_every} steps: {ready.plan.prior:,} steps",
    }[p.charge]
    return summary.summarise(
        benchmark=ready.benchmark.name,
        protocol=p.name,
        curves=result.curves,
        env_steps=result.env_steps,
        flat=result.flat,
        baseline=arms.BASELINE,
        threshold=ready.benchmark.threshold,
        llm_free=result.llm_free,
        notes={
            "model": model.get("name") if isinstance(model, dict) else model,
            "prompt": _name(card.get("prompt")),
            "dataset": card.get("name"),
            "alignment": p.alignment,
            "charging": charging,
            "prior_steps": ready.plan.prior,
            "warnings": list(ready.warnings),
        },
        random_return=result.random_return,
        diverged=result.diverged,
    )


def parse(benchmark: Benchmark, argv: list[str]) -> Options:
    """The options, on the settings of the protocol that they name."""
    name = _peek(argv, "--protocol") or "standard"
    if name not in benchmark.protocols:
        raise UserError(f"no protocol is called '{name}'; there are: {', '.join(benchmark.protocols)}")
    start = Options(
        seeds=benchmark.seeds,
        protocol=name,  # type: ignore[arg-type]
        episodes=benchmark.episodes,
        settings=benchmark.protocols[name],
    )
    return arguments(
        lambda: tyro.cli(
            Options,
            prog=f"python -m benchmarks.{benchmark.name}",
            description=_description(benchmark),
            args=argv,
            default=start,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    )


def _peek(argv: list[str], flag: str) -> str | None:
    """The value of one flag, before the others can be parsed."""
    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
    return None


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _description(benchmark: Benchmark) -> str:
    from loro_jax.data import episodes
    from loro_jax.training import arms
    from loro_jax.training.arms import Plan

    sample = Plan(benchmark.protocols["standard"], 1, 200, 1)
    rows = "\n".join(f"  {n:<14}{build(sample).says}" for n, build in arms.ARMS.items())
    shipped = "\n".join(f"  {name}" for name in episodes.shipped(benchmark.environment))
    return (
        textwrap.dedent(f"""\
        Does a language model's play make learning {benchmark.environment} more sample-efficient?
        Trains every arm with hundreds of seeds and compares them with intervals.

        arms:
        """)
        + f"{rows}\n\nshipped episodes (--episodes NAME):\n{shipped}\n\n"
        + "example: --seeds 32 --arms pure_rl,loro --budget 4000 --out /tmp/try\n"
    )
