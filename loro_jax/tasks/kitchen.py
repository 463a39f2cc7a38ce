"""A cook alone in a kitchen of 7 x 7 cells, by macro actions: tomato, and tomato-lettuce salad.

The single-agent macro-action Overcooked of TWOSOME (arXiv 2401.14151), which the study of LLM priors plays
(arXiv 2410.07927): its rules, written from recordings of the reference program and held against them row by
row (tests/tasks/test_kitchen.py). Nothing is random. A macro action is a walk and what is done at its end; it
takes as many *primitive steps* as it says.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HAND, HOME, PLATE, BOARD = 0, 1, 2, 3
"""Places of a food; those from `BOARD` on are the cutting boards. Of the plate `PLATE` says that it is
delivered."""

CHOPS = 3
"""Primitive steps at a board until a food is chopped."""
STEP, CHOPPED, DELIVERED, WRONG = -0.001, 0.2, 1.0, -0.1
"""Rewards: each primitive step, a food of the dish chopped, the dish delivered, anything else delivered."""
WITHIN = 0.99
"""What the rewards of a macro action's primitive steps are discounted by, within it, as in the reference."""
LONGEST = 10
"""Primitive steps of a macro action, at most: from corner to corner, and two things to do."""
SIGHT = 2
"""Rows and columns that the cook sees in each direction."""
TASKS = 7
"""Dishes of the reference, of which an observation's end says one."""

Cell = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Kitchen:
    """A map and a dish. Cells are (row, column), from the top left.

    Attributes:
        name: for messages.
        foods: what there is to be chopped.
        homes: where each food begins, (foods,) cells.
        plate: where the plate begins.
        boards: the cutting boards.
        delivery: where the dish is taken.
        dish: the foods that belong on the plate, by their places in `foods`.
        task: which of the reference's dishes it is.
        cook: where the cook begins.
    """

    name: str
    foods: tuple[str, ...]
    homes: tuple[Cell, ...]
    plate: Cell
    boards: tuple[Cell, ...]
    delivery: Cell
    dish: tuple[int, ...]
    task: int
    cook: Cell = (1, 4)

    @property
    def actions(self) -> tuple[tuple[str, int], ...]:
        """What each macro action is, and of which food or board, in the reference's order."""
        foods = [("get", i) for i in range(len(self.foods))]
        boards = [("board", i) for i in range(len(self.boards))]
        return (*foods, ("plate", 0), *boards, ("deliver", 0), ("chop", 0))

    @property
    def size(self) -> int:
        """Numbers of an observation."""
        return 3 * len(self.foods) + 2 + 2 * len(self.boards) + 4 + TASKS


TOMATO = Kitchen("overcooked_tomato", ("tomato",), ((0, 5),), (6, 5), ((1, 0),), (3, 0), dish=(0,), task=0)
SALAD = Kitchen(
    "overcooked_salad",
    ("tomato", "lettuce", "onion"),
    ((0, 5), (1, 6), (2, 6)),
    (6, 5),
    ((1, 0), (2, 0)),
    (3, 0),
    dish=(0, 1),
    task=3,
)


class State(NamedTuple):
    """Where the cook is, (2,) int32; the place of each food, and how often it was chopped, (foods,) int32;
    the plate's place, () int32."""

    cook: jax.Array
    place: jax.Array
    chops: jax.Array
    plate: jax.Array


def begin(kitchen: Kitchen) -> State:
    """The state of a fresh episode."""
    n = len(kitchen.foods)
    return State(
        jnp.asarray(kitchen.cook, jnp.int32),
        jnp.full(n, HOME, jnp.int32),
        jnp.zeros(n, jnp.int32),
        jnp.int32(HOME),
    )


def where(kitchen: Kitchen, state: State) -> tuple[jax.Array, jax.Array]:
    """-> the cells of all foods, (foods, 2), and of the plate, (2,)."""
    boards, cook = jnp.asarray(kitchen.boards, jnp.int32), state.cook[None]
    plates = jnp.concatenate([cook, jnp.asarray([kitchen.plate, kitchen.delivery], jnp.int32), boards])
    plate = plates[state.plate]
    homes = jnp.asarray(kitchen.homes, jnp.int32)

    def of(home: jax.Array, place: jax.Array) -> jax.Array:
        return jnp.concatenate([cook, home[None], plate[None], boards])[place]

    return jax.vmap(of)(homes, state.place), plate


def seen(state: State, cell: jax.Array) -> jax.Array:
    """Whether the cook sees a cell (..., 2), (...)."""
    return (abs(cell - state.cook) <= SIGHT).all(-1)


