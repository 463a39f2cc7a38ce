"""Runs a benchmark: from a protocol and a list of arms to a `Result`, with progress and checkpoints."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from loro_jax import keys, progress
from loro_jax.agents import DDQN, SAC
from loro_jax.data import episodes
from loro_jax.data.prior import Prior, prepare
from loro_jax.errors import UserError
from loro_jax.language.journal import questions
from loro_jax.running import estimate
from loro_jax.running.benchmark import Benchmark
from loro_jax.running.results import Result
from loro_jax.running.store import Store
from loro_jax.spaces import Box, Discrete
from loro_jax.tasks import Environment
from loro_jax.training import population
from loro_jax.training.arms import Plan, build, shares_pretraining
from loro_jax.training.phases import AsPrior, Fit, Interact, Load
from loro_jax.training.population import Programs, Progress
from loro_jax.training.protocols import DQN_ONLY, GAME_ONLY, SAC_ONLY, Protocol, relevant
from loro_jax.training.world import Interaction, World, play
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
    """A benchmark with every choice made, ready to run.

    Attributes:
        identity: what ran, as JSON; a resumed run must have the same.
        warnings: sentences about the prior data that whoever reads the results has to see.
    """

    benchmark: Benchmark
    protocol: Protocol
    world: World
    arms: tuple[Arm, ...]
    plan: Plan
    prior: Prior | None
    seeds: int
    seed: int
    identity: dict[str, Any]
    warnings: tuple[str, ...] = ()


def prepare_experiment(
    benchmark: Benchmark, protocol: Protocol, chosen: tuple[str, ...], seeds: int, seed: int, dataset: str
) -> Experiment:
    """Loads what the arms need and writes their sentences; every refusal is a `UserError`."""
    env = benchmark.make(protocol)
    if isinstance(env.action_space, Box) and protocol.pretrain_target_interval:
        raise UserError("--pretrain-target-interval is for Double DQN; SAC updates its targets softly")
    sketch = build(chosen, Plan(protocol, 1, protocol.eval_every, env.limit))
    prior, card, folder = None, None, pathlib.Path(dataset)
    warnings: tuple[str, ...] = ()
    plan = Plan(protocol, 1, 0, env.limit)
    if any(arm.source == "llm" or (arm.source and arm.phases) for arm in sketch):
        folder = episodes.resolve(dataset, env.name)
        data = episodes.load(folder, env.name, env.observation_shape, env.action_space)
        prior = prepare(data, protocol)
        plan = Plan(protocol, len(prior.rows.reward), prior.steps, env.limit, questions(folder, protocol.tau))
        card = {k: data.card.get(k) for k in ("name", "model", "prompt", "alignment", "arrays_sha256")}
        card["arrays_sha256"] = episodes.digest(data)
        warnings = tuple(episodes.warnings(data.card))
    arms = build(chosen, plan)
    identity = {
        "benchmark": benchmark.name,
        "protocol": relevant(protocol, unused(benchmark, env)),
        "seeds": seeds,
        "seed": seed,
        "devices": jax.local_device_count(),  # another number rounds differently
        "episodes": card,
        "arms": {arm.name: [repr(phase) for phase in arm.phases] for arm in arms},
    }
    world = World(env, agent(protocol, env), _interaction(protocol, plan))
    try:  # JSON's types, so that it equals what is read back
        text = json.dumps(identity, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError as error:
        raise UserError(
            f"{folder / 'card.json'}: name, model or prompt cannot be written down ({error}); mend the card"
        ) from None
    identity = json.loads(text)
    return Experiment(benchmark, protocol, world, arms, plan, prior, seeds, seed, identity, warnings)


def run(experiment: Experiment, store: Store, console: Console) -> tuple[Result, dict[str, float]]:
    """Trains every arm, or what of it `store` does not hold yet.

    Returns:
        The result, and how long compiling and training took, in seconds, over all sittings.
    """
    e = experiment
    layout = population.layout(e.seeds, e.protocol.hidden)
    learning = [arm for arm in e.arms if arm.phases]
    sentences = {arm.name: population.pieces(arm, e.protocol.eval_every) for arm in learning}
    left = [s for name, s in sentences.items() if store.finished(name) is None]
    networks = 3 if isinstance(e.world.agent, SAC) else 1
    expected = progress.words(
        estimate.seconds(left, e.protocol, layout, e.seeds, networks, e.world.evaluation.limit)
    )
    console.print(
        f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {layout.devices}; {e.seeds} seeds x"
        f" {len(learning)} learning arms = {e.seeds * len(learning)} members of {e.protocol.budget:,} steps;"
        f" about {expected} of training, and"
        " half a minute to a minute of compiling",
        soft_wrap=True,
    )
    data = prior_data(e)
    programs = Programs(e.world, layout)
    like = population.begin(e.world, layout, e.seed, e.seeds, False)
    distinct = list(dict.fromkeys(p for s in left for p in s))
    with progress.waiting(console, f"compiling {len(distinct)} programs, which all arms share"):
        programs.prepare(distinct, like, data)
    del like
    if distinct:
        console.print(f"compiled {len(distinct)} programs in {programs.compile_seconds:.0f} s")
    raw: dict[str, dict[str, np.ndarray]] = {}
    total = sum(_cost(p, e.protocol) for s in sentences.values() for p in s)
    with progress.bar(console, *COLUMNS) as bar, _interrupts() as interrupted:
        task = bar.add_task("training", total=total)
        for arm in learning:
            bar.update(task, description=arm.name)
            sentence = sentences[arm.name]
            raw[arm.name] = _train(e, arm, sentence, programs, layout, data, store, bar, task, interrupted)
    seconds = {
        "compile": programs.compile_seconds,
        "training": float(sum(float(r["seconds"]) for r in raw.values())),
    }
    return _result(e, raw), seconds


def _train(
    e: Experiment, arm: Arm, sentence: list[Phase], programs: Programs, layout: population.Layout,
    data: Transition, store: Store, bar: Bar, task: Any, interrupted: list[bool],
) -> dict[str, np.ndarray]:  # fmt: skip
    """One arm, from its checkpoint if there is one: its records, counters and seconds."""
    cost = [_cost(p, e.protocol) for p in sentence]
    if (done := store.finished(arm.name)) is not None:
        if not {"records", "seconds", "diverged"} <= done.keys() or len(done["records"]) != e.seeds:
            path = store.folder / f"{arm.name}.npz"
            raise UserError(f"{path}: holds no finished arm of this run; delete it to train {arm.name} anew")
        bar.advance(task, sum(cost))
        return done
    runs = population.begin(e.world, layout, e.seed, e.seeds, shares_pretraining(arm, e.protocol))
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
    store.finish(arm.name, record | counters)
    return record | counters


def _result(e: Experiment, raw: dict[str, dict[str, np.ndarray]]) -> Result:
    """Curves in both readings from the arms' records."""
    curves, free, repeats, diverged = {}, {}, {}, {}
    for arm in e.arms:
        if not arm.phases:
            continue
        curve, prior = laid_out(arm, raw[arm.name]["records"], e.prior, e.protocol.eval_every)
        if curve.shape[1] > e.protocol.chunks:  # repeats, one after another, of all that is online
            online = e.protocol.chunks - int(prior.sum())
            repeats[arm.name] = curve[:, ~prior].reshape(e.seeds, -1, online)
            curve = np.concatenate([curve[:, prior], repeats[arm.name].mean(axis=1)], axis=1)
            prior = prior[: e.protocol.chunks]
        curves[arm.name], free[arm.name] = curve, curve[:, ~prior]
        at = raw[arm.name]["diverged"]
        diverged[arm.name] = np.where(at < 0, -1, at + uncounted(arm, e.protocol.eval_every))
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
    env_steps = np.arange(1, e.protocol.chunks + 1) * e.protocol.eval_every
    level = None
    if any((at >= 0).any() for at in diverged.values()):
        returns = flat.get("random_policy")
        level = float((random_returns(e.world.evaluation, e.seed) if returns is None else returns).mean())
    return Result(curves, free, flat, repeats, env_steps, counters, e.identity, diverged, level)


