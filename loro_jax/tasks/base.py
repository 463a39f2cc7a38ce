"""What the suite needs of a game, and all that is known of one.

An `Environment` is the rules alone: reset and step without auto-reset, with the two ends kept apart. A `Task`
is one object for everything else too: words, prompts, a reference policy, protocols.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pathlib
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import agents, protocols, validation
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.spaces import Box, Discrete, Space
from loro_jax.tasks.words import Description

NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Environment:
    """A gymnax game with its parameters.

    Attributes:
        game: a `gymnax.environments.environment.Environment`, or what else has its `reset_env`, `step_env`,
            `is_truncated`, `observation_space` and `action_space` (`tasks.rules.Rules`).
        params: the game's parameters; `max_steps_in_episode` is the time limit.
        name: the task's, for messages.
        threshold: the return at which the field calls the task solved, in the reward's unit; None where it
            names none.
        best: the best known return; None where none is known.
        best_unlimited: the best known return of an episode that the limit does not cut; None where that is
            `best`.
        magnitudes: typical sizes of an observation's entries, for networks that want them near one, (obs,);
            empty where they are.
        states: number of observations where they are whole numbers, given one-hot, (states,); else 0.
        indexed: whether such observations are given as the numbers that they are, int32 ().
        legal: of discrete actions, which there are: observation (*obs,) -> a mask, bool (actions,), at least
            one of them true; None for all. A function of JAX, of what the observation tells.
        exact: a policy, observation (*obs,) -> action, as a function of JAX -> its expected undiscounted
            return, (); None where only episodes tell.
        timed: values are discounted by the clock of the game's state, `time`, which a step may set forward by
            more than one.
        again: how an episode begins after one that ended, or was cut, in `state`: key, state -> observation,
            state, as the game's reset gives them; None for a reset, whatever came before.
    """

    game: Any
    params: Any
    name: str = ""
    threshold: float | None = None
    best: float | None = None
    states: int = 0
    magnitudes: tuple[float, ...] = ()
    best_unlimited: float | None = None
    indexed: bool = False
    legal: Callable[[jax.Array], jax.Array] | None = None
    timed: bool = False
    exact: Callable[[Callable[[jax.Array], jax.Array]], jax.Array] | None = None
    again: Callable[[chex.PRNGKey, Any], tuple[jax.Array, Any]] | None = None

    @property
    def limit(self) -> int:
        """Steps after which an episode is truncated, as the game's clock counts them."""
        return int(self.params.max_steps_in_episode)

    def limited(self, steps: int) -> Environment:
        """The same game, its episodes truncated after `steps`; 0 for the limit it has."""
        if not steps:
            return self
        params, best = self.params.replace(max_steps_in_episode=steps), self.best
        if steps > self.limit and self.best_unlimited is not None:
            best = self.best_unlimited
        return dataclasses.replace(self, params=params, best=best)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of an observation as datasets hold it and networks see it: one-hot, where it is a number."""
        return (self.states,) if self.states else tuple(self.game.observation_space(self.params).shape)

    @property
    def action_space(self) -> Space:
        with jax.ensure_compile_time_eval():  # some games make their bounds with JAX; programs ask as well
            space = self.game.action_space(self.params)
            if isinstance(space, Discrete | Box):
                return space
            if hasattr(space, "n"):
                return Discrete(int(space.n))
            low, high = (np.broadcast_to(end, space.shape).ravel() for end in (space.low, space.high))
            return Box(tuple(map(float, low)), tuple(map(float, high)))

    def reset(self, key: chex.PRNGKey) -> tuple[jax.Array, Any]:
        """-> observation, state of a fresh episode."""
        with jax.numpy_dtype_promotion("standard"):  # which gymnax's games rely on
            obs, state = self.game.reset_env(key, self.params)
        return _rounded((self._observed(obs), state))

    def anew(self, key: chex.PRNGKey, state: Any) -> tuple[jax.Array, Any]:
        """-> observation, state of the episode after one that ended, or was cut, in `state`."""
        if self.again is None:
            return self.reset(key)
        with jax.numpy_dtype_promotion("standard"):
            obs, state = self.again(key, state)
        return _rounded((self._observed(obs), state))

    def step(
        self, key: chex.PRNGKey, state: Any, action: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, jax.Array]:
        """-> observation, state, reward, terminated, truncated, all *before* any reset.

        An episode that ends by the rules on the limit's very step is terminated and not truncated,
        so that exactly one flag says why it ended.
        """
        with jax.numpy_dtype_promotion("standard"):
            obs, state, reward, terminated, _ = self.game.step_env(key, state, action, self.params)
        terminated = jnp.asarray(terminated, bool)
        truncated = self.game.is_truncated(state, self.params) & ~terminated
        reward = jnp.asarray(reward, jnp.float32)
        return _rounded((self._observed(obs), state, reward, terminated, truncated))

    def allowed(self, obs: jax.Array) -> jax.Array | None:
        """Which actions there are in an observation as agents see it: bool (actions,); None for all.

        Where the game has none, as it may at an end, in which nobody acts, they are all there: values of such
        a state are finite, whatever they are multiplied by.

        Raises:
            UserError: what `legal` gives is no mask of the actions.
        """
        if self.legal is None:
            return None
        if self.indexed:
            return jnp.asarray(_of_every_state(self.legal, self.action_space, self.states))[obs]
        return _mask(self.legal, self.action_space, obs)

    def sample(self, key: chex.PRNGKey, obs: jax.Array) -> jax.Array:
        """A uniform action of those that there are in `obs`, (*action,)."""
        return self.action_space.sample(key, self.allowed(obs))

    def duration(self, before: Any, after: Any) -> Any:
        """How long the step between two states took, int32 (); () where all steps are alike."""
        return jnp.asarray(after.time - before.time, jnp.int32) if self.timed else ()

    @property
    def blank(self) -> jax.Array:
        """An observation of zeros, shaped as `step` gives them."""
        return jnp.int32(0) if self.indexed else jnp.zeros(self.observation_shape, jnp.float32)

    def _observed(self, obs: jax.Array) -> jax.Array:
        """The game's observation as agents see it, float32 unless `indexed`."""
        if self.indexed:
            return jnp.asarray(obs, jnp.int32)
        if self.states:
            return jax.nn.one_hot(obs, self.states, dtype=jnp.float32)
        return jnp.asarray(obs, jnp.float32)