def observation(kitchen: Kitchen, state: State, full: bool = False) -> jax.Array:
    """What the cook sees, float32 (size,): of each food its cell and how often it was chopped, the cells of
    plate, boards and delivery, all of them zero where they are out of sight unless `full`; the cook's cell;
    the dish, one-hot."""
    foods, plate = where(kitchen, state)
    fixed = jnp.asarray([*kitchen.boards, kitchen.delivery], jnp.int32)
    rows = jnp.concatenate([foods, state.chops[:, None]], axis=1)
    rows = jnp.where((seen(state, foods) | full)[:, None], rows, 0)
    cells = jnp.concatenate([plate[None], fixed])
    cells = jnp.where((seen(state, cells) | full)[:, None], cells, 0)
    dish = jnp.arange(TASKS) == kitchen.task
    parts = (rows.ravel(), cells.ravel(), state.cook, dish.astype(jnp.int32))
    return jnp.concatenate(parts).astype(jnp.float32)


class Outcome(NamedTuple):
    """Of a macro action: the state after it, the reward, whether the dish is delivered, and the primitive
    steps that it took, each ()."""

    state: State
    reward: jax.Array
    terminated: jax.Array
    duration: jax.Array


def play(kitchen: Kitchen, state: State, action: jax.Array) -> Outcome:
    """A macro action, () int32, from its beginning to its end."""
    branches = [_macro(kitchen, kind, which) for kind, which in kitchen.actions]
    return jax.lax.switch(action, branches, state)  # type: ignore[no-any-return]


def _macro(kitchen: Kitchen, kind: str, which: int):
    made = {"get": _get, "plate": _plate, "board": _board, "deliver": _deliver, "chop": _chop}[kind]
    return lambda state: made(kitchen, state, which)


def stand(cell: jax.Array) -> jax.Array:
    """The floor beside a cell of the wall that is no corner, (2,): there is just one."""
    return jnp.clip(cell, 1, 5)


def _walk(state: State, cell: jax.Array) -> tuple[State, jax.Array]:
    """Beside `cell` by a shortest way, and its length, ()."""
    end = stand(cell)
    return state._replace(cook=end), abs(end - state.cook).sum()


