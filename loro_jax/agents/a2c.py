"""Advantage actor-critic (Mnih et al., 2016, arXiv 1602.01783), its games in step, on discrete actions."""

# Annotations are evaluated here, so that settings show them to flags.

import dataclasses
from typing import Any, ClassVar, Literal

import chex
import jax
import optax

from loro_jax.agents.base import watched
from loro_jax.agents.on_policy import ActorCritic, OnPolicy, Rollout
from loro_jax.errors import require
from loro_jax.types import Guided, Transition


@dataclasses.dataclass(frozen=True)
class A2C(OnPolicy):
    """A2C: one step along the policy's gradient for each rollout, settings, all static, and the functions of
    `types.Agent`. PPO of one epoch and one minibatch, but for its optimiser (arXiv 2205.09123)."""

    learning_rate: float = 7e-4
    """The optimiser's learning rate."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation (arXiv 1506.02438); 1 is the returns of so many steps."""
    rollout: int = 5
    """Steps of each game between updates; times `games` it divides the evaluation interval."""
    normalise_advantages: bool = False
    """Advantages of a batch have mean 0 and standard deviation 1."""
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    """RMSProp with a decay of 0.99, as in the paper, or Adam; epsilon is 1e-5."""

    name: ClassVar[str] = "a2c"

    def __post_init__(self) -> None:
        super().__post_init__()
        several = self.batch_size > 1 or not self.normalise_advantages
        require(several, "rollout", "times games must be two at least, where advantages are normalised")

    @classmethod
    def within(cls, interval: int, steps: int = 40, **settings: Any) -> "A2C":
        return super().within(interval, steps, **settings)

    def steps(self, learning_rate: Any) -> optax.GradientTransformation:
        if self.optimiser == "rmsprop":
            return optax.rmsprop(learning_rate, decay=0.99, eps=1e-5)
        return super().steps(learning_rate)

    def learn(
        self, state: ActorCritic, batch: Transition, key: chex.PRNGKey, guided: Guided | None = None
    ) -> tuple[ActorCritic, jax.Array]:
        """One step on a rollout, and its loss.

        Args:
            batch: (rollout * games, ...), as `estimated` has it.
            guided: the actions that there are, a penalty, a learning rate; what rows discount by.
        """
        del key  # nothing is drawn
        rollout, params = self.estimated(state, batch, guided), (state.actor, state.critic)
        penalty = None if guided is None else guided.penalty
        loss, gradient = jax.value_and_grad(self.loss)(params, rollout, penalty)
        updates, memory = self._optimiser(guided).update(gradient, state.optimiser, params)
        actor, critic = optax.apply_updates(params, updates)
        return ActorCritic(actor, critic, memory, state.updates + 1), watched(loss, gradient)

    def objective(self, taken: jax.Array, rows: Rollout, advantage: jax.Array) -> jax.Array:
        """Whose gradient is A grad log pi (section 4.3), weighed by the ratio of who acted where that is not
        the policy."""
        weighed = advantage if rows.ratio is None else advantage * rows.ratio
        return taken * jax.lax.stop_gradient(weighed)
