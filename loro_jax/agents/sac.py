"""Soft Actor-Critic with a learned temperature (Haarnoja et al., 2018, arXiv 1812.05905)."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import tyro

from loro_jax.agents.base import OffPolicy, adam, scaled, watched
from loro_jax.agents.networks import Mlp
from loro_jax.errors import UserError, require
from loro_jax.spaces import Box, Space
from loro_jax.types import Guided, Transition

LOG_STD = (-20.0, 2.0)  # bounds of the policy's log standard deviation (d3rlpy, `NormalPolicy`)


class SACState(NamedTuple):
    """Parameters and optimiser states; critics and targets have a leading axis of two. *Traced.*"""

    actor: Any
    critics: Any
    targets: Any
    log_temperature: jax.Array
    actor_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    temperature_optimiser: optax.OptState


@dataclasses.dataclass(frozen=True)
class SAC(OffPolicy):
    """Soft Actor-Critic: settings, all static, and the functions of `types.Agent`.

    The policy draws from a Gaussian squashed by tanh into (-1, 1)^k, the *inner* range, in which critics
    see actions too. The replay holds actions as the environment took them. One learning rate serves actor,
    critics and temperature.
    """

    name: ClassVar[str] = "sac"
    loss_tells: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("penalty", "learning_rate")
    networks: ClassVar[int] = 3
    of_game: ClassVar[tuple[str, ...]] = ("magnitudes", "actions")

    learning_rate: float = 3e-4
    """Adam's learning rate."""
    polyak: float = 0.005
    """Share of the critics that their targets take over at each gradient step."""
    initial_temperature: float = 1.0
    """Weight of the policy's entropy before it is learned."""
    exploration: Literal["policy", "mode"] = "policy"
    """Departure 6: "mode" never samples the policy while training, and replaces its mode with probability
    epsilon by zero."""
    action_range: Literal["environment", "unit"] = "environment"
    """Departure 6: "environment" stretches the inner range over the action space; "unit" passes it as it is,
    cut where the space is narrower, and shows critics prior actions as they are, also beyond 1 (d3rlpy
    without an action scaler)."""
    actions: Annotated[Box, tyro.conf.Suppress] = dataclasses.field(default=Box((), ()))
    """The game's actions. Set by `for_game`, not by hand."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("polyak", "initial_temperature"):
            require(math.isfinite(getattr(self, name)), name, "must be a finite number")
        require(1e-30 <= self.polyak <= 1, "polyak", "must lie in (0, 1], at least 1e-30")
        temperature = 1e-30 <= self.initial_temperature <= 1e30
        require(temperature, "initial_temperature", "must lie between 1e-30 and 1e30")

    @classmethod
    def accepts(cls, actions: Space) -> bool:
        return isinstance(actions, Box)

    def for_game(self, actions: Space, magnitudes: tuple[float, ...] = ()) -> SAC:
        fitted = super().for_game(actions, magnitudes)
        assert isinstance(actions, Box)
        return dataclasses.replace(fitted, actions=actions)

    def init(self, key: chex.PRNGKey, obs_shape: tuple[int, ...], actions: Space) -> SACState:
        assert actions == self.actions, "SAC is made for one action space"
        size, k = math.prod(obs_shape), self.actions.shape[0]
        actor = self._actor.init(jax.random.fold_in(key, 0), jnp.zeros((1, size)))
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(1, 3))
        critics = jax.vmap(lambda k_: self._critic.init(k_, jnp.zeros((1, size + k))))(keys)
        log_temperature = jnp.log(jnp.float32(self.initial_temperature))
        optimiser = adam(self)
        return SACState(
            actor=actor,
            critics=critics,
            targets=jax.tree.map(jnp.copy, critics),
            log_temperature=log_temperature,
            actor_optimiser=optimiser.init(actor),
            critic_optimiser=optimiser.init(critics),
            temperature_optimiser=optimiser.init(log_temperature),
        )

    @property
    def _actor(self) -> Mlp:
        return Mlp(self.hidden, 2 * self.actions.shape[0], self.magnitudes, self.layer_norm)

    @property
    def _critic(self) -> Mlp:
        ones = (1.0,) * self.actions.shape[0]
        return Mlp(self.hidden, 1, (*self.magnitudes, *ones) if self.magnitudes else (), self.layer_norm)

    def act(self, state: SACState, obs: jax.Array) -> jax.Array:
        """The policy's mode, (k,); NaN where the mean before the squashing is not finite.

        Of infinities of both signs XLA's sums on a CPU may make one of them, of which tanh makes a number.
        """
        mean = self.gaussian(state.actor, obs[None])[0][0]
        return jnp.where(jnp.isfinite(mean), self.unscale_action(jnp.tanh(mean)), jnp.nan)

    def policy(self, state: SACState) -> SACState:
        """What `act` reads of the state, the rest left out."""
        nothing: Any = None
        return SACState(state.actor, *(nothing,) * 6)

    def explore(
        self, state: SACState, obs: jax.Array, key: chex.PRNGKey, epsilon: jax.Array | None = None
    ) -> jax.Array:
        """A draw from the policy, or with exploration "mode" its mode, at times replaced by zero; (k,)."""
        if self.exploration == "policy":
            noise = jax.random.normal(key, self.actions.shape)
            return self.unscale_action(self.sample(state.actor, obs[None], noise[None])[0][0])
        share = self.epsilon if epsilon is None else epsilon
        zero = jax.random.uniform(jax.random.fold_in(key, 0)) < share
        return jnp.where(zero, 0.0, self.act(state, obs))

    def gaussian(self, actor: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Observations (B, *obs) -> mean and log standard deviation before the squashing, (B, k) each."""
        mean, log_std = jnp.split(self._actor.apply(actor, obs), 2, axis=1)  # type: ignore[arg-type]
        return mean, jnp.clip(log_std, *LOG_STD)

    def sample(self, actor: Any, obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Reparameterised draws: noise (B, k) -> inner actions (B, k), and log-densities there, (B,)."""
        mean, log_std = self.gaussian(actor, obs)
        raw = mean + jnp.exp(log_std) * noise
        return jnp.tanh(raw), jax.vmap(squashed_log_prob)(raw, mean, log_std)

    def q(self, critics: Any, obs: jax.Array, inner: jax.Array) -> jax.Array:
        """Both critics' values of inner actions (B, k) in observations (B, *obs), (2, B)."""
        x = jnp.concatenate([obs.reshape(len(obs), -1), inner], axis=1)

        def values(critic: Any, x: jax.Array) -> Any:
            return self._critic.apply(critic, x)[:, 0]  # type: ignore[call-overload, index]

        return jax.vmap(values)(critics, jnp.stack([x, x]))  # sharing one x, XLA would transpose and copy

    def unscale_action(self, inner: jax.Array) -> jax.Array:
        """Inner actions (..., k) as the environment takes them."""
        low, high = jnp.asarray(self.actions.low, jnp.float32), jnp.asarray(self.actions.high, jnp.float32)
        if self.action_range == "unit":
            return jnp.clip(inner, low, high)
        return low + (inner + 1.0) * 0.5 * (high - low)

    def scale_action(self, action: jax.Array) -> jax.Array:
        """Actions of the environment (..., k) as the critics see them."""
        if self.action_range == "unit":
            return action
        low, high = jnp.asarray(self.actions.low, jnp.float32), jnp.asarray(self.actions.high, jnp.float32)
        return jnp.clip(2.0 * (action - low) / (high - low) - 1.0, -1.0, 1.0)

    def critic_loss(
        self,
        critics: Any,
        state: SACState,
        batch: Transition,
        noise: jax.Array,
        discounts: jax.Array | None = None,
    ) -> jax.Array:
        """Squared errors of both critics, summed, in the mean over a batch (B, ...), (); equations 5 and 6.

        `noise` (B, k) draws the next actions; `discounts` (B,) are of rows that stand for several steps, of
        which the entropy of the last state's action alone is counted. The sum has no factor 1/2 (d3rlpy,
        `compute_critic_loss`).
        """
        action, log_prob = self.sample(state.actor, batch.next_obs, noise)
        discounts = jnp.float32(self.discount) if discounts is None else discounts
        target = jax.vmap(soft_target, (0, 0, 1, 0, None))(
            scaled(self, batch.reward),
            (self.discount if discounts is None else discounts)
            * (1.0 - batch.terminated.astype(jnp.float32)),
            self.q(state.targets, batch.next_obs, action),
            log_prob,
            jnp.exp(state.log_temperature),
        )
        values = self.q(critics, batch.obs, self.scale_action(batch.action))
        return jnp.square(values - jax.lax.stop_gradient(target)).sum(axis=0).mean()

    def penalised(
        self, penalty: Any, critics: Any, actor: Any, batch: Transition, key: chex.PRNGKey
    ) -> jax.Array:
        """What a penalty adds to the loss of both critics, summed, in the mean over a batch (B, ...), ().

        It is told values of actions drawn in s, less their log-densities: as many of the policy in s, of the
        policy in s', and uniform ones (Kumar et al., 2020, arXiv 2006.04779, appendix F). As d3rlpy does
        (`cql_impl.py`, `_compute_conservative_loss`).
        """
        if not hasattr(penalty, "drawn"):
            raise UserError(f"{type(penalty).__name__} says nothing of continuous actions: it has no `drawn`")
        rows, dimensions = batch.reward.shape[0], self.actions.shape[0]
        shape = (penalty.samples, rows, dimensions)

        def values(inner: jax.Array) -> jax.Array:
            return jax.vmap(lambda actions: self.q(critics, batch.obs, actions))(inner)  # (samples, 2, B)

        def of_policy(obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
            noise = jax.random.normal(key, shape)
            inner, log_probs = jax.vmap(lambda noise: self.sample(actor, obs, noise))(noise)
            return values(inner) - log_probs[:, None]

        uniform = jax.random.uniform(jax.random.fold_in(key, 2), shape, minval=-1.0, maxval=1.0)
        drawn = jnp.concatenate([
            of_policy(batch.obs, jax.random.fold_in(key, 0)),
            of_policy(batch.next_obs, jax.random.fold_in(key, 1)),
            values(uniform) + dimensions * math.log(2.0),
        ])  # fmt: skip
        own = self.q(critics, batch.obs, self.scale_action(batch.action))
        return jax.vmap(jax.vmap(penalty.drawn, (1, 0)), (1, 0))(drawn, own).sum(axis=0).mean()

    def actor_loss(
        self, actor: Any, critics: Any, temperature: jax.Array, obs: jax.Array, noise: jax.Array
    ) -> jax.Array:
        """Temperature times log-density, less the smaller value, in the mean over observations (B, *obs), ();
        equation 9."""
        action, log_prob = self.sample(actor, obs, noise)
        return (temperature * log_prob - self.q(critics, obs, action).min(axis=0)).mean()

    def learn(
        self, state: SACState, batch: Transition, key: chex.PRNGKey, guided: Guided | None = None
    ) -> tuple[SACState, jax.Array]:
        """One Adam step each on critics, temperature and actor, then on the targets.

        That is d3rlpy's order (`ddpg_impl.py`, `inner_update`; `sac_impl.py`, `compute_actor_loss`): the
        actor's step uses the new critics and the new temperature, whose step used the actor as it was.

        Returns:
            The new state, and the critics' mean loss, ().
        """
        shape = (batch.reward.shape[0], *self.actions.shape)
        next_noise, noise = (jax.random.normal(jax.random.fold_in(key, i), shape) for i in range(2))
        optimiser = adam(self, guided)

        def mean_loss(critics: Any) -> jax.Array:
            discounts = None if guided is None else guided.discounts
            loss = self.critic_loss(critics, state, batch, next_noise, discounts)
            if guided is None or guided.penalty is None:
                return loss
            return loss + self.penalised(
                guided.penalty, critics, state.actor, batch, jax.random.fold_in(key, 2)
            )

        loss, critic_gradient = jax.value_and_grad(mean_loss)(state.critics)
        updates, critic_optimiser = optimiser.update(critic_gradient, state.critic_optimiser)
        critics = optax.apply_updates(state.critics, updates)

        _, log_probs = self.sample(state.actor, batch.obs, noise)
        gradient = jax.grad(temperature_loss)(state.log_temperature, log_probs, -float(shape[1]))
        updates, temperature_optimiser = optimiser.update(gradient, state.temperature_optimiser)
        log_temperature = optax.apply_updates(state.log_temperature, updates)
        temperature = jnp.exp(log_temperature)

        actor_gradient = jax.grad(self.actor_loss)(state.actor, critics, temperature, batch.obs, noise)
        updates, actor_optimiser = optimiser.update(actor_gradient, state.actor_optimiser)
        targets = optax.incremental_update(critics, state.targets, self.polyak)
        return SACState(
            optax.apply_updates(state.actor, updates), critics, targets, log_temperature,
            actor_optimiser, critic_optimiser, temperature_optimiser,
        ), watched(loss, critic_gradient, gradient, actor_gradient)  # fmt: skip


def squashed_log_prob(raw: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Log-density at tanh(raw) of a Gaussian squashed by tanh, all (k,) -> (); appendix C.

    log(1 - tanh(x)^2) is written as 2 (log 2 - x - softplus(-2 x)), which does not underflow.
    """
    chex.assert_equal_shape([raw, mean, log_std])
    gaussian = -0.5 * jnp.square((raw - mean) / jnp.exp(log_std)) - log_std - 0.5 * math.log(2 * math.pi)
    jacobian = 2.0 * (math.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))
    return (gaussian - jacobian).sum()


def soft_target(
    reward: jax.Array, discount: jax.Array, next_q: jax.Array, log_prob: jax.Array, temperature: jax.Array
) -> jax.Array:
    """What the critics learn for one transition, (); equations 2 and 3 with the smaller of two targets.

    Args:
        reward: in the environment's unit, ().
        discount: 0 where the step terminated the episode; a truncated step still bootstraps, ().
        next_q: the target critics' values of an action drawn in s', (2,).
        log_prob: that action's log-density, ().
        temperature: weight of the entropy, ().
    """
    chex.assert_rank([reward, discount, next_q, log_prob, temperature], [0, 0, 1, 0, 0])
    return reward + discount * (next_q.min() - temperature * log_prob)


def temperature_loss(log_temperature: jax.Array, log_probs: jax.Array, target_entropy: float) -> jax.Array:
    """Mean of -temperature (log-density + target entropy) over a batch (B,), (); equation 18."""
    return -(jnp.exp(log_temperature) * jax.lax.stop_gradient(log_probs + target_entropy)).mean()