def _mask(legal: Callable[[jax.Array], jax.Array], space: Space, obs: jax.Array) -> jax.Array:
    """What is legal in an observation; everything where nothing is."""
    mask = jnp.asarray(legal(obs))
    if not isinstance(space, Discrete):
        raise UserError(f"legal masks Discrete actions; this game has {space}")
    if mask.shape != (space.n,) or mask.dtype != bool:
        raise UserError(f"legal gives {mask.dtype}{mask.shape}; a mask is needed, bool ({space.n},)")
    return mask | ~mask.any()


@functools.cache
def _of_every_state(legal: Callable[[jax.Array], jax.Array], space: Space, states: int) -> np.ndarray:
    """The masks of all states, bool (states, actions)."""
    with jax.ensure_compile_time_eval():
        each = jax.vmap(functools.partial(_mask, legal, space))
        return np.asarray(each(jnp.eye(states, dtype=jnp.float32)), bool)


def legal_of(env: Environment, observations: np.ndarray) -> np.ndarray:
    """Which of its discrete actions there are in observations (N, *obs), bool (N, actions)."""
    if env.legal is None:
        assert isinstance(env.action_space, Discrete)
        return np.ones((len(observations), env.action_space.n), bool)
    return np.asarray(_masks(env, np.asarray(observations, np.float32)))


@functools.partial(jax.jit, static_argnums=0)
def _masks(env: Environment, obs: jax.Array) -> jax.Array:
    return jnp.asarray(jax.vmap(env.allowed)(obs))


def of_gymnax(game: Any, params: Any = None) -> Environment:
    """A gymnax game, by default under its own parameters; n enumerated observations are given one-hot.

    Raises:
        UserError: it has no time limit.
    """
    params = game.default_params if params is None else params
    if not hasattr(params, "max_steps_in_episode"):
        raise UserError(f"{game.name} has no time limit (max_steps_in_episode), which episodes need")
    return Environment(game, params, states=int(getattr(game.observation_space(params), "n", 0)))


