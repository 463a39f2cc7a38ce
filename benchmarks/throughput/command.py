"""The parent process: options, rows one after the other, and what is kept of them."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from benchmarks.throughput import peers, report
from benchmarks.throughput.cases import Case, chosen
from benchmarks.throughput.child import Child, Team
from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, within
from loro_jax.running.options import MOST_DEVICES

COLUMNS = (TextColumn("{task.description:>32}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
           TimeElapsedColumn())  # fmt: skip
ROWS = "throughput.json"
COMPILING = 15.0
"""Seconds that a row takes to start, to compile and to fill its replay, roughly."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures how fast the suite trains: steps per second over all seeds, and what share that is of the
    machine's own rate of matrix products in the same minutes."""

    tasks: str = "cartpole,frozen_lake,cliff_walking,pendulum"
    """Tasks, separated by commas; FILE.py:NAME for one of your own."""
    protocols: str = "paper,standard"
    """Sizes: the study's (paper), the suite's (standard), any other protocol of the tasks, or small, which is
    64-64 with a batch of 32 and an update a step."""
    seeds: str = "1,16,64,256"
    """Numbers of seeds, a row each."""
    seconds: float = 10.0
    """Training that is timed, at least, in each round; whole evaluation intervals."""
    repeats: int = 3
    """Rounds: the machine's rates, this suite, then each peer, in turn. The spread is over rounds."""
    devices: int = 0
    """Devices that share the seeds; 0 takes all, on a CPU its cores."""
    peers: str = ""
    """Others to run the same work beside it, separated by commas: d3rlpy, rejax, at protocols whose settings
    they have (paper, standard@1, small). Each is installed with pip into an environment of its own in the
    user's cache (LORO_JAX_PEERS names another folder)."""
    profile: bool = False
    """Say where the time goes by stage as well, at each row's own number of seeds (minutes a row)."""
    quick: bool = False
    """Within five minutes, on a GPU too: CartPole and Pendulum at the suite's sizes, 16 seeds."""
    dry_run: bool = False
    """Say what would run and about how long it takes; measure nothing."""
    table: bool = False
    """Write table and figures anew from the rows that are saved; measure nothing."""
    resume: bool = False
    """Leave out rows that are saved, measured at the same commit with the same options, or with more peers,
    rounds or seconds."""
    out: pathlib.Path | None = None
    """Folder for the results, results/throughput/<machine> when not given. Rows of earlier runs are kept
    there beside the new ones, each with the commit that it was measured at."""


