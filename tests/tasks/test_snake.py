"""Snake: step by step against jumanji from copied states; its fruit, its words, its reference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from loro_jax.data import answers
from loro_jax.errors import UserError
from loro_jax.language import prompts
from loro_jax.tasks import load, reference, snake
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.rollout import recorded, uniform
from loro_jax.tasks.rules import Clocked
from loro_jax.tasks.snake import ACTIONS, FRUIT, HEAD, ORDER, State

TASK = load("snake")
FIELDS = {field.name: field for field in snake.fields()}


def board(*rows: str, fruit: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The observation of a snake whose cells are lettered from its head, A, on; "." is free."""
    order = np.zeros((len(rows), len(rows[0])), np.int32)
    letters = sorted(set("".join(rows)) - {"."})
    for r, row in enumerate(rows):
        for c, letter in enumerate(row):
            order[r, c] = len(letters) - letters.index(letter) if letter != "." else 0
    head = np.argwhere(order == order.max())[0]
    state = State(jnp.asarray(order), jnp.asarray(head, jnp.int32), jnp.asarray(fruit, jnp.int32))
    return np.asarray(snake.observe(state))


def play(
    act: Callable[[np.ndarray, np.random.Generator], np.ndarray], episodes: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Observations in which a policy of NumPy's acted, (N, 5, 5, 5), and its returns, (episodes,)."""
    env, rng = TASK.environment(), np.random.default_rng(seed)
    begin, step, fold = _programs()
    keys = jax.random.split(jax.random.key(seed), episodes)
    obs, state = begin(fold(keys, 0))
    seen, returns, alive = [], np.zeros(episodes), np.ones(episodes, bool)
    for t in range(env.limit):
        seen.append(np.asarray(obs)[alive])
        actions = act(np.asarray(obs), rng).astype(np.int32)
        obs, state, reward, terminated, truncated = step(fold(keys, 1 + t), state, actions)
        returns += np.where(alive, reward, 0)
        alive &= ~np.asarray(terminated | truncated)
        if not alive.any():
            break
    return np.concatenate(seen), returns


@functools.cache
def _programs() -> Any:
    env = TASK.environment()
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step)), jax.vmap(jax.random.fold_in, (0, None))


