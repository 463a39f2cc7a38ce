"""A run: from a task, a protocol and a list of arms to a `Result`, with progress and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from loro_jax import keys, progress
from loro_jax.data import episodes
from loro_jax.data.prior import Prior, prepare
from loro_jax.departures.arms import shares_pretraining
from loro_jax.errors import UserError
from loro_jax.language.journal import questions
from loro_jax.protocols import Protocol
from loro_jax.records.identity import identify
from loro_jax.records.results import Result
from loro_jax.running import estimate, policies
from loro_jax.running.store import Keeper
from loro_jax.tasks import Environment, Task
from loro_jax.tasks.rollout import rollouts, uniform
from loro_jax.training import population
from loro_jax.training.arms import Plan, Sentence, build
from loro_jax.training.phases import AsPrior, Fit, Interact, Load
from loro_jax.training.population import Programs, Progress
from loro_jax.training.world import Interaction, World
from loro_jax.types import Agent, Arm, Phase, Transition

RANDOM_EPISODES = 1000
CHECKPOINT_SECONDS = 60.0
COLUMNS = (
    TextColumn("{task.description:>13}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
    TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
)  # fmt: skip


class Interrupted(Exception):
    """Training stopped at a checkpoint because the user asked for it."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run with every choice made, ready to train.

    Attributes:
        world: what the arms train in, with the protocol's agent (see `world_of`).
        identity: what ran, as JSON; a resumed run must have the same (`records.identity`).
        warnings: sentences about the prior data that whoever reads the results has to see.
    """

    task: Task
    protocol: Protocol
    world: World
    arms: tuple[Arm, ...]
    plan: Plan
    prior: Prior | None
    seeds: int
    seed: int
    identity: dict[str, Any]
    warnings: tuple[str, ...] = ()
    save_policies: bool = False

    def world_of(self, arm: Arm) -> World:
        """What an arm trains in: the common world, with an agent of its own where it brings one."""
        return _of(self.world, arm, self.protocol, self.plan)

    @property
    def worlds(self) -> list[World]:
        """The distinct worlds of the learning arms."""
        return list(dict.fromkeys(self.world_of(arm) for arm in self.arms if arm.phases))


def prepare_experiment(
    task: Task, protocol: Protocol, chosen: Sequence[str | Sentence], seeds: int, seed: int, dataset: str = ""
) -> Experiment:
    """Loads what the arms need and writes their sentences; every refusal is a `UserError`.

    Args:
        chosen: arms, by name or as functions of a `Plan`.
        seeds: seeds of each arm.
        seed: the key that all keys are folded from.
        dataset: LLM episodes, by name or folder; by default the task's.
    """
    env = task.under(protocol)
    interval = protocol.schedule.eval_interval
    sketch = build(chosen, Plan(protocol, 1, interval, env.limit))
    prior, card, folder = None, None, pathlib.Path(dataset)
    warnings: tuple[str, ...] = ()
    dataset = dataset or task.episodes
    plan = Plan(protocol, 1, 0, env.limit)
    if any(arm.source == "llm" for arm in sketch) and not dataset:
        raise UserError(
            f"no LLM has played {task.name} yet: name --episodes, or let one play (python -m"
            f" loro_jax.language.collect --task {task.source or task.name} --model NAME)"
        )
    if any(arm.source and arm.phases for arm in sketch) or any(arm.source == "llm" for arm in sketch):
        if dataset:
            folder = episodes.resolve(dataset, task.name)
            data = episodes.load(folder, task.name, env.observation_shape, env.action_space)
            prior = prepare(data, protocol)
            asked = questions(folder, protocol.prior.tau)
            plan = Plan(protocol, len(prior.rows.reward), prior.steps, env.limit, asked)
            card = {k: data.card.get(k) for k in ("name", "model", "prompt", "alignment", "arrays_sha256")}
            card["arrays_sha256"] = episodes.digest(data)
            warnings = tuple(episodes.warnings(data.card))
        else:  # as much as tau evaluation intervals
            steps = protocol.prior.tau * interval
            if steps >= protocol.schedule.budget:
                raise UserError(
                    f"tau = {protocol.prior.tau} intervals of {interval} steps use up the --budget"
                )
            plan = Plan(protocol, steps, steps, env.limit)
    arms = build(chosen, plan)
    identity = identify(task, protocol, seeds, seed, card, arms)
    world = World(env, fitted(protocol.agent, env, _most(protocol, plan)), _interaction(protocol))
    for arm in arms:
        _of(world, arm, protocol, plan)  # refuses an agent that cannot play this game
    try:  # JSON's types, so that it equals what is read back
        text = json.dumps(identity, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError as error:
        raise UserError(
            f"{folder / 'card.json'}: name, model or prompt cannot be written down ({error}); mend the card"
        ) from None
    return Experiment(task, protocol, world, arms, plan, prior, seeds, seed, json.loads(text), warnings)


def run(experiment: Experiment, store: Keeper, console: Console) -> tuple[Result, dict[str, float]]:
    """Trains every arm, or what of it `store` does not hold yet.

    Returns:
        The result, and how long compiling and training took, in seconds, over all sittings.
    """
    e = experiment
    learning = [arm for arm in e.arms if arm.phases]
    left = [arm for arm in learning if store.finished(arm.name) is None]
    console.print(announced(e, left), soft_wrap=True)
    data = prior_data(e)
    sentences = {arm.name: population.pieces(arm, e.protocol.schedule.eval_interval) for arm in learning}
    programs = {world: Programs(world, population.layout(e.seeds, world.agent.hidden)) for world in e.worlds}
    distinct = {
        w: dict.fromkeys(p for a in left if e.world_of(a) == w for p in sentences[a.name]) for w in programs
    }
    count = sum(map(len, distinct.values()))
    with progress.waiting(console, f"compiling {count} programs, which all arms share"):
        for world, phases in distinct.items():
            if phases:
                like = population.begin(world, programs[world].layout, e.seed, e.seeds, False)
                programs[world].prepare(list(phases), like, data)
                del like
    compiling = sum(p.compile_seconds for p in programs.values())
    if count:
        console.print(f"compiled {count} programs in {compiling:.0f} s")
    raw: dict[str, dict[str, np.ndarray]] = {}
    total = sum(_cost(p, e.world_of(arm).agent) for arm in learning for p in sentences[arm.name])
    with progress.bar(console, *COLUMNS) as bar, _interrupts() as interrupted:
        task = bar.add_task("training", total=total)
        for arm in learning:
            bar.update(task, description=arm.name)
            raw[arm.name] = _train(
                e, arm, sentences[arm.name], programs[e.world_of(arm)], data, store, bar, task, interrupted
            )
    seconds = {
        "compile": sum(p.compile_seconds for p in programs.values()),
        "training": float(sum(float(r["seconds"]) for r in raw.values())),
    }
    return _result(e, raw), seconds


def announced(e: Experiment, arms: Sequence[Arm]) -> str:
    """A line that says what the learning `arms` will take: seeds, steps, machine, time."""
    expected = progress.words(expected_seconds(e, arms))
    learning = sum(bool(arm.phases) for arm in e.arms)
    return (
        f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {jax.local_device_count()}; {e.seeds}"
        f" seeds x {learning} learning arms of {e.protocol.schedule.budget:,} steps; about {expected} of"
        " training, and half a minute to a minute of compiling"
    )


def expected_seconds(e: Experiment, arms: Sequence[Arm]) -> float:
    """Of training `arms`, without compilation; right within a factor of about two."""
    total = 0.0
    for world in e.worlds:
        layout = population.layout(e.seeds, world.agent.hidden)
        phases = [p for arm in arms if e.world_of(arm) == world for p in arm.phases]
        total += estimate.seconds(phases, world, layout, e.seeds) if phases else 0.0
    return total


def _train(
    e: Experiment, arm: Arm, sentence: list[Phase], programs: Programs, data: Transition, store: Keeper,
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
        return done
    runs = population.begin(world, layout, e.seed, e.seeds, shares_pretraining(arm, e.protocol))
    start, before = Progress(0, runs, np.zeros((layout.padded(e.seeds), 0), np.float32)), 0.0
    if (found := store.restore(arm.name, runs)) is not None:
        start, before = found
        bar.advance(task, sum(cost[: start.done]))
    began = saved = time.monotonic()

    def after(progress: Progress) -> None:
        nonlocal saved
        bar.advance(task, cost[progress.done - 1])
        if interrupted[0] or time.monotonic() - saved > CHECKPOINT_SECONDS:
            store.checkpoint(arm.name, progress, before + time.monotonic() - began)
            saved = time.monotonic()
        if interrupted[0]:
            raise Interrupted

    end = population.train(sentence, programs, start, data, after)
    record = {"records": end.records[: e.seeds], "seconds": np.asarray(before + time.monotonic() - began)}
    record["diverged"] = np.asarray(end.runs.diverged)[: e.seeds]
    counters = {f"counters/{k}": np.asarray(v)[: e.seeds] for k, v in end.runs.counters._asdict().items()}
    record |= counters
    if e.save_policies:
        record |= policies.arrays(world.agent.policy(end.runs.agent), e.seeds)
    store.finish(arm.name, record)
    return record


def _result(e: Experiment, raw: dict[str, dict[str, np.ndarray]]) -> Result:
    """Curves in both readings from the arms' records."""
    curves, free, repeats, diverged = {}, {}, {}, {}
    evaluations = e.protocol.schedule.evaluations
    for arm in e.arms:
        if not arm.phases:
            continue
        curve, prior = laid_out(arm, raw[arm.name]["records"], e.prior, e.protocol.schedule.eval_interval)
        if curve.shape[1] > evaluations:  # repeats, one after another, of all that is online
            online = evaluations - int(prior.sum())
            repeats[arm.name] = curve[:, ~prior].reshape(e.seeds, -1, online)
            curve = np.concatenate([curve[:, prior], repeats[arm.name].mean(axis=1)], axis=1)
            prior = prior[:evaluations]
        curves[arm.name], free[arm.name] = curve, curve[:, ~prior]
        at = raw[arm.name]["diverged"]
        diverged[arm.name] = np.where(at < 0, -1, at + uncounted(arm, e.protocol.schedule.eval_interval))
    common = min((curve.shape[1] for curve in free.values()), default=0)
    free = {name: curve[:, :common] for name, curve in free.items()}
    flat = {}
    for arm in e.arms:
        if arm.name == "llm_policy":
            assert e.prior is not None
            flat[arm.name] = e.prior.returns  # of episodes as long as recorded, whatever eval_limit is
        elif arm.name == "random_policy":
            flat[arm.name] = random_returns(e.world.evaluation, e.seed)
    counters = {
        name: {k.removeprefix("counters/"): v for k, v in r.items() if k.startswith("counters/")}
        for name, r in raw.items()
    }
    for name, counted in counters.items():
        if (counted["llm_queries"] < 0).any():  # not known, which is no number
            del counters[name]["llm_queries"]
    env_steps = np.arange(1, evaluations + 1) * e.protocol.schedule.eval_interval
    level = None
    if any((at >= 0).any() for at in diverged.values()):
        returns = flat.get("random_policy")
        level = float((random_returns(e.world.evaluation, e.seed) if returns is None else returns).mean())
    kept = {name: found for name, r in raw.items() if (found := policies.of(r))}
    return Result(curves, free, flat, repeats, env_steps, counters, e.identity, diverged, level, kept)


