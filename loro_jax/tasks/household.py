"""Household: find a thing in a house of three rooms and put it where the goal says, in words.

After the pick-and-place tasks of ALFWorld (arXiv 2010.03768), which cannot run in a compiled program: its
games are played by a text engine, with dozens of receptacles and things, and an agent there meets sentences.
Here are three rooms, six receptacles, two of them closed at first, and two things a game, one of them the
goal's; what a game shows is the same in numbers and in words; there is no container within a container, and
nothing is examined, heated, cleaned or sliced. 16 games, 8 to train on and 8 others. Nothing is random but
which game is played.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.agents import PPO
from loro_jax.errors import UserError
from loro_jax.protocols import by_name, common
from loro_jax.spaces import Discrete
from loro_jax.tasks import planning, rules
from loro_jax.tasks.actions import Mentions
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.words import Description, Field, arrays_of

ROOMS = ("kitchen", "living room", "bedroom")
RECEPTACLES = ("counter", "fridge", "sofa", "shelf", "desk", "drawer")
ROOM_OF = (0, 0, 1, 1, 2, 2)
CLOSED = (1, 5)
"""Receptacles that are closed at first."""
THINGS = ("apple", "mug", "book", "soap")
START = 1
"""The room in which an episode begins."""
LIMIT = 30
FURTHEST = 8
"""Steps of the shortest way to the goal in the game where it is longest."""
HAND = len(RECEPTACLES)
"""The place of a thing that is carried."""
ABSENT = HAND + 1
"""The place of a thing that the game does not have."""

GO_ROOM, GO, OPEN, TAKE, PUT = 0, 3, 9, 11, 15
"""Where each kind of action begins: 3 rooms, 6 receptacles, 2 to open, 4 things to take, and to put down."""
ACTIONS = 16
PLACES = len(ROOMS) + len(RECEPTACLES)
"""Where one may be: in a room, or at a receptacle."""


class Game(NamedTuple):
    """What is to be put where, where it is at first, and the other thing with its place."""

    thing: str
    onto: str
    at: str
    other: str
    other_at: str


GAMES = (
    # To train on.
    Game("apple", "desk", "fridge", "mug", "counter"),
    Game("apple", "shelf", "counter", "book", "sofa"),
    Game("mug", "sofa", "counter", "soap", "drawer"),
    Game("mug", "fridge", "desk", "apple", "counter"),
    Game("book", "drawer", "shelf", "apple", "fridge"),
    Game("book", "counter", "sofa", "mug", "desk"),
    Game("soap", "counter", "drawer", "book", "shelf"),
    Game("soap", "shelf", "desk", "mug", "sofa"),
    # Unseen.
    Game("apple", "drawer", "fridge", "book", "desk"),
    Game("apple", "sofa", "counter", "soap", "shelf"),
    Game("mug", "shelf", "fridge", "book", "drawer"),
    Game("mug", "drawer", "counter", "apple", "sofa"),
    Game("book", "desk", "shelf", "mug", "fridge"),
    Game("book", "fridge", "drawer", "soap", "counter"),
    Game("soap", "sofa", "drawer", "apple", "desk"),
    Game("soap", "drawer", "shelf", "book", "counter"),
)
TRAINED, UNSEEN = tuple(range(8)), tuple(range(8, 16))


class State(NamedTuple):
    """The game, where one is, which of the closed receptacles are open, (2,) bool, and the place of each
    thing, (4,), each int32."""

    game: jax.Array
    at: jax.Array
    open: jax.Array
    places: jax.Array


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By game: the goal's thing and receptacle, and where the things are at first, (16,), (16,), (16, 4)."""
    things = [THINGS.index(g.thing) for g in GAMES]
    onto = [RECEPTACLES.index(g.onto) for g in GAMES]
    places = np.full((len(GAMES), len(THINGS)), ABSENT)
    for i, g in enumerate(GAMES):
        places[i, THINGS.index(g.thing)] = RECEPTACLES.index(g.at)
        places[i, THINGS.index(g.other)] = RECEPTACLES.index(g.other_at)
    return np.array(things), np.array(onto), places


WANTED, ONTO, FIRST = _tables()


def begin(game: jax.Array) -> State:
    return State(
        jnp.asarray(game, jnp.int32), jnp.int32(START), jnp.zeros(len(CLOSED), bool),
        jnp.asarray(FIRST, jnp.int32)[game],
    )  # fmt: skip


def accessible(state: State) -> jax.Array:
    """Whether one is at a receptacle that is open, ()."""
    here = state.at - len(ROOMS)
    shut = jnp.array([(here == c) & ~state.open[i] for i, c in enumerate(CLOSED)]).any()
    return (here >= 0) & ~shut


