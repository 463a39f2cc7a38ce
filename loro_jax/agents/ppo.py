"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) on discrete actions."""

# Annotations are evaluated here, so that settings show them to flags.

import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import tyro

from loro_jax.agents.base import MOST, MOST_STEPS, watched
from loro_jax.agents.networks import Tanh
from loro_jax.errors import UserError, require
from loro_jax.spaces import Discrete, Space
from loro_jax.types import Among, Guided, Transition
from loro_jax.validation import checked

NEVER = -1e9
"""The logit of an action that there is not: its probability is 0, and 0 log 0 is 0 in sums and gradients."""


class PPOState(NamedTuple):
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
    """

    batch: Transition
    among: Any
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array
    told: Any


@dataclasses.dataclass(frozen=True)
class PPO:
    """PPO with a clipped objective: settings, all static, and the functions of `types.Agent`.

    It plays `games` side by side for `rollout` steps of each, all of which are counted, learns from these
    steps, and drops them.
    """

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of the policy, and of the value."""
    learning_rate: float = 3e-4
    """Adam's learning rate."""
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
    epochs: int = 4
    """Times that an update goes through its steps."""
    minibatches: int = 4
    """Gradient steps of each time; divides `games` times `rollout`."""
    clip: float = 0.2
    """Epsilon: how far an action's probability may change before the objective is cut."""
    entropy_weight: float = 0.01
    """Of the policy's entropy in the loss."""
    value_weight: float = 0.5
    """Of the value's squared error in the loss."""
    max_gradient_norm: float = 0.5
    """Gradients of greater norm are scaled down to it; 0 for none."""
    normalise_advantages: bool = True
    """Advantages of a minibatch have mean 0 and standard deviation 1."""
    reward_scale: float = 1.0
    """What the learner multiplies rewards by."""
    normalise_observations: bool = False
    """Networks see observations divided by the task's magnitudes, where it names any."""
    magnitudes: Annotated[tuple[float, ...], tyro.conf.Suppress] = ()
    """What observations are divided by, (obs,); nothing if empty. Set by `for_game`, not by hand."""

    name: ClassVar[str] = "ppo"
    on_policy: ClassVar[bool] = True
    loss_tells: ClassVar[bool] = True
    networks: ClassVar[int] = 2
    takes: ClassVar[tuple[str, ...]] = ("support", "penalty", "prior", "learning_rate")
    of_game: ClassVar[tuple[str, ...]] = ("magnitudes",)

    def __post_init__(self) -> None:
        checked(self)
        for name in ("games", "rollout", "epochs", "minibatches"):
            require(1 <= getattr(self, name) <= MOST, name, f"must lie between 1 and {MOST:,}")
        require(self.games * self.rollout <= MOST, "rollout", f"times games must be at most {MOST:,}")
        require(self.epochs * self.minibatches <= 100 * MOST_STEPS, "epochs", "times minibatches is too many")
        whole = self.games * self.rollout % self.minibatches == 0
        require(whole, "minibatches", "must divide games times rollout")
        several = self.games * self.rollout >= 2 * self.minibatches or not self.normalise_advantages
        require(several, "minibatches", "must have two steps each at least, where advantages are normalised")
        for name in ("discount", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, "must lie in [0, 1]")
        require(0 < self.learning_rate <= 1e30, "learning_rate", "must be positive, at most 1e30")
        require(0 <= self.learning_rate_end <= 1e30, "learning_rate_end", "must lie between 0 and 1e30")
        steps = self.learning_rate_decay_steps
        require(0 <= steps < 2**31, "learning_rate_decay_steps", "must lie between 0 and 2**31 - 1")
        for name in ("clip", "entropy_weight", "value_weight", "max_gradient_norm"):
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

    @property
    def gradient_steps_taken(self) -> int:
        """Of one `learn`."""
        return self.epochs * self.minibatches

    @classmethod
    def untuned(cls) -> "PPO":
        """Settings for a game that nothing was tuned for."""
        return cls()

    @classmethod
    def within(cls, interval: int) -> "PPO":
        """Common settings, with updates every `interval` environment steps or a fraction of it."""
        games = max(n for n in range(1, 9) if interval % n == 0)
        steps = interval // games
        # Of what divides it, the nearest to 200 steps of all games between updates.
        divisors = [n for n in range(1, min(steps, MOST // games) + 1) if steps % n == 0]
        rollout = min(divisors, key=lambda n: abs(math.log(games * n / 200)))
        total = games * rollout
        minibatches = max((n for n in range(1, 5) if total % n == 0 and total >= 2 * n), default=1)
        return cls(games=games, rollout=rollout, minibatches=minibatches, normalise_advantages=total > 1)

    @classmethod
    def accepts(cls, actions: Space) -> bool:
        return isinstance(actions, Discrete)

    def for_game(self, actions: Space, magnitudes: tuple[float, ...] = ()) -> "PPO":
        """The same agent for one game; a `UserError` if it cannot choose among its actions."""
        if not self.accepts(actions):
            raise UserError(f"PPO cannot choose among {actions}; name another agent")
        return dataclasses.replace(self, magnitudes=magnitudes if self.normalise_observations else ())

    def init(self, key: chex.PRNGKey, obs_shape: tuple[int, ...], actions: Space) -> PPOState:
        assert isinstance(actions, Discrete), "PPO chooses among discrete actions"
        blank = jnp.zeros((1, *obs_shape))
        actor = Tanh(self.hidden, actions.n, 0.01, self.magnitudes).init(jax.random.fold_in(key, 0), blank)
        critic = Tanh(self.hidden, 1, 1.0, self.magnitudes).init(jax.random.fold_in(key, 1), blank)
        return PPOState(actor, critic, self._optimiser().init((actor, critic)), jnp.int32(0))

    def _optimiser(self, guided: Guided | None = None) -> optax.GradientTransformation:
        named = None if guided is None else guided.learning_rate
        adam = optax.adam(self.learning_rate if named is None else named, eps=1e-5)
        if not self.max_gradient_norm:
            return adam
        return optax.chain(optax.clip_by_global_norm(self.max_gradient_norm), adam)

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

    def act(self, state: PPOState, obs: jax.Array, among: Among | None = None) -> jax.Array:
        """The most likely action, ()."""
        return jnp.argmax(self.log_probs(state.actor, obs[None], _one(among))[0])

    def policy(self, state: PPOState) -> PPOState:
        """What `act` reads of the state, the rest left out."""
        nothing: Any = None
        return PPOState(state.actor, nothing, nothing, nothing)

    def explore(
        self, state: PPOState, obs: jax.Array, key: chex.PRNGKey, among: Among | None = None
    ) -> jax.Array:
        """An action of the policy, drawn, ()."""
        return jax.random.categorical(key, self.log_probs(state.actor, obs[None], _one(among))[0])

    def learn(
        self, state: PPOState, batch: Transition, key: chex.PRNGKey, guided: Guided | None = None
    ) -> tuple[PPOState, jax.Array]:
        """`epochs` times `minibatches` Adam steps on a rollout, and the loss of the last.

        Args:
            batch: (rollout * games, ...): all games' first step, then their second, and so on.
            guided: the actions that there are, a penalty, a learning rate; what rows discount by.
        """
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
        rollout = Rollout(batch, now, before, advantage, advantage + value, told)
        optimiser = self._optimiser(guided)
        penalty = None if guided is None else guided.penalty

        def step(carry: Any, places: jax.Array) -> tuple[Any, jax.Array]:
            params, memory = carry
            part = jax.tree.map(lambda x: x[places], rollout)
            loss, gradient = jax.value_and_grad(self.loss)(params, part, penalty)
            updates, memory = optimiser.update(gradient, memory, params)
            return (optax.apply_updates(params, updates), memory), watched(loss, gradient)

        def epoch(carry: Any, number: jax.Array) -> tuple[Any, jax.Array]:
            order = jax.random.permutation(jax.random.fold_in(key, number), len(rows))
            return jax.lax.scan(step, carry, order.reshape(self.minibatches, -1))

        begun = ((state.actor, state.critic), state.optimiser)
        ((actor, critic), memory), losses = jax.lax.scan(epoch, begun, jnp.arange(self.epochs))
        sound = jnp.isfinite(losses).all()
        return PPOState(actor, critic, memory, state.updates + 1), jnp.where(sound, losses[-1, -1], jnp.nan)

    def loss(self, params: Any, rows: Rollout, penalty: Any = None) -> jax.Array:
        """Of a minibatch (B, ...): the clipped objective (equation 7) and the value's squared error, less the
        entropy (equation 9), and the mean penalty, ()."""
        actor, critic = params
        t = rows.batch
        logs = self.log_probs(actor, t.obs, rows.among)
        advantage = rows.advantage
        if self.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        taken = jnp.take_along_axis(logs, t.action[:, None], axis=1)[:, 0]
        cut = functools.partial(clipped, epsilon=self.clip)
        objective = jax.vmap(cut)(taken, rows.log_prob, advantage)
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


def clipped(log_prob: jax.Array, before: jax.Array, advantage: jax.Array, epsilon: float) -> jax.Array:
    """min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), r the ratio of an action's probabilities now and as it
    was chosen, () each (arXiv 1707.06347, equation 7)."""
    ratio = jnp.exp(log_prob - before)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)


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
