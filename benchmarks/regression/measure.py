"""Trains the cases, and times them beside a kernel that is none of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.regression.cases import Case
from loro_jax import keys
from loro_jax.records.identity import differences
from loro_jax.running import experiment, trainer
from loro_jax.tasks import load
from loro_jax.training import population
from loro_jax.training.phases import Interact
from loro_jax.training.population import Programs, Progress

ROUNDS = 7
"""Times that a piece of training and the kernel are timed, in turn."""
PROBES = 32
"""Observations in which values are looked at."""

LOST = -1e30
"""What stands for a number of a seed that diverged: below all others, so that ranks have a place for it."""

Readings = dict[str, np.ndarray]
"""By reading, a number for each seed, (seeds,)."""


class Prepared:
    """A case ready to train, its programs compiled once for every key."""

    def __init__(self, case: Case) -> None:
        self.case, self.task = case, load(case.task)
        self._programs: dict[Any, Programs] = {}
        self.identity = self.ready(0).identity

    def ready(self, key: int) -> Any:
        """The experiment under a key."""
        c = self.case
        return experiment.prepare_experiment(
            self.task, c.protocol, c.arms, c.seeds, key, dataset=c.episodes, answers=c.answers
        )

    def changed(self, identity: dict[str, Any]) -> list[str]:
        """In what this case is another than one of this identity, whatever the keys."""
        return differences(identity | {"seed": 0}, self.identity | {"seed": 0})

    def begun(self, e: Any, arm: Any) -> tuple[Programs, Any, Any, list[Any]]:
        """Of an arm: its programs, its seeds' start, what is known, and its sentence."""
        world = e.world_of(arm)
        layout = population.layout(e.seeds, world.agent.hidden)
        programs = self._programs.setdefault(world, Programs(world, layout))
        known = experiment.knowledge(e, world)
        told = known if known.answers is not None else None
        runs = population.begin(world, layout, e.seed, e.seeds, False, 0, told, arm.phases)
        return programs, runs, known, trainer.sentence(e, arm)

    def train(self, key: int, done: Callable[[str], None]) -> dict[str, Readings]:
        """By arm, what its seeds came to."""
        e, found = self.ready(key), {}
        for arm in e.arms:
            programs, runs, known, sentence = self.begun(e, arm)
            before = jax.tree.map(np.asarray, networks(runs.agent))  # training takes its arrays
            start = Progress(0, runs, np.zeros((programs.layout.padded(e.seeds), 0), np.float32))
            end = population.train(sentence, programs, start, known)
            found[arm.name] = readings(programs.world, before, end, e.seeds)
            done(arm.name)
        return found


def readings(world: Any, before: Any, end: Progress, seeds: int) -> Readings:
    """Of each seed: its mean return in the first, second and last third of what was evaluated online; what it
    believes a few fixed observations to be worth; how far its networks have moved from `before`, which counts
    steps where returns no longer show them; and SAC's temperature."""
    curves, agents = end.records[:seeds], end.runs.agent
    thirds = np.array_split(curves, 3, axis=1)
    found = {
        f"return, {which} third": part.mean(axis=1)
        for which, part in zip(("first", "second", "last"), thirds, strict=True)
    }
    values, beside = believed(world)(agents)
    found["value"] = np.asarray(values)[:seeds]
    found["log distance of weights"] = np.asarray(moved(before, networks(agents)))[:seeds]
    found |= {name: np.asarray(x)[:seeds] for name, x in beside.items()}
    return {name: np.nan_to_num(x, nan=LOST) for name, x in found.items()}


def networks(agents: Any) -> Any:
    """What a population's agents learn by gradients, but for SAC's temperature."""
    return agents.params if hasattr(agents, "params") else (agents.actor, agents.critics)


@jax.jit
@jax.vmap
def moved(before: Any, after: Any) -> jax.Array:
    """Networks of a population twice -> log of the Euclidean distance between all their weights, (seeds,)."""
    squares = jax.tree.map(lambda a, b: jnp.sum((b - a) ** 2), before, after)
    return 0.5 * jnp.log(sum(jax.tree.leaves(squares)))