def admissible(state: State) -> jax.Array:
    """Which actions there are, bool (16,)."""
    here = state.at - len(ROOMS)
    room = jnp.where(here < 0, state.at, jnp.asarray(ROOM_OF, jnp.int32)[jnp.maximum(here, 0)])
    receptacles = jnp.arange(len(RECEPTACLES))
    carries = (state.places == HAND).any()
    reach = accessible(state)
    parts = [
        jnp.arange(len(ROOMS)) != room,
        (jnp.asarray(ROOM_OF) == room) & (receptacles != here),
        jnp.array([(here == c) & ~state.open[i] for i, c in enumerate(CLOSED)]),
        (state.places == here) & reach & ~carries,
        (carries & reach)[None],
    ]
    return jnp.concatenate(parts)


def act(state: State, action: jax.Array) -> tuple[State, jax.Array]:
    """-> the state after an action, which is the same where there is no such action in it; whether the goal
    is reached, ()."""
    here = state.at - len(ROOMS)
    goes = jnp.where(action < GO, action, action - GO + len(ROOMS))
    at = jnp.where(action < OPEN, goes, state.at)
    opened = state.open | (jnp.arange(len(CLOSED)) == action - OPEN)
    taken = jnp.where(jnp.arange(len(THINGS)) == action - TAKE, HAND, state.places)
    put = jnp.where((state.places == HAND) & (action == PUT), here, taken)
    after = State(state.game, at.astype(jnp.int32), opened, put.astype(jnp.int32))
    legal = admissible(state)[action]
    after = jax.tree.map(lambda a, b: jnp.where(legal, a, b), after, state)
    wanted = jnp.asarray(WANTED, jnp.int32)[state.game]
    return after, after.places[wanted] == jnp.asarray(ONTO, jnp.int32)[state.game]


# Seen: the goal's thing and receptacle, where one is, what is open, what is carried, what lies there.
SIZES = (len(THINGS), len(RECEPTACLES), PLACES, len(CLOSED), len(THINGS), len(THINGS))
STARTS = tuple(int(n) for n in np.cumsum((0, *SIZES)))
SIZE = STARTS[-1]


def observe(state: State, full: bool = False) -> jax.Array:
    """float32 (29,); with `full`, the place of each thing as well, (29 + 32,)."""
    here = state.at - len(ROOMS)

    def hot(number: jax.Array, of: int) -> jax.Array:
        return jnp.arange(of) == number

    parts = [
        hot(jnp.asarray(WANTED, jnp.int32)[state.game], len(THINGS)),
        hot(jnp.asarray(ONTO, jnp.int32)[state.game], len(RECEPTACLES)),
        hot(state.at, PLACES),
        state.open,
        state.places == HAND,
        (state.places == here) & accessible(state),
    ]
    if full:
        parts += [hot(place, ABSENT + 1) for place in state.places]
    return jnp.concatenate(parts).astype(jnp.float32)


def household(
    games: Literal["trained", "unseen", "all"] = "trained", full: bool = False, limit: int = LIMIT
) -> Environment:
    """A house to find things in; reward 1 when the goal is reached, which terminates, and 0 else.

    Args:
        games: which of the 16 are played, each episode one of them, drawn uniformly.
        full: where every thing is can be seen from everywhere.
        limit: steps after which an episode is truncated.
    """
    which = {"trained": TRAINED, "unseen": UNSEEN, "all": TRAINED + UNSEEN}.get(games)
    if which is None:
        raise UserError(f"household: games is 'trained', 'unseen' or 'all', got {games!r}")
    return _environment(which, bool(full), limit)


@functools.cache
def _environment(which: tuple[int, ...], full: bool, limit: int) -> Environment:
    if not (best := best_return(which, limit)):
        raise UserError(f"household: no goal is reached within {limit} steps; give more")

    def reset(key: chex.PRNGKey) -> tuple[jax.Array, State]:
        state = begin(jax.random.choice(key, jnp.asarray(which, jnp.int32)))
        return observe(state, full), state

    def step(
        key: chex.PRNGKey, state: State, action: jax.Array
    ) -> tuple[jax.Array, State, jax.Array, jax.Array]:
        del key
        after, reached = act(state, action)
        return observe(after, full), after, reached.astype(jnp.float32), reached

    return rules.environment(
        reset,
        step,
        observation_shape=(SIZE + full * (ABSENT + 1) * len(THINGS),),
        actions=Discrete(ACTIONS),
        limit=limit,
        threshold=0.95 * best,
        best=best,
        legal=legal,
    )


def best_return(which: tuple[int, ...], limit: int) -> float:
    """The share of games whose goal can be reached within the limit."""
    return sum(ways()[game] <= limit for game in which) / len(which) if limit < FURTHEST else 1.0


