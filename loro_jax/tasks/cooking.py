"""The kitchen (`tasks.kitchen`) as a task: its clock, its legal moves, its words, and its best play.

An environment step is a macro action. The limit counts primitive steps, as the reference's does, and is
looked at when a macro action has ended.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.spaces import Discrete
from loro_jax.tasks import kitchen, planning
from loro_jax.tasks.actions import Mentions
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.kitchen import CHOPS, Kitchen, State
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.rules import Clocked, Limit
from loro_jax.tasks.words import Description, Field

LIMIT = 200
"""Primitive steps of an episode."""
LONGEST = 10_000
"""Of one, at most: what there is to earn is found step by step."""
DISCOUNT = 0.99
"""Per primitive step, by which the reference policy is found.

Per macro action the best play would never deliver: to chop, to hand over the food alone (-0.1) and to begin
anew earns 0.08 every five macro actions, which is worth 1.6 for ever, and the dish brings 1.1.
"""
THRESHOLDS = {"overcooked_tomato": 1.1, "overcooked_salad": 1.3}
"""What the straight way to the dish earns."""


@dataclasses.dataclass(frozen=True)
class Cooking:
    """The kitchen in the form of a gymnax game."""

    kitchen: Kitchen
    full: bool

    def observation_space(self, params: Limit) -> Any:
        return self  # of which only the shape is asked for

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.kitchen.size,)

    def action_space(self, params: Limit) -> Discrete:
        return Discrete(len(self.kitchen.actions))

    def _seen(self, state: State) -> jax.Array:
        return kitchen.observation(self.kitchen, state, self.full)

    def reset_env(self, key: chex.PRNGKey, params: Limit) -> tuple[jax.Array, Clocked]:
        del key
        state = kitchen.begin(self.kitchen)
        return self._seen(state), Clocked(state, jnp.int32(0))

    def step_env(
        self, key: chex.PRNGKey, state: Clocked, action: jax.Array, params: Limit
    ) -> tuple[jax.Array, Clocked, jax.Array, jax.Array, dict[Any, Any]]:
        del key
        after = kitchen.play(self.kitchen, state.inner, action)
        later = Clocked(after.state, state.time + after.duration)
        return self._seen(after.state), later, after.reward, after.terminated, {}

    def is_truncated(self, state: Clocked, params: Limit) -> jax.Array:
        return jnp.asarray(state.time >= params.max_steps_in_episode)


@functools.cache  # the same game is the same object: programs are shared
def environment(
    map_: Kitchen, full: bool = False, by_duration: bool = False, masked: bool = True, limit: int = LIMIT
) -> Environment:
    """A kitchen to learn in.

    Args:
        full: the cook sees the whole kitchen, else two cells in each direction, as in the reference.
        by_duration: values are discounted by every primitive step, as TWOSOME does, else by every macro
            action, as the study of LLM priors does.
        masked: macro actions that could do nothing but pass time are not legal, else all are.
        limit: primitive steps after which an episode is truncated.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LONGEST:
        raise UserError(
            f"{map_.name}: limit is {limit!r}; an episode has from 1 to {LONGEST:,} primitive steps"
        )
    return Environment(
        game=Cooking(map_, full),
        params=Limit(limit),
        threshold=THRESHOLDS.get(map_.name),
        best=best_return(map_, limit),
        magnitudes=tuple(map(float, _magnitudes(map_))),
        legal=legal(map_) if masked else None,
        timed=by_duration,
    )


def _magnitudes(map_: Kitchen) -> np.ndarray:
    """Typical sizes of an observation's entries: cells from 0 to 6, chops from 0 to 3, the dish."""
    return np.concatenate(
        [np.tile([6, 6, 3], len(map_.foods)), np.full(6 + 2 * len(map_.boards), 6), np.ones(7)]
    )


# What an observation says, by comparisons of whole numbers: of NumPy and of JAX alike.


def cook(map_: Kitchen, obs: Any) -> Any:
    """The cook's cell, (2,)."""
    at = 3 * len(map_.foods) + 4 + 2 * len(map_.boards)
    return obs[at : at + 2]


def food(obs: Any, i: int) -> Any:
    """A food's cell, (2,); (0, 0) if it is not in sight."""
    return obs[3 * i : 3 * i + 2]