def believed(world: Any) -> Callable[[Any], tuple[jax.Array, dict[str, jax.Array]]]:
    """A population's agents -> mean value of the greedy actions in the probes, (seeds,); other numbers."""
    obs = probes(world)
    agent = world.agent

    def of_ddqn(state: Any) -> Any:
        return agent.values(state.params, obs).max(axis=1).mean(), {}

    def of_sac(state: Any) -> Any:
        mean, log_std = agent.gaussian(state.actor, obs)
        values = agent.q(state.critics, obs, jnp.tanh(mean)).min(axis=0).mean()
        return values, {"log temperature": state.log_temperature, "log deviation": log_std.mean()}

    return jax.jit(jax.vmap(of_sac if agent.name == "sac" else of_ddqn))


def probes(world: Any) -> jax.Array:
    """Observations (PROBES, *obs) that uniform play meets, the same in every run."""
    env = world.environment

    def one(key: jax.Array) -> jax.Array:
        obs, state = env.reset(jax.random.fold_in(key, 0))
        steps = jax.random.randint(jax.random.fold_in(key, 1), (), 0, 8)

        def step(carry: Any, t: jax.Array) -> Any:
            obs, state, over = carry
            at = jax.random.fold_in(key, t + 2)
            action = env.action_space.sample(jax.random.fold_in(at, 0))
            after, state_after, _, terminated, truncated = env.step(jax.random.fold_in(at, 1), state, action)
            over |= (t >= steps) | terminated | truncated
            kept = jax.tree.map(lambda a, b: jnp.where(over, a, b), (obs, state), (after, state_after))
            return (*kept, over), None

        begun = (obs, jax.tree.map(jnp.asarray, state), jnp.bool_(False))
        return jax.lax.scan(step, begun, jnp.arange(8))[0][0]

    each = jax.vmap(lambda i: jax.random.fold_in(keys.of_seed(9000, 0), i))(jnp.arange(PROBES))
    return jax.jit(jax.vmap(one))(each)


def speeds(prepared: Prepared) -> Iterator[tuple[str, float]]:
    """Of each arm: the logarithm of how long a piece of it takes, in units of the kernel's time.

    An arm that learns online by another's program is left out: once is enough.
    """
    e, kernel, seen = prepared.ready(0), calibration(), list[Any]()
    for arm in e.arms:
        programs, runs, known, sentence = prepared.begun(e, arm)
        pieces = [p for p in sentence if isinstance(p, Interact)]
        if (programs, pieces[0]) in seen:
            continue
        seen.append((programs, pieces[0]))
        for phase in sentence[: sentence.index(pieces[0]) + 3]:  # the replay has something in it
            runs, _ = programs(phase, runs, known)
        ratios = []
        for _ in range(ROUNDS):
            units = [kernel(), 0.0, 0.0]
            began = time.perf_counter()
            for _ in range(3):
                runs, _ = programs(pieces[0], runs, known)
            units[1] = time.perf_counter() - began
            units[2] = kernel()
            ratios.append(np.log(units[1] / ((units[0] + units[2]) / 2)))
        yield arm.name, float(np.median(ratios))


def calibration() -> Callable[[], float]:
    """Seconds that a fixed chain of small products takes on all devices, compiled and warm."""
    devices = jax.devices()
    x = jnp.ones((len(devices), 4, 64, 64))

    def chain(x: jax.Array) -> jax.Array:
        def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.tanh(x @ x / 64.0) + jnp.sqrt(jnp.abs(x)), None

        return jax.lax.scan(step, x, None, 400)[0]

    run = jax.pmap(chain)
    jax.block_until_ready(run(x))

    def once() -> float:
        began = time.perf_counter()
        jax.block_until_ready(run(x))
        return time.perf_counter() - began

    return once
