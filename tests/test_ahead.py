"""What is drawn ahead is what would have been drawn; and it is no longer drawn in the loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import ahead


def body(state: tuple[jax.Array, jax.Array], x: tuple[jax.Array, jax.Array]) -> Any:
    """Draws by the step, draws in a range that the state decides, a branch, a gradient, things passed on."""
    total, largest = state
    step, scale = x
    key = jax.random.fold_in(jax.random.key(3), step)
    noise = jax.random.normal(jax.random.fold_in(key, 0), (2,)) * scale
    index = jax.random.randint(jax.random.fold_in(key, 1), (4,), 0, largest)
    slope = jax.grad(lambda t: (jax.nn.relu(t + noise) ** 2).sum())(total)
    total = jax.lax.cond(step % 2 == 0, lambda t: t + noise, lambda t: t - 0.1 * slope, total)
    return (total, largest + 1), {"index": index, "noise": noise, "step": step, "constant": jnp.zeros(3)}


STATE = (jnp.ones(2), jnp.int32(5))
XS = (jnp.arange(9), jnp.linspace(0.0, 2.0, 9))


def same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_scan_is_laxs_scan() -> None:
    plain = jax.jit(lambda s, x: jax.lax.scan(body, s, x))(STATE, XS)
    same(jax.jit(lambda s, x: ahead.scan(body, s, x))(STATE, XS), plain)
    none = jax.tree.map(lambda leaf: leaf[:0], XS)
    same(ahead.scan(body, STATE, none), jax.lax.scan(body, STATE, none))
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), STATE)
    many = jax.jit(jax.vmap(lambda s: ahead.scan(body, s, XS)))(two)
    same(jax.tree.map(lambda leaf: leaf[1], many), plain)


def test_the_loop_draws_nothing() -> None:
    def draws(scan: Any) -> int:
        """Random numbers drawn in the loop's own program."""
        program = jax.make_jaxpr(lambda s, x: scan(body, s, x))(STATE, XS)
        loop = next(eqn for eqn in program.jaxpr.eqns if eqn.primitive.name == "scan")
        return str(loop.params["jaxpr"]).count("random_bits")

    assert draws(jax.lax.scan) > 0 and draws(ahead.scan) == 0


def test_a_loop_that_would_draw_too_much_draws_as_it_goes() -> None:
    """Such as a game's whole level for every step."""

    def level(total: jax.Array, step: jax.Array) -> Any:
        drawn = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (600, 600))
        return total + (drawn * total).mean(), step

    program = jax.make_jaxpr(lambda x: ahead.scan(level, jnp.float32(1), x))(jnp.arange(9))
    assert all(v.aval.size <= 9 for eqn in program.eqns for v in eqn.outvars)
    same(ahead.scan(level, jnp.float32(1), jnp.arange(9)), jax.lax.scan(level, jnp.float32(1), jnp.arange(9)))


def test_a_body_without_use_for_its_step() -> None:
    counted, _ = ahead.scan(lambda n, step: (n + 1, None), jnp.int32(0), jnp.arange(9))
    assert int(counted) == 9


def test_one_scan_within_another() -> None:
    def outer(scan: Any) -> Any:
        pairs = jax.tree.map(lambda x: x[:8].reshape(4, 2), XS)
        return jax.jit(lambda s: scan(lambda s, x: scan(body, s, x), s, pairs))(STATE)

    ours, plain = outer(ahead.scan), outer(jax.lax.scan)
    same(ours[1], plain[1])
    np.testing.assert_allclose(ours[0][0], plain[0][0], rtol=1e-6)  # XLA fuses two programs differently


def test_the_parts_of_a_function() -> None:
    draw, rest = ahead.split(body, STATE, jax.tree.map(lambda x: x[0], XS))
    x = jax.tree.map(lambda x: x[3], XS)
    same(jax.jit(lambda: rest(STATE, draw(x)))(), jax.jit(lambda: body(STATE, x))())
