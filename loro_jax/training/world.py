"""What a phase runs in: the environment, the agent, and how they meet. Static, hashable, compiled in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from loro_jax.data.answers import Coding, Found, find
from loro_jax.keys import Purpose, fold
from loro_jax.tasks.base import Environment
from loro_jax.tasks.rollout import rollout
from loro_jax.training import guidance, replay
from loro_jax.types import Agent, Counters, Knowledge, Phase, Run, Transition


@dataclasses.dataclass(frozen=True)
class Interaction:
    """How an agent meets its environment online.

    Attributes:
        eval_interval: environment steps between evaluations.
        eval_episodes: greedy episodes per evaluation, in an environment of their own; 0 for exact values.
        reset_each_interval: an interval begins with a fresh episode, which cuts the one before.
        drop_cut: the last transition of a cut episode is not stored.
        eval_limit: steps after which an evaluation episode is cut; 0 for the environment's own limit.
    """

    eval_interval: int
    eval_episodes: int
    reset_each_interval: bool
    drop_cut: bool = False
    eval_limit: int = 0


@dataclasses.dataclass(frozen=True)
class World:
    """The static half of a program; the traced half is a `Run` and the prior data.

    Where observations are one of n states and the agent takes their numbers (`DDQN.of_states`), it gets these
    from the environment.
    """

    environment: Environment
    agent: Agent
    interaction: Interaction
    coding: Coding | None = None
    """Of the prompt that answers are looked up by, where there are any."""
    texts: int = 0
    """Of the table of answers, which a seed remembers something of; for estimates."""

    def __post_init__(self) -> None:
        agent = self.agent
        of_states = getattr(type(agent), "of_states", None)  # its own, not one that a wrapper hands on
        if of_states is not None:
            agent = of_states(agent, self.environment.states)
        indexed = getattr(agent, "states", 0) > 0
        object.__setattr__(self, "agent", agent)
        object.__setattr__(self, "environment", dataclasses.replace(self.environment, indexed=indexed))

    @property
    def evaluation(self) -> Environment:
        """The environment with the limit that evaluation episodes have."""
        return self.environment.limited(self.interaction.eval_limit)

    def find(self, known: Knowledge, obs: jax.Array) -> Found:
        """Where the answers about an observation (*obs,) lie, or the number of a state, ()."""
        assert self.coding is not None, "a world without answers"
        if self.environment.indexed:
            states = jnp.eye(self.environment.states, dtype=jnp.float32)
            return find(known.answers, self.coding, jax.vmap(self.coding.digits)(states)[obs])
        return find(known.answers, self.coding, self.coding.digits(obs))

    def begin(
        self,
        key: chex.PRNGKey,
        fit_key: chex.PRNGKey,
        known: Knowledge | None = None,
        phases: tuple[Phase, ...] = (),
    ) -> Run:
        """The `Run` of a seed that has done nothing yet; `known` if there are answers, `phases` of its arm if
        one of them is overridden."""
        env, games = self.environment, getattr(self.agent, "games", 0)
        first = fold(key, Purpose.RESET)
        if games:  # side by side, each with a key of its own
            first = jax.vmap(lambda game: jax.random.fold_in(first, game))(jnp.arange(games))
        obs, game = (jax.vmap(env.reset) if games else env.reset)(first)
        zero = jnp.int32(0)
        return Run(
            key=key,
            fit_key=fit_key,
            agent=self.agent.init(fold(fit_key, Purpose.INIT), env.observation_shape, env.action_space),
            replay=replay.create(self.agent.replay_capacity, self.example, env.timed),
            game=game,
            obs=obs,
            counters=Counters(*(zero,) * len(Counters._fields)),
            diverged=jnp.int32(-1),
            guidance=() if known is None else guidance.begun(self, known, phases),
        )

    def rows(self, data: Transition) -> Transition:
        """Transitions (N, ...) as datasets hold them, in this world's form.

        The zeros that stand for an observation behind an episode's end become state 0, whose value no loss
        looks at.
        """
        if self.environment.indexed:
            data = data._replace(obs=data.obs.argmax(axis=1), next_obs=data.next_obs.argmax(axis=1))
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), data, self.example)

    @property
    def example(self) -> Transition:
        """A transition of zeros with this environment's shapes and types."""
        obs = self.environment.blank
        space = self.environment.action_space
        action = jnp.zeros(space.shape, space.dtype)
        return Transition(obs, action, jnp.float32(0), obs, jnp.bool_(False), jnp.bool_(False))


def greedy(world: World, agent: Any, among: Callable[[jax.Array], Any]) -> Callable[[jax.Array], jax.Array]:
    """The policy that an evaluation plays: observation (*obs,) -> action, (*action,)."""

    def act(obs: jax.Array) -> jax.Array:
        allowed = among(obs)
        return world.agent.act(agent, obs, *(() if allowed is None else (allowed,)))

    return act


def evaluate(
    world: World, agent: Any, key: chex.PRNGKey, among: Callable[[jax.Array], Any] = lambda _: None
) -> jax.Array:
    """Mean undiscounted return of `eval_episodes` greedy episodes, or with 0 of them what is expected, ().

    `among`: observation (*obs,) -> the actions that there are (`types.Among`), None for all.
    """
    env, act = world.evaluation, greedy(world, agent, among)
    if not world.interaction.eval_episodes:
        assert env.exact is not None, "a game that only episodes tell the returns of"
        return env.exact(act)

    def action(obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
        del key
        return act(obs)

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(world.interaction.eval_episodes))
    return jax.vmap(lambda k: rollout(env, action, k)[0])(keys).mean()
