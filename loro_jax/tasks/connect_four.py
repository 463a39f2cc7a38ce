"""Connect Four: four stones in a row against a scripted opponent, who answers within the environment's step.

Six rows and seven columns; a stone falls to the lowest free cell of its column. Who begins alternates from
game to game. The rules are held against pgx's (`tests/tasks/test_connect_four.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

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
from loro_jax.tasks.words import Description, Field, arrays_of

ROWS, COLUMNS, FOUR = 6, 7, 4
LIMIT = ROWS * COLUMNS // 2
"""Stones of one side: no game has more steps."""
OPPONENTS = ("one_ply", "uniform", "two_ply")
BEGINS = ("alternate", "agent", "opponent")


def _lines() -> np.ndarray:
    """Which cells each line of four has, row by row from the top: bool (69, 42)."""
    found = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for row in range(ROWS):
            for column in range(COLUMNS):
                cells = [(row + k * down, column + k * right) for k in range(FOUR)]
                if all(0 <= r < ROWS and 0 <= c < COLUMNS for r, c in cells):
                    board = np.zeros((ROWS, COLUMNS), bool)
                    board[tuple(zip(*cells, strict=True))] = True
                    found.append(board.ravel())
    return np.array(found)


LINES = _lines()
# Sums of zeros and ones are exact in any precision, and products of floats are quick.
_LINES = LINES.astype(np.float32)


class State(NamedTuple):
    """The agent's stones and the opponent's, bool (6, 7), the top row first; whether the opponent began,
    bool ()."""

    own: jax.Array
    other: jax.Array
    second: jax.Array


# Each of these takes arrays of NumPy or of JAX.


def landing(taken: Any) -> Any:
    """The cells that the next stones fall to, one in each column that is not full; bool (6, 7), of the cells
    that are taken."""
    xp = arrays_of(taken)
    ground = xp.concatenate([taken[1:], xp.ones((1, COLUMNS), bool)])
    return ~taken & ground


def dropped(stones: Any, taken: Any, column: Any) -> Any:
    """The stones with one more, in a column from 0 to 6; the same where it is full. Bool (6, 7)."""
    return stones | (landing(taken) & (arrays_of(taken).arange(COLUMNS) == column))


def has_four(stones: Any) -> Any:
    """Whether there are four in a row, bool ()."""
    return (_LINES @ stones.ravel().astype("float32") == FOUR).any()


def finishing(stones: Any, others: Any) -> Any:
    """The free cells in which a stone makes four in a row, bool (6, 7)."""
    mine, theirs = (_LINES @ x.ravel().astype("float32") for x in (stones, others))
    three = ((mine == FOUR - 1) & (theirs == 0)).astype("float32")
    return (three @ _LINES > 0).reshape(ROWS, COLUMNS) & ~stones & ~others


def winning(stones: Any, others: Any) -> Any:
    """The columns in which the next stone makes four in a row, bool (7,)."""
    return (finishing(stones, others) & landing(stones | others)).any(axis=0)


def preferred(opponent: str, stones: jax.Array, others: jax.Array) -> jax.Array:
    """The columns of which an opponent takes any, each as likely; bool (7,), of its stones and the agent's.

    - `uniform`: all that are not full.
    - `one_ply`: those that win at once; if none does, those in which the agent would win at once; if there
      are none, all that are not full.
    - `two_ply`: wins and blocks as `one_ply`. Else it leaves out the columns after which the agent could win
      at once, unless these are all; and where among the others are some after which two columns or more would
      win at once, it takes one of these.
    """
    taken = stones | others
    there = landing(taken).any(axis=0)
    if opponent == "uniform":
        return there
    rest = there
    if opponent == "two_ply":
        after = jax.vmap(lambda column: dropped(stones, taken, column))(jnp.arange(COLUMNS))
        safe = there & ~jax.vmap(lambda mine: winning(others, mine).any())(after)
        rest = _if_any(safe, there)
        threats = jax.vmap(lambda mine: winning(mine, others).sum(dtype=jnp.int32))(after)
        rest = _if_any(rest & (threats >= 2), rest)
    return _if_any(winning(stones, others), _if_any(winning(others, stones), rest))


def _if_any(mask: jax.Array, otherwise: jax.Array) -> jax.Array:
    return jnp.where(mask.any(), mask, otherwise)


def observe(state: State) -> jax.Array:
    """float32 (6, 7, 2): the agent's stones and the opponent's, the top row first."""
    return jnp.stack([state.own, state.other], axis=-1).astype(jnp.float32)


def begin(key: chex.PRNGKey, second: jax.Array) -> State:
    """A game whose first stone is the opponent's, if the agent is the `second`, ().

    On an empty board there is nothing to win or to block: each opponent takes any column.
    """
    own = jnp.zeros((ROWS, COLUMNS), bool)
    column = jax.random.randint(key, (), 0, COLUMNS)
    return State(own, dropped(own, own, column) & second, second)


def play(
    key: chex.PRNGKey, state: State, action: jax.Array, opponent: str
) -> tuple[State, jax.Array, jax.Array]:
    """A stone of the agent's and, if that does not end the game, one of the opponent's.

    -> the state, the reward, float32 (), and whether the game is over, (). A column that is full takes no
    stone.
    """
    own = dropped(state.own, state.own | state.other, action)
    won, full = has_four(own), (own | state.other).all()
    column = Discrete(COLUMNS).sample(key, preferred(opponent, state.other, own))
    answered = dropped(state.other, own | state.other, column)
    other = jnp.where(won | full, state.other, answered)
    lost = has_four(other)
    reward = won.astype(jnp.float32) - lost.astype(jnp.float32)
    return State(own, other, state.second), reward, won | lost | (own | other).all()


def legal(obs: Any) -> Any:
    """The columns that are not full, of what an observation (6, 7, 2) tells: bool (7,)."""
    return (obs[0] < 0.5).all(axis=-1)


def connect_four(
    opponent: Literal["one_ply", "uniform", "two_ply"] = "one_ply",
    begins: Literal["alternate", "agent", "opponent"] = "alternate",
) -> Environment:
    """Connect Four; reward 1 for four in a row, -1 where the opponent has them, 0 else; each terminates, as a
    full board does.

    Args:
        opponent: who plays against the agent (`preferred`).
        begins: who has a game's first stone: the agent and the opponent in turn, of whom the first game's is
            drawn, as each evaluation's is; or always the same.
    """
    for name, given, known in (("opponent", opponent, OPPONENTS), ("begins", begins, BEGINS)):
        if given not in known:
            raise UserError(
                f"connect_four: {name} is {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, got {given!r}"
            )
    return _environment(opponent, begins)


@functools.cache  # the same game is the same object: programs are shared
def _environment(opponent: str, begins: str) -> Environment:
    def first(key: chex.PRNGKey, second: jax.Array) -> tuple[jax.Array, State]:
        state = begin(key, second)
        return observe(state), state

    def reset(key: chex.PRNGKey) -> tuple[jax.Array, State]:
        who, column = jax.random.split(key)
        second = jax.random.bernoulli(who) if begins == "alternate" else jnp.bool_(begins == "opponent")
        return first(column, second)

    def again(key: chex.PRNGKey, state: State) -> tuple[jax.Array, State]:
        return first(key, ~state.second)

    def step(
        key: chex.PRNGKey, state: State, action: jax.Array
    ) -> tuple[jax.Array, State, jax.Array, jax.Array]:
        after, reward, over = play(key, state, action, opponent)
        return observe(after), after, reward, over

    return rules.environment(
        reset,
        step,
        observation_shape=(ROWS, COLUMNS, 2),
        actions=Discrete(COLUMNS),
        limit=LIMIT,
        threshold=0.8,
        best=1.0,
        legal=legal,
        again=again if begins == "alternate" else None,
    )


# The reference: NumPy, many positions side by side. A side's stones are a number of 49 bits, seven to a
# column from its lowest cell; the seventh stays 0, so that no line goes on from one column to the next.

HEIGHT = ROWS + 1
AHEAD = 2
"""Stones that the reference looks ahead behind its own, each side's forced answers and wins besides."""
WIN = 10_000
"""A win's value, and as much more as there are free cells left: beyond any other."""
THREAT = 4
"""What a free cell that would make four is worth, in lines of four through a stone."""
AT_ONCE = 4096
"""Positions that are searched side by side; each may become fifty."""

