"""The command line that every benchmark module shares: `python -m benchmarks.<name> --help`."""

from __future__ import annotations

import dataclasses
import pathlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from loro_jax.errors import UserError, arguments
from loro_jax.protocols import Protocol
from loro_jax.validation import parameters

if TYPE_CHECKING:
    from loro_jax.processes import Cluster
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
    seed_range: str = ""
    """Seeds FIRST:END instead, END left out, for array jobs; `python -m loro_jax.merge` puts the parts
    together."""
    protocol: str = ""
    """Settings to start from, the newest version where it names none (standard, or standard@1); every
    setting below can be changed on its own. By default the first that the task has."""
    arms: str = "all"
    """Arms to run, separated by commas, or all that there is prior data for."""
    episodes: str = ""
    """LLM episodes: the name of a shipped dataset, or a folder with card.json and episodes.npz. Where neither
    these nor --answers are named, --llm says whose they are."""
    answers: str = ""
    """A table of a model's answers, by name or folder (loro_jax.language.survey): every seed then plays LLM
    episodes of its own, instead of loading the same ones as all others. With --episodes as well these are
    loaded, and the table is for the arms that look answers up."""
    proposals: Literal["first", "own"] = "first"
    """Which of a text's answers dqn_prior, its variants and cql_prior choose among, and kl_prior is kept
    near: the first, or each seed its own draw, so that intervals over seeds cover the draw as well."""
    out: pathlib.Path | None = None
    """Folder for the results; results/<task>/<protocol> when not given."""
    resume: bool = False
    """Go on with an interrupted run in --out; every other option must be as it was."""
    seed: int = 0
    """The key that all of the run's keys are folded from."""
    devices: int = 0
    """Devices that share the seeds: CPU cores, or GPUs. 0 takes all."""
    memory_limit: float = 0.0
    """GiB that all seeds together may take; where they would take more, groups of them are trained one after
    the other, with the same bits. 0: four fifths of what the machine, or its accelerators, have."""
    distributed: bool = False
    """Be one of several processes, each started with this command, that train the seeds on the devices of all
    (docs/scale.md). SLURM, Open MPI, Kubernetes and TPU pods say which; elsewhere the next three do."""
    coordinator_address: str | None = None
    """HOST:PORT of process 0, for --distributed."""
    num_processes: int | None = None
    """How many processes there are, for --distributed."""
    process_id: int | None = None
    """Which of them this one is, counted from 0, for --distributed."""
    quick: bool = False
    """About a minute, for a first look and for CI: few seeds, few arms, a short budget; nothing follows
    from its numbers. Other options are as given."""
    dry_run: bool = False
    """Say what would run: each arm's sentence, its cost in steps, the time and the memory; train
    nothing."""
    cache: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: programs are kept)")] = True
    """Compile every program anew, and keep none for the next start."""
    save_policies: bool = False
    """Keep every seed's trained policy, in policies.npz (loro_jax.load_policy plays it)."""
    tensorboard: pathlib.Path | None = None
    """Folder for TensorBoard, a run an arm, while training goes on (pip install 'loro_jax[tensorboard]')."""
    wandb: str = ""
    """Project of Weights & Biases, a run an arm, kept offline in --out (pip install 'loro_jax[wandb]')."""
    game: tuple[str, ...] = ()
    """Parameters of the game, such as slippery=false limit=50."""
    settings: Protocol = dataclasses.field(default_factory=lambda: Protocol("standard@1"))
    """Settings of the protocol, one by one."""


@dataclasses.dataclass(frozen=True)
class OwnOptions(Options):
    """Of a module that runs one task."""

    task: Annotated[str, tyro.conf.Suppress] = ""


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
        machine.start(int(devices) if devices.isdecimal() else 0, "--no-cache" not in argv, _joining(argv))
    task = tasks.load(spec or given or "cartpole")
    protocol = task.protocol(_peek(argv, "--protocol") or "")
    start: dict[str, Any] = {"seeds": task.seeds, "arms": "all"}
    if "--quick" in argv:
        given = _peek(argv, "--episodes") or _peek(argv, "--answers") or task.episodes
        start, protocol = _quick(task, protocol, bool(given))
    options_type = OwnOptions if spec else Options
    default = options_type(
        task=task.source if spec or given else "",
        protocol=_peek(argv, "--protocol") or "",
        settings=protocol,
        **start,
    )
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
    if sum(word.split("=")[0] == "--game" for word in argv) > 1:
        raise UserError("give --game once, with all of its parameters: --game slippery=false limit=50")
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


