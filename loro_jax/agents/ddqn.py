"""Double DQN (van Hasselt, Guez and Silver, 2016, arXiv 1509.06461) with a Huber loss."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import tyro

from loro_jax.agents.base import OffPolicy, adam, scaled, watched
from loro_jax.agents.networks import Mlp, of_every_state
from loro_jax.errors import require
from loro_jax.spaces import Discrete, Space
from loro_jax.types import Among, Guided, Transition


class DDQNState(NamedTuple):
    """Parameters, target parameters, optimiser state; gradient steps since the start, ().

    Where states are enumerated, a target network that is copied stands as what it says of each, (states,
    actions).
    `target_interval` is state rather than a setting, so that a phase can change it (`Retarget`)
    within one compiled program.
    """

    params: Any
    target: Any
    optimiser: optax.OptState
    steps: jax.Array
    target_interval: jax.Array


@dataclasses.dataclass(frozen=True)
class DDQN(OffPolicy):
    """Double DQN: settings, all static, and the functions of `types.Agent`."""

    name: ClassVar[str] = "ddqn"
    loss_tells: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("support", "penalty", "learning_rate")

    target_network_frequency: int = 1000
    """Gradient steps between copies into the target network."""
    polyak: float = 1.0
    """Share of the network that its target takes over each time; 1 copies it."""
    huber_delta: float = 1.0
    """Where the loss turns from square to linear, in units of return."""
    states: Annotated[int, tyro.conf.Suppress] = 0
    """Where not 0, observations are numbers of so many states. Set by `of_states`, not by hand."""

    of_game: ClassVar[tuple[str, ...]] = ("magnitudes", "states")

    def __post_init__(self) -> None:
        super().__post_init__()
        frequency = self.target_network_frequency
        require(1 <= frequency < 2**31, "target_network_frequency", "must be at least 1, less than 2**31")
        require(1e-30 <= self.huber_delta <= 1e30, "huber_delta", "must lie between 1e-30 and 1e30")
        require(1e-30 <= self.polyak <= 1, "polyak", "must lie in (0, 1], at least 1e-30")

    @classmethod
    def untuned(cls) -> DDQN:
        return dataclasses.replace(super().untuned(), target_network_frequency=100)

    @classmethod
    def accepts(cls, actions: Space) -> bool:
        return isinstance(actions, Discrete)

    def init(self, key: chex.PRNGKey, obs_shape: tuple[int, ...], actions: Space) -> DDQNState:
        assert isinstance(actions, Discrete), "Double DQN chooses among discrete actions"
        params = self._network(actions.n).init(key, jnp.zeros((1, *obs_shape)))
        return DDQNState(
            params=params,
            target=of_every_state(params) if self._told else jax.tree.map(jnp.copy, params),
            optimiser=adam(self).init(params),
            steps=jnp.int32(0),
            target_interval=jnp.int32(self.target_network_frequency),
        )

    def of_states(self, states: int) -> DDQN:
        """The agent for observations that are the numbers of so many states, where that is less work.

        The online network then sees every state once for a batch, in the place of every row twice, and the
        target network sees them when it is copied. Otherwise, and where `states` is 0, the agent takes
        observations as they are: its `states` are 0. So does an agent of one's own that computes values, or
        learns from them, in its own way.
        """
        own = any(getattr(type(self), f) is not getattr(DDQN, f) for f in ("init", "values", "learn"))
        less = states <= self.batch_size and not self.magnitudes and not own
        return dataclasses.replace(self, states=states if less else 0)

    def _network(self, actions: int) -> Mlp:
        return Mlp(self.hidden, actions, self.magnitudes, self.layer_norm)

    @property
    def _told(self) -> bool:
        """Whether the target network stands as what it says of every state, as one that is copied may."""
        return self.states > 0 and self.polyak == 1

    def values(self, params: Any, obs: jax.Array) -> jax.Array:
        """Observations (B, *obs), or the numbers of such, int32 (B,) -> action values, (B, actions)."""
        if jnp.issubdtype(obs.dtype, jnp.integer):
            return of_every_state(params)[obs]
        outputs = params["params"][f"Dense_{len(self.hidden)}"]["bias"].shape[0]
        return self._network(outputs).apply(params, obs)  # type: ignore[return-value]

    def values_of(self, state: DDQNState, obs: jax.Array) -> jax.Array:
        """What the actions are worth in an observation (*obs,), or the number of one, (): (actions,)."""
        return self.values(state.params, obs[None])[0]

    def act(self, state: DDQNState, obs: jax.Array, among: Among | None = None) -> jax.Array:
        """The best action, ()."""
        return best(self.values(state.params, obs[None])[0], among)

    def policy(self, state: DDQNState) -> DDQNState:
        """What `act` reads of the state, the rest left out."""
        nothing: Any = None
        return DDQNState(state.params, *(nothing,) * 4)

    def explore(
        self,
        state: DDQNState,
        obs: jax.Array,
        key: chex.PRNGKey,
        among: Among | None = None,
        epsilon: jax.Array | None = None,
    ) -> jax.Array:
        """Epsilon-greedy: a uniform action, or slot, with probability `epsilon`, by default the agent's."""
        share = self.epsilon if epsilon is None else epsilon
        values = self.values(state.params, obs[None])[0]
        uniform = slot(values.shape[0], jax.random.fold_in(key, 1), among)
        random = jax.random.uniform(jax.random.fold_in(key, 0)) < share
        wanted = best(values, among)
        if among is not None and among.temperature is not None:
            logits = among.logs + values / among.temperature
            wanted = jax.random.categorical(jax.random.fold_in(key, 2), logits)
        return jnp.where(random, uniform, wanted)

    def loss(
        self,
        q: jax.Array,
        next_q: jax.Array,
        next_target: jax.Array,
        t: Transition,
        discount: jax.Array | None = None,
    ) -> jax.Array:
        """Huber loss of one transition's double Q-learning error, ().

        Args:
            q: the online network's action values in s, (actions,).
            next_q: those in s'.
            next_target: the target network's in s'.
            t: the transition, which may stand for several steps.
            discount: what they discount the value of s' by, unless the last terminated, (); by default the
                agent's discount.
        """
        error = td_error(
            q=q[t.action],
            reward=scaled(self, t.reward),
            discount=(self.discount if discount is None else discount)
            * (1.0 - t.terminated.astype(jnp.float32)),
            next_q=next_target[jnp.argmax(next_q)],
        )
        return huber(error, self.huber_delta)

    def guided_loss(
        self,
        q: jax.Array,
        next_q: jax.Array,
        next_target: jax.Array,
        t: Transition,
        among: Among | None,
        discount: jax.Array | None,
    ) -> jax.Array:
        """`loss` where in s' there are only the actions `among`, ()."""
        several = () if discount is None else (discount,)
        if among is None:
            return self.loss(q, next_q, next_target, t, *several)
        if among.soft is None:
            return self.loss(q, jnp.where(among.allowed, next_q, -jnp.inf), next_target, t, *several)
        value = soft_value(next_target, among.logs, among.soft)
        return self.loss(q, jnp.zeros_like(next_q), jnp.full_like(next_target, value), t, *several)

    def learn(
        self, state: DDQNState, batch: Transition, key: chex.PRNGKey, guided: Guided | None = None
    ) -> tuple[DDQNState, jax.Array]:
        """One Adam step on the mean loss of `batch` (B, ...), penalties added; the key is not used.

        The target network is copied, or moved by `polyak`, after gradient steps 0, i, 2i, ..., i the target
        interval, counted from 0, which is d3rlpy's order (`dqn_impl.py`, `inner_update`).
        """
        del key

        def mean_loss(params: Any) -> jax.Array:
            q, next_q = self.values(params, batch.obs), self.values(params, batch.next_obs)
            told = state.target[batch.next_obs] if self._told else self.values(state.target, batch.next_obs)
            if guided is None:
                return jax.vmap(self.loss)(q, next_q, told, batch).mean()
            losses = jax.vmap(self.guided_loss)(q, next_q, told, batch, guided.following, guided.discounts)
            if guided.penalty is not None:
                losses += jax.vmap(guided.penalty)(q, batch, guided.now)
            return losses.mean()

        loss, gradient = jax.value_and_grad(mean_loss)(state.params)
        updates, optimiser = adam(self, guided).update(gradient, state.optimiser)
        params = optax.apply_updates(state.params, updates)
        copy = state.steps % state.target_interval == 0
        if self._told:
            target = told_of_every_state(copy, params, state.target)
        else:
            moved = (
                params if self.polyak == 1 else optax.incremental_update(params, state.target, self.polyak)
            )
            target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), moved, state.target)
        learned = DDQNState(params, target, optimiser, state.steps + 1, state.target_interval)
        return learned, watched(loss, gradient)