def laid_out(arm: Arm, record: np.ndarray, prior: Prior | None, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """An arm's whole curve, (seeds, evaluations), and which of its evaluations stand for prior data.

    `record` is what its phases recorded, (seeds, fewer evaluations): loaded data brings its own returns.
    """
    parts, of_prior, taken = [], [], 0
    for phase in arm.phases:
        cost = phase.cost(chunk)
        length = (cost.prior + cost.online) // chunk
        if isinstance(phase, Load):
            assert prior is not None and length == len(prior.curve)
            parts.append(np.broadcast_to(prior.curve, (len(record), length)))
        else:
            parts.append(record[:, taken : taken + length])
            taken += length
        of_prior += [cost.prior > 0] * length
    return np.concatenate(parts, axis=1), np.array(of_prior, bool)


def uncounted(arm: Arm, chunk: int) -> int:
    """Environment steps of the budget that `Counters.env_steps` does not count."""
    return sum(p.cost(chunk).prior for p in arm.phases if not isinstance(p, AsPrior))


def random_returns(env: Environment, seed: int, episodes: int = RANDOM_EPISODES) -> np.ndarray:
    """Returns of a uniform policy's episodes, (episodes,)."""

    def uniform(obs: jax.Array, key: jax.Array) -> jax.Array:
        return env.action_space.sample(key)

    def episode(index: jax.Array) -> jax.Array:
        return play(env, uniform, keys.draw(keys.member(seed, index), keys.Purpose.EVALUATE))

    return np.asarray(jax.jit(jax.vmap(episode))(jnp.arange(episodes)))


def agent(p: Protocol, env: Environment) -> Agent:
    """Double DQN for discrete actions, SAC for continuous ones."""
    magnitudes = env.magnitudes if p.normalise_observations else ()
    if isinstance(env.action_space, Discrete):
        return DDQN(
            p.hidden, p.learning_rate, p.batch_size, p.discount, p.target_interval, magnitudes=magnitudes
        )
    assert isinstance(env.action_space, Box)
    return SAC(
        env.action_space, p.hidden, p.learning_rate, p.batch_size, p.discount, p.soft_update,
        p.initial_temperature, p.exploration, p.action_range, magnitudes,
    )  # fmt: skip


def unused(benchmark: Benchmark, env: Environment) -> tuple[str, ...]:
    """The protocol's settings that change nothing in this environment."""
    discrete = isinstance(env.action_space, Discrete)
    game = tuple(name for name in GAME_ONLY if name not in benchmark.parameters)
    scale = () if env.magnitudes else ("normalise_observations",)
    return (*(SAC_ONLY if discrete else DQN_ONLY), *game, *scale)


def _interaction(p: Protocol, plan: Plan) -> Interaction:
    most = p.budget * p.chained_repeats + max(plan.rows, p.tau * plan.limit)
    return Interaction(
        p.epsilon, p.eval_every, p.eval_episodes, p.train_every, p.warmup, min(p.replay_capacity, most),
        p.reset_each_chunk, p.drop_cut, p.eval_limit,
    )  # fmt: skip


def prior_data(e: Experiment) -> Transition:
    """The prior data for the programs; one row of zeros where no arm loads any."""
    if e.prior is None:
        return jax.tree.map(lambda x: x[None], e.world.example)
    return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), e.prior.rows, e.world.example)


def _cost(phase: Phase, p: Protocol) -> float:
    """Weight of a phase on the progress bar, in gradient steps."""
    if isinstance(phase, Interact):
        return phase.steps / p.train_every + phase.steps / 4
    return phase.steps if isinstance(phase, Fit) else 0


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Ctrl-C (and a terminating signal) asks for a stop at the next piece; a second Ctrl-C insists."""
    asked = [False]

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
