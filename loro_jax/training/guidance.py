"""What a language model's answers do inside a program: who plays, and what looking them up has come to.

Answers are a table that all seeds share (`data.answers`); what a seed has looked up is its own.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple
from typing import Protocol as Interface

import chex
import jax
import jax.numpy as jnp

from loro_jax.data.answers import Found, Table
from loro_jax.spaces import Discrete, Space
from loro_jax.types import Knowledge

if TYPE_CHECKING:
    from loro_jax.training.world import World


class Consulted(NamedTuple):
    """What a seed's lookups have come to, each count an int32 (). *Traced.*

    Attributes:
        consultations: answers that were looked up.
        first_met: those about texts that this seed had not met before: what a model would have been asked,
            if its answers were kept.
        nearest: those about texts that nobody asked about, for which the nearest text's answer stands.
        random_draws: those that could not be read, for which a uniform action stands.
        met: the texts met so far, bool (T,).
    """

    consultations: jax.Array
    first_met: jax.Array
    nearest: jax.Array
    random_draws: jax.Array
    met: jax.Array


COUNTS = ("consultations", "first_met", "nearest", "random_draws")


def nobody(answers: Table) -> Consulted:
    """Of a seed that has looked nothing up."""
    zero = jnp.int32(0)
    return Consulted(zero, zero, zero, zero, jnp.zeros(answers.asked.shape, bool))


def consulted(before: Consulted, found: Found, readable: jax.Array, kept: jax.Array) -> Consulted:
    """One answer more was looked up, if it is `kept`, ()."""

    def more(count: jax.Array, which: jax.Array) -> jax.Array:
        return count + (kept & which).astype(jnp.int32)

    return Consulted(
        more(before.consultations, jnp.bool_(True)),
        more(before.first_met, ~before.met[found.row]),
        more(before.nearest, ~found.own),
        more(before.random_draws, ~readable),
        before.met.at[found.row].max(kept),
    )


class Answer(NamedTuple):
    """An answer as it is acted on: the action, where it was found, and whether it could be read, ()."""

    action: jax.Array
    found: Found
    readable: jax.Array


def drawn(answers: Table, found: Found, space: Space, key: chex.PRNGKey) -> Answer:
    """One of the n answers about a text, each as likely; a uniform action if it could not be read."""
    which = jax.random.randint(jax.random.fold_in(key, 0), (), 0, answers.actions.shape[1])
    said = answers.actions[found.row, which]
    readable = said >= 0 if isinstance(space, Discrete) else ~jnp.isnan(said).any()
    uniform = space.sample(jax.random.fold_in(key, 1))
    return Answer(jnp.where(readable, said, uniform).astype(space.dtype), found, readable)


class Player(Interface):
    """Who plays in `Collect`: frozen data, *static*."""

    def __hash__(self) -> int:
        """Programs are keyed by it."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        """Observation (*obs,) -> the action, (*action,), and the seed's `Run.guidance` after it.

        `kept`, (): whether what is played is kept; what is not is not counted.
        """


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Draws every action uniformly."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        return world.environment.action_space.sample(key), guidance


@dataclasses.dataclass(frozen=True)
class Answering:
    """Takes one of the language model's answers about what it sees, drawn at each step."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        found = world.find(known, obs)
        said = drawn(known.answers, found, world.environment.action_space, key)
        after = consulted(guidance.consulted, found, said.readable, kept)
        return said.action, guidance._replace(consulted=after)


class Guidance(NamedTuple):
    """What a seed remembers of what it was told. *Traced.*

    Attributes:
        consulted: what its lookups have come to.
    """

    consulted: Consulted


def begun(known: Knowledge) -> Any:
    """`Run.guidance` of a seed that was told nothing yet: () where there are no answers."""
    return () if known.answers is None else Guidance(nobody(known.answers))


def counts(guidance: Any) -> dict[str, jax.Array]:
    """What is counted of lookups, by name; empty where there are no answers."""
    return {name: getattr(guidance.consulted, name) for name in COUNTS} if guidance != () else {}