def seeds_of(options: Options) -> tuple[int, int]:
    """The first seed, and how many there are; a `UserError` for a range that is none."""
    if not options.seed_range:
        return 0, options.seeds
    first, colon, end = options.seed_range.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end) <= MOST_SEEDS):
        raise UserError(f"--seed-range takes FIRST:END, such as 0:64, got '{options.seed_range}'")
    return int(first), int(end) - int(first)


def cluster_of(options: Options) -> Cluster | None:
    """The processes that this one is to join; a `UserError` where --distributed is left out."""
    from loro_jax.processes import Cluster

    where = (options.coordinator_address, options.num_processes, options.process_id)
    if options.distributed:
        return Cluster(*where)
    if where != (None, None, None):
        raise UserError("--coordinator-address, --num-processes and --process-id need --distributed: add it")
    return None


def _joining(argv: Sequence[str]) -> Cluster | None:
    """`cluster_of`, before the options are known."""
    from loro_jax.processes import Cluster

    if "--distributed" not in argv:
        return None
    count, index = (_peek(argv, flag) for flag in ("--num-processes", "--process-id"))
    number = [int(word) if word and word.isdecimal() else None for word in (count, index)]
    return Cluster(_peek(argv, "--coordinator-address"), *number)


def _peek(argv: Sequence[str], flag: str) -> str | None:
    """The value of one flag, before the others can be parsed."""
    found = None  # the last one counts, as it does for the others
    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            found = word.split("=", 1)[1]
        elif word == flag and i + 1 < len(argv):
            found = argv[i + 1]
    return found


def named(words: str, protocol: Protocol, prior_episodes: bool) -> tuple[str, ...]:
    """The arms that `--arms` names; "all" are those that there is prior data for."""
    from loro_jax.training import arms

    chosen = tuple(a.strip() for a in words.split(",") if a.strip())
    if chosen == ("all",):
        return arms.names(protocol, prior_episodes)
    if not chosen:
        raise UserError(f"--arms names no arm; there are: {', '.join(arms.ARMS)}")
    return chosen


def _description(task: Task, protocol: Protocol, prog: str) -> str:
    from loro_jax.data import answers, episodes
    from loro_jax.training import arms
    from loro_jax.training.arms import Plan

    sample = Plan(protocol, 1, protocol.schedule.eval_interval, 1)
    playable = arms.FIRST if task.episodes else [n for n in arms.FIRST if not arms.needs_llm(n)]
    rows = "\n".join(f"  {n:<14}{arms.ARMS[n](sample).says}" for n in playable)
    if not task.episodes:
        rows += "\n  (with LLM episodes also: " + ", ".join(n for n in arms.FIRST if n not in playable) + ")"
    beside = [n for n in arms.ARMS if n not in arms.FIRST]
    rows += "\n\narms with a model beside the learner, most of them with --answers (docs/running.md):\n"
    rows += "\n".join(f"  {n:<14}{arms.ARMS[n](sample).says}" for n in beside)
    example = "pure_rl,loro" if task.episodes else "pure_rl,random_data"
    shipped = "\n".join(f"  {name}" for name in episodes.shipped(task.name)) or "  none"
    tables = "\n".join(f"  {name}" for name in answers.shipped(task.name)) or "  none"
    return (
        textwrap.dedent(f"""\
        Does a language model's play make learning {task.name} more sample-efficient?
        Trains every arm with hundreds of seeds and compares them with intervals.

        protocols: {", ".join(task.settings())}

        arms:
        """)
        + f"{rows}\n\nepisodes (--episodes NAME):\n{shipped}\n\nanswers (--answers NAME):\n{tables}\n\n"
        + f"example: {prog} --seeds 32 --arms {example} --budget 4000 --out /tmp/try\n"
    )
