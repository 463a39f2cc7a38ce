"""What this machine gives, measured beside what training takes: matrix products, and memory bandwidth."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from loro_jax.training.population import Layout

SIDE = 2048
"""Of the square matrices that numpy multiplies: 17 GFLOP a product, 48 MiB in all."""
REPEATS = 30
"""Forward passes in one call of the program that multiplies in a row's shapes."""


class Rates:
    """The machine's rates, to be measured again and again; the programs are compiled once."""

    def __init__(self, layout: Layout, batch: int, widths: tuple[int, ...]) -> None:
        """`widths`: of the row's network, from input to output; `batch` rows go through it at once."""
        self.a, self.b = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
        spec = PartitionSpec("seed")
        sharding = NamedSharding(layout.mesh, spec)
        seeds = layout.devices * layout.block
        self.x = jax.device_put(jnp.ones((seeds, batch, widths[0])), sharding)
        self.layers = [
            jax.device_put(jnp.full((seeds, n, m), 1.0 / n), sharding) for n, m in itertools.pairwise(widths)
        ]
        self.flops = 2.0 * seeds * batch * sum(n * m for n, m in itertools.pairwise(widths)) * REPEATS

        def forward(x: jax.Array, layers: list[jax.Array]) -> jax.Array:
            def once(_: Any, x: jax.Array) -> jax.Array:
                y = x
                for layer in layers:
                    y = jax.nn.relu(y @ layer)
                return x * y.mean()  # so that no pass is left out

            return jax.lax.fori_loop(0, REPEATS, once, x)

        self.forward = jax.jit(
            jax.shard_map(forward, mesh=layout.mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False)
        )
        self.squares = jax.device_put(jnp.full((layout.devices, SIDE, SIDE), 1.0 / SIDE), sharding)
        self.product = jax.jit(
            jax.shard_map(lambda x: x @ x, mesh=layout.mesh, in_specs=spec, out_specs=spec, check_vma=False)
        )
        self.mesh = layout.mesh

    def measure(self, seconds: float) -> dict[str, float]:
        """Floating-point operations per second, over all cores or devices; each takes `seconds`.

        `sgemm`: numpy's product of large squares, on the host. `xla`: the same through XLA, a product on
        every device at once. `shapes`: a forward pass's products in the row's own shapes, through XLA.
        """
        square = 2.0 * SIDE**3
        return {
            "sgemm": rate(square, lambda: self.a @ self.b, seconds),
            "xla": rate(
                square * len(self.squares), lambda: self.product(self.squares).block_until_ready(), seconds
            ),
            "shapes": rate(
                self.flops, lambda: self.forward(self.x, self.layers).block_until_ready(), seconds
            ),
        }

    def bandwidth(self, seconds: float, numbers: int = 2**25) -> float:
        """Bytes per second of a triad, a = a + 3 b, over arrays of `numbers` 32-bit numbers a device, which
        no cache holds. Two are read and one is written: 12 bytes a number, as STREAM counts."""
        spec = PartitionSpec("seed")
        shape = (self.mesh.size, numbers)
        a, b = (jax.device_put(jnp.ones(shape), NamedSharding(self.mesh, spec)) for _ in range(2))
        triad = jax.jit(
            jax.shard_map(
                lambda a, b: a + 3.0 * b, mesh=self.mesh, in_specs=spec, out_specs=spec, check_vma=False
            ),
            donate_argnums=0,  # in place, so that no memory is asked for
        )
        held = [a]

        def once() -> None:
            held[0] = triad(held[0], b).block_until_ready()

        return rate(12.0 * b.size, once, seconds)


def rate(amount: float, call: Callable[[], Any], seconds: float) -> float:
    """The median of `amount` per second over the calls that fit into `seconds`, three at least."""
    call()
    each: list[float] = []
    began = time.perf_counter()
    while len(each) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        each.append(time.perf_counter() - start)
    return amount / statistics.median(each)