def laid_out(
    arm: Arm, record: np.ndarray, prior: Prior | None, interval: int
) -> tuple[np.ndarray, np.ndarray]:
    """An arm's whole curve, (seeds, evaluations), and which of its evaluations stand for prior data.

    `record` is what its phases recorded, (seeds, fewer evaluations): loaded data brings its own returns.
    """
    parts, of_prior, taken = [], [], 0
    for phase in arm.phases:
        cost = phase.cost(interval)
        length = (cost.prior + cost.online) // interval
        if isinstance(phase, Load):
            assert prior is not None and length == len(prior.curve)
            parts.append(np.broadcast_to(prior.curve, (len(record), length)))
        else:
            parts.append(record[:, taken : taken + length])
            taken += length
        of_prior += [cost.prior > 0] * length
    return np.concatenate(parts, axis=1), np.array(of_prior, bool)


def uncounted(arm: Arm, interval: int) -> int:
    """Environment steps of the budget that `Counters.env_steps` does not count."""
    return sum(p.cost(interval).prior for p in arm.phases if not isinstance(p, AsPrior))


def random_returns(env: Environment, seed: int, episodes: int = RANDOM_EPISODES) -> np.ndarray:
    """Returns of a uniform policy's episodes, (episodes,)."""
    each = jax.vmap(lambda index: keys.draw(keys.member(seed, index), keys.Purpose.EVALUATE))
    return np.asarray(rollouts(env, uniform(env), each(jnp.arange(episodes)))[0])


