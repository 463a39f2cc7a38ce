"""Connect Four: its rules held against pgx's, its opponents and words against a board searched by hand."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from loro_jax.agents import DDQN
from loro_jax.data.answers import Coding, digits_of
from loro_jax.errors import UserError
from loro_jax.language import players, prompts
from loro_jax.tasks import connect_four, load, reference
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.connect_four import COLUMNS, FOUR, LIMIT, MIDDLE_FIRST, OPEN, OPPONENTS, ROWS, State
from loro_jax.training.phases import Collect
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge

TASK = load("connect_four")
ENV = TASK.environment()
GAMES = 3000
FREE, OWN, OTHER = 0, 1, 2

# A board of Python's own, searched cell by cell: (6, 7) of the three above, the top row first.


def put(board: np.ndarray, column: int, side: int) -> np.ndarray:
    """The board with one more stone; a `ValueError` where the column is full."""
    rows = [r for r in range(ROWS) if board[r, column] == FREE]
    after = board.copy()
    after[max(rows), column] = side
    return after


def fours(board: np.ndarray, side: int) -> bool:
    """Whether a side has four in a row."""
    mine = board == side
    found = [mine[:, k : COLUMNS - 3 + k] for k in range(FOUR)], [mine[k : ROWS - 3 + k] for k in range(FOUR)]
    aslant = [
        [way[k : ROWS - 3 + k, k : COLUMNS - 3 + k] for k in range(FOUR)] for way in (mine, mine[:, ::-1])
    ]
    return any(np.logical_and.reduce(four).any() for four in (*found, *aslant))


def there(board: np.ndarray) -> list[int]:
    return [c for c in range(COLUMNS) if board[0, c] == FREE]


def wins(board: np.ndarray, side: int) -> list[int]:
    """The columns in which a stone of a side's makes four."""
    return [c for c in there(board) if fours(put(board, c, side), side)]


def would(opponent: str, board: np.ndarray) -> list[int]:
    """What an opponent may take, by what `preferred` promises."""
    if opponent == "uniform":
        return there(board)
    if found := wins(board, OTHER) or wins(board, OWN):
        return found
    if opponent == "one_ply":
        return there(board)
    after = {c: put(board, c, OTHER) for c in there(board)}
    rest = [c for c in after if not wins(after[c], OWN)] or list(after)
    return [c for c in rest if len(wins(after[c], OTHER)) >= 2] or rest


def random_boards(number: int, least: int, most: int, seed: int, quiet: bool = False) -> list[np.ndarray]:
    """Boards with `least` to `most` random stones, none of which makes a four; `quiet`: on which neither side
    could make one at once."""
    chance, found = np.random.default_rng(seed), []
    while len(found) < number:
        board, side = np.zeros((ROWS, COLUMNS), int), int(chance.integers(1, 3))
        for _ in range(chance.integers(least, most + 1)):
            for column in chance.permutation(there(board)):
                if not fours(after := put(board, column, side), side):
                    board, side = after, 3 - side
                    break
            else:  # every stone makes a four
                break
        else:
            if there(board) and not (quiet and wins(board, OWN) + wins(board, OTHER)):
                found.append(board)
    return found


def observed(boards: Any) -> np.ndarray:
    """As the agent sees them, float32 (N, 6, 7, 2)."""
    stacked = np.asarray(boards)
    return np.stack([stacked == OWN, stacked == OTHER], axis=-1).astype(np.float32)


def masks(lists: list[list[int]]) -> np.ndarray:
    return np.array([[c in columns for c in range(COLUMNS)] for columns in lists])


BOARDS = [
    *random_boards(200, 0, 34, 0),
    *random_boards(200, 14, 30, 1, quiet=True),
    *random_boards(50, 32, 41, 2, quiet=True),
]
CODING = Coding(connect_four.fields())


# Against pgx


