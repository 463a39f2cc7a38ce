"""Pong: frame by frame against the console under ALE, the study's episodes, and the rules."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.tasks import Environment, load
from loro_jax.tasks.pong.rules import (
    ACTIONS,
    Memory,
    frame,
    lead,
    observation,
    play,
    reference,
    start,
    suggested,
)
from studies import pong_console, pong_fidelity
from studies.pong_console import BYTES

PAPER = pathlib.Path(__file__).parent.parent.parent.parent / "shared" / "paper" / "datasets"
FRAMES = 12_000
HISTORY = jax.jit(lambda actions: jax.lax.scan(lambda m, a: (frame(m, a),) * 2, start(), actions)[1])
STEP = jax.jit(frame)


@pytest.fixture(scope="module")
def env() -> Environment:
    return load("pong").environment()


def memory(**fields: int | bool) -> Memory:
    """A memory in mid-game: the ball flies right in the middle, paddles settled in the middle."""
    middle = {"wait": 0, "clock": 3, "aim": 109, "player": 109, "enemy": 100, "ball_x": 128, "ball_y": 120,
              "vx": -1, "vy": 1}  # fmt: skip
    fields = {**middle, **fields}
    return start()._replace(**{
        k: jnp.asarray(v, bool if isinstance(v, bool) else jnp.int32) for k, v in fields.items()
    })  # fmt: skip


def ahead(m: Memory, frames: int = 1, action: int = 0) -> Memory:
    for _ in range(frames):
        m = STEP(m, jnp.int32(action))
    return m


def at(m: Memory, *names: str) -> tuple[int, ...]:
    return tuple(int(getattr(m, name)) for name in names)


@pytest.mark.parametrize("style", ["uniform", "chase"])
def test_every_byte_of_every_frame_is_the_consoles(style: str) -> None:
    """Open loop from the reset: any wrong frame would stay wrong. The action changes at any frame."""
    pytest.importorskip("ale_py")
    rng = np.random.default_rng(11)
    console = pong_console.Console()
    names = list(BYTES)
    actions, expected, rewards, hold, aim = [], [], [], 0, 0
    seen = dict(zip(names, console.memory(), strict=True))
    while len(actions) < FRAMES and not console.ale.game_over():
        if hold == 0:
            hold = int(rng.integers(1, 12 if style == "uniform" else 4))
            action = int(rng.integers(6))
            if style == "chase" and rng.random() < 0.9:
                aim = int(rng.integers(0, 17)) if seen["ball_x"] < 80 else aim
                gap = int(seen["ball_y"]) - aim - int(seen["player"]) if seen["ball_y"] else 0
                action = (2 if gap < -4 else 3 if gap > 4 else 0) or int(rng.random() < 0.5)
                action += 2 * (action > 1 and rng.random() < 0.5)
        hold -= 1
        rewards.append(console.frame(action))
        seen = dict(zip(names, console.memory(), strict=True))
        actions.append(action)
        expected.append([seen[name] for name in names])
    padded = np.pad(actions, (0, FRAMES - len(actions)))
    ours = jax.tree.map(lambda x: np.asarray(x)[: len(actions)], HISTORY(jnp.asarray(padded, jnp.int32)))
    found = np.stack([getattr(ours, name) for name in names], -1) % 256
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.diff(lead(ours), prepend=0), rewards)
    won, lost = rewards.count(1.0), rewards.count(-1.0)
    assert console.ale.game_over() == (max(won, lost) == 21)
    speeds = set(np.abs(ours.vx).tolist())
    slopes = set(ours.vy.tolist())
    if style == "uniform":
        assert lost == 21 and len(actions) > 3000  # a whole game, to its end
    else:
        assert won >= 3 and lost >= 3 and {1, 2, 3} <= speeds and {-2, -1, 0, 1, 2} <= slopes


def test_steps_observations_and_half_rewards_are_the_consoles() -> None:
    pytest.importorskip("ale_py")
    found = pong_fidelity.compare(pong_console.record(pong_fidelity.follow, 3, 200, seed=1))
    assert found["steps"] == 600 and found["points"] >= 5
    shares = [*found["bytes_exact"].values(), *found["fields_exact"].values()]
    assert set(shares) == {1.0} and found["rewards_exact"] == 1.0 and found["ends_exact"] == 1.0


def test_a_comparison_sees_a_difference() -> None:
    pytest.importorskip("ale_py")
    recording = pong_console.record(pong_fidelity.uniform, 1, 40, seed=2, sticky=0.25)
    found = pong_fidelity.compare(recording)
    assert found["fields_exact"]["player y"] < 0.9 and found["fields_mean_absolute_error"]["player y"] > 1
    assert found["bytes_exact"]["clock"] == 1.0


@pytest.mark.skipif(not PAPER.is_dir(), reason="the study's files are not beside this checkout")
def test_the_studys_episodes_are_replayed_exactly() -> None:
    found = pong_fidelity.study(PAPER)
    assert {name: row["rows"] for name, row in found.items()} == {
        "Qwen2.5-7B-Instruct": 6000, "Qwen2.5-32B-Instruct": 6000,
    }  # fmt: skip
    for row in found.values():
        assert set(row["fields_exact"].values()) == {1.0}
        assert row["rewards_exact_second_half"] == 1.0 and row["rewards_exact_both_halves"] < 0.99


@pytest.mark.slow
def test_the_environment_replays_a_step_of_eight_frames(env: Environment) -> None:
    """Both settings, jitted and vmapped: observations, rewards of halves, the limit, and no use of keys."""
    half = load("pong").environment(drop_first_half=True)
    actions = np.random.default_rng(3).integers(6, size=(4, 200))
    run = {}
    for name, e in (("both", env), ("second", half)):
        keys = jax.random.split(jax.random.key(5 if name == "both" else 6), 4)
        obs, state = jax.vmap(e.reset)(keys)
        np.testing.assert_array_equal(obs, np.tile([109, 188, 22, 64, 0, 60, 0, 0, 0, 0], (4, 1)))
        _, run[name] = jax.jit(lambda s, a, e=e, k=keys: jax.lax.scan(
            lambda s, a: ((out := jax.vmap(e.step)(k, s, a))[1], (out[0], *out[2:])), s, a
        ))(state, jnp.asarray(actions.T, jnp.int32))  # fmt: skip
    memory, obs, rewards = pong_fidelity.replay(jnp.asarray(actions, jnp.int32))
    for name, expected in (("both", rewards.sum(-1)), ("second", rewards[..., 1])):
        seen, reward, terminated, truncated = run[name]
        np.testing.assert_array_equal(np.swapaxes(seen, 0, 1), obs)
        np.testing.assert_array_equal(np.swapaxes(reward, 0, 1), expected)
        assert reward.dtype == jnp.float32 and seen.dtype == jnp.float32 and not terminated.any()
        np.testing.assert_array_equal(
            np.swapaxes(truncated, 0, 1), np.arange(200)[None] == np.full((4, 1), 199)
        )
    first, second = rewards[..., 0].sum(), rewards[..., 1].sum()
    assert first < 0 and second < 0  # both halves hold points
    scores = lead(jax.tree.map(lambda x: x[:, -1, -1], memory))
    np.testing.assert_array_equal(rewards.sum((1, 2)), scores)


@pytest.mark.parametrize(("side", "reward"), [("player_score", 1.0), ("enemy_score", -1.0)])
def test_21_points_end_the_game_and_freeze_it(env: Environment, side: str, reward: float) -> None:
    x, vx = (52, 1) if side == "player_score" else (205, -1)
    _, state = env.reset(jax.random.key(0))
    game = state.replace(inner=memory(ball_x=x, vx=vx, **{side: 19}))
    obs, after, got, terminated, _ = env.step(jax.random.key(0), game, jnp.int32(0))
    assert float(got) == reward and not bool(terminated) and float(obs[7 if side[0] == "p" else 6]) == 20
    game = state.replace(inner=memory(ball_x=x, vx=vx, **{side: 20}), time=jnp.int32(199))
    _, after, got, terminated, truncated = env.step(jax.random.key(0), game, jnp.int32(0))
    assert float(got) == reward and bool(terminated) and not bool(truncated)
    _, (first, second) = play(game.inner, jnp.int32(0))
    assert (float(first), float(second)) == (reward, 0.0)
    for a, b in zip(ahead(after.inner, 3, 3), after.inner, strict=True):
        assert int(a) == int(b)
    _, _, got, terminated, _ = env.step(jax.random.key(0), after, jnp.int32(2))
    assert float(got) == 0 and bool(terminated)


def test_a_point_waits_and_the_loser_receives_the_serve() -> None:
    m = ahead(memory(ball_x=205, ball_y=90, vx=-2, vy=-2))
    assert at(m, "wait", "ball_x", "ball_y", "enemy_score", "player_score") == (63, 205, 90, 1, 0)
    m = ahead(m)
    assert at(m, "wait", "ball_x", "ball_y") == (62, 205, 0)
    m = ahead(m, 62)
    assert at(m, "wait", "ball_x", "ball_y", "vx", "vy") == (0, 129, 127, -1, -1)
    assert at(m, "enemy_score") == (1,)


@pytest.mark.parametrize(
    ("y", "vy", "later", "slope"), [(45, -1, 47, 1), (45, -2, 48, 2), (46, -2, 44, -2), (206, 1, 204, -1)]
)
def test_walls(y: int, vy: int, later: int, slope: int) -> None:
    assert at(ahead(memory(ball_y=y, vy=vy)), "ball_y", "vy", "ball_x", "vx") == (later, slope, 129, -1)


@pytest.mark.parametrize(
    ("place", "slope"), [(-3, None), (-1, -2), (0, -2), (1, -1), (4, -1), (5, 0), (8, 0), (9, 1), (12, 1),
                         (13, 2), (16, 2), (17, None)]
)  # fmt: skip
@pytest.mark.parametrize("button", [False, True])
def test_where_the_ball_meets_the_paddle_decides_its_slope(
    place: int, slope: int | None, button: bool
) -> None:
    m = ahead(memory(ball_x=188, ball_y=109 + place, vx=-1, vy=1, button=button))
    expected = (1, -1) if slope is None else (slope, 2 if button else 1)
    assert at(m, "vy", "vx") == expected
    assert at(m, "ball_x", "ball_y") == (188 - expected[1], 109 + place + expected[0])


def test_the_button_counts_a_frame_later_and_speed_stops_at_four() -> None:
    assert bool(ahead(memory(), 1, ACTIONS.index("LEFTFIRE")).button)
    hit = {"ball_x": 190, "ball_y": 115, "button": False}
    assert at(ahead(memory(**hit), 1, ACTIONS.index("FIRE")), "vx") == (1,)
    assert at(ahead(memory(**{**hit, "button": True, "vx": -4})), "vx") == (4,)


def test_the_enemy_follows_by_two_lines_and_rests_in_one_frame_of_eight() -> None:
    m, seen = memory(enemy=100, ball_y=190, vy=0, vx=0), []
    for _ in range(16):
        m = ahead(m)
        seen.append(at(m, "enemy")[0])
    moved = np.diff([100, *seen])
    assert sorted(moved.tolist()) == [0, 0] + [2] * 14
    assert [int(i) for i in np.flatnonzero(moved == 0)] == [5, 13]  # clock 9 and 17


def test_the_paddle_glides_after_the_knob_within_its_ends() -> None:
    up, down = memory(), memory()
    tops, bottoms = [], []
    for _ in range(60):
        up, down = ahead(up, 1, ACTIONS.index("RIGHT")), ahead(down, 1, ACTIONS.index("LEFT"))
        tops.append(at(up, "player")[0])
        bottoms.append(at(down, "player")[0])
    assert (np.diff(tops) <= 0).all() and tops[-1] == 38
    assert (np.diff(bottoms) >= 0).all() and bottoms[-1] == 203
    assert tops[0] == 109  # it answers a frame late


@pytest.mark.slow
def test_reference_returns_balls_that_a_paddle_at_rest_misses() -> None:
    """Level balls at 15 heights, two to three steps away; a paddle at rest meets those at its own height."""
    heights = jnp.arange(55, 200, 10)
    base = memory(clock=7, ball_x=172, vy=0, aim=110, player=110)
    balls = jax.vmap(lambda y: base._replace(ball_y=y))(heights)

    def returned(m: Memory, policy: Callable[[jax.Array], jax.Array]) -> jax.Array:
        def step(carry: tuple[Memory, jax.Array], _: None) -> tuple[tuple[Memory, jax.Array], jax.Array]:
            m, obs = carry
            later, _ = play(m, policy(obs))
            return (later, observation(later, m)), later.vx > 0

        seen = observation(m, m).at[8].set(8)
        return jax.lax.scan(step, (m, seen), None, length=3)[1].any()

    by_reference = jax.jit(jax.vmap(lambda m: returned(m, reference)))(balls)
    at_rest = jax.jit(jax.vmap(lambda m: returned(m, lambda obs: jnp.int32(0))))(balls)
    assert heights[np.asarray(at_rest)].tolist() == [115, 125]
    assert int(by_reference.sum()) >= 12
    guess = suggested(observation(base, base).at[8].set(8), jnp.int32(0))
    assert at(guess, "vx", "vy", "ball_x", "player", "wait") == (-1, 0, 172, 110, 0)


@pytest.mark.slow
def test_reference_leads_after_200_steps(env: Environment) -> None:
    """The game draws nothing, so this return is one number; the threshold is 1, the best known 5."""
    obs, state = env.reset(jax.random.key(0))

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        obs, state = carry
        obs, state, reward, _, _ = env.step(jax.random.key(0), state, reference(obs))
        return (obs, state), reward

    _, rewards = jax.jit(lambda c: jax.lax.scan(step, c, None, length=200))((obs, state))
    assert env.threshold <= float(rewards.sum()) <= env.best
