"""A scan that draws its random numbers ahead.

A draw is named by seed, purpose and step here (`loro_jax.keys`), so what a loop draws does not depend on
what happens in it. Drawn where it is used, a number costs a dozen operations on arrays too small to keep a
processor busy; drawn for all steps of an evaluation interval side by side, next to nothing. So the part of a
loop's body that follows from the step's number alone, whatever it is (keys, noise, indices, fresh episodes of
any game), is computed before the loop for all its steps. Whole numbers and keys are to the bit what they
would be in it; numbers with a fraction as well, unless XLA would have fused what makes them with what uses
them.

The part is found by walking the body's program, as JAX's guide "Writing custom Jaxpr interpreters" does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core

FIXED, DRAWN, STATE = range(3)
"""Where a value comes from: from neither argument, from `x` alone, or from `state` too."""

INLINED = ("jit", "pjit", "closed_call")
"""Calls that are looked into where they take drawn values and others."""


LARGEST = 2**21
"""Bytes that are drawn ahead for a seed at most. A loop that would draw more, such as a game's whole level
for every step, draws as it goes."""


def scan(body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, unroll: bool = False) -> Any:
    """`jax.lax.scan(body, carry, xs)`; what follows from `xs` alone is computed ahead, (length, ...) each."""
    if not (length := len(jax.tree.leaves(xs)[0])):
        return jax.lax.scan(body, carry, xs)
    first = jax.tree.map(lambda x: x[0], xs)
    ahead, rest = split(body, carry, first)
    if not fits(ahead, first, length):
        return jax.lax.scan(body, carry, xs, unroll=unroll)
    return jax.lax.scan(rest, carry, jax.vmap(ahead)(xs), length, unroll=unroll)


def fits(ahead: Callable[[Any], Any], x: Any, steps: int) -> bool:
    """Whether what is drawn for so many steps stays within `LARGEST`."""
    drawn = jax.tree.leaves(jax.eval_shape(ahead, x))
    return steps * sum(math.prod(d.shape) * d.dtype.itemsize for d in drawn) <= LARGEST


def split(
    f: Callable[[Any, Any], Any], state: Any, x: Any
) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """f(state, x) in two parts: `ahead(x) -> drawn`, and `rest(state, drawn)`, which returns what f does.

    Args:
        f: a function that JAX can trace.
        state, x: arguments of the shapes and types that will be given.
    """
    program, like = jax.make_jaxpr(f, return_shape=True)(state, x)
    known = jax.tree.leaves(x)
    fixed, states = [Value(FIXED, c) for c in program.consts], len(program.jaxpr.invars) - len(known)

    def ahead(x: Any) -> list[Any]:
        kept: list[Any] = []
        given = [Value(STATE)] * states + [Value(DRAWN, leaf) for leaf in jax.tree.leaves(x)]
        for value in _walk(program.jaxpr, fixed, given, Ahead(kept)):
            Ahead(kept).use(value)
        return kept

    def rest(state: Any, drawn: list[Any]) -> Any:
        second = Rest(iter(drawn))
        given = [Value(STATE, leaf) for leaf in jax.tree.leaves(state)] + [Value(DRAWN) for _ in known]
        outputs = [second.use(value) for value in _walk(program.jaxpr, fixed, given, second)]
        return jax.tree.unflatten(jax.tree.structure(like), outputs)

    return ahead, rest


@dataclasses.dataclass(eq=False)
class Value:
    """A value of the program, where it is at hand, and whether it goes from the first part to the second."""

    source: int
    number: Any = None
    passed: bool = False


@dataclasses.dataclass(frozen=True)
class Ahead:
    """The first part: computes what is drawn, and keeps what the second asks for, in that order."""

    kept: list[Any]
    computes = (FIXED, DRAWN)

    def use(self, value: Value) -> Any:
        if value.source == DRAWN and not value.passed:
            value.passed = True
            self.kept.append(value.number)


@dataclasses.dataclass(frozen=True)
class Rest:
    """The second part: takes what the first has kept, and computes the others."""

    kept: Iterator[Any]
    computes = (FIXED, STATE)

    def use(self, value: Value) -> Any:
        if value.source == DRAWN and not value.passed:
            value.passed, value.number = True, next(self.kept)
        return value.number


def _walk(
    jaxpr: core.Jaxpr, consts: Sequence[Value], given: Sequence[Value], part: Ahead | Rest
) -> list[Value]:
    """The outputs of a program, as far as this part computes them."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *given], strict=True))

    def read(atom: Any) -> Value:
        return Value(FIXED, atom.val) if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        sources = {value.source for value in inputs}
        source = max(sources, default=FIXED)
        if eqn.primitive.name in INLINED and {DRAWN, STATE} <= sources:
            inner = eqn.params["jaxpr"]
            outputs = _walk(inner.jaxpr, [Value(FIXED, c) for c in inner.consts], inputs, part)
        elif source not in part.computes:
            if source == STATE:
                for value in inputs:
                    part.use(value)
            outputs = [Value(source) for _ in eqn.outvars]
        else:
            numbers = [part.use(value) if source == STATE else value.number for value in inputs]
            found = eqn.primitive.bind(*numbers, **eqn.primitive.get_bind_params(eqn.params))
            several = found if eqn.primitive.multiple_results else [found]
            outputs = [Value(source, number) for number in several]
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