def fitted(agent: Any, env: Environment, most: int) -> Agent:
    """An agent for this game, its replay no larger than the `most` transitions that it can hold."""
    suited = agent.for_game(env.action_space, env.magnitudes)
    return dataclasses.replace(suited, replay_capacity=min(suited.replay_capacity, most))


def _most(p: Protocol, plan: Plan) -> int:
    online = p.schedule.budget * p.departures.chained_repeats
    return online + max(plan.rows, p.prior.tau * plan.limit)


def _interaction(p: Protocol) -> Interaction:
    s = p.schedule
    return Interaction(
        s.eval_interval, s.eval_episodes, s.reset_each_interval, p.departures.drop_cut, s.eval_limit
    )


def _of(world: World, arm: Arm, protocol: Protocol, plan: Plan) -> World:
    """The world of an arm: with its own agent, where it brings one."""
    if arm.agent is None:
        return world
    own = fitted(arm.agent, world.environment, _most(protocol, plan))
    return dataclasses.replace(world, agent=own)


def prior_data(e: Experiment) -> Transition:
    """The prior data for the programs; one row of zeros where no arm loads any."""
    if e.prior is None:
        return jax.tree.map(lambda x: x[None], e.world.example)
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), e.prior.rows, e.world.example)


def _cost(phase: Phase, agent: Agent) -> float:
    """Weight of a phase on the progress bar, in gradient steps."""
    if isinstance(phase, Interact):
        return phase.steps / agent.train_frequency + phase.steps / 4
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
