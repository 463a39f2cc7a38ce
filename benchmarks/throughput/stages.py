"""Where a piece's time goes: the same piece with one stage after another left out.

A stage's time is the difference between two programs, so that stages and what is left at the end add up to
the whole. What a stage costs beside others is meant, not what it would take alone: XLA fuses and caches
reuse. As a check, gradient steps alone are timed as well (`Fit`). (Traces were tried and are no use here: to
note an operation of less than a microsecond takes a microsecond, and a small network's step has 1,300.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from loro_jax.tasks.base import Environment
from loro_jax.training import phases, population, replay
from loro_jax.training.world import World

ROUNDS = 5
LOOP = "loops and the rest"


@dataclasses.dataclass(frozen=True)
class Idle:
    """An agent that leaves out some of what `agent` does; all else is `agent`'s.

    Attributes:
        without: names of stages; programs are told apart by it.
    """

    agent: Any
    without: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def of_states(self, states: int) -> Idle:
        of_states = getattr(self.agent, "of_states", lambda _: self.agent)
        return dataclasses.replace(self, agent=of_states(states))

    @property
    def batch_size(self) -> int:
        return 1 if "batch" in self.without else int(self.agent.batch_size)

    def learn(self, state: Any, batch: Any, key: Any) -> Any:
        """Reads the batch, which else would not be gathered."""
        if "forward and backward" not in self.without:
            return self.agent.learn(state, batch, key)
        return state, sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(batch))

    def explore(self, state: Any, obs: Any, key: Any) -> Any:
        if "acting" not in self.without:
            return self.agent.explore(state, obs, key)
        example = jax.eval_shape(self.agent.explore, state, obs, key)
        return jnp.zeros(example.shape, example.dtype)


@dataclasses.dataclass(frozen=True)
class Still(Environment):
    """An environment in which nothing happens; an evaluation, whose limit is 1 here, ends at once."""

    def reset(self, key: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(super().reset, key))

    def step(self, key: Any, state: Any, action: Any) -> Any:
        obs, *_ = self.reset(key)
        return obs, state, jnp.float32(0), jnp.bool_(False), jnp.bool_(self.limit == 1)


def descent(learning_rate: float, **_: Any) -> optax.GradientTransformation:
    """Gradient descent in the place of Adam; the moments stay as they are."""

    def update(gradient: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: -learning_rate * g, gradient), state

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


PATCHED: dict[str, tuple[Any, str, Any]] = {
    "Adam": (optax, "adam", descent),
    "replay push": (replay, "push", lambda kept, *_: kept),
    "divergence watched": (phases, "finite", lambda _: jnp.bool_(True)),
    "random keys": (phases, "fold", lambda key, *_: key),
}
"""Stages that are functions of their own: where they are looked up, and what stands for them."""
STAGES = ("evaluation", "Adam", "forward and backward", "batch", "environment", "acting",
          "replay push", "divergence watched", "random keys")  # fmt: skip
"""In the order in which they are left out. Evaluations are cut after a step, batches to one row. Forward and
backward is all of a gradient step but Adam, the choice whether it is taken among it."""


def lacking(world: World, without: tuple[str, ...]) -> World:
    """The world without some stages, but for those of `PATCHED`."""
    how, env = world.interaction, world.environment
    if "evaluation" in without:
        how = dataclasses.replace(how, eval_episodes=1, eval_limit=1)
    if "environment" in without:
        env = Still(**{f.name: getattr(env, f.name) for f in dataclasses.fields(env)})
    return World(env, Idle(world.agent, without), how)


@contextlib.contextmanager
def patched(without: tuple[str, ...]) -> Iterator[None]:
    """While a program is made: others stand for the functions of some stages."""
    with contextlib.ExitStack() as stack:
        for name in without:
            if name in PATCHED:
                module, function, instead = PATCHED[name]
                stack.enter_context(mock.patch.object(module, function, instead))
        yield


def program(whole: population.Programs, piece: Any, without: tuple[str, ...], runs: Any, data: Any) -> Any:
    """The piece without some stages, compiled."""
    made = population.Programs(lacking(whole.world, without), whole.layout)
    with patched(without):
        made.prepare([piece], runs, data)
    return made


def profile(whole: population.Programs, piece: Any, runs: Any, data: Any) -> dict[str, Any]:
    """Seconds by stage of one piece, medians over rounds through all programs.

    Returns:
        `seconds` of the piece; `stages` by name, which add up to it; `fit`, the seconds of as many gradient
        steps alone, and `fit_stages`, of the stages that those consist of.
    """
    lists = [STAGES[:n] for n in range(len(STAGES) + 1)]
    ways: list[tuple[population.Programs, Any]] = [(whole, piece)]
    ways += [(program(whole, piece, without, runs, data), piece) for without in lists[1:]]
    ways.append((whole, phases.Fit(piece.steps // whole.world.agent.train_frequency)))
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS + 1):  # the first is not counted
        for spent, (programs, phase) in zip(times, ways, strict=True):
            start = time.perf_counter()
            runs, _ = programs(phase, runs, data)
            spent.append(time.perf_counter() - start)
    *each, fit = (statistics.median(spent[1:]) for spent in times)
    stages = {name: each[i] - each[i + 1] for i, name in enumerate(STAGES)} | {LOOP: each[-1]}
    of_fit = ("Adam", "forward and backward", "batch", "divergence watched")
    return {
        "seconds": each[0], "stages": stages, "rounds": [spent[1:] for spent in times],
        "fit": fit, "fit_stages": sum(stages[name] for name in of_fit),
    }  # fmt: skip