def plate(map_: Kitchen, obs: Any) -> Any:
    """The plate's cell, (2,); (0, 0) if it is not in sight."""
    at = 3 * len(map_.foods)
    return obs[at : at + 2]


def chopped(obs: Any, i: int) -> Any:
    return obs[3 * i + 2] >= CHOPS


def same(cell: Any, other: Any) -> Any:
    """Whether two cells are one, ()."""
    return (cell[0] == other[0]) & (cell[1] == other[1])


def either(which: Any, one: Any, other: Any) -> Any:
    """The whole number `one` where `which`, else the `other`, ()."""
    return number(which) * one + (1 - number(which)) * other


def number(which: Any) -> Any:
    """A truth of NumPy's or of JAX's as 1 or 0, ()."""
    return which.astype(np.int32)


def held(map_: Kitchen, obs: Any) -> tuple[list[Any], Any]:
    """Whether each food is in the cook's hands, alone or on the plate; whether the plate is, each ()."""
    here = cook(map_, obs)
    return [same(food(obs, i), here) for i in range(len(map_.foods))], same(plate(map_, obs), here)


def beside(cell: kitchen.Cell) -> kitchen.Cell:
    """The floor beside a cell of the wall."""
    return min(max(cell[0], 1), 5), min(max(cell[1], 1), 5)


def useful(map_: Kitchen, obs: Any) -> list[Any]:
    """Whether each macro action may do more than pass time, as far as the observation tells; bool () each."""
    foods, with_plate = held(map_, obs)
    anything = with_plate
    for one in foods:
        anything = anything | one
    due = False
    for board in map_.boards:
        for i in range(len(map_.foods)):
            lies = same(food(obs, i), board) & ~chopped(obs, i) & same(cook(map_, obs), beside(board))
            due = due | lies
    told = []
    for kind, which in map_.actions:
        of = {"get": ~foods[which] if kind == "get" else None, "plate": ~with_plate, "deliver": anything}
        of |= {"chop": due & ~anything, "board": with_plate | ~with_plate}
        told.append(of[kind])
    return told


@functools.cache  # the same function is the same game: programs are shared
def legal(map_: Kitchen) -> Callable[[jax.Array], jax.Array]:
    """The mask of macro actions, a function of the observation."""
    return lambda obs: jnp.stack([jnp.asarray(one, bool) for one in useful(map_, obs)])


# Words

NUMBERED = ("first", "second")


def phrases(map_: Kitchen) -> tuple[str, ...]:
    """What each macro action is called."""
    boards = ["the cutting board"] if len(map_.boards) == 1 else [f"the {n} cutting board" for n in NUMBERED]
    said = {"plate": "get the plate", "deliver": "deliver the dish", "chop": "chop the food"}
    named = {"get": lambda i: f"get the {map_.foods[i]}", "board": lambda i: f"go to {boards[i]}"}
    return tuple(named[kind](which) if kind in named else said[kind] for kind, which in map_.actions)