@dataclasses.dataclass(frozen=True)
class Seen:
    """Both games after each step of the agent's, (GAMES, T, ...) as NumPy arrays; `going`: before it."""

    state: State
    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    going: np.ndarray
    board: np.ndarray
    """pgx's, by colour."""
    mine: np.ndarray
    """The agent's colour, (GAMES, T)."""
    theirs_legal: np.ndarray
    theirs_over: np.ndarray
    theirs_reward: np.ndarray
    """pgx's for the agent, summed over the stones of a step."""
    theirs_observation: np.ndarray
    """pgx's for the agent."""


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Random columns of both sides, put into our game and into pgx's."""
    pgx = pytest.importorskip("pgx.connect_four")
    game, env = pgx.ConnectFour(), connect_four.connect_four("uniform")

    def drawn(before: jax.Array, after: jax.Array) -> jax.Array:
        return (after & ~before).any(axis=0).argmax()

    def put_in(state: Any, column: jax.Array, wanted: jax.Array) -> tuple[Any, jax.Array]:
        after = game.step(state, column)
        after = jax.tree.map(lambda a, b: jnp.where(wanted, a, b), after, state)
        return after, jnp.where(wanted, after.rewards, 0.0)

    def episode(key: jax.Array) -> Any:
        obs, state = env.reset(jax.random.fold_in(key, 0))
        second = state.inner.second
        theirs = game.init(jax.random.fold_in(key, 1))
        me = jnp.where(second, 1 - theirs.current_player, theirs.current_player)
        theirs, _ = put_in(theirs, drawn(jnp.zeros_like(state.inner.other), state.inner.other), second)

        def step(carry: Any, t: jax.Array) -> Any:
            obs, state, theirs, going = carry
            at = jax.random.fold_in(key, t)
            column = env.sample(jax.random.fold_in(at, 0), obs)
            obs, after, reward, terminated, truncated = env.step(jax.random.fold_in(at, 1), state, column)
            theirs, first = put_in(theirs, column, going)
            answered = (after.inner.other != state.inner.other).any()
            answer = drawn(state.inner.other, after.inner.other)
            theirs, then = put_in(theirs, answer, going & answered)
            row = (
                after.inner, obs, reward, terminated, truncated, going,
                theirs._x.board.reshape(ROWS, COLUMNS), second.astype(jnp.int32),
                theirs.legal_action_mask, theirs.terminated, (first + then)[me],
                jnp.where(theirs.current_player == me, theirs.observation, theirs.observation[..., ::-1]),
            )  # fmt: skip
            return (obs, after, theirs, going & ~(terminated | truncated)), row

        start = (obs, state, theirs, jnp.bool_(True))
        return jax.lax.scan(step, start, jnp.arange(2, LIMIT + 2))[1]

    with jax.numpy_dtype_promotion("standard"):  # which pgx relies on
        rows = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), GAMES))
    return Seen(*jax.tree.map(np.asarray, rows))


def test_boards_and_masks_are_those_of_pgx(seen: Seen) -> None:
    at = seen.going
    assert at[:, 0].all() and at.sum() > 10 * GAMES
    mine = seen.mine[at][:, None, None]
    np.testing.assert_array_equal(seen.state.own[at], seen.board[at] == mine)
    np.testing.assert_array_equal(seen.state.other[at], seen.board[at] == 1 - mine)
    np.testing.assert_array_equal(seen.observation[at], seen.theirs_observation[at])
    at = at & ~seen.terminated  # where a game is over, pgx has every column for legal
    there = np.asarray(jax.vmap(connect_four.legal)(seen.observation[at]))
    np.testing.assert_array_equal(there, seen.theirs_legal[at])
    assert (~there).any(axis=0).all()  # each column was full


def test_ends_and_who_won_are_those_of_pgx(seen: Seen) -> None:
    at = seen.going
    np.testing.assert_array_equal(seen.terminated[at], seen.theirs_over[at])
    np.testing.assert_array_equal(seen.reward[at], seen.theirs_reward[at])
    assert not seen.truncated[at].any()
    last = at & seen.terminated
    assert (last.sum(axis=1) == 1).all()
    assert (seen.reward[at & ~seen.terminated] == 0).all()
    full = (seen.state.own | seen.state.other)[last].all(axis=(1, 2))
    draws = seen.reward[last] == 0
    assert full[draws].all() and draws.sum() >= 5  # of either side's last stone
    assert set(seen.mine[last][draws]) == {0, 1}
    assert (full & (seen.reward[last] > 0)).any() or (full & (seen.reward[last] < 0)).any()


WAYS = {"across": (0, 1), "upright": (1, 0), "aslant": (1, 1), "aslant the other way": (1, -1)}


