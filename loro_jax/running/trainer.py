"""Trains an experiment's arms, with progress, checkpoints and Ctrl-C."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from loro_jax import processes, progress
from loro_jax.agents.base import steps_of_update
from loro_jax.departures.arms import shares_pretraining
from loro_jax.errors import UserError
from loro_jax.records.results import Result
from loro_jax.running import compiled, curves, policies
from loro_jax.running.experiment import Experiment, announced, knowledge
from loro_jax.running.store import Keeper
from loro_jax.training import guidance, memory, population
from loro_jax.training.arms import charges_each
from loro_jax.training.phases import Collect, Fit, Interact, Load, Remainder
from loro_jax.training.population import Programs, Progress
from loro_jax.training.world import World
from loro_jax.types import Agent, Arm, Knowledge, Phase

CHECKPOINT_SECONDS = 60.0
COLUMNS = (
    TextColumn("{task.description:>13}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
    TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
)  # fmt: skip


class Interrupted(Exception):
    """Training stopped at a checkpoint because the user asked for it."""


def run(experiment: Experiment, store: Keeper, console: Console) -> tuple[Result, dict[str, float]]:
    """Trains every arm, or what of it `store` does not hold yet.

    Returns:
        The result, and how long compiling and training took, in seconds, over all sittings.
    """
    e = experiment
    learning = [arm for arm in e.arms if arm.phases]
    left = [arm for arm in learning if store.finished(arm.name) is None]
    console.print(announced(e, left), soft_wrap=True)
    known = {world: population.shared(knowledge(e, world)) for world in e.worlds}
    sentences = {arm.name: sentence(e, arm) for arm in learning}
    divided = {world: memory.divide(world, e.seeds, e.memory_limit) for world in e.worlds}
    programs = {world: Programs(world, divided[world].layout) for world in e.worlds}
    sweeps = [
        Sweep(e, several, sentences)
        for several in together(e, learning, sentences)
        if any(store.finished(arm.name) is None for arm in several)
    ]
    swept = [arm.name for sweep in sweeps for arm in sweep.arms]
    distinct: dict[Any, dict[Phase, None]] = {}  # by world and by what seeds of an arm remember
    for arm in (arm for arm in left if arm.name not in swept):
        pieces = sentences[arm.name] + ([remaining(e, arm)] if charges_each(arm) else [])
        skeletons = (population.parted(p)[0] for p in pieces)
        key = (e.world_of(arm), population.remembering(arm.phases))
        distinct.setdefault(key, {}).update(dict.fromkeys(skeletons))
    count = sum(map(len, distinct.values())) + sum(len(sweep.distinct) for sweep in sweeps)
    several = f"{count} program{'s' * (count > 1)}"
    hits, misses = compiled.asked()
    with progress.waiting(console, f"compiling or loading {several}, which all arms share"):
        for (world, remembering), phases in distinct.items():
            layout, wave, told = programs[world].layout, divided[world].wave, of(known[world])
            like = population.begin(world, layout, e.seed, wave, False, e.first, told, remembering)
            programs[world].prepare(list(phases), like, known[world])
            del like
        for sweep in sweeps:
            sweep.prepare(known[sweep.world])
    every = [*programs.values(), *(sweep.programs for sweep in sweeps)]
    compiling = sum(p.compile_seconds for p in every)
    if count:
        more_hits, same_misses = compiled.asked()
        kept = more_hits > hits and same_misses == misses
        console.print(
            f"loaded {several} from {compiled.root()} in {compiling:.0f} s" if kept
            else f"compiled {several} in {compiling:.0f} s",
            soft_wrap=True, markup=False,
        )  # fmt: skip
    raw: dict[str, dict[str, np.ndarray]] = {}
    total = sum(
        _cost(p, e.world_of(arm).agent) * divided[e.world_of(arm)].waves
        for arm in learning
        for p in sentences[arm.name]
    )
    with progress.bar(console, *COLUMNS) as bar, _interrupts() as interrupted:
        task = bar.add_task("training", total=total)
        for sweep in sweeps:
            bar.update(task, description=sweep.name)
            raw |= sweep.train(store, known[sweep.world], bar, task, interrupted)
        for arm in (arm for arm in learning if arm.name not in raw):
            bar.update(task, description=arm.name)
            world = e.world_of(arm)
            raw[arm.name] = _in_waves(
                e, *divided[world][1:], store, arm, sentences[arm.name], programs[world], known[world], bar,
                task, interrupted,
            )  # fmt: skip
    seconds = {
        "compile": sum(p.compile_seconds for p in every),
        "training": float(sum(float(r["seconds"]) for r in raw.values())),
    }
    return curves.result(e, {arm.name: raw[arm.name] for arm in learning}), seconds


@dataclasses.dataclass(frozen=True)
class _Wave:
    """A store of some of the seeds, under a name of their own. See `Keeper`."""

    store: Keeper
    name: str

    def __getattr__(self, call: str) -> Any:
        return lambda arm, *given: getattr(self.store, call)(f"{arm}.{self.name}", *given)


def _in_waves(
    e: Experiment, wave: int, waves: int, store: Keeper, arm: Arm, *given: Any
) -> dict[str, np.ndarray]:
    """One arm, `wave` seeds at a time, each wave to the end: what `_train` gives for all at once."""
    if waves == 1 or store.finished(arm.name) is not None:
        return _train(e, store, arm, *given)
    parts = []
    for first in range(0, e.seeds, wave):
        some = dataclasses.replace(e, seeds=wave, first=e.first + first)
        parts.append(_train(some, _Wave(store, f"seeds-{first}-{first + wave - 1}"), arm, *given))
    longest = max(part["records"].shape[1] for part in parts)
    for part in parts:
        part["records"] = _stretched(part["records"], longest)
    record = {k: np.concatenate([part[k] for part in parts])[: e.seeds] for k in parts[0] if k != "seconds"}
    record["seconds"] = np.asarray(sum(float(part["seconds"]) for part in parts))
    store.finish(arm.name, record)
    return record


def _train(
    e: Experiment, store: Keeper, arm: Arm, sentence: list[Phase], programs: Programs, known: Knowledge,
    bar: Bar, task: Any, interrupted: list[bool],
) -> dict[str, np.ndarray]:  # fmt: skip
    """One arm, from its checkpoint if there is one: its records, counters and seconds."""
    world, layout = programs.world, programs.layout
    cost = [_cost(p, world.agent) for p in sentence]
    if (done := store.finished(arm.name)) is not None:
        if not {"records", "seconds", "diverged"} <= done.keys() or len(done["records"]) != e.seeds:
            raise UserError(
                f"{store.where(arm.name)}: holds no finished arm of this run; delete it to train {arm.name}"
                " anew"
            )
        if e.save_policies and not policies.of(done):
            raise UserError(
                f"{store.where(arm.name)}: {arm.name} was trained without --save-policies; leave it out, or"
                " delete the file to train the arm anew"
            )
        bar.advance(task, sum(cost))
        if e.watch is not None:  # who watched may have been killed before the last of it was written
            _tell(e, arm, store.where(arm.name).stem, done["records"], float(done["seconds"]))
        return done
    runs = population.begin(
        world, layout, e.seed, e.seeds, shares_pretraining(arm, e.protocol), e.first, of(known), arm.phases
    )

    def tell(records: np.ndarray, seconds: float) -> None:
        _tell(e, arm, store.where(arm.name).stem, records, seconds)

    sitting = _Sitting(store, arm.name, cost, bar, task, interrupted, None if e.watch is None else tell)
    start = sitting.begun(runs)
    end = population.train(sentence, programs, start, known, sitting.after)
    if charges_each(arm):
        spent = processes.gathered(end.runs.counters.prior_steps)[: e.seeds]
        end = population.train([*sentence, *remainder(e, arm, spent)], programs, end, known, sitting.after)
    record = _record(e, world, end, e.seeds) | {"seconds": np.asarray(sitting.seconds)}
    store.finish(arm.name, record)
    return record


class _Sitting:
    """One sitting of training under a name: from its checkpoint, if there is one, to checkpoints of its own,
    with the bar moved on."""

    def __init__(
        self, store: Keeper, name: str, cost: list[float], bar: Bar, task: Any, interrupted: list[bool],
        tell: Callable[[np.ndarray, float], None] | None,
    ) -> None:  # fmt: skip
        """`cost`: of each piece; `tell`: whoever watches of records so far, and this sitting's seconds."""
        self._store, self._name, self._cost = store, name, cost
        self._bar, self._task, self._interrupted, self._tell = bar, task, interrupted, tell
        self._before, self._began = 0.0, time.monotonic()
        self._saved = self._began

    def begun(self, runs: Any) -> Progress:
        """Where it goes on: the newest checkpoint, else the members `runs`, which did nothing yet."""
        start = Progress(0, runs, np.zeros((len(runs.diverged), 0), np.float32))
        if (kept := self._store.restore(self._name, runs)) is not None:
            start, self._before = kept
            self._bar.advance(self._task, sum(self._cost[: start.done]))
        self._began = self._saved = time.monotonic()
        return start

    @property
    def seconds(self) -> float:
        """Over all sittings."""
        return self._before + time.monotonic() - self._began

    def after(self, progress: Progress) -> None:
        """What `population.train` calls after each piece; raises `Interrupted` where it is to stop."""
        planned = progress.done <= len(self._cost)  # beyond lies what some seeds have budget left for
        self._bar.advance(self._task, self._cost[progress.done - 1] if planned else 0)
        if self._tell is not None:
            self._tell(progress.records, time.monotonic() - self._began)
        late = time.monotonic() - self._saved > CHECKPOINT_SECONDS
        stop, due = processes.anywhere(self._interrupted[0], late)
        if stop or due:
            self._store.checkpoint(self._name, progress, self.seconds)
            self._saved = time.monotonic()
        if stop:
            raise Interrupted