def _listed(things: list[str]) -> str:
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def fields(map_: Kitchen) -> tuple[Field, ...]:
    """`hand`, `boards`, `tables` and `options`: what is in hand, what lies on the boards and where it began,
    as far as the cook sees it, and the macro actions that may do something."""
    names = map_.foods
    n = len(names)

    subsets = [list(s) for size in range(n + 1) for s in itertools.combinations(range(n), size)]
    hands = ["nothing", *(f"the {state} {name}" for name in names for state in ("raw", "chopped"))]
    for s in subsets:
        on = _listed([f"the chopped {names[i]}" for i in s]) if s else ""
        hands.append(f"a plate with {on}" if s else "the empty plate")
    place_of = np.zeros(2**n, int)  # of a set of foods, as a binary number, in `subsets`
    for place, s in enumerate(subsets):
        place_of[sum(2**i for i in s)] = place

    def hand(obs: Any) -> Any:
        foods, with_plate = held(map_, obs)
        code = sum(number(one) * 2**i for i, one in enumerate(foods))
        alone = sum(number(one) * (1 + 2 * i + number(chopped(obs, i))) for i, one in enumerate(foods))
        on_plate = 1 + 2 * n + sum(number(code == c) * int(place_of[c]) for c in range(2**n))
        return either(with_plate, on_plate, alone)

    lying = [
        "is out of sight or empty",
        *(f"holds a {s} {name}" for name in names for s in ("raw", "chopped")),
    ]
    for s in subsets:
        on = _listed([f"the chopped {names[i]}" for i in s]) if s else ""
        lying.append(f"holds a plate with {on}" if s else "holds the empty plate")

    def on_board(board: kitchen.Cell) -> Callable[[Any], Any]:
        def index(obs: Any) -> Any:
            there = [same(food(obs, i), board) for i in range(n)]
            with_plate = same(plate(map_, obs), board)
            code = sum(number(one) * 2**i for i, one in enumerate(there))
            alone = sum(number(one) * (1 + 2 * i + number(chopped(obs, i))) for i, one in enumerate(there))
            on_plate = 1 + 2 * n + sum(number(code == c) * int(place_of[c]) for c in range(2**n))
            return either(with_plate, on_plate, alone)

        return index

    things = [f"a raw {name}" for name in names] + ["an empty plate"]
    tables = []
    for code in range(2 ** (n + 1)):
        near = [thing for i, thing in enumerate(things) if code >> i & 1]
        tables.append(f"see {_listed(near)} where it is kept" if near else "see nothing that is kept nearby")

    def kept(obs: Any) -> Any:
        near = [same(food(obs, i), map_.homes[i]) for i in range(n)] + [same(plate(map_, obs), map_.plate)]
        return sum(number(one) * 2**i for i, one in enumerate(near))

    called, kinds = phrases(map_), len(map_.actions)
    masks = [m for m in itertools.product((False, True), repeat=kinds) if _possible(map_, m)]
    chosen = tuple(tuple(np.flatnonzero(m).tolist()) for m in masks)

    def options(obs: Any) -> Any:
        told = useful(map_, obs)
        code = sum(number(one) * 2**i for i, one in enumerate(told))
        return sum(number(code == sum(2**i for i in c)) * at for at, c in enumerate(chosen))

    boards = tuple(
        Field(f"board{place + 1}" if len(map_.boards) > 1 else "board", tuple(lying), on_board(board))
        for place, board in enumerate(map_.boards)
    )
    return (
        Field("hand", tuple(hands), hand),
        *boards,
        Field("tables", tuple(tables), kept),
        Field("options", tuple(", ".join(called[i] for i in c) for c in chosen), options, chosen),
    )


def _possible(map_: Kitchen, mask: tuple[bool, ...]) -> bool:
    """Whether there may be an observation with this mask: boards can always be gone to; a food is held or to
    be had; only with something in hand can it be handed over, only with nothing is there to be chopped."""
    by = {"get": [], "plate": [], "board": [], "deliver": [], "chop": []}  # type: dict[str, list[bool]]
    for (kind, _), one in zip(map_.actions, mask, strict=True):
        by[kind].append(one)
    something = not all(by["get"]) or not by["plate"][0]
    several = by["get"].count(False) > 1 and by["plate"][0]  # without the plate, one at a time
    return (
        all(by["board"])
        and by["deliver"][0] == something
        and not (by["chop"][0] and something)
        and not several
    )


def description(map_: Kitchen) -> Description:
    return Description(fields=fields(map_), reader=Mentions(phrases(map_)))


# Best play


@dataclasses.dataclass(frozen=True)
class Solved:
    """All states of a kitchen that play can come to, N of them.

    Attributes:
        observations: what the cook sees, partial and full, (N, size) each.
        after: the state that each macro action leads to, (N, A).
        reward, duration, terminated: of each macro action, (N, A).
    """

    observations: np.ndarray
    full: np.ndarray
    after: np.ndarray
    reward: Floats
    duration: np.ndarray
    terminated: np.ndarray

    def values(self, discount: float = DISCOUNT, by_duration: bool = False) -> Floats:
        """Best discounted return after each macro action, (N, A)."""
        factor = discount**self.duration if by_duration else np.full(self.after.shape, discount)
        value = np.zeros(len(self.after))
        for _ in range(2000):
            q = self.reward + np.where(self.terminated, 0.0, factor * value[self.after])
            if np.abs(q.max(axis=1) - value).max() < 1e-12:
                break
            value = q.max(axis=1)
        return q


