"""How long a run will take, roughly, before anything is compiled."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from loro_jax.agents.base import steps_of_update
from loro_jax.training.phases import AsPrior, Fit, Interact
from loro_jax.training.population import Layout
from loro_jax.training.world import World
from loro_jax.types import Agent, Phase

OVERHEAD_FLOPS = 0.5e6
"""Cost of a gradient step and of an environment step beside the matrix products: sampling, Adam, keys."""
WHOLE_GAME = 500
"""Steps of an evaluation episode at most, whatever its limit: about what Pong takes to 21 points."""


def seconds(phases: Sequence[Phase], world: World, layout: Layout, seeds: int) -> float:
    """Estimated seconds of training, without compilation; right within a factor of about two."""
    agent, how = world.agent, world.interaction
    widths = (4, *agent.hidden, 2)
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    # One forward pass is 2 weights B flops; three of them, and a backward pass that costs two more. Where a
    # network sees every state once, one forward pass and a backward one over the states.
    rows = 0.6 * world.environment.states if world.environment.indexed else agent.batch_size
    rows /= getattr(agent, "minibatches", 1)
    step = agent.networks * (10.0 * weights * rows + OVERHEAD_FLOPS)
    gradient_steps = environment_steps = 0
    for phase in phases:
        if isinstance(phase, AsPrior):
            phase = phase.phase
        if isinstance(phase, Interact):
            environment_steps += phase.steps
            gradient_steps += phase.steps // agent.train_frequency * steps_of_update(agent)
        elif isinstance(phase, Fit):
            gradient_steps += phase.steps
    length = min(0.75 * world.evaluation.limit, WHOLE_GAME) * how.eval_episodes
    evaluation = environment_steps / how.eval_interval * length * 2 * weights
    flops = gradient_steps * step + environment_steps * OVERHEAD_FLOPS / 2 + evaluation
    return flops * layout.padded(seeds) / _rate(layout, agent)


@functools.cache
def _rate(layout: Layout, agent: Agent) -> float:
    """Floating-point operations per second of this machine on products of this agent's shapes."""
    block, width = layout.block, max(agent.hidden)
    x = jnp.ones((block, agent.batch_size, width))
    w = jnp.ones((block, width, width)) / width

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 20, lambda _, x: jax.nn.relu(x @ w), x)

    chain(x).block_until_ready()
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < 0.15:
        chain(x).block_until_ready()
        runs += 1
    flops = runs * 20 * 2 * block * agent.batch_size * width * width
    return layout.devices * flops / (time.perf_counter() - start)
