"""How much memory seeds take, and how they are divided where a machine has less.

Two things are cut. *Blocks* are what one device trains side by side (`population.Layout`): all of its seeds
at once on an accelerator, unless what a gradient step needs beside the seeds' state would not fit. *Waves*
are groups of seeds that are trained one after the other, each to the end of the arm, where not even the
states of all fit. Neither changes what a seed computes; on an accelerator the block's size may change how
sums round.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from loro_jax import ahead, keys
from loro_jax.errors import UserError
from loro_jax.training import population
from loro_jax.training.population import Layout
from loro_jax.training.world import World

SHARE = 0.8
"""Of the memory that there is, what a population may take: the rest is the program's, and other people's."""
COPIES = 2
"""Of the seeds' states while a piece runs: what it was given, and what it makes."""
LEAST = 64
"""Seeds that an accelerator trains side by side at least before it trains all of them in waves."""
ACTIVATIONS = 6
"""Arrays of activations for each layer that a gradient step holds at once, roughly: values, their gradients,
and those of the other passes."""


DRAWS = 3
"""Numbers that are drawn for each row of a batch, roughly, an evaluation interval ahead."""


class Division(NamedTuple):
    """How the seeds of an arm are trained.

    Attributes:
        layout: blocks and devices.
        wave: seeds that are trained at a time; all, or whole blocks on every device.
        waves: how many times.
    """

    layout: Layout
    wave: int
    waves: int


@functools.cache
def of_seed(world: World) -> int:
    """Bytes of one seed's state, its replay above all.

    Of each text that there are answers about, a seed remembers at most whether it met it, an action it was
    advised, and how often it may take that again (`guidance.Advised`).
    """
    key = keys.of_seed(0, 0)
    told = world.texts * (1 + _bytes(world.example.action) + 4)
    return size(jax.eval_shape(world.begin, key, key)) + told


def size(tree: Any) -> int:
    """Bytes of its arrays, or of arrays of these shapes."""
    return sum(map(_bytes, jax.tree.leaves(tree)))


def working(world: World) -> int:
    """Bytes that one seed's step takes beside its state, roughly."""
    agent = world.agent
    widths = math.prod(world.environment.observation_shape) + sum(agent.hidden)
    begun = size(jax.eval_shape(world.environment.reset, keys.of_seed(0, 0)))
    drawn = world.interaction.eval_interval * (begun + 4 * DRAWS * agent.batch_size)
    activations = 4 * ACTIVATIONS * agent.networks * agent.batch_size * widths
    return of_seed(world) + activations + min(drawn, ahead.LARGEST)


def needed(world: World, layout: Layout, seeds: int) -> int:
    """Bytes that so many seeds take while they train, over all devices, roughly."""
    return COPIES * layout.padded(seeds) * of_seed(world) + layout.devices * layout.block * working(world)


def there_is() -> int | None:
    """Bytes that the devices have, over all; on a CPU the machine's, or what its container may take; None
    where nobody says, nor for several processes, which would have to agree."""
    if jax.process_count() > 1:
        return None
    if jax.default_backend() != "cpu":
        stats = [device.memory_stats() or {} for device in jax.devices()]
        limits = [s["bytes_limit"] for s in stats if "bytes_limit" in s]
        return sum(limits) if len(limits) == len(stats) else None
    found = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = pathlib.Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    try:
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                found.append(1024 * int(line.split()[1]))
    except OSError:
        pass
    return min(found, default=None)


def divide(world: World, seeds: int, limit: int = 0) -> Division:
    """Seeds laid out so that they fit into `limit` bytes, by default `SHARE` of what there is.

    Raises:
        UserError: not even the smallest wave fits.
    """
    whole, on_cpu = population.layout(seeds, world.agent.hidden), jax.default_backend() == "cpu"
    if not limit:
        known = there_is()
        if known is None:
            return Division(whole, seeds, 1)
        limit = int(SHARE * known)
    waves = max(1, COPIES * seeds * of_seed(world) // limit)  # fewer cannot do
    while True:
        wave = -(-seeds // waves)
        layout = whole if on_cpu else Layout(whole.devices, -(-wave // whole.devices))
        least = layout.block if on_cpu else min(layout.block, LEAST)  # a CPU's block decides the bits
        while needed(world, layout, wave) > limit and layout.block > least:
            layout = dataclasses.replace(layout, block=max(least, layout.block // 2))
        if needed(world, layout, wave) <= limit:
            break
        if wave <= layout.devices * (layout.block if on_cpu else 1):
            take, least = needed(world, layout, wave), layout.padded(wave)
            enough = math.ceil(take / 2**30 * 1000) / 1000
            raise UserError(
                f"{least} seeds, as many as train side by side, take {take / 2**20:.1f} MiB and may take"
                f" {limit / 2**20:.1f}; --memory-limit {enough:g} is enough, or lower --replay-capacity"
            )
        waves += 1
    wave = layout.padded(wave)
    return Division(layout, seeds, 1) if waves == 1 else Division(layout, wave, -(-seeds // wave))


def _bytes(leaf: Any) -> int:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 8
    return int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