@dataclasses.dataclass(frozen=True)
class Task:
    """A game and all that is known of it. Only `name` and `game` are needed.

    Attributes:
        name: names folders of results, prompts and episodes: lower case, digits and underscores.
        game: the rules: an `Environment`; a gymnax game, under its default parameters; or a function of the
            game's parameters that makes an `Environment`.
        protocols: settings to run under, by name and version (`protocols.by_name`); where there are none,
            `untuned`, `paper` and `released` with an agent that can choose among the game's actions.
        words: how its states are put into words, and its actions read; None: no language model can play.
        prompts: prompt texts by name, or the folder that holds them as .txt files; None: `prompts/<name>/` of
            the suite.
        episodes: the LLM episodes that runs use when none are named: a shipped dataset's name, or a folder.
        answers: the table of a model's answers by which every seed plays LLM episodes of its own, where a
            protocol says so (`protocols.PriorUse.llm`): a shipped table's name, or a folder.
        reference: a strong policy: observations (N, *obs) float64 -> a mask (N, actions) of the actions that
            it holds for equally good and for the best, or its continuous actions (N, k).
        reference_episodes: episodes after which its mean return is known; 1 where nothing is random.
        restore: environment, observation (*obs,), time () -> the state of the game that shows it.
        replayed: the state does not follow from the observation, but nothing in the game is random, so that
            episodes can be replayed from their start.
        gymnasium_id: the Gymnasium environment that the rules are checked against; empty for none.
        seeds: seeds of each arm when the command names no number.
        source: how a command names it; what `tasks.load` was given.
        file_sha256: of the file that `tasks.load` found it in, as it was then; empty for any other task.

    >>> from loro_jax.tasks import load
    >>> load("frozen_lake").environment(slippery=False, limit=20).limit
    20
    >>> load("pong").protocol("standard").name
    'standard@2'
    """

    name: str
    game: Environment | Callable[..., Environment] | Any
    protocols: Mapping[str, Protocol] = dataclasses.field(default_factory=dict)
    words: Description | None = None
    prompts: Mapping[str, str] | pathlib.Path | None = None
    episodes: str = ""
    answers: str = ""
    reference: Callable[[Any], np.ndarray] | None = None
    reference_episodes: int = 500
    restore: Callable[[Environment, jax.Array, jax.Array], Any] | None = None
    replayed: bool = False
    gymnasium_id: str = ""
    seeds: int = 64
    source: str = ""
    file_sha256: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name) or len(self.name) > 64:
            raise UserError(
                "a task's name is lower-case letters, digits and underscores, 64 at most, such as my_game;"
                f" got {self.name if not isinstance(self.name, str) else self.name[:80]!r}"
            )
        for field in ("episodes", "answers", "source", "file_sha256"):
            if not isinstance(getattr(self, field), str):
                raise UserError(f"{self.name}: {field} must be a text, got {getattr(self, field)!r}")
        if not isinstance(self.protocols, Mapping) or not all(
            isinstance(k, str) and protocols.NAME.fullmatch(k) and isinstance(v, Protocol)
            for k, v in self.protocols.items()
        ):
            raise UserError(
                f"{self.name}: protocols must be protocols by name and version, such as by_name([STANDARD])"
            )

    def environment(self, **parameters: Any) -> Environment:
        """The game, made with parameters of its own.

        Raises:
            UserError: the game takes no such parameter, or refuses its value.
        """
        if isinstance(self.game, Environment) or hasattr(self.game, "reset_env"):
            if parameters:
                raise UserError(
                    f"{self.name} takes no parameter '{next(iter(parameters))}': its game is made already; a"
                    " task whose game is a function takes its parameters"
                )
            made = self.game if isinstance(self.game, Environment) else of_gymnax(self.game)
        elif not callable(self.game):
            raise UserError(
                f"{self.name}: game is {type(self.game).__name__}; it has to be an Environment, a gymnax"
                " game, or a function that makes an Environment"
            )
        else:
            known = inspect.signature(self.game).parameters
            for name in parameters:
                if name not in known:
                    raise UserError(
                        f"{self.name} takes no parameter '{name}'; there are: {', '.join(known) or 'none'}"
                    )
                if not validation.fits(parameters[name], hint := self._hints().get(name, Any)):
                    raise UserError(
                        f"{self.name}'s {name} must be {validation.words(hint)}, got {parameters[name]!r}"
                    )
            try:
                made = self.game(**parameters)
            except UserError:
                raise
            except Exception as error:
                jax.devices()  # where JAX cannot start at all, that is what to say
                where = traceback.extract_tb(error.__traceback__)[-1]
                why = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{self.name}: its game cannot be made ({where.filename}:{where.lineno}:"
                    f" {type(error).__name__}: {why})"
                ) from error
            if not isinstance(made, Environment):
                raise UserError(f"{self.name}: its game makes {type(made).__name__}, not an Environment")
        return dataclasses.replace(made, name=self.name)

    def _hints(self) -> dict[str, Any]:
        """The types of the game's parameters: as annotated, else of their defaults."""
        game: Any = self.game
        defaults = {k: p.default for k, p in inspect.signature(game).parameters.items()}
        found = {k: type(v) for k, v in defaults.items() if type(v) in (bool, int, float, str)}
        try:
            return found | validation.hints(game)
        except Exception:  # a stranger's annotations may name what is not there
            return found

    def under(self, protocol: Protocol) -> Environment:
        """The game as `protocol` plays it."""
        return self.environment(**dict(protocol.game))

    def settings(self) -> Mapping[str, Protocol]:
        """The protocols that it can run under, by name; the first is what runs when none is named."""
        if self.protocols:
            return self.protocols
        return protocols.of_agent(agents.untuned(self.environment().action_space))

    def protocol(self, name: str = "") -> Protocol:
        """The protocol called `name`, its newest version where it names none; by default the first.

        Raises:
            UserError: there is none; lists those there are.
        """
        known = self.settings()
        try:
            return protocols.choose(known, name or protocols.version(next(iter(known)))[0])
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None


def _rounded(tree: Any) -> Any:
    """The tree with its floats rounded to their own precision, once.

    XLA may compute one value in two places, with a fused multiply-add in one of them, so that a stored
    observation differs from the one before it in the last bit, and does so by how many seeds run side
    by side. Rounding on purpose leaves one value.
    """

    def leaf(x: Any) -> Any:
        single = isinstance(x, jax.Array) and x.dtype == jnp.float32
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=23) if single else x

    return jax.tree.map(leaf, tree)