def _record(e: Experiment, world: World, end: Progress, members: int) -> dict[str, np.ndarray]:
    """What is kept of trained members: their records, counters, and policies if these are wanted."""
    kept = {f"counters/{k}": v for k, v in end.runs.counters._asdict().items()}
    kept |= {f"counters/{k}": v for k, v in guidance.counts(end.runs.guidance).items()}
    kept = processes.gathered({"diverged": end.runs.diverged, **kept})
    record = {"records": end.records[:members]} | {name: array[:members] for name, array in kept.items()}
    if e.save_policies:
        record |= policies.arrays(processes.gathered(world.agent.policy(end.runs.agent)), members)
    return record


def gains() -> bool:
    """Whether arms that share their programs are trained side by side: on an accelerator, which the seeds of
    one do not fill."""
    return jax.default_backend() != "cpu"


def together(e: Experiment, learning: list[Arm], sentences: dict[str, list[Phase]]) -> list[list[Arm]]:
    """Arms that differ in numbers that are swept alone, as many side by side as memory allows; none where
    nothing is gained, nor where nobody says how much memory there is.

    Finished ones are among them: a run that goes on trains the others in the program that they began in.
    """
    alike: dict[Any, list[Arm]] = {}
    for arm in learning if gains() and (e.memory_limit or memory.there_is()) else ():
        if not charges_each(arm):  # whose seeds are trained for as long as each has budget
            skeletons = tuple(population.parted(p)[0] for p in sentences[arm.name])
            shared = shares_pretraining(arm, e.protocol)
            key = (e.world_of(arm), skeletons, population.remembering(arm.phases), shared)
            alike.setdefault(key, []).append(arm)
    found = []
    for (world, *_), several in alike.items():
        most = len(several)
        while most > 1 and memory.divide(world, e.seeds * most, e.memory_limit).waves > 1:
            most = -(-most // 2)
        found += [several[i : i + most] for i in range(0, len(several), most)]
    return [several for several in found if len(several) > 1]


class Sweep:
    """Arms that are trained side by side: one population, in which every seed is once for each arm."""

    def __init__(self, e: Experiment, arms: list[Arm], sentences: dict[str, list[Phase]]) -> None:
        self.e, self.arms = e, arms
        self.world = e.world_of(arms[0])
        self.pieces = list(zip(*(sentences[arm.name] for arm in arms), strict=True))
        layout = memory.divide(self.world, e.seeds * len(arms), e.memory_limit).layout
        self.programs = Programs(self.world, layout)
        self.distinct = list({population.parted(piece[0])[0]: piece for piece in self.pieces}.values())

    @property
    def name(self) -> str:
        """Of its checkpoints: whoever is in it."""
        names = hashlib.sha256("\n".join(arm.name for arm in self.arms).encode()).hexdigest()[:8]
        return f"{self.arms[0].name}.and-{len(self.arms) - 1}-more-{names}"

    def begun(self, known: Knowledge) -> Any:
        e, first = self.e, self.arms[0]
        return population.begin(
            self.world, self.programs.layout, e.seed, e.seeds, shares_pretraining(first, e.protocol), e.first,
            of(known), first.phases, len(self.arms),
        )  # fmt: skip

    def prepare(self, known: Knowledge) -> None:
        self.programs.prepare(self.distinct, self.begun(known), known, self.e.seeds)

    def train(
        self, store: Keeper, known: Knowledge, bar: Bar, task: Any, interrupted: list[bool]
    ) -> dict[str, dict[str, np.ndarray]]:
        """All of them to the end, from a checkpoint if there is one: what `_train` gives, by arm."""
        e, many = self.e, len(self.arms)

        def tell(records: np.ndarray, seconds: float) -> None:
            for arm, mine in zip(self.arms, np.split(records[: e.seeds * many], many), strict=True):
                _tell(e, arm, store.where(arm.name).stem, mine, seconds)

        cost = [_cost(piece[0], self.world.agent) * many for piece in self.pieces]
        watched = None if e.watch is None else tell
        sitting = _Sitting(store, self.name, cost, bar, task, interrupted, watched)
        start = sitting.begun(self.begun(known))
        end = population.train(self.pieces, self.programs, start, known, sitting.after, e.seeds)
        record, seconds = _record(e, self.world, end, e.seeds * many), np.asarray(sitting.seconds / many)
        found = {}
        for i, arm in enumerate(self.arms):
            mine = slice(i * e.seeds, (i + 1) * e.seeds)
            found[arm.name] = {k: v[mine] for k, v in record.items()} | {"seconds": seconds}
            store.finish(arm.name, found[arm.name])
        store.drop(self.name)
        return found


def _tell(e: Experiment, arm: Arm, name: str, records: np.ndarray, seconds: float) -> None:
    """Shows what an arm has evaluated so far, by the budget that it had used, to who watches."""
    interval, records = e.protocol.schedule.eval_interval, records[: e.seeds]
    loaded = sum(p.cost(interval).prior for p in arm.phases if isinstance(p, Load))
    steps = loaded + interval * np.arange(1, records.shape[1] + 1)
    frames = e.seeds * interval * records.shape[1] / max(seconds, 1e-9)
    e.watch.saw(name, steps, records, frames)


def of(known: Knowledge) -> Knowledge | None:
    """What seeds begin with: nothing, where there are no answers."""
    return None if known.answers is None else known


def sentence(e: Experiment, arm: Arm) -> list[Phase]:
    """The arm's pieces. Where each seed is charged its own prior data, of its last phase those that there is
    budget for whatever that data takes; `remainder` has the others."""
    interval = e.protocol.schedule.eval_interval
    if charges_each(arm):
        sure, last = surely(e, arm), arm.phases[-1]
        assert isinstance(last, Interact)
        end = (dataclasses.replace(last, steps=sure * interval),) if sure else ()
        arm = dataclasses.replace(arm, phases=(*arm.phases[:-1], *end))
    return population.pieces(arm, interval)


def surely(e: Experiment, arm: Arm) -> int:
    """Evaluation intervals of learning online that every seed has budget for."""
    schedule = e.protocol.schedule
    most = max(phase.steps for phase in arm.phases if isinstance(phase, Collect))
    return max(schedule.evaluations - -(-most // schedule.eval_interval), 0)


def remaining(e: Experiment, arm: Arm) -> Remainder:
    """One interval more, for the seeds that have budget left: a seed's result is its own alone."""
    last, schedule = arm.phases[-1], e.protocol.schedule
    assert isinstance(last, Interact)
    return Remainder(dataclasses.replace(last, steps=schedule.eval_interval), schedule.budget)


def remainder(e: Experiment, arm: Arm, spent: np.ndarray) -> list[Phase]:
    """What is left to train beyond `sentence`, as much as the seed needs whose prior data took least;
    `spent`: environment steps of prior data, (seeds,)."""
    least = int(curves.intervals(spent, e.protocol.schedule.eval_interval).min())
    return [remaining(e, arm)] * max(e.protocol.schedule.evaluations - least - surely(e, arm), 0)


def _stretched(records: np.ndarray, length: int) -> np.ndarray:
    """The records (seeds, evaluations) with NaN up to so many evaluations."""
    return np.pad(records, ((0, 0), (0, length - records.shape[1])), constant_values=np.nan)


def _cost(phase: Phase, agent: Agent) -> float:
    """Weight of a phase on the progress bar, in gradient steps."""
    if isinstance(phase, Interact):
        times = steps_of_update(agent)
        return phase.steps / agent.train_frequency * times + phase.steps / 4
    return phase.steps if isinstance(phase, Fit) else 0


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Ctrl-C (and a terminating signal) asks for a stop at the next piece; a second Ctrl-C insists."""
    asked = [False]
    if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked[0]:
            raise KeyboardInterrupt
        asked[0] = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