@jax.custom_batching.custom_vmap
def told_of_every_state(due: jax.Array, params: Any, told: jax.Array) -> jax.Array:
    """What the network says of every state, (states, actions), where `due`, (); else what it `told`."""
    return jnp.where(due, of_every_state(params), told)


@told_of_every_state.def_vmap
def _(seeds: int, batched: Any, *given: Any) -> tuple[jax.Array, bool]:
    """A branch, which all seeds side by side take if it is due for one: `vmap` alone asks at every step."""

    def each(x: jax.Array, has: bool) -> jax.Array:
        return x if has else jnp.broadcast_to(x, (seeds, *x.shape))

    due, params, told = jax.tree.map(each, given, tuple(batched))

    def ask() -> jax.Array:
        return jnp.where(due[:, None, None], jax.vmap(of_every_state)(params), told)

    return jax.lax.cond(due.any(), ask, lambda: told), True


def best(values: jax.Array, among: Among | None) -> jax.Array:
    """The action of the greatest value (A,) among those that there are; where values are soft, of the
    greatest weight times exp(Q / soft), ()."""
    if among is None:
        return jnp.argmax(values)
    if among.soft is not None:
        return jnp.argmax(values + among.soft * among.logs)
    return jnp.argmax(jnp.where(among.allowed, values, -jnp.inf))


