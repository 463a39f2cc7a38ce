"""How long a run will take, roughly, before anything is compiled."""

from __future__ import annotations

import itertools
import time

import jax
import jax.numpy as jnp

from loro_jax.training.phases import Fit, Interact
from loro_jax.training.population import Layout
from loro_jax.training.protocols import Protocol
from loro_jax.types import Phase

OVERHEAD_FLOPS = 1.5e6
"""Cost of a gradient step and of an environment step beside the matrix products: sampling, Adam, keys."""
WHOLE_GAME = 500
"""Steps of an evaluation episode at most, whatever its limit: about what Pong takes to 21 points."""


def seconds(
    sentences: list[list[Phase]], protocol: Protocol, layout: Layout, members: int, networks: int = 1,
    limit: int = 200,
) -> float:  # fmt: skip
    """Estimated seconds of training, without compilation; right within a factor of about two.

    `networks`: trained networks of the protocol's widths, one for Double DQN and three for SAC. `limit`:
    steps after which an evaluation episode is cut.
    """
    widths = (4, *protocol.hidden, 2)
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    # One forward pass is 2 weights B flops; three of them, and a backward pass that costs two more.
    step = networks * (10.0 * weights * protocol.batch_size + OVERHEAD_FLOPS)
    gradient_steps = environment_steps = 0
    for phase in (p for sentence in sentences for p in sentence):
        if isinstance(phase, Interact):
            environment_steps += phase.steps
            gradient_steps += phase.steps // protocol.train_every
        elif isinstance(phase, Fit):
            gradient_steps += phase.steps
    length = min(0.75 * limit, WHOLE_GAME) * protocol.eval_episodes
    evaluation = environment_steps / protocol.eval_every * length * 2 * weights
    flops = gradient_steps * step + environment_steps * OVERHEAD_FLOPS / 2 + evaluation
    return flops * layout.padded(members) / _rate(layout, protocol)


def _rate(layout: Layout, protocol: Protocol) -> float:
    """Floating-point operations per second of this machine on products of this protocol's shapes."""
    block, width = layout.block, max(protocol.hidden)
    x = jnp.ones((block, protocol.batch_size, width))
    w = jnp.ones((block, width, width)) / width

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 20, lambda _, x: jax.nn.relu(x @ w), x)

    chain(x).block_until_ready()
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < 0.15:
        chain(x).block_until_ready()
        runs += 1
    flops = runs * 20 * 2 * block * protocol.batch_size * width * width
    return layout.devices * flops / (time.perf_counter() - start)
