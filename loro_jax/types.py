"""The suite's vocabulary. Everything else is written in these nouns.

Shapes are given for one seed of the population (one arm, one seed); the population adds a leading
axis by `jax.vmap`. A class marked *static* holds Python values that are compiled into a program; a
class marked *traced* is a pytree of arrays.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple
from typing import Protocol as Interface

import chex
import jax
import jax.numpy as jnp

from loro_jax.spaces import Space


class Transition(NamedTuple):
    """One step of an environment, or a batch of them. *Traced.*

    Attributes:
        obs: observation in which the action was taken, (*obs,).
        action: the action: an int32 () of a discrete space, a float32 (k,) of a continuous one.
        reward: reward of the step, in the environment's unit, ().
        next_obs: observation after the action, before any reset, (*obs,).
        terminated: the episode ended by the environment's rules; the only flag that stops
            bootstrapping, ().
        truncated: the episode was cut by a limit; its value goes on, ().
    """

    obs: chex.Array
    action: chex.Array
    reward: chex.Array
    next_obs: chex.Array
    terminated: chex.Array
    truncated: chex.Array


class Knowledge(NamedTuple):
    """What is there before training, the same for all seeds. *Traced.*

    Attributes:
        rows: prior data as `Load` puts it into the replay, transitions (N, ...).
        answers: what a language model says about every text (`data.answers.Table`), or None.
    """

    rows: Transition
    answers: Any = None


class Replay(NamedTuple):
    """A ring of whole transitions. *Traced.*

    Attributes:
        storage: transitions, (capacity, ...) each.
        insertions: transitions ever written since the last `Forget`, ().
        durations: of a game whose steps differ in length (`Environment.timed`), each transition's, int32
            (capacity,); else ().
    """

    storage: Transition
    insertions: jax.Array
    durations: Any = ()


class Counters(NamedTuple):
    """Honest x axes, each an int32 (). *Traced.*

    Attributes:
        env_steps: environment steps of learning online (`Interact`).
        gradient_steps: gradient steps, in every phase.
        prior_steps: environment steps spent on prior data (`Load`, `Collect`).
        llm_queries: questions that were put to a language model for them; -1 where that is not known.
        episodes: episodes begun online.
        collect_draws: keys that `Collect` has used, so that the next one uses others.
    """

    env_steps: jax.Array
    gradient_steps: jax.Array
    prior_steps: jax.Array
    llm_queries: jax.Array
    episodes: jax.Array
    collect_draws: jax.Array


class Run(NamedTuple):
    """The whole state of one seed; every phase maps a `Run` to a `Run`. *Traced.*

    Attributes:
        key: the seed's own key; draws fold it with purpose and step (`loro_jax.keys`), so it
            never changes.
        fit_key: the key of initial weights and of `Fit`; equal to `key` unless a protocol shares
            one pretraining among all seeds.
        agent: the agent's state.
        replay: the replay buffer.
        game: the environment's state.
        obs: the observation in which the next action is taken, (*obs,).
        counters: see `Counters`.
        diverged: -1 while every loss, gradient and parameter was finite; else the online environment
            steps after which one was not. From then on the agent stays as it was before, an int32 ().
        guidance: what the seed remembers of a language model's answers (`training.guidance`), () where there
            are none.
    """

    key: chex.PRNGKey
    fit_key: chex.PRNGKey
    agent: Any
    replay: Replay
    game: Any
    obs: jax.Array
    counters: Counters
    diverged: jax.Array
    guidance: Any = ()


class Among(NamedTuple):
    """Which actions of a discrete space there are to choose from, and how readily. *Traced.*

    One of `counts` and `log_weights` is given. What is None is left out of the program.

    Attributes:
        counts: how many slots each action has, int32 (..., A); an action without any is out of the question.
        log_weights: the logarithm of each action's weight, (..., A); minus infinity is out of the question.
        temperature: where given, (), an agent that explores draws actions by weight times
            exp(Q / temperature) rather than the best of them.
        soft: where given, (), a state's value is soft log sum weight exp(Q / soft), weights summing to 1,
            rather than the best action's.
    """

    counts: jax.Array | None = None
    log_weights: jax.Array | None = None
    temperature: jax.Array | None = None
    soft: jax.Array | None = None

    @property
    def logs(self) -> jax.Array:
        """Log-weights, (..., A)."""
        if self.log_weights is not None:
            return self.log_weights
        assert self.counts is not None
        return jnp.log(self.counts.astype(jnp.float32))

    @property
    def allowed(self) -> jax.Array:
        """Whether each action is one of them, bool (..., A)."""
        return self.counts > 0 if self.counts is not None else self.logs > -jnp.inf

    def within(self, legal: jax.Array) -> Among:
        """Those of them that are `legal`, bool (..., A); where none is, the legal ones, each as readily."""
        left = (self.allowed & legal).any(axis=-1, keepdims=True)
        if self.counts is not None:
            counts = jnp.where(legal, self.counts, 0)
            return self._replace(counts=jnp.where(left, counts, legal.astype(self.counts.dtype)))
        out = jnp.float32(-jnp.inf)
        logs = jnp.where(legal & left, self.logs, jnp.where(legal & ~left, 0.0, out))
        return self._replace(log_weights=logs)


class AdvisedRows(NamedTuple):
    """Rows of a rollout whose actions a tutor may have taken, and how a policy's loss sees them.

    Attributes:
        chance: with which the tutor was asked, where the action is its own, and 0 where it is not, (B,).
        enters: "mixture", "masked" or "cloned" (`training.guidance.Tutor`).
        weight: of cloning, ().
    """

    chance: jax.Array
    enters: str
    weight: Any


class Guided(NamedTuple):
    """What a gradient step on a batch of B transitions is told beside them.

    Attributes:
        now: the actions that there are in each row's state, (B, A); None for all.
        following: those in its next state.
        penalty: what is added to a row's loss: its action values (A,), the row, its `now`, and what it is
            `told`, if that is given -> ().
        learning_rate: in place of the agent's own, ().
        discounts: of rows that stand for several steps, what each discounts the value of its next state by,
            unless it terminated, (B,).
        told: what a penalty has a prior say of each row's state, (B, A); None where it asks none.
        advised: of an agent that learns from its own play, which rows' actions were another's.
    """

    now: Among | None = None
    following: Among | None = None
    penalty: Any = None
    learning_rate: jax.Array | None = None
    discounts: jax.Array | None = None
    told: Among | None = None
    advised: AdvisedRows | None = None


class Agent(Interface):
    """An agent for one game: frozen settings (*static*) and pure functions.

    Off-policy unless it says `on_policy`: such a one learns from its own play alone, all of it since it last
    learned. One with `games` plays so many side by side; one that takes several gradient steps each time that
    it learns says `gradient_steps_taken`.

    One that knows doors of `training.guidance` names them in `takes` (`agents.base.OffPolicy`). Its `learn`
    may then get `guided: Guided`, and if a support is among them `act` and `explore` an `among: Among`. One
    whose settings have a schedule, or targets of several steps (`OffPolicy`), gets the learning rate and
    discounts in `guided`, and `explore` an `epsilon`, ().
    """

    def __hash__(self) -> int:
        """Programs are keyed by it."""

    @property
    def batch_size(self) -> int:
        """Transitions per gradient step."""

    @property
    def train_frequency(self) -> int:
        """Environment steps between gradient steps."""

    @property
    def learning_starts(self) -> int:
        """Transitions that the replay must exceed before online gradient steps are taken."""

    @property
    def replay_capacity(self) -> int:
        """Transitions the replay holds."""

    @property
    def networks(self) -> int:
        """Networks that a gradient step trains, of `hidden` widths; for estimates."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the networks' hidden layers."""

    def init(self, key: chex.PRNGKey, obs_shape: tuple[int, ...], actions: Space) -> Any:
        """-> the agent's state, a pytree."""

    def act(self, state: Any, obs: jax.Array) -> jax.Array:
        """Observation (*obs,) -> the greedy action, (*action,)."""

    def policy(self, state: Any) -> Any:
        """The state with what `act` does not read left out: what a saved policy keeps."""

    def explore(self, state: Any, obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
        """Observation (*obs,) -> the action taken while training, (*action,)."""

    def learn(self, state: Any, batch: Transition, key: chex.PRNGKey) -> tuple[Any, jax.Array]:
        """A batch (B, ...) -> the state after one gradient step, and the loss, ().

        A step that makes the loss or any number of the state infinite or NaN is not taken, and ends the
        seed's training (`Run.diverged`). Where `loss_tells` is true of the agent, the loss alone is looked
        at, which costs less: it is not finite where the state would not be (`agents.base.watched`).
        """


class Phase(Interface):
    """One word of an arm's sentence: frozen data with a pure `Run -> Run` call (`training.phases`)."""

    def __call__(self, run: Run, world: Any, known: Any) -> tuple[Run, Any]: ...

    def cost(self, interval: int) -> Any:
        """What it takes of the budget (`phases.Cost`); `interval`: environment steps per evaluation."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A method: a name, a sentence of phases, and what it says about itself. *Static.*

    Attributes:
        name: the key in every result file.
        phases: the sentence; empty for a flat line.
        says: one line for tables and `--help`.
        source: where the prior data came from: "llm", "uniform", "self" or "" for none.
        agent: what learns; None for the protocol's.
    """

    name: str
    phases: tuple[Phase, ...]
    says: str
    source: str = ""
    agent: Agent | None = None
