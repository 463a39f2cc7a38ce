"""Multi-layer perceptrons as the reference study's library builds them."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class Mlp(nn.Module):
    """ReLU layers of `hidden` units, then a linear layer of `outputs`; (*obs,) -> (outputs,).

    Inputs are divided by `magnitudes` first, if there are any.

    Weights and biases start uniform in +-1/sqrt(fan_in), PyTorch's default for a linear layer
    (`torch.nn.Linear.reset_parameters`), which d3rlpy keeps.
    """

    hidden: Sequence[int]
    outputs: int
    magnitudes: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.ravel(x)
        if self.magnitudes:
            x = x / jnp.asarray(self.magnitudes, x.dtype)
        for width in self.hidden:
            x = nn.relu(_linear(width, x.shape[0])(x))
        return _linear(self.outputs, x.shape[0])(x)


def _linear(features: int, fan_in: int) -> nn.Dense:
    bound = fan_in**-0.5

    def init(key: chex.PRNGKey, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return nn.Dense(features, kernel_init=init, bias_init=init)