@functools.cache
def ways() -> tuple[int, ...]:
    """Steps of the shortest way to the goal, of each game."""
    return tuple(1 + round(math.log(q.max()) / math.log(0.99)) for q in values(0.99)[: len(GAMES)])


def _part(obs: Any, place: int) -> Any:
    return obs[STARTS[place] : STARTS[place + 1]]


def legal(obs: Any) -> Any:
    """`admissible`, of what an observation (*obs,) tells: bool (16,)."""
    xp = arrays_of(obs)
    at, opened, carried, lying = (_part(obs, i) > 0.5 for i in (2, 3, 4, 5))
    rooms = at[: len(ROOMS)]
    receptacles = at[len(ROOMS) :]
    in_room = xp.stack([rooms[r] | _any(receptacles, r) for r in range(len(ROOMS))])
    shut = xp.stack([receptacles[c] & ~opened[i] for i, c in enumerate(CLOSED)])
    reach = receptacles.any() & ~shut.any()
    near = xp.stack([in_room[ROOM_OF[i]] for i in range(len(RECEPTACLES))]) & ~receptacles
    return xp.concatenate([~in_room, near, shut, lying & ~carried.any(), (carried.any() & reach)[None]])


def _any(receptacles: Any, room: int) -> Any:
    """Whether one is at a receptacle of the room, ()."""
    found = [receptacles[i] for i, of in enumerate(ROOM_OF) if of == room]
    return functools.reduce(lambda a, b: a | b, found)


# Words


def _the(thing: str, receptacle: str) -> str:
    return f"{'in' if receptacle in ('fridge', 'drawer') else 'on'} the {receptacle}"


PHRASES = (
    *(f"go to the {room}" for room in ROOMS),
    *(f"go to the {receptacle}" for receptacle in RECEPTACLES),
    *(f"open the {RECEPTACLES[c]}" for c in CLOSED),
    *(f"take the {thing}" for thing in THINGS),
    "put it down here",
)
"""What each action is called."""


