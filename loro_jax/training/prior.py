"""Prior data as a program takes it: LLM episodes under a protocol's reading, and what they cost."""

from __future__ import annotations

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import keys
from loro_jax.data.answers import Answers, Coding, Table, find
from loro_jax.data.episodes import Episodes
from loro_jax.departures.alignment import realign
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.tasks import Environment
from loro_jax.tasks.rollout import rollout
from loro_jax.training.guidance import drawn
from loro_jax.types import Transition

EPISODES = 2000
"""That the policy of a table of answers is measured on."""
SIDE_BY_SIDE = 100


@dataclasses.dataclass(frozen=True)
class Prior:
    """The LLM's share of an arm.

    Attributes:
        rows: transitions, (N, ...), in the protocol's alignment; None where each seed plays its own.
        steps: environment steps that the prior data uses of the budget, whole evaluation intervals; where
            each seed plays its own, what that takes on average.
        curve: returns that stand for it on a learning curve, (steps / eval_interval,).
        returns: returns of every episode in the dataset, (E,): the flat line of the LLM's own policy.
        mean_steps: of an episode.
    """

    rows: Transition | None
    steps: int
    curve: np.ndarray
    returns: np.ndarray
    mean_steps: float


def prepare(episodes: Episodes, protocol: Protocol) -> Prior:
    """The first tau episodes, read and charged as `protocol` says."""
    prior, schedule, departures = protocol.prior, protocol.schedule, protocol.departures
    used = episodes.first(prior.tau)
    rows = realign(used, departures.alignment).transitions
    if departures.limits_terminal:
        rows = rows._replace(
            terminated=rows.terminated | rows.truncated, truncated=np.zeros_like(rows.truncated)
        )
    if prior.charge == "episodes":
        curve = used.returns
    else:
        intervals = -(-int(used.episode_lengths.sum()) // schedule.eval_interval)
        curve = np.full(intervals, used.returns.mean())
    _check(len(curve), protocol)
    if not (np.abs(curve) <= np.finfo(np.float32).max).all():
        raise UserError(f"{episodes.name}: its episodes' returns are too large for 32 bits")
    steps = len(curve) * schedule.eval_interval
    return Prior(rows, steps, curve.astype(np.float32), episodes.returns, float(used.episode_lengths.mean()))


def played(answers: Answers, env: Environment, protocol: Protocol, seed: int) -> Prior:
    """What tau episodes take that a table of answers plays, by `EPISODES` of them, each with its own key."""
    keys_ = jax.vmap(lambda i: keys.fold(keys.of_seed(seed, i), keys.Purpose.EVALUATE))(jnp.arange(EPISODES))
    returns, lengths = _episodes(env, answers.coding, answers.table(), keys_)
    mean = float(np.asarray(lengths, np.float64).mean())
    schedule, prior = protocol.schedule, protocol.prior
    intervals = prior.tau
    if prior.charge == "steps":
        intervals = -(-round(prior.tau * mean) // schedule.eval_interval)
    _check(intervals, protocol)
    curve = np.full(intervals, np.asarray(returns).mean(), np.float32)
    return Prior(None, intervals * schedule.eval_interval, curve, np.asarray(returns), mean)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _episodes(
    env: Environment, coding: Coding, table: Table, keys: chex.PRNGKey
) -> tuple[jax.Array, jax.Array]:
    """Returns and lengths of the answers' episodes, (episodes,) each."""

    def act(obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
        return drawn(table, find(table, coding, coding.digits(obs)), env, obs, key).action

    return jax.lax.map(lambda key: rollout(env, act, key), keys, batch_size=SIDE_BY_SIDE)


def _check(intervals: int, protocol: Protocol) -> None:
    """A `UserError` where prior data leaves nothing of the budget."""
    schedule, tau = protocol.schedule, protocol.prior.tau
    if intervals >= schedule.evaluations:
        raise UserError(
            f"a budget of {schedule.evaluations} intervals of {schedule.eval_interval} steps leaves nothing"
            f" after tau = {tau} prior episodes, which use {intervals} intervals; raise --budget or lower"
            " --tau"
        )
