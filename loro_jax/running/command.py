"""The command line that every benchmark module shares: `python -m benchmarks.<name> --help`."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from loro_jax.errors import INTERRUPTED, UserError, arguments, command, run, within
from loro_jax.protocols import Protocol

if TYPE_CHECKING:
    from loro_jax.records.results import Result
    from loro_jax.running.experiment import Experiment
    from loro_jax.running.store import Store
    from loro_jax.tasks import Task

MOST_SEEDS, MOST_DEVICES = 1_000_000, 1024  # more than fit anywhere; far larger numbers overflow in JAX
QUICK_SEEDS, QUICK_TAU, QUICK_EVALUATIONS, QUICK_FIT = 8, 2, 10, 200


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags, the protocol's settings among them."""

    task: str
    """What to learn: cartpole and so on; FILE.py:NAME for a task of your own; gymnax:NAME."""
    seeds: int = 256
    """Seeds of each arm. The same seed gives every arm the same initial network and starts."""
    protocol: str = ""
    """Settings to start from, the newest version where it names none (standard, or standard@1); every
    setting below can be changed on its own. By default the first that the task has."""
    arms: str = "all"
    """Arms to run, separated by commas, or all that there is prior data for."""
    episodes: str = ""
    """LLM episodes: the name of a shipped dataset, or a folder with card.json and episodes.npz."""
    out: pathlib.Path | None = None
    """Folder for the results; results/<task>/<protocol> when not given."""
    resume: bool = False
    """Go on with an interrupted run in --out; every other option must be as it was."""
    seed: int = 0
    """The key that all of the run's keys are folded from."""
    devices: int = 0
    """Devices that share the seeds: CPU cores, or GPUs. 0 takes all."""
    quick: bool = False
    """About a minute, for a first look and for CI: few seeds, few arms, a short budget; nothing follows
    from its numbers. Other options are as given."""
    dry_run: bool = False
    """Say what would run: each arm's sentence, its cost in steps, the time and the memory; train
    nothing."""
    save_policies: bool = False
    """Keep every seed's trained policy, in policies.npz (loro_jax.load_policy plays it)."""
    game: tuple[str, ...] = ()
    """Parameters of the game, such as slippery=false limit=50."""
    settings: Protocol = dataclasses.field(default_factory=lambda: Protocol("standard@1"))
    """Settings of the protocol, one by one."""


@dataclasses.dataclass(frozen=True)
class OwnOptions(Options):
    """Of a module that runs one task."""

    task: Annotated[str, tyro.conf.Suppress] = ""


def main(task: str = "", argv: list[str] | None = None) -> int:
    """Runs `task`, or the one that --task names, as `argv` asks -> the exit status.

    As the command line asks (`argv` None), it ends the process.
    """
    sitting = Sitting()
    if argv is None:
        run(lambda: _main(task, sys.argv[1:], sitting), sitting.stopped)
    return command(lambda: _main(task, argv, sitting))


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


def _main(spec: str, argv: list[str], sitting: Sitting) -> int:
    task, options = parse(spec, argv)
    within("--seeds", options.seeds, 1, MOST_SEEDS)
    within("--devices", options.devices, 0, MOST_DEVICES)
    from loro_jax.running import machine

    machine.start(options.devices)  # after the arguments are known to be good: mistakes answer at once
    from loro_jax import keys
    from loro_jax.running import experiment

    keys.check(options.seed)
    protocol = options.settings
    chosen = named(options.arms, protocol, bool(options.episodes or task.episodes))
    ready = experiment.prepare_experiment(
        task, protocol, chosen, options.seeds, options.seed, options.episodes
    )
    ready = dataclasses.replace(ready, save_policies=options.save_policies)
    console = Console(stderr=True, highlight=False)
    for warning in ready.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if options.dry_run:
        from loro_jax.running import plan

        plan.show(ready, Console(highlight=False))
        return 0
    name = protocol.name + ("-quick" if options.quick else "")
    return train(
        ready, options.out or pathlib.Path("results") / task.name / name, options.resume, console, sitting
    )


def train(
    ready: Experiment, out: pathlib.Path, resume: bool, console: Console, sitting: Sitting | None = None
) -> int:
    """Trains what `ready` says, keeping it in `out`, and reports -> the exit status."""
    from loro_jax.records import results
    from loro_jax.running import experiment, machine
    from loro_jax.running.store import Store

    sitting = sitting or Sitting()
    with Store(out, ready.identity, resume, machine.computed_on()) as store:
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


def named(words: str, protocol: Protocol, prior_episodes: bool) -> tuple[str, ...]:
    """The arms that `--arms` names; "all" are those that there is prior data for."""
    from loro_jax.training import arms

    chosen = tuple(a.strip() for a in words.split(",") if a.strip())
    if chosen == ("all",):
        return arms.names(protocol, prior_episodes)
    if not chosen:
        raise UserError(f"--arms names no arm; there are: {', '.join(arms.ARMS)}")
    return chosen


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
    from loro_jax.running import machine

    steps = sum(int(c["env_steps"].sum()) for c in result.counters.values())
    gradient_steps = sum(int(c["gradient_steps"].sum()) for c in result.counters.values())
    per = max(seconds["training"], 1e-9)
    ran = {
        "identity": result.identity,
        "source": ready.task.source,
        **machine.provenance(),
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "throughput": {
            "env_steps_per_second": round(steps / per),
            "gradient_steps_per_second": round(gradient_steps / per),
        },
    }
    with results.together(out) as folder:
        results.save(result, folder)
        outputs.write(summary, folder)
        figures.draw_all(
            summary, result.curves, result.env_steps, result.flat, folder / "figures",
            prior_steps=ready.plan.prior, steps_per_episode=ready.protocol.schedule.eval_interval,
        )  # fmt: skip
        files.write_json(folder / results.RUN, ran)


