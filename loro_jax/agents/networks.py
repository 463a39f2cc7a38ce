"""Multi-layer perceptrons as the reference study's library builds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-5
"""That layer norm adds to variances (PyTorch's default)."""


class Mlp(nn.Module):
    """ReLU layers of `hidden` units, then a linear layer of `outputs`; (B, *obs) -> (B, outputs).

    Inputs are divided by `magnitudes` first, if there are any. With `layer_norm` each hidden layer is
    normalised before its ReLU, as PyTorch's `LayerNorm` does it.

    Weights and biases start uniform in +-1/sqrt(fan_in), PyTorch's default for a linear layer
    (`torch.nn.Linear.reset_parameters`), which d3rlpy keeps.
    """

    hidden: Sequence[int]
    outputs: int
    magnitudes: tuple[float, ...] = ()
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _near_one(x, self.magnitudes)
        for width in self.hidden:
            x = Dense(width)(x)
            x = nn.relu(nn.LayerNorm(EPSILON)(x) if self.layer_norm else x)
        return Dense(self.outputs)(x)


class Tanh(nn.Module):
    """Tanh layers of `hidden` units, then a linear layer of `outputs`; (B, *obs) -> (B, outputs).

    Weights and biases start as those of `Mlp`, the last ones times `last`: a policy that begins near the
    uniform one (Andrychowicz et al., 2021, arXiv 2006.05990, section 3.2).
    """

    hidden: Sequence[int]
    outputs: int
    last: float = 1.0
    magnitudes: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _near_one(x, self.magnitudes)
        for width in self.hidden:
            x = nn.tanh(Dense(width)(x))
        return Dense(self.outputs, self.last)(x)


def _near_one(x: jax.Array, magnitudes: tuple[float, ...]) -> jax.Array:
    """Observations (B, *obs) as rows, divided by their typical sizes, if there are any: (B, inputs)."""
    x = x.reshape(x.shape[0], -1)
    return x / jnp.asarray(magnitudes, x.dtype) if magnitudes else x


class Dense(nn.Module):
    """`affine` with a kernel and a bias of its own; named as flax's layer, which it stands for.

    They begin as PyTorch's, times `scale`.
    """

    features: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bound = self.scale * x.shape[1] ** -0.5

        def init(key: chex.PRNGKey, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        kernel = self.param("kernel", init, (x.shape[1], self.features))
        return affine(x, kernel, self.param("bias", init, (self.features,)))


def of_every_state(params: Any) -> jax.Array:
    """The outputs of an `Mlp` for each of its n inputs given one-hot, (n, outputs).

    That is n rows in the place of a batch, and the first layer's product with them is its kernel.
    """
    named = params["params"]
    x = named["Dense_0"]["kernel"] + named["Dense_0"]["bias"]
    for i in range(1, sum(name.startswith("Dense") for name in named)):
        if norm := named.get(f"LayerNorm_{i - 1}"):
            x = nn.LayerNorm(EPSILON).apply({"params": norm}, x)
        x = affine(nn.relu(x), named[f"Dense_{i}"]["kernel"], named[f"Dense_{i}"]["bias"])
    return x


FEW = 4
"""A product over so few numbers is written out: XLA fuses it with what comes before and after."""


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """x (B, inputs) @ kernel (inputs, outputs) + bias (outputs,) -> (B, outputs).

    Its derivative is written out, since products with a narrow side are slow on a CPU as XLA would do them.
    """
    return product(x, kernel) + bias


def _forward(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    return affine(x, kernel, bias), (x, kernel)


def _backward(saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivatives by x, kernel and bias; the latter's is one row more of a product, where that is cheaper."""
    x, kernel = saved
    if dy.shape[1] < x.shape[1]:
        by_kernel, by_bias = _transposed(_transposed(dy) @ x), dy.sum(0)
    else:
        rows = _transposed(jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)) @ dy
        by_kernel, by_bias = rows[:-1], rows[-1]
    by_x = product(dy, _transposed(kernel)) if dy.shape[1] <= FEW else dy @ kernel.T
    return by_x, by_kernel, by_bias


affine.defvjp(_forward, _backward)


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """x (B, k) @ y (k, n) -> (B, n), in the form that XLA computes fast on a CPU (docs/performance.md)."""
    k, n = y.shape
    if jax.default_backend() != "cpu":
        return x @ y
    if k <= FEW:
        return sum((x[:, i, None] * y[i] for i in range(1, k)), x[:, 0, None] * y[0])
    if n <= FEW:
        return jnp.stack([_apart(x @ _apart(y[:, j])) for j in range(n)], axis=1)
    return x @ y


def _transposed(x: jax.Array) -> jax.Array:
    """The transpose; on a CPU as an array of its own.

    Left alone, XLA takes a transpose into the product beside it, which then takes up to sixteen times as
    long where a side is narrow.
    """
    return _apart(_apart(x).T)


def _apart(x: jax.Array) -> jax.Array:
    """x, which XLA does not take into what comes before or after on a CPU."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x
