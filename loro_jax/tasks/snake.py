"""Snake: eat the fruit, grow by it, and run into neither a wall nor yourself.

The rules of jumanji's Snake (arXiv 2306.09884), held against it step by step from copied states
(`tests/tasks/test_snake.py`), by default on 5 x 5 cells. Two things differ: the limit truncates, so that
values go on, where jumanji ends the episode; and where every action runs into something all are legal, where
jumanji's mask is empty. Whatever is done then ends the episode in both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.agents import A2C, PPO
from loro_jax.errors import UserError
from loro_jax.protocols import by_name, common
from loro_jax.spaces import Discrete
from loro_jax.tasks import rules
from loro_jax.tasks.actions import Words
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.words import Description, Field, arrays_of

ACTIONS = ("up", "right", "down", "left")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns by which each action moves."""
BODY, HEAD, TAIL, FRUIT, ORDER = range(5)
"""The planes of an observation."""
SIZE = 5
LEAST, MOST = 2, 20
"""Cells of a side."""
PACE = 12
"""Steps for each cell, of which the limit is made where none is given; the reference needs about 5."""
SOLVED = 0.5
"""The share of the fruit at which the game counts as solved here; the field names none."""


class State(NamedTuple):
    """Where the snake lies and the fruit.

    Attributes:
        order: 1 for the tail's cell, one more for each cell up to the head's, 0 where there is none, int32
            (rows, columns).
        head: its row and column, int32 (2,).
        fruit: its row and column, int32 (2,).
    """

    order: jax.Array
    head: jax.Array
    fruit: jax.Array


def begin(key: chex.PRNGKey, shape: tuple[int, int]) -> State:
    """A snake of one cell, and a fruit in another."""
    for_head, for_fruit = jax.random.split(key)
    head = jax.random.randint(for_head, (2,), 0, jnp.asarray(shape, jnp.int32))
    order = jnp.zeros(shape, jnp.int32).at[head[0], head[1]].set(1)
    return State(order, head, somewhere(for_fruit, order == 0))