_ROW, _COLUMN = np.indices((ROWS, COLUMNS))
_BIT = np.uint64(1) << (_COLUMN * HEIGHT + ROWS - 1 - _ROW).astype(np.uint64)
_BOARD, _GROUND = _BIT.sum(), _BIT[-1].sum()
_OF_COLUMN = _BIT.sum(axis=0)
# By how many lines of four go through a cell: the cells that have so many.
_THROUGH = LINES.sum(axis=0).reshape(ROWS, COLUMNS)
_CELLS = {int(many): _BIT[many == _THROUGH].sum() for many in np.unique(_THROUGH)}

Bits = np.ndarray
"""Stones or cells of N positions, uint64 (N,)."""


def _shifted(stones: Bits, by: int) -> Bits:
    return stones << np.uint64(by) if by >= 0 else stones >> np.uint64(-by)


def _count(cells: Bits) -> np.ndarray:
    return np.bitwise_count(cells).astype(np.int64)


def _finishing(stones: Bits, taken: Bits) -> Bits:
    """`finishing`: cells that have three of a side's stones in line with them, wherever the gap is."""
    found = np.zeros_like(stones)
    for step in (1, ROWS, HEIGHT, HEIGHT + 1):
        for gap in range(FOUR):
            others = [_shifted(stones, (gap - k) * step) for k in range(FOUR) if k != gap]
            found |= functools.reduce(np.bitwise_and, others)
    return found & _BOARD & ~taken