def drawn(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A uniform one of the actions of each mask, (N, 4) -> (N,)."""
    return np.asarray((rng.random(masks.shape) * masks).argmax(axis=1))


def visits(uniform: int, guided: int, mixed: int) -> np.ndarray:
    """Observations of so many episodes of uniform play, of the reference, and of the reference with three in
    ten moves uniform, (N, 5, 5, 5)."""
    env = TASK.environment()

    def stray(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        strays = rng.random((len(obs), 1)) < 0.3
        return drawn(np.where(strays, legal_of(env, obs), reference.preferences(TASK, obs)), rng)

    return np.concatenate(
        [
            play(lambda obs, rng: drawn(legal_of(env, obs), rng), uniform)[0],
            play(lambda obs, rng: drawn(reference.preferences(TASK, obs), rng), guided)[0],
            play(stray, mixed)[0],
        ]
    )


@pytest.fixture(scope="module")
def visited() -> np.ndarray:
    return visits(32, 8, 32)


@pytest.fixture(scope="module")
def jumanji() -> Any:
    return pytest.importorskip(
        "jumanji.environments.routing.snake", reason="jumanji is not installed (the extra dev has it)"
    )


def copied(state: Any) -> State:
    """jumanji's state as ours."""
    places = (jnp.stack([at.row, at.col], axis=-1) for at in (state.head_position, state.fruit_position))
    head, fruit = (place.astype(jnp.int32) for place in places)
    return State(state.body_state.astype(jnp.int32), head, fruit)


@functools.cache
def side_by_side(size: tuple[int, int], limit: int) -> Any:
    """Of jumanji's games: begin, keys -> states; look, states -> observations; and step, which sets ours
    beside theirs, from the copied state: keys, states, actions -> states, what ours has, what theirs has. A
    game that has ended begins anew."""
    from jumanji.environments.routing.snake import Snake

    with jax.numpy_dtype_promotion("standard"):  # which jumanji relies on
        theirs = Snake(*size, time_limit=limit)
    env = TASK.environment(size=size, limit=limit)

    def step(key: jax.Array, state: Any, action: jax.Array) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            after, told = theirs.step(state, action)
            fresh, _ = theirs.reset(jax.random.fold_in(key, 0))
        clocked = Clocked(copied(state), state.step_count)
        obs, clocked, reward, terminated, truncated = env.step(key, clocked, action)
        known = copied(after)
        ours = {
            "seen": snake.observe(clocked.inner._replace(fruit=known.fruit)),
            "mask": snake.survived(obs),
            "reward": reward,
            "ends": terminated | truncated,
            "terminated": terminated,
            "fruit as there": (clocked.inner.fruit == known.fruit).all(),
            "fruit free": known.order[tuple(clocked.inner.fruit)] == 0,
        }
        row = {
            "seen": told.observation.grid,
            "mask": told.observation.action_mask,
            "reward": told.reward,
            "ends": told.last(),
            "beyond": ~((known.head >= 0) & (known.head < jnp.asarray(size))).all(),
            "legal": state.action_mask[action],
            "stuck": ~state.action_mask.any(),
            "full": (known.order > 0).all() & state.action_mask[action],
            "late": after.step_count >= limit,
        }
        state = jax.tree.map(lambda a, b: jnp.where(told.last(), a, b), fresh, after)
        return state, ours, row

    def begin(key: jax.Array) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return theirs.reset(key)[0]

    return tuple(
        jax.jit(jax.vmap(function)) for function in (begin, lambda state: snake.observe(copied(state)), step)
    )


@jax.jit
def mostly_legal(key: jax.Array, obs: jax.Array, mask: jax.Array) -> jax.Array:
    """Legal moves while there is one, uniformly; in half of the games one in ten moves is of any kind."""
    strays = (
        jax.random.uniform(key, (len(mask), 1)) < jnp.where(jnp.arange(len(mask)) % 2 == 0, 0.0, 0.1)[:, None]
    )
    may = mask & ~strays | ~mask.any(axis=1, keepdims=True) | strays
    return jax.random.categorical(jax.random.fold_in(key, 1), jnp.where(may, 0.0, -jnp.inf))


def guided(key: jax.Array, obs: jax.Array, mask: jax.Array) -> np.ndarray:
    """The reference, which comes to full boards, with a few moves of any kind."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    wanted = snake.reference(np.asarray(obs, np.float64))
    return drawn(np.where(rng.random((len(wanted), 1)) < 0.005, True, wanted), rng)


@pytest.mark.parametrize(
    ("size", "limit", "steps", "act"),
    [((5, 5), 130, 300, mostly_legal), ((2, 3), 30, 200, mostly_legal), ((5, 5), 130, 170, guided)],
)
@pytest.mark.usefixtures("jumanji")
def test_it_steps_as_jumanji_does(
    size: tuple[int, int], limit: int, steps: int, act: Callable[..., Any]
) -> None:
    """Observations, rewards, ends and masks of 48 games side by side, to the bit: also of illegal moves, of
    states in which none is legal, and of full boards. jumanji ends a game at its limit; ours is cut."""
    begin, look, step = side_by_side(size, limit)
    state, found = begin(jax.random.split(jax.random.key(0), 48)), []
    for t in range(steps):
        key = jax.random.fold_in(jax.random.key(1), t)
        actions = act(jax.random.fold_in(key, 0), look(state), state.action_mask)
        state, *rows = step(jax.random.split(key, 48), state, jnp.asarray(actions, jnp.int32))
        found.append(rows)
    ours, theirs = (jax.tree.map(lambda *x: np.stack(x), *rows) for rows in zip(*found, strict=True))
    for name in ("seen", "reward", "ends"):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    # Who has left the board is not in sight, and no mask follows.
    inside = ~theirs["beyond"]
    np.testing.assert_array_equal(ours["mask"][inside], theirs["mask"][inside])
    np.testing.assert_array_equal(ours["terminated"], ~theirs["legal"] | theirs["full"])
    eaten = theirs["reward"] > 0
    assert ours["fruit as there"][~eaten].all() and ours["fruit free"][eaten & ~theirs["full"]].all()
    assert eaten.sum() > 300 and (theirs["late"] & ~ours["terminated"]).any()
    died = ~theirs["legal"]
    assert (died & inside).any() and (died & ~inside).any()
    if act is guided or size == (2, 3):
        assert theirs["full"].sum() > 10
    if act is mostly_legal and size == (5, 5):
        assert theirs["stuck"].sum() > 10
    assert theirs["ends"][theirs["stuck"]].all()  # the move before did not end it, and this one does


@pytest.mark.usefixtures("jumanji")
def test_it_begins_as_jumanji_does() -> None:
    """One cell, and a fruit in another: both have all 600 pairs of cells among 20,000 games."""
    begin, look, _ = side_by_side((5, 5), 130)
    keys = jax.random.split(jax.random.key(2), 20_000)
    pairs = []
    for obs in (np.asarray(look(begin(keys))), np.asarray(_programs()[0](keys)[0])):
        flat = obs.reshape(len(obs), 25, 5)
        assert (flat.sum(axis=1) == 1).all()
        pairs.append(set(map(tuple, flat.argmax(axis=1)[:, [HEAD, FRUIT]].tolist())))
    assert pairs[0] == pairs[1] and len(pairs[0]) == 25 * 24


CHANCE = 1e-4
"""How often each of the two tests below would fail with other keys, were the fruit's place uniform."""


def test_the_first_fruit_is_uniform_over_the_other_cells() -> None:
    obs = np.asarray(_programs()[0](jax.random.split(jax.random.key(3), 60_000))[0]).reshape(-1, 25, 5)
    head, fruit = (obs[..., plane].argmax(axis=1) for plane in (HEAD, FRUIT))
    counts = np.bincount(25 * head + fruit, minlength=625).reshape(25, 25)
    assert not counts.diagonal().any()
    assert stats.chisquare(counts[~np.eye(25, dtype=bool)]).pvalue > CHANCE


def test_the_next_fruit_is_uniform_over_the_free_cells() -> None:
    order = jnp.asarray(board("..A..", "..B..", "EDC..", "F....", "GHIJ.")[..., ORDER] * 10, jnp.int32)
    state = State(order, jnp.array([0, 2], jnp.int32), jnp.array([0, 3], jnp.int32))
    keys = jax.random.split(jax.random.key(4), 20_000)
    after, eaten, died = jax.jit(jax.vmap(lambda key: snake.act(key, state, jnp.int32(1))))(keys)
    assert eaten.all() and not died.any() and after.order.max() == 11
    counts = np.bincount(np.asarray(after.fruit) @ [5, 1], minlength=25)
    free = np.asarray(after.order[0] == 0).ravel()
    assert free.sum() == 14 and not counts[~free].any()
    assert stats.chisquare(counts[free]).pvalue > CHANCE


POCKET = board(".....", ".BA..", ".C.GH", ".DEFI", "....J", fruit=(2, 2))
"""The fruit is in a hole of one cell."""
STUCK = board("AHG", "BCF", ".DE")
"""Ahead are walls and the body, of which the tail, H, moves on."""
SHUT = board("AHG..", "BCF..", "ID...", ".E...", ".....")


def test_where_nothing_is_legal_every_action_is() -> None:
    assert snake.legal(STUCK).tolist() == snake.survived(STUCK).tolist() == [False, True, False, False]
    assert not snake.survived(SHUT).any() and snake.legal(SHUT).all()
    assert TASK.words is not None
    told = TASK.words.tell(SHUT, [])
    assert (told["options"], told["out"]) == ("up, right, down, left", "none")
    order = jnp.asarray((SHUT[..., ORDER] * 9).round(), jnp.int32)
    state = Clocked(State(order, jnp.zeros(2, jnp.int32), jnp.array([4, 4], jnp.int32)), jnp.int32(0))
    for action in range(4):
        _, _, reward, terminated, _ = TASK.environment().step(jax.random.key(0), state, jnp.int32(action))
        assert (float(reward), bool(terminated)) == (0.0, True)


def test_masks_are_the_same_in_numpy_and_jax(visited: np.ndarray) -> None:
    seen = visited[::11]
    for mask in (snake.survived, snake.legal, snake.ways_out):
        plain = np.stack([mask(obs) for obs in seen])
        np.testing.assert_array_equal(jax.jit(jax.vmap(mask))(seen), plain)
        assert plain.any(axis=1).mean() > 0.9


def test_ways_out_are_those_of_a_search(visited: np.ndarray) -> None:
    """Each move played on a list of cells, and a way to the tail sought from cell to cell."""
    outs = 0
    for obs in visited[::5]:
        order = obs[..., ORDER].ravel()
        body = tuple(np.argsort(-order)[: int((order > 0).sum())].tolist())
        fruit, near = int(obs[..., FRUIT].argmax()), dict(snake._neighbours(5, 5)[body[0]])
        wanted = [
            a in near
            and near[a] not in body[:-1]
            and snake._follows(snake._moved(body, near[a], fruit), (5, 5))
            for a in range(4)
        ]
        assert snake.ways_out(obs).tolist() == wanted
        outs += snake.survived(obs).sum() - sum(wanted)
    assert outs > 100  # moves that shut the snake in


def test_the_words_of_a_board_by_hand() -> None:
    words = TASK.words
    assert words is not None
    assert words.tell(board(".....", ".CBA.", ".....", ".....", "...E.", fruit=(1, 4)), []) == {
        "fruit": "right", "up": "free", "right": "the fruit", "down": "free", "left": "your body",
        "options": "up, right, down", "out": "up, right, down",
    }  # fmt: skip
    assert words.tell(POCKET, []) == {
        "fruit": "down", "up": "free", "right": "free", "down": "the fruit", "left": "your body",
        "options": "up, right, down", "out": "up, right",
    }  # fmt: skip
    around = words.tell(STUCK, [])  # the tail's cell is free to go to
    assert [around[word] for word in ACTIONS] == ["the wall", "free", "your body", "the wall"]
    corner = words.tell(board("A..", "B..", "C..", fruit=(2, 2)), [])
    assert [corner[word] for word in ACTIONS] == ["the wall", "free", "your body", "the wall"]


def test_the_last_fruit_is_a_way_out() -> None:
    full = board(".AH", "CBG", "DEF", fruit=(0, 0))
    assert snake.ways_out(full).tolist() == [False, True, False, True]
    assert reference.preferences(TASK, full[None]).tolist() == [[False, False, False, True]]


def test_the_words_list_what_is_legal(visited: np.ndarray) -> None:
    options = FIELDS["options"]
    listed = np.array([[a in one for a in range(4)] for one in options.legal])
    told = listed[digits(visited)["options"]]
    np.testing.assert_array_equal(told, legal_of(TASK.environment(), visited))
    assert options.values == tuple(", ".join(ACTIONS[a] for a in one) for one in options.legal)


CODING = answers.Coding(tuple(FIELDS.values()))


def digits(obs: np.ndarray) -> dict[str, np.ndarray]:
    """By field, the places of what it tells of observations (N, 5, 5, 5), (N,)."""
    found = answers.digits_of(CODING)(obs)
    return dict(zip(FIELDS, found.T, strict=True))


def texts(prompt: str, observations: np.ndarray) -> list[dict[str, str]]:
    """The different ones that a prompt has for observations (N, 5, 5, 5), by field."""
    names, told = prompts.placeholders(prompts.load(TASK, prompt)), digits(observations)
    met = np.unique(np.stack([told[name] for name in names], axis=1), axis=0)
    return [{name: FIELDS[name].values[i] for name, i in zip(names, row, strict=True)} for row in met]


@pytest.mark.parametrize(("prompt", "most"), [("direct", 450), ("hint", 400), ("shots", 400)])
def test_play_meets_few_texts(visited: np.ndarray, prompt: str, most: int) -> None:
    assert most / 2 < len(texts(prompt, visited)) < most


@pytest.mark.long
@pytest.mark.slow
def test_how_many_texts_play_meets() -> None:
    """docs/games.md."""
    met = visits(400, 100, 400)
    counts = [len(texts(prompt, met)) for prompt in ("direct", "hint", "shots")]
    assert (len(met), *counts) == (128_552, 430, 380, 380)


@pytest.mark.parametrize(("by", "least", "most"), [("options", 11.0, 15.0), ("out", 20.5, 23.5)])
def test_what_a_rule_of_the_words_earns(by: str, least: float, most: float) -> None:
    """Towards the fruit, among what is legal or among what leaves a way out: docs/games.md."""
    env = TASK.environment()

    def act(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        told, mask = digits(obs), legal_of(env, obs)
        if by == "out":
            kept = np.array([[a in one for a in range(4)] for one in snake.SUBSETS])[told["out"]]
            mask = np.where(kept.any(axis=1, keepdims=True), kept, mask)
        down, right = told["fruit"] // 3 - 1, told["fruit"] % 3 - 1
        towards = mask & np.stack([down < 0, right > 0, down > 0, right < 0], axis=1)
        return drawn(np.where(towards.any(axis=1, keepdims=True), towards, mask), rng)

    assert least < play(act, 64)[1].mean() < most


@pytest.mark.parametrize(("name", "shown"), [("direct", 0), ("hint", 0), ("shots", 7)])
def test_examples_are_said_to_be_some(visited: np.ndarray, name: str, shown: int) -> None:
    """They are texts of the game itself, and answered by one of their options."""
    prompt = prompts.load(TASK, name)
    assert TASK.words is not None
    examples = [line for line in prompt.head.splitlines() if line.startswith("The fruit lies")]
    assert len(examples) == shown and ("Examples" in prompt.head) == bool(shown)
    own = {prompt.tail(told) for told in texts(name, visited)}
    for example in examples:
        text, _, answer = example.rpartition(" Action: ")
        assert text in own, text
        assert answer in text.partition("Moves with a way out: ")[2]


def test_the_reference_fills_the_board() -> None:
    """23.99 of 24 fruits expected: one in 167 episodes ends with 23."""
    assert reference.returns(TASK, 32).mean() > 23.9


def test_the_reference_by_hand() -> None:
    """Straight to the fruit, but not where it would shut itself in."""
    two = board(".....", ".A...", ".B...", ".....", ".....", fruit=(0, 2))
    assert snake.reference(two[None]).tolist() == [[True, True, False, False]]
    assert not snake.reference(POCKET[None])[0, ACTIONS.index("down")]


def test_sizes_limits_and_rewards() -> None:
    assert TASK.environment().limit == 300 and TASK.environment().best == 24.0
    env = TASK.environment(size=(3, 4), limit=5, fruit=2.0, death=-1.0)
    assert (env.observation_shape, env.limit, env.best, env.threshold) == ((3, 4, 5), 5, 10.0, 5.0)
    assert TASK.environment(size=6).limit == 432
    costly = TASK.environment(size=3, step=-0.125, death=-1.0)
    assert costly.best is None and costly.threshold is None
    assert TASK.environment(size=3, step=-0.125, death=-1.0).game is costly.game
    start = Clocked(
        State(jnp.zeros((3, 3), jnp.int32).at[0, 0].set(1), *jnp.array([[0, 0], [0, 1]])), jnp.int32(0)
    )
    for action, (reward, ends) in enumerate(
        [(-1.125, True), (0.875, False), (-0.125, False), (-1.125, True)]
    ):
        _, _, found, terminated, _ = costly.step(jax.random.key(0), start, jnp.int32(action))
        assert (float(found), bool(terminated)) == (reward, ends)


def test_uniform_play_on_another_board() -> None:
    env = TASK.environment(size=(3, 6), limit=40)
    keys = jax.random.split(jax.random.key(5), 16)
    played = jax.jit(jax.vmap(lambda key: recorded(env, uniform(env), key, 40)))(keys)
    assert (played.terminated | played.truncated).any(axis=1).all()
    seen = np.asarray(played.obs[:, 0])
    assert snake.reference(seen.astype(np.float64)).any(axis=1).all()
    assert TASK.words is not None and len({TASK.words.tell(obs, [])["fruit"] for obs in seen}) > 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": 1}, "snake: size is 1; give rows and columns, or one number, from 2 to 20 each"),
        ({"size": (3, 4, 5)}, r"snake: size is \(3, 4, 5\); give rows"),
        ({"size": 21}, "snake: size is 21"),
        ({"size": "big"}, "snake's size must be a whole number or a tuple of whole numbers, got 'big'"),
        ({"limit": 0}, "snake: limit is 0, but an episode needs at least one step"),
        ({"fruit": float("inf")}, "snake: fruit is inf, which is no reward"),
        ({"death": "none"}, "snake's death must be a number"),
    ],
)
def test_what_is_no_board_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"^{says}") as refusal:
        TASK.environment(**given)
    assert "\n" not in str(refusal.value)