def almost(down: int, right: int) -> list[tuple[np.ndarray, int]]:
    """Boards without a four on which a stone of the agent's makes one, and its column: each line of four that
    goes this way, with a gap at each place of it that a stone may fall to last."""
    chance, found = np.random.default_rng(0), []
    for row in range(ROWS):
        for column in range(COLUMNS):
            cells = [(row + k * down, column + k * right) for k in range(FOUR)]
            if not all(0 <= r < ROWS and 0 <= c < COLUMNS for r, c in cells):
                continue
            for gap in cells[:1] if (down, right) == (1, 0) else cells:
                while True:
                    board = np.zeros((ROWS, COLUMNS), int)
                    for r, c in cells:
                        board[r + 1 :, c] = chance.integers(1, 3, ROWS - r - 1)
                    for cell in cells:
                        board[cell] = FREE if cell == gap else OWN
                    if not fours(board, OWN) and not fours(board, OTHER):
                        break
                found.append((board, gap[1]))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_each_line_of_four_wins_as_in_pgx(way: str) -> None:
    """69 lines in all, at every border; and no other column of the same boards wins."""
    pgx = pytest.importorskip("pgx.connect_four")
    game, cases = pgx.ConnectFour(), almost(*WAYS[way])
    boards, columns = np.array([b for b, _ in cases]), np.array([c for _, c in cases])

    def ours(board: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = connect_four.dropped(board == OWN, board != FREE, column)
        return connect_four.has_four(own), own

    def theirs(board: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = game.init(jax.random.key(0))
        copied = state._x._replace(board=board.ravel() - 1, color=jnp.int32(0))
        after = game.step(state.replace(_x=copied), column)
        return after.rewards[state.current_player] > 0, (after._x.board == 0).reshape(ROWS, COLUMNS)

    def every(one: Any) -> Any:
        each = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
        return jax.jit(each)(jnp.asarray(boards, jnp.int32), jnp.arange(COLUMNS))

    with jax.numpy_dtype_promotion("standard"):  # which pgx relies on
        (won, own), (wanted, stones) = every(ours), every(theirs)
    there = connect_four.legal(observed(boards).transpose(1, 0, 2, 3))
    np.testing.assert_array_equal(np.asarray(won)[there], np.asarray(wanted)[there])
    np.testing.assert_array_equal(np.asarray(own)[there], np.asarray(stones)[there])
    assert np.asarray(won)[np.arange(len(cases)), columns].all() and not np.asarray(won).all()
    lines = {"across": 24, "upright": 21}.get(way, 12)
    assert len(cases) == lines * (1 if way == "upright" else FOUR)


def test_a_game_that_was_seen_follows_from_its_columns(seen: Seen) -> None:
    """By the board of Python's own, of 60 games."""
    last = np.argmax(seen.going & seen.terminated, axis=1)
    for i in range(60):
        board = seen.state.own[i, last[i]] * OWN + seen.state.other[i, last[i]] * OTHER
        won, lost = bool(fours(board, OWN)), bool(fours(board, OTHER))
        assert (won - lost, won & lost) == (seen.reward[i, last[i]], False)


# By hand


def started(*columns: int) -> State:
    """After stones of the agent and the opponent in turn, the agent first; columns from 1."""
    board = np.zeros((ROWS, COLUMNS), int)
    for i, column in enumerate(columns):
        board = put(board, column - 1, OTHER if i % 2 else OWN)
    return State(jnp.asarray(board == OWN), jnp.asarray(board == OTHER), jnp.bool_(False))


@functools.partial(jax.jit, static_argnums=2)
def played(state: State, column: jax.Array, opponent: str, key: jax.Array) -> Any:
    return connect_four.play(key, state, column - 1, opponent)


def test_a_win_ends_the_game_before_the_opponent_answers() -> None:
    """Who has three in a row as well."""
    state = started(1, 7, 1, 7, 1, 7)
    after, reward, over = played(state, jnp.int32(1), "one_ply", jax.random.key(0))
    assert (float(reward), bool(over)) == (1.0, True)
    np.testing.assert_array_equal(after.other, state.other)
    for opponent in ("one_ply", "two_ply"):  # else it takes the game
        after, reward, over = played(state, jnp.int32(4), opponent, jax.random.key(0))
        assert (float(reward), bool(over)) == (-1.0, True) and bool(after.other[2, 6])


def test_a_full_column_takes_no_stone() -> None:
    state = started(4, 4, 4, 4, 4, 4)
    assert connect_four.legal(connect_four.observe(state)).tolist() == [c != 3 for c in range(7)]
    after, reward, over = played(state, jnp.int32(4), "uniform", jax.random.key(0))
    np.testing.assert_array_equal(after.own, state.own)
    assert int((after.other ^ state.other).sum()) == 1 and float(reward) == 0 and not over


# The opponents


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_what_an_opponent_takes(opponent: str) -> None:
    """On 450 boards, on many of which it wins, blocks, keeps from what loses, and makes two threats."""
    obs = observed(BOARDS) > 0.5
    each = jax.jit(jax.vmap(lambda own, other: connect_four.preferred(opponent, other, own)))
    found = np.asarray(each(obs[..., 0], obs[..., 1]))
    np.testing.assert_array_equal(found, masks([would(opponent, board) for board in BOARDS]))


def test_the_boards_have_what_opponents_differ_in() -> None:
    won = [bool(wins(b, OTHER)) for b in BOARDS]
    blocked = [not w and bool(wins(b, OWN)) for w, b in zip(won, BOARDS, strict=True)]
    rest = [b for w, s, b in zip(won, blocked, BOARDS, strict=True) if not w and not s]
    after = [[put(b, c, OTHER) for c in there(b)] for b in rest]
    risky = [any(wins(a, OWN) for a in each) and not all(wins(a, OWN) for a in each) for each in after]
    hopeless = [all(wins(a, OWN) for a in each) for each in after]
    double = [any(len(wins(a, OTHER)) >= 2 and not wins(a, OWN) for a in each) for each in after]
    assert sum(won) > 50 and sum(blocked) > 20 and sum(risky) > 20 and sum(hopeless) and sum(double) > 10


CHANCE = 1e-4
"""Of each comparison below to reject a true distribution; of all fifteen of them, 0.0015. Keys are fixed."""
ANSWERED = (
    ((4, 4, 4, 4, 4, 4), 1),  # of six columns
    ((3, 3, 4, 4), 5),  # the agent has three in a row, open on both sides
    ((7, 3, 7, 4), 3),  # the opponent has two, which it may make an open three on either side
    ((), 4),
)
"""Stones of both sides in turn, and the agent's that is answered."""


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_an_opponent_takes_each_as_often(opponent: str) -> None:
    """6,000 answers to each of four stones that leave it several columns."""

    def answer(key: jax.Array, state: State, column: jax.Array) -> jax.Array:
        return connect_four.play(key, state, column, opponent)[0].other

    answers = jax.jit(jax.vmap(answer, (0, None, None)))
    keys = jax.random.split(jax.random.key(1), 6000)
    for columns, first in ANSWERED:
        state = started(*columns)
        other = np.asarray(answers(keys, state, jnp.int32(first - 1)))
        board = put(np.asarray(state.own) * OWN + np.asarray(state.other) * OTHER, first - 1, OWN)
        wanted = would(opponent, board)
        counts = (other ^ np.asarray(state.other)).any(axis=1).sum(axis=0)
        assert len(wanted) > 1 and counts.sum() == counts[wanted].sum() == 6000
        assert scipy.stats.chisquare(counts[wanted]).pvalue > CHANCE


# Who begins


@pytest.mark.parametrize("begins", connect_four.BEGINS)
def test_who_begins(begins: Any) -> None:
    """Of 6,000 resets half, if it is drawn; the opponent's first column is any of seven."""
    env = connect_four.connect_four(begins=begins)
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 6000))
    second, stones = np.asarray(state.inner.second), np.asarray(state.inner.other)
    assert not np.asarray(state.inner.own).any()
    np.testing.assert_array_equal(stones.sum(axis=(1, 2)), second)
    np.testing.assert_array_equal(np.asarray(obs)[..., 1], stones)
    share = {"alternate": None, "agent": 0.0, "opponent": 1.0}[begins]
    if share is None:
        assert scipy.stats.binomtest(int(second.sum()), 6000).pvalue > CHANCE
    else:
        assert second.mean() == share and env.again is None
    if share != 0.0:
        assert scipy.stats.chisquare(stones[second][:, -1].sum(axis=0)).pvalue > CHANCE


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_on_an_empty_board_an_opponent_takes_any_column(opponent: str) -> None:
    """Which `begin` relies on."""
    empty = jnp.zeros((ROWS, COLUMNS), bool)
    assert connect_four.preferred(opponent, empty, empty).all()