@functools.cache
def solved() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every state that the games can come to, N of them: what is seen (N, 29), all of it (N, 61), the state
    that each action leads to (N, 16), whether it reaches the goal, and which actions there are."""
    each = jax.jit(jax.vmap(lambda s: jax.vmap(lambda a: act(s, a))(jnp.arange(ACTIONS))))

    def flat(s: State) -> np.ndarray:
        parts = [np.asarray(x)[..., None] for x in (s.game, s.at)]
        return np.concatenate([*parts, np.asarray(s.open), np.asarray(s.places)], axis=-1).astype(np.int32)

    def state(rows: np.ndarray) -> State:
        x = jnp.asarray(rows, jnp.int32)
        return State(x[..., 0], x[..., 1], x[..., 2:4] > 0, x[..., 4:])

    rows = list(flat(jax.vmap(begin)(jnp.arange(len(GAMES)))))
    numbers = {row.tobytes(): i for i, row in enumerate(rows)}
    after, reached, done = [], [], 0
    while done < len(rows):
        batch = np.stack(rows[done : done + 256])
        padded = np.concatenate([batch, np.repeat(batch[:1], 256 - len(batch), axis=0)])
        found, goal = each(state(padded))
        led = flat(found)[: len(batch)]
        for one in led.reshape(-1, led.shape[-1]):
            if one.tobytes() not in numbers:
                numbers[one.tobytes()] = len(rows)
                rows.append(one)
        after += [[numbers[x.tobytes()] for x in of_one] for of_one in led]
        reached.append(np.asarray(goal)[: len(batch)])
        done += len(batch)
    all_ = state(np.stack(rows))
    seen = [np.asarray(jax.vmap(lambda s, full=full: observe(s, full))(all_)) for full in (False, True)]
    there = np.asarray(jax.vmap(admissible)(all_))
    return seen[0], seen[1], np.array(after), np.concatenate(reached), there


def values(discount: float = 0.99) -> Floats:
    """Best discounted return after each action, (N, 16); minus infinity where there is no such action."""
    _, _, after, reached, there = solved()
    value = np.zeros(len(after))
    for _ in range(100):
        q = np.where(there, np.where(reached, 1.0, discount * value[after]), -np.inf)
        if np.abs(q.max(axis=1) - value).max() < 1e-12:
            break
        value = q.max(axis=1)
    return q


@functools.cache
def _looks() -> planning.Looks:
    seen, whole, after, reached, there = solved()
    q = values()
    start = np.arange(len(q)) < len(GAMES)
    often = planning.occupancy(after, reached, q, there, start / len(GAMES), 0.99)
    return planning.Looks([seen, whole], q, often)


def reference(observations: Floats) -> np.ndarray:
    """The actions that lead soonest to the goal, for who knows where things are, (N, obs) -> (N, 16)."""
    return _looks().best(observations)


def worth(observations: Floats) -> Floats:
    """The discounted return after each action, as `reference` has it, (N, obs) -> (N, 16)."""
    return _looks().values(observations)


def _lists() -> Iterator[tuple[int, ...]]:
    """Every list of actions that there may be: a game has two things, and one is carried at a time."""
    for room in range(len(ROOMS)):
        near = [GO + i for i, of in enumerate(ROOM_OF) if of == room]
        away = [GO_ROOM + other for other in range(len(ROOMS)) if other != room]
        yield (*away, *near)
        for one in near:
            there = (*away, *(other for other in near if other != one))
            if one - GO in CLOSED:
                yield (*there, OPEN + CLOSED.index(one - GO))
            yield (*there, PUT)
            for many in range(3):
                for things in itertools.combinations(range(len(THINGS)), many):
                    yield (*there, *(TAKE + thing for thing in things))


def fields() -> tuple[Field, ...]:
    """`goal`, `place`, `hand`, `here` and `options`: what is wanted, where one is, what is carried, what lies
    there, and the actions that there are."""

    def which(place: int) -> Any:
        return lambda obs: _part(obs, place).argmax()

    goals = tuple(f"put the {thing} {_the(thing, r)}" for thing in THINGS for r in RECEPTACLES)

    def goal(obs: Any) -> Any:
        return which(0)(obs) * len(RECEPTACLES) + which(1)(obs)

    places = (
        *(f"in the middle of the {room}" for room in ROOMS),
        *(f"in the {ROOMS[ROOM_OF[i]]}, at the {r}" for i, r in enumerate(RECEPTACLES)),
        *(f"in the {ROOMS[ROOM_OF[c]]}, at the {RECEPTACLES[c]}, which is closed" for c in CLOSED),
    )

    def place(obs: Any) -> Any:
        at = which(2)(obs)
        for i, c in enumerate(CLOSED):
            shut = (at == len(ROOMS) + c) & (_part(obs, 3)[i] < 0.5)
            at = at + shut.astype(np.int32) * (PLACES + i - len(ROOMS) - c)
        return at

    hands = ("nothing", *(f"the {thing}" for thing in THINGS))

    def hand(obs: Any) -> Any:
        carried = (_part(obs, 4) > 0.5).astype(np.int32)
        return (carried * np.arange(1, len(THINGS) + 1, dtype=np.int32)).sum()

    lying = ["nothing"]
    for code in range(1, 2 ** len(THINGS)):
        lying.append(" and ".join(f"the {t}" for i, t in enumerate(THINGS) if code >> i & 1))

    def here(obs: Any) -> Any:
        return ((_part(obs, 5) > 0.5).astype(np.int32) * (2 ** np.arange(len(THINGS), dtype=np.int32))).sum()

    chosen = tuple(_lists())
    codes = tuple(sum(2**action for action in one) for one in chosen)

    def options(obs: Any) -> Any:
        mask = legal(obs).astype(np.int32)
        code = (mask * (2 ** np.arange(ACTIONS, dtype=np.int32))).sum()
        return sum((code == c).astype(np.int32) * i for i, c in enumerate(codes))

    listed = tuple(", ".join(PHRASES[a] for a in one) for one in chosen)
    return (
        Field("goal", goals, goal),
        Field("place", places, place),
        Field("hand", hands, hand),
        Field("here", tuple(lying), here),
        Field("options", listed, options, chosen),
    )


COMMON = common(budget=8000, eval_interval=80, eval_episodes=8)

# The winners of 16 settings each (results/tuning/worlds).
STANDARD = COMMON.replace(
    name="standard@1",
    hidden=(64, 64),
    learning_rate=0.0008,
    batch_size=64,
    discount=0.98,
    epsilon=0.05,
    epsilon_decay_steps=1600,
    n_step=5,
    learning_starts=100,
    target_network_frequency=50,
    huber_delta=10.0,
    others=(
        PPO(
            hidden=(256,),
            learning_rate=0.000946,
            discount=0.98,
            gae_lambda=0.9,
            games=4,
            rollout=10,
            epochs=2,
            minibatches=2,
            clip=0.3,
            entropy_weight=0.003,
        ),
    ),
)

TASK = Task(
    name="household",
    game=household,
    protocols=by_name([STANDARD, COMMON]),
    words=Description(fields=fields(), reader=Mentions(PHRASES), any_shape=True),
    answers="qwen2.5-coder-0.5b-instruct-shots",
    reference=reference,
    reference_episodes=64,
    seeds=64,
)