def slot(actions: int, key: chex.PRNGKey, among: Among | None) -> jax.Array:
    """The action of a uniform slot, (); of a uniform action where all have one slot each."""
    if among is not None and among.counts is not None:
        ends = jnp.cumsum(among.counts)
        drawn = jax.random.randint(key, (), 0, ends[-1])
        return jnp.searchsorted(ends, drawn, side="right").astype(drawn.dtype)
    if among is not None:
        return jax.random.categorical(key, among.logs)
    return jax.random.randint(key, (), 0, actions)


def soft_value(values: jax.Array, logs: jax.Array, soft: jax.Array) -> jax.Array:
    """soft log sum_a p(a) exp(Q(a) / soft), p in proportion to exp(`logs`); (A,), (A,), () -> ().

    LINVIT's value under a KL penalty towards p (arXiv 2402.16181); as `soft` falls to 0, the best value.
    """
    return soft * (jax.nn.logsumexp(logs + values / soft) - jax.nn.logsumexp(logs))


FLAT = 100.0
"""The widest Huber loss whose gradient optax computes closely enough."""


def huber(error: jax.Array, delta: float) -> jax.Array:
    """Huber's loss (1964), square up to `delta` and linear beyond, of an error, ().

    optax's gradient is (error - delta) + delta, of which float32 keeps nothing where `delta` is large: 1e7
    would learn nothing from errors below a half. Up to `FLAT` it loses less than 4e-6 of an error of one.
    """
    if delta <= FLAT:
        return optax.losses.huber_loss(error, delta=delta)
    size = jnp.abs(error)
    # What is not chosen must be finite, or its gradient is NaN.
    return jnp.where(size <= delta, 0.5 * jnp.minimum(size, delta) ** 2, delta * (size - 0.5 * delta))


def td_error(q: jax.Array, reward: jax.Array, discount: jax.Array, next_q: jax.Array) -> jax.Array:
    """Double Q-learning's error for one transition, equation 4 of arXiv 1509.06461, all ().

    Args:
        q: Q(s, a) of the online network.
        reward: in the environment's unit.
        discount: 0 where the step terminated the episode; a truncated step still bootstraps.
        next_q: the target network's value of the action that the online network prefers in s'.
    """
    chex.assert_rank([q, reward, discount, next_q], 0)
    return jax.lax.stop_gradient(reward + discount * next_q) - q