@functools.cache
def solved(map_: Kitchen) -> Solved:
    """Every state that can be reached, state 0 the first."""
    actions = len(map_.actions)
    tell = jax.jit(jax.vmap(lambda s: jax.vmap(lambda a: kitchen.play(map_, s, a))(jnp.arange(actions))))

    def flat(s: State) -> np.ndarray:
        parts = [np.asarray(s.cook), np.asarray(s.place), np.asarray(s.chops), np.asarray(s.plate)[..., None]]
        return np.concatenate(parts, axis=-1)

    def state(rows: np.ndarray) -> State:
        n, x = len(map_.foods), jnp.asarray(rows, jnp.int32)
        return State(x[..., :2], x[..., 2 : 2 + n], x[..., 2 + n : 2 + 2 * n], x[..., -1])

    first = flat(jax.tree.map(lambda x: x[None], kitchen.begin(map_)))
    numbers, rows, done = {tuple(first[0].tolist()): 0}, [first[0]], 0
    after, reward, duration, terminated = [], [], [], []
    while done < len(rows):
        batch = np.stack(rows[done : done + 256])
        padded = np.concatenate([batch, np.repeat(batch[:1], 256 - len(batch), axis=0)])
        found = tell(state(padded))
        for one in range(len(batch)):
            led = []
            for row in flat(jax.tree.map(lambda x, one=one: x[one], found.state)):
                if (key := tuple(row.tolist())) not in numbers:
                    numbers[key] = len(rows)
                    rows.append(row)
                led.append(numbers[key])
            after.append(led)
        reward.append(np.asarray(found.reward, np.float64)[: len(batch)])
        duration.append(np.asarray(found.duration)[: len(batch)])
        terminated.append(np.asarray(found.terminated)[: len(batch)])
        done += len(batch)

    def seen(full: bool) -> np.ndarray:
        see = jax.vmap(lambda s: kitchen.observation(map_, s, full))
        return np.asarray(see(state(np.stack(rows))))

    told = [np.concatenate(x) for x in (reward, duration, terminated)]
    return Solved(seen(False), seen(True), np.array(after), *told)


@functools.cache
def best_return(map_: Kitchen, limit: int = LIMIT) -> float:
    """The largest undiscounted return within `limit` primitive steps, by backward induction."""
    s = solved(map_)
    states, most = len(s.after), int(s.duration.max())
    value = np.zeros((most + 1, states))  # of the last numbers of steps left, by turns; none left: 0
    for left in range(1, limit + 1):
        then = value[(left - s.duration) % len(value), s.after]
        value[left % len(value)] = (s.reward + np.where(s.terminated, 0.0, then)).max(axis=1)
    return round(float(value[limit % len(value), 0]), 6)


@functools.cache
def _looks(map_: Kitchen) -> planning.Looks:
    s = solved(map_)
    with jax.ensure_compile_time_eval():
        masks = np.asarray(jax.vmap(legal(map_))(jnp.asarray(s.observations)))
    q = np.where(masks, s.values(by_duration=True), -np.inf)
    start = np.arange(len(q)) == 0
    often = planning.occupancy(s.after, s.terminated, q, masks, start, DISCOUNT**s.duration)
    return planning.Looks([s.observations, s.full], q, often)


def reference(map_: Kitchen, observations: Floats) -> np.ndarray:
    """The macro actions that lead soonest to the dish, (N, size) -> (N, A)."""
    return _looks(map_).best(observations)


def task(map_: Kitchen, protocols: Mapping[str, Protocol]) -> Task:
    """The kitchen as a task; parameters of its game are those of `environment`."""
    return Task(
        name=map_.name,
        game=functools.partial(environment, map_),
        protocols=protocols,
        words=description(map_),
        answers="qwen2.5-coder-0.5b-instruct-shots",
        reference=functools.partial(reference, map_),
        reference_episodes=1,
        replayed=True,
    )


def worth(map_: Kitchen, observations: Floats) -> Floats:
    """The discounted return after each macro action, as `reference` has it, (N, size) -> (N, A)."""
    return _looks(map_).values(observations)
