"""Products in the form that a CPU likes, against the plain ones; networks on states, against one-hot rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.agents.networks import Mlp, affine, of_every_state, product

SHAPES = [(32, 4, 256), (32, 256, 2), (7, 5, 3)]
MORE = [pytest.param(s, marks=pytest.mark.slow) for s in ((1, 4, 256), (16, 64, 64), (3, 1, 1), (8, 6, 5))]


@pytest.mark.parametrize("shape", [*SHAPES, *MORE])
def test_a_layer_and_its_derivatives_are_those_that_jax_finds(shape: tuple[int, int, int]) -> None:
    batch, inputs, outputs = shape
    keys = jax.random.split(jax.random.key(0), 4)
    x, kernel = (
        jax.random.normal(keys[0], (2, batch, inputs)),
        jax.random.normal(keys[1], (2, inputs, outputs)),
    )
    bias, weights = jax.random.normal(keys[2], (2, outputs)), jax.random.normal(keys[3], (2, batch, outputs))

    def of(layer):
        def total(x, kernel, bias):
            return (jax.vmap(layer)(x, kernel, bias) * weights).sum()

        return jax.jit(jax.value_and_grad(total, (0, 1, 2)))(x, kernel, bias)

    ours, plain = of(affine), of(lambda x, kernel, bias: x @ kernel + bias)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(product(x[0], kernel[0]), np.asarray(x[0]) @ np.asarray(kernel[0]), atol=1e-4)


@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_every_state_at_once_is_every_one_hot_row(hidden: tuple[int, ...]) -> None:
    network, eye = Mlp(hidden, 3), jnp.eye(5)
    params = network.init(jax.random.key(0), eye[:1])
    weights = jax.random.normal(jax.random.key(1), (5, 3))
    np.testing.assert_allclose(of_every_state(params), network.apply(params, eye), rtol=1e-5, atol=1e-6)
    of_states = jax.grad(lambda p: (of_every_state(p) * weights).sum())(params)
    of_rows = jax.grad(lambda p: (network.apply(p, eye) * weights).sum())(params)
    for a, b in zip(jax.tree.leaves(of_states), jax.tree.leaves(of_rows), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
