"""What agents that learn from their own play alone have in common: policy, value, rollouts."""

# Annotations are evaluated here, so that settings show them to flags.

import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
import tyro

from loro_jax.agents.base import MOST
from loro_jax.agents.networks import Tanh
from loro_jax.errors import UserError, require
from loro_jax.spaces import Discrete, Space
from loro_jax.types import AdvisedRows, Among, Guided, Transition
from loro_jax.validation import checked

NEVER = -1e9
"""The logit of an action that there is not: its probability is 0, and 0 log 0 is 0 in sums and gradients."""

Self = TypeVar("Self", bound="OnPolicy")


class ActorCritic(NamedTuple):
    """Parameters of policy and value, the optimiser's state, and updates so far, ()."""

    actor: Any
    critic: Any
    optimiser: optax.OptState
    updates: jax.Array


class Rollout(NamedTuple):
    """What an update learns from: rows (B, ...), and for each, (B,), what is known before the first step.

    Attributes:
        batch: the transitions.
        among: the actions that there were, or None for all.
        log_prob: of the actions, as they were chosen.
        advantage: not yet normalised.
        target: of the value.
        told: what a penalty reads of a prior, or None.
        own: whether the policy's objective counts the row, bool, or None for all.
        cloned: weight of the action's log-probability beside it, or None.
        ratio: of the action's probabilities by the policy and by who took it, or None where they are alike.
    """

    batch: Transition
    among: Any
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    told: Any
    own: Any = None
    cloned: Any = None
    ratio: Any = None