def test_who_begins_alternates_from_game_to_game() -> None:
    """In what a seed collects."""
    agent = DDQN(hidden=(4,), batch_size=8, replay_capacity=1000).for_game(ENV.action_space)
    world = World(ENV, agent, Interaction(400, 1, False))
    known = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), world.example))
    run = jax.jit(lambda key: Collect(400, 0, 1)(world.begin(key, key), world, known)[0])(jax.random.key(0))
    rows = jax.tree.map(lambda x: np.asarray(x)[:400], run.replay.storage)
    begun = np.concatenate([[True], (rows.terminated | rows.truncated)[:-1]])
    assert not rows.obs[begun][..., 0].any()
    stones = rows.obs[begun][..., 1].sum(axis=(1, 2))
    assert len(stones) > 30 and set(stones) == {0, 1}
    assert (np.diff(stones) != 0).all()


# The reference


def exact(board: np.ndarray, side: int) -> int:
    """Who wins under the best play of both, for the side that is to move: 1, 0 or -1."""
    best = -2
    for column in there(board):
        after = put(board, column, side)
        value = 1 if fours(after, side) else -exact(after, 3 - side) if there(after) else 0
        if value == 1:
            return 1
        best = max(best, value)
    return best if best > -2 else 0


def test_its_search_finds_what_a_search_of_every_game_finds() -> None:
    """On 60 boards with 1 to 6 free cells, looking to the end."""
    boards = random_boards(60, 36, 41, 3)
    sides = (observed(boards) > 0.5).reshape(-1, ROWS * COLUMNS, 2).astype(np.uint64)
    bits = sides.transpose(0, 2, 1) @ connect_four._BIT.ravel()
    found = connect_four._value(bits[:, 0], bits[:, 1], ROWS * COLUMNS)
    wanted = [exact(board, OWN) for board in boards]
    assert (np.abs(found) < connect_four.WIN).tolist() == [w == 0 for w in wanted]
    assert np.sign(found).tolist() == wanted and set(wanted) == {-1, 0, 1}