def somewhere(key: chex.PRNGKey, free: jax.Array) -> jax.Array:
    """A uniform one of the free cells, bool (rows, columns), int32 (2,); the first cell where none is free,
    as in jumanji."""
    draws = jax.random.uniform(key, free.shape)
    place = jnp.where(free, draws, -1.0).argmax().astype(jnp.int32)
    return jnp.stack([place // free.shape[1], place % free.shape[1]])


def act(key: chex.PRNGKey, state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
    """-> the state after a move; whether a fruit was eaten, and whether the snake ran into something, ()."""
    there = jnp.stack([(ways & _at(state)).any() for ways in _beside(state.order <= 1)])
    head = state.head + jnp.asarray(MOVES, jnp.int32)[action]
    eaten = (head == state.fruit).all()
    length = state.order.max() + eaten.astype(jnp.int32)
    order = jnp.where(eaten, state.order, jnp.maximum(state.order - 1, 0))
    # Beyond the walls a place counts from the other end, or is dropped: what is seen then is jumanji's, and
    # nobody acts on it.
    order = order.at[head[0], head[1]].set(length)
    fruit = jnp.where(eaten, somewhere(key, order == 0), state.fruit)
    return State(order, head, fruit), eaten, ~there[action]


def _at(state: State) -> jax.Array:
    """The head's cell, bool (rows, columns)."""
    return jnp.zeros(state.order.shape, bool).at[state.head[0], state.head[1]].set(True)


def observe(state: State) -> jax.Array:
    """jumanji's grid, float32 (rows, columns, 5): body, head, tail and fruit, 1 where they are, and the place
    of each cell in the body, as a share of its length: 1 for the head's."""
    fruit = jnp.zeros(state.order.shape, bool).at[state.fruit[0], state.fruit[1]].set(True)
    planes = [state.order > 0, _at(state), state.order == 1, fruit]
    order = state.order.astype(jnp.float32)
    shares = order / jnp.maximum(order.max(), 1.0)
    return jnp.stack([*(plane.astype(jnp.float32) for plane in planes), shares], axis=-1)


def snake(
    size: int | tuple[int, ...] = SIZE,
    limit: int | None = None,
    fruit: float = 1.0,
    death: float = 0.0,
    step: float = 0.0,
) -> Environment:
    """A board to grow on; running into something terminates, and so does filling it.

    Args:
        size: rows and columns, or one number for both, each from 2 to 20.
        limit: steps after which an episode is truncated; 12 for each cell where none is given.
        fruit: reward for a fruit.
        death: reward for running into a wall or the body.
        step: reward of every step, added to the others.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(LEAST <= side <= MOST for side in sides):
        raise UserError(
            f"snake: size is {size}; give rows and columns, or one number, from {LEAST} to {MOST} each"
        )
    if limit is not None and not 1 <= limit <= 1_000_000:
        raise UserError(f"snake: limit is {limit}, but an episode needs at least one step, 1,000,000 at most")
    for name, reward in (("fruit", fruit), ("death", death), ("step", step)):
        if not math.isfinite(reward):
            raise UserError(f"snake: {name} is {reward}, which is no reward that can be summed")
    rows, columns = map(int, sides)
    steps = PACE * rows * columns if limit is None else int(limit)
    return _environment((rows, columns), steps, float(fruit), float(death), float(step))


@functools.cache  # the same game is the same object: programs are shared
def _environment(
    shape: tuple[int, int], limit: int, of_fruit: float, of_death: float, of_step: float
) -> Environment:
    def reset(key: chex.PRNGKey) -> tuple[jax.Array, State]:
        state = begin(key, shape)
        return observe(state), state

    def step(
        key: chex.PRNGKey, state: State, action: jax.Array
    ) -> tuple[jax.Array, State, jax.Array, jax.Array]:
        after, eaten, died = act(key, state, action)
        reward = of_step + jnp.where(eaten, of_fruit, 0.0) + jnp.where(died, of_death, 0.0)
        return observe(after), after, reward, died | (after.order > 0).all()

    most = shape[0] * shape[1] - 1
    known = of_fruit > 0 and of_step == 0  # else it takes more than eating everything
    return rules.environment(
        reset,
        step,
        observation_shape=(*shape, 5),
        actions=Discrete(len(ACTIONS)),
        limit=limit,
        threshold=SOLVED * of_fruit * min(most, limit) if known else None,
        best=of_fruit * min(most, limit) if known else None,
        legal=legal,
    )


# What an observation says, by comparisons alone: of NumPy and of JAX alike.


def _beside(plane: Any) -> Any:
    """What a plane (rows, columns), bool, has where each action leads to from each cell, (4, rows, columns);
    False beyond the walls."""
    padded = arrays_of(plane).pad(plane, 1)
    return arrays_of(plane).stack([padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]])


def _ahead(plane: Any, obs: Any) -> Any:
    """What a plane (rows, columns), bool, has where each action leads to from the head, (4,)."""
    return (_beside(plane) & (obs[..., HEAD] > 0.5)).any(axis=(1, 2))


def _passable(obs: Any) -> Any:
    """Cells that are not in the way: the tail's is not, since it moves on; bool (rows, columns)."""
    return ~(obs[..., BODY] > 0.5) | (obs[..., TAIL] > 0.5)


def survived(obs: Any) -> Any:
    """Which actions run into nothing, of an observation (rows, columns, 5): jumanji's mask, bool (4,)."""
    return _ahead(_passable(obs), obs)


def legal(obs: Any) -> Any:
    """The same; every action where each of them runs into something, as one has to be taken; bool (4,)."""
    mask = survived(obs)
    return mask | ~mask.any()


def ways_out(obs: Any) -> Any:
    """After which actions a way leads from the head over free cells to where the tail then is, or the board
    is full, of an observation (rows, columns, 5), bool (4,)."""
    xp = arrays_of(obs)
    body, tail = obs[..., BODY] > 0.5, obs[..., TAIL] > 0.5
    rest = body & ~tail
    order = xp.where(rest, obs[..., ORDER], np.float32(2))
    second = xp.where(
        rest.any(), rest & (order == order.min()), tail
    )  # the next tail, unless a fruit is eaten
    moved, grown = _flood(xp.stack([second, tail]), xp.stack([_passable(obs), ~body]))
    last = (~body).astype(np.int32).sum() == 1
    eats = _ahead(obs[..., FRUIT] > 0.5, obs)
    return survived(obs) & xp.where(eats, _ahead(grown, obs) | last, _ahead(moved, obs))


def _flood(start: Any, free: Any) -> Any:
    """The free cells that can be come to from `start`, and `start`, bool (boards, rows, columns) each."""
    xp = arrays_of(start)

    def spread(reached: Any) -> Any:
        padded = xp.pad(reached, ((0, 0), (1, 1), (1, 1)))
        near = padded[:, :-2, 1:-1] | padded[:, 1:-1, 2:] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2]
        return reached | near & free

    if xp is jnp:
        return jax.lax.fori_loop(0, start[0].size, lambda i, reached: spread(reached), start)
    while ((reached := spread(start)) != start).any():
        start = reached
    return start


# Words

THINGS = ("the wall", "your body", "free", "the fruit")
PLACES = tuple(
    " and ".join(part for part in (down, right) if part) or "nowhere"
    for down, right in itertools.product(("up", "", "down"), ("left", "", "right"))
)
"""Where a fruit may lie, from the head; nowhere on a full board, which nobody sees who acts."""
SUBSETS = tuple(
    tuple(itertools.compress(range(len(ACTIONS)), chosen))
    for chosen in itertools.product((False, True), repeat=len(ACTIONS))
)
"""Every set of actions, none first."""


def fields() -> tuple[Field, ...]:
    """`fruit`, `up`, `right`, `down`, `left`, `options` and `out`: in which direction the fruit lies, what is
    next to the head, the actions that there are, and those after which a way leads back out."""

    def fruit(obs: Any) -> Any:
        columns = obs.shape[1]
        head, place = (obs[..., plane].argmax() for plane in (HEAD, FRUIT))

        def side(of: Any, other: Any) -> Any:
            return 1 + (of > other).astype(np.int32) - (of < other).astype(np.int32)

        return 3 * side(place // columns, head // columns) + side(place % columns, head % columns)

    def beside(action: int) -> Callable[[Any], Any]:
        def index(obs: Any) -> Any:
            xp = arrays_of(obs)
            inside = _ahead(xp.ones(obs.shape[:2], bool), obs)[action].astype(np.int32)
            free = survived(obs)[action].astype(np.int32)
            eats = _ahead(obs[..., FRUIT] > 0.5, obs)[action].astype(np.int32)
            return inside + free + free * eats

        return index

    def subset(mask: Any) -> Any:
        return (mask.astype(np.int32) * np.array([8, 4, 2, 1], np.int32)).sum()

    listed = tuple(", ".join(ACTIONS[action] for action in one) or "none" for one in SUBSETS)
    return (
        Field("fruit", PLACES, fruit),
        *(Field(word, THINGS, beside(action)) for action, word in enumerate(ACTIONS)),
        Field("options", listed[1:], lambda obs: subset(legal(obs)) - 1, SUBSETS[1:]),
        Field("out", listed, lambda obs: subset(ways_out(obs))),
    )


# The reference policy

SEARCHED = 2000
"""Snakes that a search looks at."""
Snake = tuple[int, ...]
"""The cells that it lies on, row by row numbered, the head's first."""


@functools.cache
def _neighbours(rows: int, columns: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Of each cell, the actions that lead to another one, each with that one."""
    cells: list[tuple[tuple[int, int], ...]] = []
    for row, column in itertools.product(range(rows), range(columns)):
        led = [(row + down, column + right) for down, right in MOVES]
        cells.append(
            tuple(
                (action, r * columns + c)
                for action, (r, c) in enumerate(led)
                if 0 <= r < rows and 0 <= c < columns
            )
        )
    return tuple(cells)


def _follows(body: Snake, shape: tuple[int, int]) -> bool:
    """Whether a way leads from the head over free cells to the tail, or the board is full."""
    if len(body) == shape[0] * shape[1] or len(body) < 3:
        return True
    near, taken, tail = _neighbours(*shape), set(body), body[-1]
    reached, front = {body[0]}, [body[0]]
    while front:
        for _, cell in near[front.pop()]:
            if cell == tail:
                return True
            if cell not in taken and cell not in reached:
                reached.add(cell)
                front.append(cell)
    return False


def _moved(body: Snake, cell: int, fruit: int) -> Snake:
    return (cell, *body) if cell == fruit else (cell, *body[:-1])


def _search(body: Snake, fruit: int, shape: tuple[int, int]) -> list[int]:
    """The actions with which the reference's ways begin (see `reference`)."""
    near = _neighbours(*shape)
    front: dict[Snake, frozenset[int]] = {
        body: frozenset()
    }  # snakes, with the actions that lead to them first
    seen, deadly = {body}, frozenset[int]()
    while front and len(seen) < SEARCHED:
        following: dict[Snake, frozenset[int]] = {}
        safe, unsafe = frozenset[int](), frozenset[int]()
        for one, began in front.items():
            for action, cell in near[one[0]]:
                if cell in one[:-1]:
                    continue
                first, after = began or frozenset((action,)), _moved(one, cell, fruit)
                if cell != fruit and (after in following or after not in seen):
                    seen.add(after)
                    following[after] = following.get(after, frozenset()) | first
                elif cell == fruit and _follows(after, shape):
                    safe |= first
                elif cell == fruit:
                    unsafe |= first
        if safe:
            return list(safe)
        deadly, front = deadly or unsafe, following
    if not front:
        return list(deadly)
    led = [(a, _moved(body, cell, fruit)) for a, cell in near[body[0]] if cell not in body[:-1]]
    return [action for action, after in led if _follows(after, shape)]


def reference(observations: Floats) -> np.ndarray:
    """A strong policy, (N, rows, columns, 5) -> the actions that it holds for equally good, bool (N, 4).

    The shortest ways to the fruit after which one leads from the head to the tail, among all that the snake
    can go: nothing is random until it eats. Where there are none, the shortest ones to the fruit. Where the
    search was cut short before it knew, whatever keeps a way to the tail.

    On 5 x 5 cells it eats 23.99 of the 24 fruits (500 episodes, standard error 0.003), in 130 steps on
    average: 497 boards were filled, the others had 23.
    """
    found = np.zeros((len(observations), len(ACTIONS)), bool)
    for row, obs in zip(found, observations, strict=True):
        body, order = (obs[..., plane].ravel() for plane in (BODY, ORDER))
        cells = np.flatnonzero(body > 0.5)
        lies = tuple(cells[np.argsort(-order[cells])].tolist())
        row[_search(lies, int(obs[..., FRUIT].argmax()), obs.shape[:2]) if lies else []] = True
    found[~found.any(axis=1)] = True
    return found


COMMON = common(budget=100_000, eval_interval=1000, eval_episodes=5, train_frequency=4)

# The winners of 20 settings each (results/tuning/games).
STANDARD = COMMON.replace(
    name="standard@1",
    learning_rate=0.00275,
    discount=0.97,
    epsilon=0.05,
    epsilon_decay_steps=10_000,
    learning_rate_end=0.000275,
    learning_rate_decay_steps=100_000,
    n_step=3,
    layer_norm=True,
    learning_starts=1000,
    target_network_frequency=1,
    polyak=0.05,
    others=(
        PPO(
            hidden=(256,),
            learning_rate=0.00247,
            discount=0.97,
            gae_lambda=0.8,
            entropy_weight=0.03,
            epochs=2,
            minibatches=2,
            clip=0.3,
        ),
        A2C(
            hidden=(256,),
            learning_rate=0.00143,
            discount=0.95,
            gae_lambda=0.95,
            entropy_weight=0.1,
            normalise_advantages=True,
            optimiser="adam",
        ),
    ),
)

TASK = Task(
    name="snake",
    game=snake,
    protocols=by_name([STANDARD, COMMON]),
    words=Description(fields=fields(), reader=Words(ACTIONS), any_shape=True),
    reference=reference,
    reference_episodes=200,
)