@dataclasses.dataclass(frozen=True)
class OnPolicy:
    """Settings of an agent with a policy and a value, all static, and what it does with them.

    It plays `games` side by side for `rollout` steps of each, all of which are counted, learns from these
    steps, and drops them.
    """

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the policy, and of the value."""
    learning_rate: float = 3e-4
    """The optimiser's learning rate."""
    learning_rate_end: float = 0.0
    """Learning rate at the end, where it falls (`learning_rate_decay_steps`)."""
    learning_rate_decay_steps: int = 0
    """Environment steps over which the learning rate goes in a line from `learning_rate` to
    `learning_rate_end`; 0: it is constant."""
    discount: float = 0.99
    """Discount per environment step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation (arXiv 1506.02438)."""
    games: int = 8
    """Games that a seed plays side by side; every step of each counts."""
    rollout: int = 25
    """Steps of each game between updates; times `games` it divides the evaluation interval."""
    entropy_weight: float = 0.01
    """Of the policy's entropy in the loss."""
    value_weight: float = 0.5
    """Of the value's squared error in the loss."""
    max_gradient_norm: float = 0.5
    """Gradients of greater norm are scaled down to it; 0 for none."""
    normalise_advantages: bool = True
    """Advantages of a batch have mean 0 and standard deviation 1."""
    reward_scale: float = 1.0
    """What the learner multiplies rewards by."""
    normalise_observations: bool = False
    """Networks see observations divided by the task's magnitudes, where it names any."""
    magnitudes: Annotated[tuple[float, ...], tyro.conf.Suppress] = ()
    """What observations are divided by, (obs,); nothing if empty. Set by `for_game`, not by hand."""

    name: ClassVar[str]
    on_policy: ClassVar[bool] = True
    loss_tells: ClassVar[bool] = True
    networks: ClassVar[int] = 2
    takes: ClassVar[tuple[str, ...]] = ("support", "penalty", "prior", "learning_rate")
    of_game: ClassVar[tuple[str, ...]] = ("magnitudes",)

    def __post_init__(self) -> None:
        checked(self)
        for name in ("games", "rollout"):
            require(1 <= getattr(self, name) <= MOST, name, f"must lie between 1 and {MOST:,}")
        require(self.games * self.rollout <= MOST, "rollout", f"times games must be at most {MOST:,}")
        for name in ("discount", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, "must lie in [0, 1]")
        require(0 < self.learning_rate <= 1e30, "learning_rate", "must be positive, at most 1e30")
        require(0 <= self.learning_rate_end <= 1e30, "learning_rate_end", "must lie between 0 and 1e30")
        steps = self.learning_rate_decay_steps
        require(0 <= steps < 2**31, "learning_rate_decay_steps", "must lie between 0 and 2**31 - 1")
        for name in ("entropy_weight", "value_weight", "max_gradient_norm"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, "must be a finite number, not negative")
        require(1e-30 <= self.reward_scale <= 1e30, "reward_scale", "must be positive, at most 1e30")
        widths = bool(self.hidden) and 0 < min(self.hidden) <= max(self.hidden) <= MOST
        require(widths, "hidden", f"must list widths from 1 to {MOST:,}")

    @property
    def replay_capacity(self) -> int:
        """Transitions of a rollout, all of which an update learns from."""
        return self.games * self.rollout

    @property
    def train_frequency(self) -> int:
        return self.replay_capacity

    @property
    def batch_size(self) -> int:
        return self.replay_capacity

    @property
    def learning_starts(self) -> int:
        return self.replay_capacity - 1

    @classmethod
    def untuned(cls: type[Self]) -> Self:
        """Settings for a game that nothing was tuned for."""
        return cls()

    @classmethod
    def within(cls: type[Self], interval: int, steps: int = 200, **settings: Any) -> Self:
        """Common settings, with updates every `interval` environment steps or a fraction of it, as near to
        `steps` of all games as there are divisors; one game in the place of 8 where they do not divide it."""
        games = max(n for n in range(1, 9) if interval % n == 0)
        each = interval // games
        divisors = [n for n in range(1, min(each, MOST // games) + 1) if each % n == 0]
        rollout = min(divisors, key=lambda n: abs(math.log(games * n / steps)))
        return cls(games=games, rollout=rollout, **settings)

    @classmethod
    def accepts(cls, actions: Space) -> bool:
        return isinstance(actions, Discrete)

    def for_game(self: Self, actions: Space, magnitudes: tuple[float, ...] = ()) -> Self:
        """The same agent for one game; a `UserError` if it cannot choose among its actions."""
        if not self.accepts(actions):
            raise UserError(f"{type(self).__name__} cannot choose among {actions}; name another agent")
        return dataclasses.replace(self, magnitudes=magnitudes if self.normalise_observations else ())

    def init(self, key: chex.PRNGKey, obs_shape: tuple[int, ...], actions: Space) -> ActorCritic:
        assert isinstance(actions, Discrete), "it chooses among discrete actions"
        blank = jnp.zeros((1, *obs_shape))
        actor = Tanh(self.hidden, actions.n, 0.01, self.magnitudes).init(jax.random.fold_in(key, 0), blank)
        critic = Tanh(self.hidden, 1, 1.0, self.magnitudes).init(jax.random.fold_in(key, 1), blank)
        return ActorCritic(actor, critic, self._optimiser().init((actor, critic)), jnp.int32(0))

    def steps(self, learning_rate: Any) -> optax.GradientTransformation:
        """What makes steps of gradients: Adam, its epsilon as in the implementations that are compared."""
        return optax.adam(learning_rate, eps=1e-5)

    def _optimiser(self, guided: Guided | None = None) -> optax.GradientTransformation:
        named = None if guided is None else guided.learning_rate
        steps = self.steps(self.learning_rate if named is None else named)
        if not self.max_gradient_norm:
            return steps
        return optax.chain(optax.clip_by_global_norm(self.max_gradient_norm), steps)

    def log_probs(self, actor: Any, obs: jax.Array, among: Among | None = None) -> jax.Array:
        """Observations (B, *obs) -> log-probabilities of the actions, (B, A); near `NEVER` of those that
        there are not."""
        outputs = actor["params"][f"Dense_{len(self.hidden)}"]["bias"].shape[0]
        logits: jax.Array = Tanh(self.hidden, outputs, 0.01, self.magnitudes).apply(actor, obs)  # type: ignore
        if among is not None:
            logits = jnp.where(among.allowed, logits + jnp.where(among.allowed, among.logs, 0.0), NEVER)
        return jax.nn.log_softmax(logits)

    def values(self, critic: Any, obs: jax.Array) -> jax.Array:
        """Observations (B, *obs) -> their values, (B,)."""
        return Tanh(self.hidden, 1, 1.0, self.magnitudes).apply(critic, obs)[:, 0]  # type: ignore

    def act(self, state: ActorCritic, obs: jax.Array, among: Among | None = None) -> jax.Array:
        """The most likely action, ()."""
        return jnp.argmax(self.log_probs(state.actor, obs[None], _one(among))[0])

    def policy(self, state: ActorCritic) -> ActorCritic:
        """What `act` reads of the state, the rest left out."""
        nothing: Any = None
        return ActorCritic(state.actor, nothing, nothing, nothing)

    def explore(
        self, state: ActorCritic, obs: jax.Array, key: chex.PRNGKey, among: Among | None = None
    ) -> jax.Array:
        """An action of the policy, drawn, ()."""
        return jax.random.categorical(key, self.log_probs(state.actor, obs[None], _one(among))[0])

    def estimated(self, state: ActorCritic, batch: Transition, guided: Guided | None) -> Rollout:
        """A rollout (rollout * games, ...), all games' first step, then their second, and so on, with its
        advantages and the values' targets."""
        now = None if guided is None else guided.now
        rows = jnp.arange(len(batch.reward))
        value, after = (self.values(state.critic, obs) for obs in (batch.obs, batch.next_obs))
        each = None if guided is None else guided.discounts
        discounts = jnp.full_like(value, self.discount) if each is None else each
        reward = batch.reward if self.reward_scale == 1 else batch.reward * self.reward_scale
        by_game = jax.tree.map(
            lambda x: x.reshape(self.rollout, self.games),
            (reward, discounts, value, after, batch.terminated, batch.truncated),
        )
        of_game = functools.partial(advantages, gae_lambda=self.gae_lambda)
        advantage = jax.vmap(of_game, in_axes=1, out_axes=1)(*by_game).reshape(-1)
        told = None if guided is None else guided.told
        before = self.log_probs(state.actor, batch.obs, now)[rows, batch.action]
        found = Rollout(batch, now, before, advantage, advantage + value, told)
        advised = None if guided is None else guided.advised
        return found if advised is None else _entered(found, advised)

    def objective(self, taken: jax.Array, rows: Rollout, advantage: jax.Array) -> jax.Array:
        """What is made great of each row, by its action's log-probability now, (B,) each."""
        raise NotImplementedError

    def loss(self, params: Any, rows: Rollout, penalty: Any = None) -> jax.Array:
        """Of rows (B, ...): the objective's negative and the value's squared error, less the entropy, and the
        mean penalty, ()."""
        actor, critic = params
        t = rows.batch
        logs = self.log_probs(actor, t.obs, rows.among)
        advantage = rows.advantage
        if self.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        taken = jnp.take_along_axis(logs, t.action[:, None], axis=1)[:, 0]
        objective = self.objective(taken, rows, advantage)
        if rows.own is not None:
            objective = jnp.where(rows.own, objective, 0.0)
        if rows.cloned is not None:
            objective += rows.cloned * taken
        error = self.values(critic, t.obs) - rows.target
        entropy = -(jnp.exp(logs) * logs).sum(axis=1)
        loss = (-objective + self.value_weight * error**2 - self.entropy_weight * entropy).mean()
        if penalty is not None:
            told = () if rows.told is None else (rows.told,)  # of a penalty without a prior, nothing
            loss += jax.vmap(penalty)(logs, t, rows.among, *told).mean()
        return loss


def _one(among: Among | None) -> Among | None:
    """The actions that there are in one observation, as a batch of one."""
    if among is None:
        return None
    counts, logs = (None if x is None else x[None] for x in (among.counts, among.log_weights))
    return among._replace(counts=counts, log_weights=logs)


def _entered(rows: Rollout, advised: AdvisedRows) -> Rollout:
    """A rollout as a policy's loss sees it, some of whose actions were a tutor's (`Tutor.enters`)."""
    chance, told = advised.chance, advised.chance > 0
    if advised.enters == "mixture":
        both = jnp.log((1.0 - chance) * jnp.exp(rows.log_prob) + chance)
        before = jnp.where(told, both, rows.log_prob)
        return rows._replace(log_prob=before, ratio=jnp.exp(rows.log_prob - before))
    weight = jnp.asarray(advised.weight, jnp.float32)
    cloned = jnp.where(told, weight, 0.0) if advised.enters == "cloned" else None
    return rows._replace(own=~told, cloned=cloned)


def advantages(
    reward: jax.Array,
    discount: jax.Array,
    value: jax.Array,
    after: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gae_lambda: float,
) -> jax.Array:
    """Generalised advantage estimates of T steps of one game, in their order, (T,) (arXiv 1506.02438,
    equation 16).

    A step that terminates has no value after it; one that is truncated has that of the state that it led to,
    `after`, and neither takes anything from the steps of the next episode.

    Args:
        discount: of the value of the state after each step.
        value: of the state before each step.
        after: of the state after it, before any reset.
    """
    going = 1.0 - terminated.astype(jnp.float32)
    error = reward + discount * going * after - value
    carried = discount * gae_lambda * (1.0 - (terminated | truncated).astype(jnp.float32))

    def back(later: jax.Array, x: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error, carried = x
        now = error + carried * later
        return now, now

    return jax.lax.scan(back, jnp.float32(0), (error, carried), reverse=True)[1]