def test_the_reference_wins_blocks_and_keeps_from_what_loses() -> None:
    mask = TASK.reference(observed(BOARDS))  # type: ignore[misc]
    assert mask.dtype == bool and mask.any(axis=1).all()
    assert (mask <= legal_of(ENV, observed(BOARDS))).all()
    for board, row in zip(BOARDS, mask, strict=True):
        taken = np.flatnonzero(row).tolist()
        mine, theirs = wins(board, OWN), wins(board, OTHER)
        if mine:
            assert taken == mine
        elif len(theirs) == 1 and not wins(put(board, theirs[0], OWN), OTHER):
            assert taken == theirs
        elif not theirs:
            safe = [c for c in there(board) if not wins(put(board, c, OWN), OTHER)]
            assert set(taken) <= set(safe or there(board))


def test_the_reference_answers_by_the_observation_alone() -> None:
    """The same in any batch and order, and a mirrored board's answer is the mirrored one."""
    obs = observed(BOARDS)
    mask = connect_four.reference(obs)
    np.testing.assert_array_equal(connect_four.reference(obs[::-1])[::-1], mask)
    np.testing.assert_array_equal(connect_four.reference(obs[:1]), mask[:1])
    np.testing.assert_array_equal(connect_four.reference(obs[:, :, ::-1])[:, ::-1], mask)
    assert connect_four.reference(obs[:0]).shape == (0, COLUMNS)


@pytest.mark.parametrize(("opponent", "level"), [("one_ply", 1.0), ("two_ply", 0.974)])
def test_the_references_return(opponent: Any, level: float) -> None:
    """As it says itself, of 500 games each."""
    task = dataclasses.replace(TASK, game=connect_four.connect_four(opponent))
    found = reference.returns(task, 500)
    assert found.mean() == pytest.approx(level, abs=5e-4)
    assert f"{level:.3f} against `{opponent}`" in str(connect_four.reference.__doc__)


# Words