DESCRIPTION = """\
A row is a task, sizes and a number of seeds. Each is trained in a process of its own by the suite's own
programs, what `python -m benchmarks.run --arms pure_rl` runs, its replay half full. Compiling is timed apart.

examples:
  python -m benchmarks.throughput --dry-run
  python -m benchmarks.throughput --tasks cartpole --protocols paper --seeds 16,256 --peers d3rlpy
  python -m benchmarks.throughput --tasks cartpole --protocols small --peers rejax
  python -m benchmarks.throughput --tasks cartpole --protocols standard --seeds 16 --profile
  python -m benchmarks.throughput --quick

On a GPU: install the jax of your accelerator (README.md); nothing else changes. docs/performance.md says what
each number means.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; -> its exit status."""
    asked = arguments(
        lambda: tyro.cli(
            Options, prog="python -m benchmarks.throughput", description=DESCRIPTION,
            args=list(sys.argv[1:] if argv is None else argv), config=(tyro.conf.FlagCreatePairsOff,),
        )
    )  # fmt: skip
    within("--repeats", asked.repeats, 1, 1000)
    within("--devices", asked.devices, 0, MOST_DEVICES)
    if not 0 < asked.seconds <= 3600:
        raise UserError(f"--seconds must lie between 0 and 3600, got {asked.seconds:g}")
    if asked.quick:
        asked = dataclasses.replace(
            asked, tasks="cartpole,pendulum", protocols="standard", seeds="16",
            seconds=min(asked.seconds, 3.0), repeats=min(asked.repeats, 3),
        )  # fmt: skip
    names = peers.named(asked.peers)
    if not os.environ.get("JAX_PLATFORMS"):
        import jax

        jax.config.update("jax_platforms", "cpu")  # the accelerator is left to the rows' own processes
    cases = chosen(asked.tasks, asked.protocols, asked.seeds)
    for case in cases if names else []:
        if other := peers.unlike(case.work()):
            raise UserError(
                f"--peers: no peer has {', '.join(other)}, as {case.task}'s {case.protocol} has; name"
                " --protocols that all have, such as paper"
            )
    about = inquired(asked.devices)
    out = asked.out or pathlib.Path("results") / "throughput" / slug(about)
    path = out / ROWS
    if asked.table:
        saved = load(path)
        if not saved["rows"]:
            raise UserError(f"{path} holds no rows yet")
        report.write(saved, out)
        print(f"Table and figures: {out}{os.sep}")
        return 0
    rounds = {"seconds": asked.seconds, "repeats": asked.repeats, "devices": asked.devices,
              "peers": list(names), "profile": asked.profile}  # fmt: skip
    console = Console(stderr=True, highlight=False)
    expected = [estimate(case, asked, names) for case in cases]
    console.print(
        f"{report.machine(about)}; {len(cases)} row{'s' * (len(cases) > 1)}, about"
        f" {progress.words(sum(expected))}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if asked.dry_run:
        for case, seconds in zip(cases, expected, strict=True):
            print(f"{case!s:<44} about {progress.words(seconds)}")
        return 0
    with files.claimed(path), progress.bar(console, *COLUMNS) as bar:
        saved = load(path)
        if saved["machine"] and slug(saved["machine"]) != slug(about):
            raise UserError(f"{path} is of another machine ({slug(saved['machine'])}); choose another --out")
        saved["machine"] = about
        for name in names:
            bar.console.print(f"preparing {name}", markup=False)
            peers.install(name, about["computed_on"]["backend"])
        task = bar.add_task("throughput", total=sum(expected))
        for case, seconds in zip(cases, expected, strict=True):
            bar.update(task, description=str(case))
            done = [row for row in saved["rows"] if key(row) == key(dataclasses.asdict(case))]
            if asked.resume and done and suffices(done[0], case, rounds):
                bar.advance(task, seconds)
                continue
            last = profiling(case) * asked.profile  # after all rounds
            part = functools.partial(bar.advance, task, (seconds - last) / (1 + asked.repeats))
            row = measured(case, rounds, names, about, part)
            bar.advance(task, last)
            saved["rows"] = [r for r in saved["rows"] if r not in done] + [row]
            saved["rows"].sort(key=key)
            files.write_json(path, saved)
    report.write(saved, out)
    print("\n".join(report.lines(saved)))
    print(f"Rows, table and figures: {out}{os.sep}")
    return 0


def key(row: Any) -> tuple[str, str, int]:
    return row["task"], row["protocol"], row["seeds"]


def load(path: pathlib.Path) -> dict[str, Any]:
    """The rows saved so far; a `UserError` where the file holds something else."""
    try:
        saved = files.read_json(path)
    except FileNotFoundError:
        return {"machine": None, "rows": []}
    try:
        report.lines(saved)  # reads all that a page shows; the others are read when rows are looked for
        for row in saved["rows"]:
            key(row), row["options"], row["work"]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path}: damaged, or of another version; remove it, or choose another --out"
        ) from None
    return saved


def suffices(row: dict[str, Any], case: Case, rounds: dict[str, Any]) -> bool:
    """Whether a saved row is what would be measured now, or more of it."""
    from loro_jax.running import machine

    had = row["options"]
    if [row["work"], row["commit"]] != json.loads(json.dumps([case.work(), machine.commit()])):
        return False
    as_long = all(had[k] >= rounds[k] for k in ("seconds", "repeats", "profile"))
    return as_long and had["devices"] == rounds["devices"] and set(had["peers"]) >= set(rounds["peers"])


def inquired(devices: int) -> dict[str, Any]:
    """What this machine is, as a row's process sees it."""
    found = ours({"about": True, "devices": devices}, 1)
    try:
        return found.heard()
    finally:
        found.close()


def slug(about: dict[str, Any]) -> str:
    """A machine as the name of a folder: amd-epyc-2-cores."""
    where = about["computed_on"]
    many = f"{about['cores']} cores" if where["backend"] == "cpu" else f"{where['devices']} x"
    return re.sub(r"[^a-z0-9]+", "-", f"{where['processor']} {many}".lower()).strip("-")


def ours(asked: dict[str, Any], threads: int) -> Child:
    return Child(
        "the row's process", [sys.executable, "-m", "benchmarks.throughput.ours", json.dumps(asked)], threads
    )


def estimate(case: Case, asked: Options, names: Sequence[str]) -> float:
    """Seconds that a row will take, roughly; on an accelerator at most."""
    from loro_jax.running import machine

    machine.start(asked.devices)
    one = piece_seconds(case)
    training = min(one, asked.seconds) + asked.repeats * max(one, asked.seconds + one / 2)
    others = len(names) * (COMPILING + 1.5 * asked.repeats * 2 * asked.seconds)
    return COMPILING + training + others + asked.profile * profiling(case)