def _free(taken: Bits) -> Bits:
    """`landing`."""
    return (taken + _GROUND) & ~taken & _BOARD


def _value(own: Bits, other: Bits, ahead: int) -> np.ndarray:
    """The value of positions for the side that is to move, int64 (N,): of the best play as far as `ahead`
    stones, and of what the board looks like there."""
    taken = own | other
    free, threats = _free(taken), _finishing(other, taken)
    left = ROWS * COLUMNS - _count(taken)
    wins = (_finishing(own, taken) & free) != 0
    must = threats & free  # cells in which the other side would win next
    # And no stone goes below a cell in which it would win.
    moves = np.where(must != 0, must, free) & ~(threats >> np.uint64(1))
    lost = ~wins & (left > 0) & ((_count(must) > 1) | (moves == 0))
    value = np.where(wins, WIN + left, np.where(lost, 1 - WIN - left, 0))
    (going,) = np.nonzero(~wins & ~lost & (left > 0))
    if not len(going):
        return value
    own, other, moves = own[going], other[going], moves[going]
    if not ahead:
        value[going] = _judged(own, other)
        return value
    each = moves[:, None] & _OF_COLUMN
    position, _ = kept = np.nonzero(each)
    after = -_value(other[position], own[position] | each[kept], ahead - 1)
    best = np.full(len(going), -2 * WIN)
    np.maximum.at(best, position, after)
    value[going] = best
    return value


def _judged(own: Bits, other: Bits) -> np.ndarray:
    """How a board looks for a side, int64 (N,): lines of four through its stones, and the cells that would
    make four, less the other's."""

    def of(stones: Bits) -> np.ndarray:
        lines = sum(many * _count(stones & cells) for many, cells in _CELLS.items())
        return np.asarray(lines + THREAT * _count(_finishing(stones, own | other)))

    return of(own) - of(other)


