"""What off-policy agents have in common: settings that are flags, and how they are fitted to a game."""

# Annotations are evaluated here, so that subclasses in other modules show them to documentation and flags.

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import optax
import tyro

from loro_jax.errors import UserError, require
from loro_jax.types import Guided
from loro_jax.validation import checked

if TYPE_CHECKING:
    from loro_jax.spaces import Space

MOST = 1_000_000
"""Widths and batches beyond this fit nowhere."""
MOST_STEPS = 100
"""Gradient steps at a time, and steps of a target: each is written out in the program."""

Self = TypeVar("Self", bound="OffPolicy")


@dataclasses.dataclass(frozen=True)
class OffPolicy:
    """Settings of an agent that learns from a replay. All static; each is a command-line flag."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the networks' hidden layers."""
    learning_rate: float = 5e-5
    """Adam's learning rate."""
    batch_size: int = 256
    """Transitions per gradient step."""
    discount: float = 0.99
    """Discount per environment step."""
    epsilon: float = 0.1
    """Probability that a uniform action (SAC's exploration "mode": a zero) replaces the greedy one."""
    epsilon_start: float = 1.0
    """Epsilon at the first step, where it falls (`epsilon_decay_steps`)."""
    epsilon_decay_steps: int = 0
    """Environment steps of learning online over which epsilon goes in a line from `epsilon_start` to
    `epsilon`; 0: it is constant."""
    learning_rate_end: float = 0.0
    """Learning rate at the end, where it falls (`learning_rate_decay_steps`)."""
    learning_rate_decay_steps: int = 0
    """Environment steps of learning online over which the learning rate goes in a line from `learning_rate`
    to `learning_rate_end`; 0: it is constant, as it is while nothing is learned online."""
    train_frequency: int = 1
    """Environment steps between gradient steps; divides the evaluation interval."""
    gradient_steps: int = 1
    """Gradient steps each time, while learning online."""
    n_step: int = 1
    """Steps of reward in a target before the value of the state after them; fewer where the episode, or what
    was stored in a row, ends before."""
    reward_scale: float = 1.0
    """What the learner multiplies rewards by; values, and what is said in units of them, are scaled alike."""
    layer_norm: bool = False
    """Networks normalise each hidden layer before its ReLU (Ba, Kiros and Hinton, 2016, arXiv 1607.06450)."""
    learning_starts: int = 256
    """Transitions that the replay must exceed before online gradient steps are taken."""
    replay_capacity: int = 100_000
    """Transitions the replay holds."""
    normalise_observations: bool = False
    """Networks see observations divided by the task's magnitudes, where it names any."""
    magnitudes: Annotated[tuple[float, ...], tyro.conf.Suppress] = ()
    """What observations are divided by, (obs,); nothing if empty. Set by `for_game`, not by hand."""

    name: ClassVar[str]
    loss_tells: ClassVar[bool] = False
    """Whether `learn`'s loss is infinite or NaN wherever a number of the state would be."""
    networks: ClassVar[int] = 1
    """Networks of the `hidden` widths that a gradient step trains."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Doors (`training.guidance`) that its functions know; an arm that opens others is refused."""
    of_game: ClassVar[tuple[str, ...]] = ("magnitudes",)
    """Fields that follow from the game, hence are no settings."""

    def __post_init__(self) -> None:
        checked(self)
        for name in ("batch_size", "train_frequency", "replay_capacity", "gradient_steps", "n_step"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("gradient_steps", "n_step"):
            require(getattr(self, name) <= MOST_STEPS, name, f"must be at most {MOST_STEPS}")
        for name in ("epsilon_decay_steps", "learning_rate_decay_steps"):
            require(0 <= getattr(self, name) < 2**31, name, "must lie between 0 and 2**31 - 1")
        require(self.learning_starts >= 0, "learning_starts", "must not be negative")
        room = "must be less than replay_capacity, or nothing is ever learned"
        require(self.learning_starts < self.replay_capacity, "learning_starts", room)
        require(self.batch_size <= MOST, "batch_size", f"must be at most {MOST:,}")
        for name in ("replay_capacity", "learning_starts"):
            require(getattr(self, name) < 2**31, name, "must be less than 2**31, as steps are counted")
        for name in (
            "learning_rate", "discount", "epsilon", "epsilon_start", "learning_rate_end", "reward_scale",
        ):  # fmt: skip
            require(math.isfinite(getattr(self, name)), name, "must be a finite number")
        require(0 <= self.epsilon <= 1, "epsilon", "must lie in [0, 1]")
        require(0 <= self.epsilon_start <= 1, "epsilon_start", "must lie in [0, 1]")
        require(0 <= self.learning_rate_end <= 1e30, "learning_rate_end", "must lie between 0 and 1e30")
        require(1e-30 <= self.reward_scale <= 1e30, "reward_scale", "must be positive, at most 1e30")
        require(0 <= self.discount <= 1, "discount", "must lie in [0, 1]")
        require(0 < self.learning_rate <= 1e30, "learning_rate", "must be positive, at most 1e30")
        widths = bool(self.hidden) and 0 < min(self.hidden) <= max(self.hidden) <= MOST
        require(widths, "hidden", f"must list widths from 1 to {MOST:,}")

    @classmethod
    def untuned(cls: type[Self]) -> Self:
        """Settings for a game that nothing was tuned for: small networks, a learning rate that is common."""
        return cls(hidden=(64, 64), learning_rate=1e-3, batch_size=64, learning_starts=500)

    @classmethod
    def accepts(cls, actions: "Space") -> bool:
        """Whether it can choose among these actions."""
        raise NotImplementedError

    def for_game(self: Self, actions: "Space", magnitudes: tuple[float, ...] = ()) -> Self:
        """The same agent for one game; a `UserError` if it cannot choose among its actions."""
        if not self.accepts(actions):
            raise UserError(f"{type(self).__name__} cannot choose among {actions}; name another agent")
        return dataclasses.replace(self, magnitudes=magnitudes if self.normalise_observations else ())


def schedules(agent: Any, env_steps: jax.Array, named: jax.Array | None = None) -> dict[str, jax.Array]:
    """Numbers of an agent that follow a schedule, at so many environment steps of learning online, (): its
    `epsilon`, its `learning_rate`; those that are constant are left out.

    Args:
        named: the learning rate that a phase names in place of the agent's, (): where the schedule begins.
    """
    found = {}
    if steps := getattr(agent, "epsilon_decay_steps", 0):
        found["epsilon"] = _linear(agent.epsilon_start, agent.epsilon, steps, env_steps)
    if steps := getattr(agent, "learning_rate_decay_steps", 0):
        start = agent.learning_rate if named is None else named
        found["learning_rate"] = _linear(start, agent.learning_rate_end, steps, env_steps)
    return found


def _linear(start: Any, end: float, steps: int, count: jax.Array) -> jax.Array:
    """From one number to another, and exactly there afterwards: of a product, XLA may leave a rest."""
    return jnp.where(count >= steps, end, optax.linear_schedule(start, end, steps)(count))


def adam(agent: OffPolicy, guided: Guided | None = None) -> optax.GradientTransformation:
    """The optimiser of an agent, at the learning rate that a phase names if it names one."""
    named = None if guided is None else guided.learning_rate
    return optax.adam(agent.learning_rate if named is None else named)


def scaled(agent: OffPolicy, reward: jax.Array) -> jax.Array:
    """Rewards as the learner takes them."""
    return reward if agent.reward_scale == 1 else reward * agent.reward_scale


def watched(loss: jax.Array, *gradients: Any) -> jax.Array:
    """The loss, (), or NaN where a step along these gradients must not be taken.

    While their sum of squares is finite, so is all that Adam makes of them: its moments are means of
    gradients and of their squares, and no step is longer than some learning rates (Kingma and Ba, 2015,
    section 2.1); weights that such a step takes beyond all bounds make the next loss infinite. Looking at the
    gradients, and not at what they make, lets XLA take or refuse a step in one pass.
    """
    squares = sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradients))
    return jnp.where(jnp.isfinite(squares), loss, jnp.nan)


def steps_of_update(agent: Any) -> int:
    """Gradient steps that an agent takes each time that it learns online."""
    return int(getattr(agent, "gradient_steps_taken", getattr(agent, "gradient_steps", 1)))


def settings(agent: Any) -> dict[str, Any]:
    """An agent's settings by name: its fields but for those that follow from the game."""
    return {f.name: getattr(agent, f.name) for f in dataclasses.fields(agent) if f.name not in agent.of_game}
