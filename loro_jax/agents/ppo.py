"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) on discrete actions."""

# Annotations are evaluated here, so that settings show them to flags.

import dataclasses
import functools
import math
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import optax

from loro_jax.agents.base import MOST, MOST_STEPS, watched
from loro_jax.agents.on_policy import ActorCritic, OnPolicy, Rollout
from loro_jax.errors import require
from loro_jax.types import Guided, Transition


@dataclasses.dataclass(frozen=True)
class PPO(OnPolicy):
    """PPO with a clipped objective: settings, all static, and the functions of `types.Agent`."""

    epochs: int = 4
    """Times that an update goes through its steps."""
    minibatches: int = 4
    """Gradient steps of each time; divides `games` times `rollout`."""
    clip: float = 0.2
    """Epsilon: how far an action's probability may change before the objective is cut."""

    name: ClassVar[str] = "ppo"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "minibatches"):
            require(1 <= getattr(self, name) <= MOST, name, f"must lie between 1 and {MOST:,}")
        require(self.epochs * self.minibatches <= 100 * MOST_STEPS, "epochs", "times minibatches is too many")
        whole = self.games * self.rollout % self.minibatches == 0
        require(whole, "minibatches", "must divide games times rollout")
        several = self.games * self.rollout >= 2 * self.minibatches or not self.normalise_advantages
        require(several, "minibatches", "must have two steps each at least, where advantages are normalised")
        finite = math.isfinite(self.clip) and self.clip >= 0
        require(finite, "clip", "must be a finite number, not negative")

    @property
    def gradient_steps_taken(self) -> int:
        """Of one `learn`."""
        return self.epochs * self.minibatches

    @classmethod
    def within(cls, interval: int, steps: int = 200, **settings: Any) -> "PPO":
        """`OnPolicy.within`, in as many minibatches, up to 4, as a rollout divides into."""
        found = super().within(interval, steps, minibatches=1, normalise_advantages=False)
        total = found.batch_size
        minibatches = max((n for n in range(1, 5) if total % n == 0 and total >= 2 * n), default=1)
        normalise = total > 1
        return dataclasses.replace(
            found, **{"minibatches": minibatches, "normalise_advantages": normalise} | settings
        )

    def learn(
        self, state: ActorCritic, batch: Transition, key: chex.PRNGKey, guided: Guided | None = None
    ) -> tuple[ActorCritic, jax.Array]:
        """`epochs` times `minibatches` Adam steps on a rollout, and the loss of the last.

        Args:
            batch: (rollout * games, ...), as `estimated` has it.
            guided: the actions that there are, a penalty, a learning rate; what rows discount by.
        """
        rollout = self.estimated(state, batch, guided)
        optimiser = self._optimiser(guided)
        penalty = None if guided is None else guided.penalty

        def step(carry: Any, places: jax.Array) -> tuple[Any, jax.Array]:
            params, memory = carry
            part = jax.tree.map(lambda x: x[places], rollout)
            loss, gradient = jax.value_and_grad(self.loss)(params, part, penalty)
            updates, memory = optimiser.update(gradient, memory, params)
            return (optax.apply_updates(params, updates), memory), watched(loss, gradient)

        def epoch(carry: Any, number: jax.Array) -> tuple[Any, jax.Array]:
            order = jax.random.permutation(jax.random.fold_in(key, number), len(batch.reward))
            return jax.lax.scan(step, carry, order.reshape(self.minibatches, -1))

        begun = ((state.actor, state.critic), state.optimiser)
        ((actor, critic), memory), losses = jax.lax.scan(epoch, begun, jnp.arange(self.epochs))
        sound = jnp.isfinite(losses).all()
        return ActorCritic(actor, critic, memory, state.updates + 1), jnp.where(
            sound, losses[-1, -1], jnp.nan
        )

    def objective(self, taken: jax.Array, rows: Rollout, advantage: jax.Array) -> jax.Array:
        """Equation 7."""
        cut = functools.partial(clipped, epsilon=self.clip)
        return jax.vmap(cut)(taken, rows.log_prob, advantage)


def clipped(log_prob: jax.Array, before: jax.Array, advantage: jax.Array, epsilon: float) -> jax.Array:
    """min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), r the ratio of an action's probabilities now and as it
    was chosen, () each (arXiv 1707.06347, equation 7)."""
    ratio = jnp.exp(log_prob - before)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)