def reference(observations: np.ndarray) -> np.ndarray:
    """The columns that look best two stones ahead, (N, 6, 7, 2) -> bool (N, 7).

    It knows a position for won or lost as far as it sees and as forced answers lead one stone on, and judges
    others by `_judged`. Of wins it takes the soonest, of losses the latest. Its mean return in 500 games is
    1.000 against `one_ply` and 0.974 against `two_ply`.
    """
    stones = (np.asarray(observations) > 0.5).reshape(-1, ROWS * COLUMNS, 2)
    sides = np.stack([stones[..., side].astype(np.uint64) @ _BIT.ravel() for side in (0, 1)], axis=1)
    positions, place = np.unique(sides, axis=0, return_inverse=True)
    parts = np.array_split(positions, -(-len(positions) // AT_ONCE) or 1)
    return np.concatenate([_best(*part.T) for part in parts])[place.reshape(-1)]


def _best(own: Bits, other: Bits) -> np.ndarray:
    """The columns of the greatest value for the side that is to move, bool (N, 7)."""
    taken = own | other
    each = _free(taken)[:, None] & _OF_COLUMN
    position, column = kept = np.nonzero(each)
    mine = own[position] | each[kept]
    won = (_finishing(own, taken)[position] & each[kept]) != 0
    left = ROWS * COLUMNS - _count(taken[position])
    values = np.full(each.shape, -3 * WIN)
    values[kept] = np.where(won, WIN + left, 0)
    position, column, mine = position[~won], column[~won], mine[~won]
    values[position, column] = -_value(other[position], mine, AHEAD)
    return np.asarray(values == values.max(axis=1, keepdims=True))


# Words

MIDDLE_FIRST = (3, 2, 4, 1, 5, 0, 6)
NAMES = tuple(str(column + 1) for column in range(COLUMNS))
"""What the columns are called."""
OPEN = tuple(tuple(c for c in range(COLUMNS) if code >> c & 1) for code in range(1, 2**COLUMNS))
"""Every set of columns that may be open, by the number of its mask less one."""


def _planes(obs: Any) -> tuple[Any, Any]:
    return obs[..., 0] > 0.5, obs[..., 1] > 0.5


def _middlemost(mask: Any) -> Any:
    """1 and the number of the column nearest to the middle, the left one of two; 0 where the mask (7,) has
    none."""
    xp = arrays_of(mask)
    number = xp.asarray(MIDDLE_FIRST, np.int32)[mask[xp.asarray(MIDDLE_FIRST)].argmax()] + 1
    return number * mask.any().astype(np.int32)


def fields() -> tuple[Field, ...]:
    """`win` and `block`: the column in which the agent wins at once, and the one in which the opponent would;
    of several the one nearest to the middle. `options`: the columns that are not full. `middle`: of these the
    one or two nearest to the middle."""

    def win(obs: Any) -> Any:
        own, other = _planes(obs)
        return _middlemost(winning(own, other))

    def block(obs: Any) -> Any:
        own, other = _planes(obs)
        return _middlemost(winning(other, own))

    def options(obs: Any) -> Any:
        there = legal(obs).astype(np.int32)
        number = (there * (2 ** np.arange(COLUMNS, dtype=np.int32))).sum() - 1
        return number + (number < 0).astype(np.int32)  # a board that is full, on which nobody acts

    middles = ((3,), (2, 4), (2,), (4,), (1, 5), (1,), (5,), (0, 6), (0,), (6,))

    def middle(obs: Any) -> Any:
        xp, there = arrays_of(obs), legal(obs)
        any_of = xp.stack([there[xp.asarray(columns)].all() for columns in middles])
        return any_of.argmax()

    def said(columns: Sequence[int], between: str) -> str:
        return between.join(NAMES[c] for c in columns)

    return (
        Field("win", ("none", *NAMES), win),
        Field("block", ("none", *NAMES), block),
        Field("options", tuple(said(columns, ", ") for columns in OPEN), options, OPEN),
        Field("middle", tuple(said(columns, " and ") for columns in middles), middle),
    )


COMMON = common(budget=100_000, eval_interval=1000, eval_episodes=20, train_frequency=4)

# The winners of 20 settings each (results/tuning/games).
STANDARD = COMMON.replace(
    name="standard@1",
    learning_rate=0.00123,
    discount=0.995,
    epsilon=0.05,
    others=(
        PPO(
            hidden=(256,),
            learning_rate=0.000426,
            learning_rate_end=4.26e-05,
            learning_rate_decay_steps=100_000,
            discount=0.97,
            rollout=5,
            entropy_weight=0.03,
            minibatches=2,
            clip=0.1,
        ),
        A2C(
            hidden=(256,),
            learning_rate=0.00208,
            discount=0.95,
            gae_lambda=0.95,
            games=4,
            rollout=10,
            entropy_weight=0.1,
            reward_scale=5.0,
        ),
    ),
)

TASK = Task(
    name="connect_four",
    game=connect_four,
    protocols=by_name([STANDARD, COMMON]),
    words=Description(fields=fields(), reader=Words(NAMES)),
    reference=reference,
    reference_episodes=500,
    seeds=64,
)
