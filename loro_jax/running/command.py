"""What every benchmark module does: `python -m benchmarks.<name>`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from loro_jax.errors import INTERRUPTED, UserError, command, run, within
from loro_jax.protocols import Protocol
from loro_jax.running.options import (
    MOST_DEVICES,
    MOST_SEEDS,
    Options,
    cluster_of,
    named,
    parse,
    seeds_of,
)

if TYPE_CHECKING:
    from loro_jax.records.results import Result
    from loro_jax.running.experiment import Experiment
    from loro_jax.running.store import Shared, Store
    from loro_jax.tasks import Task


def main(task: str = "", argv: list[str] | None = None) -> int:
    """Runs `task`, or the one that --task names, as `argv` asks -> the exit status.

    As the command line asks (`argv` None), it ends the process.
    """
    sitting = Sitting()
    if argv is None:
        run(lambda: _alike(lambda: _main(task, sys.argv[1:], sitting)), sitting.stopped)
    return command(lambda: _main(task, argv, sitting))


def _alike(main: Callable[[], int]) -> int:
    """The status of `main`; one of several processes that fails or is stopped ends here."""
    try:
        status = command(main)
    except Exception:
        if not _one_of_several():
            raise
        traceback.print_exc()
        status = 1
    if status and _one_of_several():
        from loro_jax import processes

        processes.leave(status)
    return status


def _one_of_several() -> bool:
    return "jax" in sys.modules and bool(sys.modules["jax"].distributed.is_initialized())


@dataclasses.dataclass
class Sitting:
    """What Ctrl-C has to tell the user: what is kept, and where."""

    store: Store | Shared | None = None

    def stopped(self) -> str:
        if self.store is None or not self.store.folder.exists():
            if self.store is not None:
                self.store.close()
            return "stopped; nothing was trained yet, and nothing is kept"
        return f"stopped; what is kept is in {self.store.folder}: the same command with --resume goes on"


def _main(spec: str, argv: list[str], sitting: Sitting) -> int:
    task, options = parse(spec, argv)
    within("--seeds", options.seeds, 1, MOST_SEEDS)
    within("--devices", options.devices, 0, MOST_DEVICES)
    first, count = seeds_of(options)
    from loro_jax.running import machine

    # After the arguments are known to be good: mistakes answer at once.
    machine.start(options.devices, options.cache, cluster_of(options))
    from loro_jax import keys, processes

    keys.check(options.seed)
    with processes.connected():
        same_options(options)
        return _started(task, options, first, count, sitting)


def same_options(options: Options) -> None:
    """A `UserError`, the same in all, where processes were given other options; settings come later."""
    from loro_jax import processes

    given = {name: repr(value) for name, value in vars(options).items()}
    own = {name: value for name, value in given.items() if name not in ("process_id", "settings")}
    said = processes.each(own)
    for process, theirs in enumerate(said):
        if other := [f"--{name.replace('_', '-')}" for name in own if theirs[name] != said[0][name]]:
            raise UserError(
                f"process {process} was started with another {', '.join(other)} than process 0; start all"
                " processes with the same command"
            )


def _started(task: Task, options: Options, first: int, count: int, sitting: Sitting) -> int:
    """Prepares and trains, JAX running."""
    from loro_jax import processes
    from loro_jax.running import experiment

    protocol = options.settings
    chosen = named(options.arms, protocol, bool(options.episodes or options.answers or task.episodes))
    ready = processes.together(
        lambda: experiment.prepare_experiment(
            task,
            protocol,
            chosen,
            count,
            options.seed,
            options.episodes,
            first,
            options.answers,
            options.proposals,
        )
    )
    if not 0 <= options.memory_limit < 2**40:
        raise UserError(f"--memory-limit takes GiB, 0 for what there is, got {options.memory_limit:g}")
    limit = math.ceil(options.memory_limit * 2**30)
    ready = dataclasses.replace(ready, save_policies=options.save_policies, memory_limit=limit)
    console = Console(stderr=True, highlight=False, quiet=not processes.first())
    for warning in ready.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if options.dry_run:
        from loro_jax.running import plan

        plan.show(ready, Console(highlight=False, quiet=not processes.first()))
        return 0
    name = protocol.name + ("-quick" if options.quick else "")
    name += f"-seeds-{first}-{first + count}" if options.seed_range else ""
    out = options.out or pathlib.Path("results") / task.name / name
    with contextlib.ExitStack() as stack:
        if (options.tensorboard is not None or options.wandb) and processes.first():
            from loro_jax.running.watching import Watch

            watch = Watch(ready.identity, options.tensorboard, options.wandb, out)
            ready = dataclasses.replace(ready, watch=stack.enter_context(watch))
        return train(ready, out, options.resume, console, sitting)


def train(
    ready: Experiment, out: pathlib.Path, resume: bool, console: Console, sitting: Sitting | None = None
) -> int:
    """Trains what `ready` says, keeping it in `out`, and reports -> the exit status."""
    from loro_jax import processes
    from loro_jax.running import machine, trainer
    from loro_jax.running.store import opened

    sitting = sitting or Sitting()
    with opened(out, ready.identity, resume, machine.computed_on()) as store:
        sitting.store = store
        if processes.alone(lambda: _complete(ready, store, out, console)):
            return 0
        try:
            result, seconds = trainer.run(ready, store, console)
            processes.alone(lambda: report(ready, result, seconds, out, console))
        except trainer.Interrupted:
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


def _complete(ready: Experiment, store: Store | Shared, out: pathlib.Path, console: Console) -> bool:
    """Whether nothing is left to do in `out`; says so, or that a finished run will be replaced."""
    from loro_jax.records import results

    if store.complete and ready.save_policies and not (out / results.POLICIES).exists():
        raise UserError(f"{out} holds this run without its policies; without --resume it is trained anew")
    if store.complete:
        print(f"{out} holds this run already, complete; without --resume it runs anew")
    elif (out / results.RUN).exists():
        console.print(
            f"{out} holds a finished run, which this one will replace", soft_wrap=True, markup=False
        )
    return store.complete


def report(
    ready: Experiment, result: Result, seconds: dict[str, float], out: pathlib.Path, console: Console
) -> None:
    """Writes every output of a finished run, prints the table, and says where the rest is."""
    from loro_jax.analysis import tables

    written = summarise(ready, result)
    try:
        with console.status("drawing figures"):
            save(ready, result, written, seconds, out)
    except UserError as error:
        raise UserError(f"{error}; nothing is lost: make room, then the same command with --resume") from None
    tables.print_tables(written, Console(highlight=False))
    print(f"Results, figures and what ran: {out}{os.sep}")


def save(
    ready: Experiment, result: Result, summary: dict[str, Any], seconds: dict[str, float], out: pathlib.Path
) -> None:
    """Writes every output of a finished run into `out`, together."""
    from loro_jax import files
    from loro_jax.analysis import figures, outputs
    from loro_jax.records import results

    with results.together(out) as folder:
        results.save(result, folder)
        outputs.write(summary, folder)
        figures.draw_all(
            summary, result.curves, result.env_steps, result.flat, folder / "figures",
            prior_steps=ready.plan.prior, steps_per_episode=ready.protocol.schedule.eval_interval,
        )  # fmt: skip
        files.write_json(folder / results.RUN, record(ready, result, seconds))


def record(ready: Experiment, result: Result, seconds: dict[str, float]) -> dict[str, Any]:
    """`run.json`: what ran, on what, and how long it took."""
    from loro_jax.running import machine

    steps = sum(int(c["env_steps"].sum()) for c in result.counters.values())
    gradient_steps = sum(int(c["gradient_steps"].sum()) for c in result.counters.values())
    per = max(seconds["training"], 1e-9)
    return {
        "identity": result.identity,
        "source": ready.task.source,
        **machine.provenance(),
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "throughput": {
            "env_steps_per_second": round(steps / per),
            "gradient_steps_per_second": round(gradient_steps / per),
        },
    }


def summarise(ready: Experiment, result: Result) -> dict[str, Any]:
    """`summary.json` of a result."""
    from loro_jax.analysis import summary
    from loro_jax.training import arms

    card = result.identity["episodes"] or result.identity.get("answers") or {}
    prior = ready.protocol.prior
    interval, model = ready.protocol.schedule.eval_interval, card.get("model")
    charging = ""
    if ready.prior is not None:
        charging = {
            "episodes": f"each of the {prior.tau} prior episodes uses one evaluation interval of {interval}"
            " steps",
            "steps": f"the steps of the {prior.tau} prior episodes are charged, in whole evaluation intervals"
            f" of {interval} steps: {ready.plan.prior:,} steps",
        }[prior.charge]
        if ready.plan.answers and prior.charge == "steps":
            charging += " on average; each seed plays, and is charged, its own"
    if ready.plan.own_proposals:
        charging += ("; " if charging else "") + "proposals are each seed's own draw of a text's answers"
    warnings = list(ready.warnings)
    if ready.plan.answers and any(curve.shape[1] == 0 for curve in result.llm_free.values()):
        warnings.append(
            "some seed's own LLM episodes take the whole budget, so that nothing is read with prior data free"
        )
    return summary.summarise(
        benchmark=ready.task.name,
        protocol=label(ready.task, ready.protocol),
        curves=result.curves,
        env_steps=result.env_steps,
        flat=result.flat,
        baseline=arms.BASELINE,
        threshold=ready.world.environment.threshold,
        llm_free=result.llm_free,
        notes={
            "model": model.get("name") if isinstance(model, dict) else model,
            "prompt": _name(card.get("prompt")),
            "dataset": card.get("name"),
            "alignment": ready.protocol.departures.alignment,
            "charging": charging,
            "prior_steps": ready.plan.prior,
            "warnings": warnings,
        },
        random_return=result.random_return,
        diverged=result.diverged,
    )


def label(task: Task, protocol: Protocol) -> str:
    """The protocol's name, and what was changed of it by hand: "standard@1 with budget=4000"."""
    if protocol.name not in (known := task.settings()):  # of a task that has changed since, or of nobody's
        return protocol.name
    changed = protocol.changes(known[protocol.name])
    words = [f"{k}={_value(v)}" for k, v in changed.items()]
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return protocol.name + (f" with {', '.join(words[:4])}{more}" if words else "")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}:{v}" for k, v in value.items()) or "as it is"
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value