def profiling(case: Case) -> float:
    """Seconds that a profile takes, roughly: eleven programs are compiled, and take turns."""
    return 11 * COMPILING / 2 + 60 * piece_seconds(case)


def piece_seconds(case: Case) -> float:
    """Seconds that a piece of the row takes, roughly; JAX has to run."""
    from loro_jax.running import estimate as of_training
    from loro_jax.training import population

    e = case.experiment()
    layout = population.layout(e.seeds, e.world.agent.hidden)
    piece = population.pieces(e.arms[0], e.protocol.schedule.eval_interval)[0]
    return of_training.seconds([piece], e.world, layout, e.seeds)


def measured(
    case: Case, rounds: dict[str, Any], names: Sequence[str], about: dict[str, Any], tick: Callable[[], None]
) -> dict[str, Any]:
    """One row: all its processes are started, then asked in turn, round by round; `tick` after each part."""
    from loro_jax.running import machine

    cores, began = about["cores"], time.time()
    asked = {**dataclasses.asdict(case), **{k: rounds[k] for k in ("devices", "seconds", "profile")}}
    asked["warm"] = piece_seconds(case) < rounds["seconds"]  # else it is nothing beside a round
    teams = {"ours": Team([ours(asked, cores)])}
    found: list[dict[str, Any]] = []
    try:
        teams["ours"].wait()  # and compiles alone
        for peer in names:
            work = case.work() | {"seconds": rounds["seconds"]}
            teams |= peers.teams(peer, work, cores, about["computed_on"]["backend"] == "cpu")
        for team in list(teams.values())[1:]:
            team.wait()
        tick()
        for _ in range(rounds["repeats"]):
            found.append({name: team.go() for name, team in teams.items()})
            tick()
        last = {name: team.end() for name, team in teams.items()}
    finally:
        for team in teams.values():
            team.close()
    own = teams["ours"].ready
    return {
        **dataclasses.asdict(case),
        "work": case.work(),
        "options": rounds,
        "commit": machine.commit(),
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        "minutes": round((time.time() - began) / 60, 2),
        **own,
        **last["ours"],
        "peers": {k: {**teams[k].ready, **last[k]} for k in teams if k != "ours"},
        "rounds": found,
        "found": summary(own, last["ours"], found),
    }


def summary(own: dict[str, Any], last: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rounds say: each number as [median, least, most] over them."""
    ours_ = [r["ours"] for r in rounds]
    step = own["needed"]["gradient_step"]
    # Seeds that fill the last block are trained and not counted: they are work that nobody asked for.
    flops = [
        r["gradient_steps_per_second"] * step + r["env_steps_per_second"] * own["needed"]["act"]
        for r in ours_
    ]
    peak = [max(r["rates"]["sgemm"], r["rates"]["xla"]) for r in ours_]
    intensity = step / own["needed"]["bytes"]
    roof = [min(p, intensity * last["bandwidth"]) for p in peak]
    found = {
        "env_steps_per_second": [r["env_steps_per_second"] for r in ours_],
        "gradient_steps_per_second": [r["gradient_steps_per_second"] for r in ours_],
        "flops": flops,
        "share_of_sgemm": [f / r["rates"]["sgemm"] for f, r in zip(flops, ours_, strict=True)],
        "share_of_xla": [f / r["rates"]["xla"] for f, r in zip(flops, ours_, strict=True)],
        "share_of_shapes": [f / r["rates"]["shapes"] for f, r in zip(flops, ours_, strict=True)],
        "share_of_roof": [f / r for f, r in zip(flops, roof, strict=True)],
        "sgemm": [r["rates"]["sgemm"] for r in ours_],
        "xla": [r["rates"]["xla"] for r in ours_],
        "shapes": [r["rates"]["shapes"] for r in ours_],
    }
    for name in dict.fromkeys(k.split(",")[0] for k in rounds[0] if k != "ours"):
        # Of a peer's ways to use the machine the faster one counts, in every round.
        best = [
            max(v["env_steps_per_second"] for k, v in r.items() if k.split(",")[0] == name) for r in rounds
        ]
        found[f"{name}_env_steps_per_second"] = best
        found[f"ratio_{name}"] = [
            r["ours"]["env_steps_per_second"] / b for r, b in zip(rounds, best, strict=True)
        ]
    return {**{k: report.middle(v) for k, v in found.items()}, "intensity": intensity}