def test_the_words_say_what_the_board_does() -> None:
    digits = np.asarray(digits_of(CODING)(observed(BOARDS)))
    middle = [c + 1 for c in MIDDLE_FIRST]
    for board, (win, block, options, near) in zip(BOARDS, digits.tolist(), strict=True):
        for told, side in ((win, OWN), (block, OTHER)):
            columns = [c + 1 for c in wins(board, side)]
            assert told == next((c for c in middle if c in columns), 0)
        assert list(OPEN[options]) == there(board)
        least = min(abs(c - 3) for c in there(board))
        said = [int(c) - 1 for c in connect_four.fields()[3].values[near].split(" and ")]
        assert said == [c for c in there(board) if abs(c - 3) == least]


@pytest.fixture(scope="module")
def met() -> list[np.ndarray]:
    """What a uniform player and the reference see in 1,000 games each against `one_ply`."""
    acts = (players.uniform(ENV), players.reference(TASK))
    return [players.observations(ENV, act, 1000, 0) for act in acts]


def test_what_the_page_says_of_its_texts(met: list[np.ndarray]) -> None:
    """docs/games.md: observations and texts, of each player and of both; and the commonest text's share."""
    counted, shares = [], []
    for obs in (*met, np.concatenate(met)):
        texts, times = np.unique(np.asarray(digits_of(CODING)(obs)), axis=0, return_counts=True)
        counted.append((len(np.unique(obs.reshape(len(obs), -1), axis=0)), len(texts)))
        shares.append(round(float(times.max() / times.sum()), 2))
    assert counted == [(6862, 273), (4971, 266), (11731, 448)]
    assert shares == [0.78, 0.65, 0.72]


def test_no_example_of_the_prompt_was_met(met: list[np.ndarray]) -> None:
    """`shots` has seven, one for each column, in the form of a state, answered by the rule of `hint`."""
    assert TASK.words is not None
    prompt = prompts.load(TASK, "shots")
    told = np.unique(np.asarray(digits_of(CODING)(np.concatenate(met))), axis=0)
    tails = {prompt.tail(CODING.texts(row)) for row in told.tolist()}
    form = re.compile(
        r"You win in: (.*)\. The opponent would win in: (.*)\. Open columns: (.*)\. Action: (.)"
    )
    examples = [found for line in prompt.head.splitlines() if (found := form.fullmatch(line))]
    assert sorted(example[4] for example in examples) == list(connect_four.NAMES)
    for example in examples:
        win, block, options, action = example.groups()
        assert prompt.tail({"win": win, "block": block, "options": options}) not in tails
        near = min(options.split(", "), key=lambda column: abs(int(column) - 4))
        assert action == (win if win != "none" else block if block != "none" else near)
        assert {win, block, action} - {"none"} <= set(options.split(", "))


def by_words(obs: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Wins, blocks, and else the open column nearest to the middle, as the prompt `hint` says."""
    win, block, options, _ = np.asarray(digits_of(CODING)(obs)).T
    there = masks([list(OPEN[i]) for i in options])[:, MIDDLE_FIRST]
    middle = np.asarray(MIDDLE_FIRST)[there.argmax(axis=1)]
    return np.where(win > 0, win - 1, np.where(block > 0, block - 1, middle))


def test_what_the_hint_is_worth() -> None:
    """docs/games.md: its mean return in 1,000 games against each opponent."""
    found = []
    for opponent in OPPONENTS:
        env = connect_four.connect_four(opponent)  # type: ignore[arg-type]
        total = np.zeros(1000)
        for rows, going in players.steps(env, by_words, 1000, 0, np.random.default_rng(0)):
            total += np.where(going, rows.reward, 0)
        found.append(round(float(total.mean()), 3))
    assert dict(zip(OPPONENTS, found, strict=True)) == {"one_ply": 0.313, "uniform": 0.978, "two_ply": 0.009}


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ({"opponent": "strong"}, "connect_four: opponent is 'one_ply', 'uniform' or 'two_ply', got 'strong'"),
        ({"begins": "me"}, "connect_four: begins is 'alternate', 'agent' or 'opponent', got 'me'"),
    ],
)
def test_what_there_is_not_is_refused(parameter: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        connect_four.connect_four(**parameter)
    assert connect_four.connect_four() is connect_four.connect_four("one_ply", "alternate")