def summarise(ready: Experiment, result: Result) -> dict[str, Any]:
    """`summary.json` of a result."""
    from loro_jax.analysis import summary
    from loro_jax.training import arms

    card, prior = result.identity["episodes"] or {}, ready.protocol.prior
    interval, model = ready.protocol.schedule.eval_interval, card.get("model")
    charging = ""
    if ready.prior is not None:
        charging = {
            "episodes": f"each of the {prior.tau} prior episodes uses one evaluation interval of {interval}"
            " steps",
            "steps": f"the steps of the {prior.tau} prior episodes are charged, in whole evaluation intervals"
            f" of {interval} steps: {ready.plan.prior:,} steps",
        }[prior.charge]
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
            "warnings": list(ready.warnings),
        },
        random_return=result.random_return,
        diverged=result.diverged,
    )


def label(task: Task, protocol: Protocol) -> str:
    """The protocol's name, and what was changed of it by hand: "standard@1 with budget=4000"."""
    changed = protocol.changes(task.protocol(protocol.name))
    words = [f"{k}={_value(v)}" for k, v in changed.items()]
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return protocol.name + (f" with {', '.join(words[:4])}{more}" if words else "")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}:{v}" for k, v in value.items()) or "as it is"
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def parse(spec: str, argv: Sequence[str]) -> tuple[Task, Options]:
    """The task, and the options on the settings of the protocol that they name."""
    from loro_jax import tasks

    helping = {"-h", "--help"} & set(argv)
    given = _peek(argv, "--task")
    if spec and given:
        raise UserError(f"this command runs {spec}; another task: python -m benchmarks.run --task {given}")
    if not spec and not given and not helping:
        raise UserError("name a --task: " + ", ".join(tasks.NAMES) + "; or FILE.py:NAME; or gymnax:NAME")
    own = (spec or given or "cartpole") not in tasks.NAMES
    if own or "--quick" in argv:  # which make the game before the options are known
        from loro_jax.running import machine

        devices = _peek(argv, "--devices") or "0"
        machine.start(int(devices) if devices.isdigit() else 0)
    task = tasks.load(spec or given or "cartpole")
    protocol = task.protocol(_peek(argv, "--protocol") or "")
    start: dict[str, Any] = {"seeds": task.seeds, "arms": "all"}
    if "--quick" in argv:
        start, protocol = _quick(task, protocol, bool(_peek(argv, "--episodes") or task.episodes))
    options_type = OwnOptions if spec else Options
    default = options_type(
        task=task.source, protocol=_peek(argv, "--protocol") or "", episodes=task.episodes, settings=protocol,
        **start,
    )  # fmt: skip
    prog = f"python -m benchmarks.{spec or 'run'}"
    options = arguments(
        lambda: tyro.cli(
            options_type,
            prog=prog,
            description=_description(task, protocol, prog + ("" if spec else f" --task {task.source}")),
            args=list(argv),
            default=default,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    )
    if options.game:
        settings = options.settings.replace(game=dict(protocol.game) | parameters(options.game))
        options = dataclasses.replace(options, settings=settings)
    return task, options


def _quick(task: Task, protocol: Protocol, prior_episodes: bool) -> tuple[dict[str, Any], Protocol]:
    """Options and settings of about a minute."""
    schedule, prior = protocol.schedule, protocol.prior
    tau = min(QUICK_TAU, prior.tau)
    limit = task.under(protocol).limit
    charged = tau if prior.charge == "episodes" else -(-tau * limit // schedule.eval_interval)
    budget = min(schedule.budget, (QUICK_EVALUATIONS + charged) * schedule.eval_interval)
    protocol = protocol.replace(
        budget=budget, tau=tau, fit_steps=min(prior.fit_steps, QUICK_FIT), chained_repeats=1,
        eval_episodes=min(schedule.eval_episodes, 4),
    )  # fmt: skip
    arms = "pure_rl,loro,llm_policy,random_policy" if prior_episodes else "pure_rl,random_policy"
    return {"seeds": QUICK_SEEDS, "arms": arms}, protocol


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words as a game's parameters: values are JSON, and what is none is text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--game takes NAME=VALUE, such as slippery=false; got '{word}'")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[key] = tuple(read) if isinstance(read, list) else read
    return found


def _peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of one flag, before the others can be parsed."""
    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1]
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
    return None


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _description(task: Task, protocol: Protocol, prog: str) -> str:
    from loro_jax.data import episodes
    from loro_jax.training import arms
    from loro_jax.training.arms import Plan

    sample = Plan(protocol, 1, protocol.schedule.eval_interval, 1)
    rows = "\n".join(f"  {n:<14}{build(sample).says}" for n, build in arms.ARMS.items())
    shipped = "\n".join(f"  {name}" for name in episodes.shipped(task.name)) or "  none"
    return (
        textwrap.dedent(f"""\
        Does a language model's play make learning {task.name} more sample-efficient?
        Trains every arm with hundreds of seeds and compares them with intervals.

        protocols: {", ".join(task.settings())}

        arms:
        """)
        + f"{rows}\n\nepisodes (--episodes NAME):\n{shipped}\n\n"
        + f"example: {prog} --seeds 32 --arms pure_rl,loro --budget 4000 --out /tmp/try\n"
    )