def _held(state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
    """-> which food is in the cook's hand, (foods,); whether one is, (); whether the plate is, ()."""
    food = state.place == HAND
    return food, food.any(), state.plate == HAND


def _paid(duration: jax.Array, last: jax.Array | float = 0.0) -> jax.Array:
    """The reward of so many primitive steps, the last of which brings `last` beside what each costs."""
    powers = WITHIN ** np.arange(LONGEST)
    costs = jnp.asarray(STEP * np.cumsum(powers), jnp.float32)
    return costs[duration - 1] + last * jnp.asarray(powers, jnp.float32)[duration - 1]


def _outcome(state: State, steps: jax.Array, last: jax.Array | float = 0.0) -> Outcome:
    steps = jnp.maximum(steps, 1).astype(jnp.int32)  # what cannot be done takes a step of standing still
    return Outcome(state, _paid(steps, last), jnp.bool_(False), steps)


def _chosen(condition: jax.Array, one: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _get(kitchen: Kitchen, state: State, which: int) -> Outcome:
    """Towards a food, to take it, onto the plate if that is in hand; what lies raw on a board stays there."""
    foods, plate_cell = where(kitchen, state)
    place, chopped = state.place[which], state.chops[which] >= CHOPS
    _, food_held, plate_held = _held(state)
    raw_on_board = (place >= BOARD) & ~chopped
    taken = jnp.where(plate_held, jnp.where(chopped, PLATE, place), jnp.where(food_held, place, HAND))
    there, steps = _walk(state, foods[which])
    tried = there._replace(place=state.place.at[which].set(taken))
    tried = _chosen(raw_on_board, there, tried)
    # Where it lies on a plate that is not in hand, the cook goes until that is seen, along rows first.
    away, far = _until_seen(state, plate_cell)
    on_plate = (place == PLATE) & ~plate_held
    mine = (place == HAND) | ((place == PLATE) & plate_held)
    after = _chosen(mine, state, _chosen(on_plate, away, tried))
    steps = jnp.where(mine, 1, jnp.where(on_plate, far + 1, steps + jnp.where(raw_on_board, 0, 1)))
    return _outcome(after, steps)


def _until_seen(state: State, cell: jax.Array) -> tuple[State, jax.Array]:
    """Towards `cell` until it is seen: the state there, and the steps, ()."""
    left = stand(cell) - state.cook

    def after(steps: jax.Array) -> State:
        rows = jnp.minimum(steps, abs(left[0]))
        columns = jnp.minimum(steps - rows, abs(left[1]))
        return state._replace(cook=state.cook + jnp.sign(left) * jnp.stack([rows, columns]))

    blind = jax.vmap(lambda n: ~seen(after(n), cell))(jnp.arange(9))
    steps = blind.sum()
    return after(steps), steps


def _plate(kitchen: Kitchen, state: State, which: int) -> Outcome:
    """Towards the plate, to take it; a chopped food in hand goes onto it first, which takes a step more."""
    del which
    _, cell = where(kitchen, state)
    food, food_held, plate_held = _held(state)
    chopped = (food & (state.chops >= CHOPS)).any()
    there, steps = _walk(state, cell)
    onto = there._replace(place=jnp.where(food, PLATE, state.place), plate=jnp.int32(HAND))
    bare = there._replace(plate=jnp.int32(HAND))
    after = _chosen(food_held, _chosen(chopped, onto, there), bare)
    after = _chosen(plate_held, state, after)
    return _outcome(after, jnp.where(plate_held, 1, steps + 1 + (food_held & chopped).astype(jnp.int32)))


def _board(kitchen: Kitchen, state: State, which: int) -> Outcome:
    """Towards a board, to put down there what is in hand. A plate takes up what lies there chopped, or is
    taken up by whoever comes with a chopped food."""
    here = BOARD + which
    food, food_held, plate_held = _held(state)
    lying, plate_here = state.place == here, state.plate == here
    there, steps = _walk(state, jnp.asarray(kitchen.boards[which], jnp.int32))
    ready = state.chops >= CHOPS
    empty = ~lying.any() & ~plate_here
    # The plate in hand.
    taken = there._replace(place=jnp.where(lying & ready, PLATE, state.place))
    with_plate = _chosen(empty, there._replace(plate=jnp.int32(here)), taken)
    # A food in hand.
    put = there._replace(place=jnp.where(food, here, state.place))
    onto = there._replace(place=jnp.where(food, PLATE, state.place), plate=jnp.int32(HAND))
    with_food = _chosen(empty, put, _chosen(plate_here & (food & ready).any(), onto, there))
    after = _chosen(plate_held, with_plate, _chosen(food_held, with_food, there))
    return _outcome(after, steps + (plate_held | food_held).astype(jnp.int32))


def _deliver(kitchen: Kitchen, state: State, which: int) -> Outcome:
    """To the delivery, to hand over what is in hand; what is not the dish is back where it began, and raw."""
    del which
    food, food_held, plate_held = _held(state)
    there, steps = _walk(state, jnp.asarray(kitchen.delivery, jnp.int32))
    dish = jnp.isin(jnp.arange(len(kitchen.foods)), jnp.asarray(kitchen.dish))
    served = plate_held & ((state.place == PLATE) == dish).all()
    back = jnp.where(plate_held, state.place == PLATE, food)
    wrong = there._replace(
        place=jnp.where(back, HOME, state.place),
        chops=jnp.where(back, 0, state.chops),
        plate=jnp.where(plate_held, HOME, state.plate),
    )
    any_held = plate_held | food_held
    after = _chosen(served, there._replace(plate=jnp.int32(PLATE)), _chosen(any_held, wrong, there))
    last = jnp.where(served, DELIVERED, jnp.where(any_held, WRONG, 0.0))
    return _outcome(after, steps + any_held.astype(jnp.int32), last)._replace(terminated=served)


def _chop(kitchen: Kitchen, state: State, which: int) -> Outcome:
    """Chops what lies raw on the board beside the cook; with something in hand, time passes all the same."""
    del which
    _, food_held, plate_held = _held(state)
    beside = jnp.asarray([(stand(jnp.asarray(b)) == state.cook).all() for b in kitchen.boards])
    raw = (state.place >= BOARD) & (state.chops < CHOPS)
    due = raw & beside[jnp.maximum(state.place - BOARD, 0)]
    done = due & ~food_held & ~plate_held
    wanted = jnp.isin(jnp.arange(len(kitchen.foods)), jnp.asarray(kitchen.dish))
    after = state._replace(chops=jnp.where(done, CHOPS, state.chops))
    last = jnp.where((done & wanted).any(), CHOPPED, 0.0)
    return _outcome(after, jnp.where(due.any(), CHOPS, 1), last)
