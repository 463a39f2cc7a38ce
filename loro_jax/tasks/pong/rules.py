"""Atari Pong as ten numbers of its memory (ALE/Pong-v5 from RAM, without sticky actions).

The rules were found from outside: by recording the console's 128 bytes of memory frame by frame under the
Arcade Learning Environment (Bellemare et al., 2013), by writing positions into them, and by watching what
followed. No program code was read or translated. Names of bytes: Anand et al. (2019), AtariARI. How exact
this is: `python -m studies.pong_fidelity`, results/pong_fidelity.md.

Everything is a whole number. Vertical positions count scan lines downwards. A ball's `vx` is what the
console takes from `ball_x` in each frame: positive is to the left.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from loro_jax.spaces import Discrete
from loro_jax.tasks.base import Environment
from loro_jax.tasks.rules import environment

ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
"""As Gymnasium numbers them. RIGHT moves the paddle up, LEFT down."""
UP_OR_DOWN = (0, 0, -1, 1, -1, 1)
BUTTON = (False, True, False, False, True, True)
PLAYER_X, ENEMY_X = 188, 64
WINNING_SCORE = 21
FRAMES = 4
"""Frames that Atari's environment plays an action for; the study's wrapper plays it twice."""

KNOB_LOW, KNOB_HIGH, KNOB_TURN = 27_450, 790_196, 23_000
"""The paddle controller's resistance in ohms: its ends, and what a frame of moving adds (the emulator's)."""
KNOB_OFFSET, KNOB_OHMS = 62_626, 15_975
"""The console measures (2 knob + offset) / ohms, in pairs of lines: fitted to every reading recorded."""
TOP, BOTTOM = 45, 206
"""The ball bounces once it is drawn at or past these lines."""
MISSED_RIGHT, MISSED_LEFT = 205, 52
WAIT = 63
"""Frames without a ball after a point."""


class Memory(NamedTuple):
    """What the game remembers between frames. Whole numbers (); `button` a bool ().

    Bytes of the console are given by number; `knob` belongs to the emulator, not to the console.
    """

    clock: Any  # byte 8
    wait: Any  # 11: frames to the next serve, 0 while a ball flies
    knob: Any  # the controller's resistance, ohms
    button: Any  # 64: the button as the last frame read it
    aim: Any  # 60: where the next frame draws the player
    player: Any  # 51
    enemy: Any  # 50, even
    ball_x: Any  # 49
    ball_y: Any  # 54, 0 without a ball
    vx: Any  # 58
    vy: Any  # 56
    enemy_score: Any  # 13
    player_score: Any  # 14


START = Memory(
    clock=71, wait=59, knob=408_823, button=False, aim=109, player=109, enemy=22, ball_x=0, ball_y=60, vx=0,
    vy=0, enemy_score=0, player_score=0,
)  # fmt: skip
"""Memory after a reset, always the same."""


@functools.cache  # the same game is the same object: programs are shared
def pong(limit: int = 200, drop_first_half: bool = False) -> Environment:
    """Pong to 21 points against the console, a step of 8 frames: the reference study's RepresentedPong-v0.

    Observation, float32 (10,): player y, player x, enemy y, enemy x, ball x, ball y, the enemy's score, the
    player's score, and the ball's x and y less those of the observation before (0 at first). Actions: see
    `ACTIONS`. A step plays its action for two environment steps of 4 frames. The reward is the points that
    the player won less those that it lost; with `drop_first_half`, of the second 4 frames alone, as in the
    study.
    21 points of either side terminate; an episode is truncated after `limit` steps, which the study does to
    training and to its LLM's episodes, not to evaluations (`eval_limit` of its protocols).

    Nothing is random: start, serves and enemy are fixed, and Gymnasium's sticky actions are left out, which
    is what the study's recorded episodes show. A policy that draws nothing plays one and the same episode.
    """

    def first(key: chex.PRNGKey) -> tuple[jax.Array, Memory]:
        memory = start()
        return observation(memory, memory), memory

    def then(
        key: chex.PRNGKey, before: Memory, action: jax.Array
    ) -> tuple[jax.Array, Memory, jax.Array, jax.Array]:
        memory, (half, other) = play(before, action)
        reward = other if drop_first_half else half + other
        return observation(memory, before), memory, reward, is_over(memory)

    game = environment(
        first,
        then,
        observation_shape=(10,),
        actions=Discrete(len(ACTIONS)),
        limit=limit,
        threshold=1.0,  # a lead after 200 steps: about what `reference`, below, reaches
        best=5.0,  # in 200 steps, by the beam search of studies.pong_fidelity
        magnitudes=(128.0, 188.0, 128.0, 64.0, 128.0, 128.0, 10.0, 10.0, 16.0, 16.0),
    )
    # To nil, which the same search reaches after about 800 steps.
    return dataclasses.replace(game, best_unlimited=float(WINNING_SCORE))


def start() -> Memory:
    """The memory of a fresh game, every field ()."""
    return Memory(*(jnp.asarray(x, bool if isinstance(x, bool) else jnp.int32) for x in START))


def observation(memory: Memory, before: Memory) -> jax.Array:
    """What a player sees of `memory`, a step after `before`: float32 (10,), see `pong`."""
    m = memory
    moved = (m.ball_x - before.ball_x, m.ball_y - before.ball_y)
    rest = (m.ball_x, m.ball_y, m.enemy_score, m.player_score, *moved)
    return jnp.stack([m.player, jnp.int32(PLAYER_X), m.enemy, jnp.int32(ENEMY_X), *rest]).astype(jnp.float32)


def play(memory: Memory, action: jax.Array) -> tuple[Memory, tuple[jax.Array, jax.Array]]:
    """Two environment steps of 4 frames with one action, int (): the memory, and both rewards, float32 ()."""

    def half(memory: Memory, _: None) -> tuple[Memory, jax.Array]:
        later = jax.lax.fori_loop(0, FRAMES, lambda _, m: frame(m, action), memory)
        return later, (lead(later) - lead(memory)).astype(jnp.float32)

    memory, rewards = jax.lax.scan(half, memory, None, length=2)
    return memory, (rewards[0], rewards[1])


def lead(memory: Memory) -> jax.Array:
    """The player's points less the enemy's, ()."""
    return memory.player_score - memory.enemy_score


def is_over(memory: Memory) -> jax.Array:
    return jnp.maximum(memory.player_score, memory.enemy_score) >= WINNING_SCORE


def frame(memory: Memory, action: jax.Array) -> Memory:
    """The memory one frame later, with `action`, int (), held. Nothing changes once the game is over."""
    m = memory
    clock = m.clock + 1
    knob = jnp.clip(m.knob + KNOB_TURN * jnp.asarray(UP_OR_DOWN, jnp.int32)[action], KNOB_LOW, KNOB_HIGH)
    # Every other frame measures the knob, in pairs of lines, and goes half of the way there.
    measured = 2 * jnp.clip((2 * knob + KNOB_OFFSET) // KNOB_OHMS, 19, 102)
    aim = jnp.where(clock % 2 == 0, (m.aim + measured) // 2, m.aim)

    ball_x, ball_y, vx, vy = _flight(m)
    # A point is counted one frame before the ball disappears, which stands still meanwhile.
    flying = m.wait == 0
    won, lost = flying & (m.ball_x <= MISSED_LEFT), flying & (m.ball_x >= MISSED_RIGHT)
    point = won | lost
    ball_x, ball_y = jnp.where(point, m.ball_x, ball_x), jnp.where(point, m.ball_y, ball_y)
    vx, vy = jnp.where(point, m.vx, vx), jnp.where(point, m.vy, vy)
    wait = jnp.where(point, WAIT, jnp.maximum(m.wait - 1, 0))

    # A serve keeps the last ball's direction, so the side that lost the point receives it.
    served = m.wait == 1
    serve_vx, serve_vy = jnp.where(m.vx >= 0, 1, -1), jnp.where(m.vy >= 0, 1, -1)
    vx, vy = jnp.where(flying, vx, m.vx), jnp.where(flying, vy, m.vy)
    vx, vy = jnp.where(served, serve_vx, vx), jnp.where(served, serve_vy, vy)
    ball_x = jnp.where(served, 128 - serve_vx, jnp.where(flying, ball_x, m.ball_x))
    ball_y = jnp.where(served, 128 + serve_vy, jnp.where(flying, ball_y, 0))

    # The enemy follows the ball by two lines a frame, and rests in one frame of eight.
    enemy = jnp.where(served, 128, m.enemy)
    enemy = enemy + jnp.where(clock % 8 == 1, 0, 2 * jnp.sign(ball_y - enemy))

    later = Memory(
        clock=clock, wait=wait, knob=knob, button=jnp.asarray(BUTTON)[action], aim=aim, player=m.aim,
        enemy=enemy, ball_x=ball_x, ball_y=ball_y, vx=vx, vy=vy,
        enemy_score=m.enemy_score + lost.astype(jnp.int32),
        player_score=m.player_score + won.astype(jnp.int32),
    )  # fmt: skip
    over = is_over(m)
    return jax.tree.map(lambda old, new: jnp.where(over, old, new), m, later)


def _flight(m: Memory) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Ball x, y, vx, vy, each (), a frame later: bounces are from what the last frame drew, walls first."""
    wall = (m.ball_y <= TOP) | (m.ball_y >= BOTTOM)
    # The picture has pairs of lines: the player's paddle is nine pairs high.
    pairs = m.ball_y // 2 - (m.player + 1) // 2
    hit = ~wall & (m.ball_x >= 188) & (m.ball_x <= 192) & (pairs >= -1) & (pairs <= 7)
    below = m.ball_y - m.enemy
    returned = ~wall & (m.ball_x >= 64) & (m.ball_x <= 68) & (below >= -4) & (below <= 14)
    # Where the ball meets a paddle decides its slope; the button, held the frame before, its speed.
    place = m.ball_y - jnp.where(hit, m.player, m.enemy)
    vy = jnp.where(hit | returned, (place - 1) // 4 - 1, jnp.where(wall, -m.vy, m.vy))
    speed = jnp.abs(m.vx)
    faster = jnp.minimum(speed + m.button.astype(jnp.int32), 4)
    vx = jnp.where(hit, faster, jnp.where(returned, -speed, m.vx))
    return m.ball_x - vx, m.ball_y + vy + jnp.where(wall, jnp.where(vy > 0, 1, -1), 0), vx, vy


LAGS = (-16, -8, 0, 8, 16)
"""Lines that the paddle may still have to go when a step ends: an observation does not show it."""
PLANS = tuple(
    (a, *(b,) * n) for a in range(6) for b, n in [(0, 0), *((b, n) for b in (2, 3) for n in (1, 2, 3))]
)
"""Each of the 6 actions, then nothing, or 1 to 3 steps up or down; then nothing to the horizon."""
HORIZON = 20


def reference(obs: jax.Array) -> jax.Array:
    """The action, int32 (), of a player that knows the rules and sees the observation (10,) alone.

    It plays every plan for `HORIZON` steps from the memory that the observation suggests, once for each of
    `LAGS`, and takes the first action of the plan with the most points; ties go to the action whose other
    plans are better, then to the lower number. Its returns are in results/pong_fidelity.md.
    """
    plans = jnp.asarray([(*plan, *(0,) * (HORIZON - len(plan))) for plan in PLANS], jnp.int32)

    def points(plan: jax.Array, lag: jax.Array) -> jax.Array:
        def step(memory: Memory, action: jax.Array) -> tuple[Memory, jax.Array]:
            memory, _ = play(memory, action)
            return memory, lead(memory)

        return jax.lax.scan(step, suggested(obs, lag), plan)[1].sum()

    lags = jnp.asarray(LAGS, jnp.int32)
    value = jax.vmap(lambda plan: jax.vmap(lambda lag: points(plan, lag))(lags).sum())(plans)
    value = value.reshape(len(ACTIONS), -1)
    return jnp.argmax(100 * len(LAGS) * value.max(1) + value.sum(1)).astype(jnp.int32)


def suggested(obs: jax.Array, lag: jax.Array) -> Memory:
    """A memory that looks like the observation (10,), with the paddle `lag` lines, int32 (), from its aim."""
    player, _, enemy, _, x, y, _, _, dx, dy = obs.astype(jnp.int32)
    side, away = jnp.where(x < 128, 1, -1), jnp.where(y < 128, 1, -1)
    # Between bounces the ball moves by 8 frames' worth; else it has just left the nearer paddle or wall.
    vx = jnp.where(dx % 8 != 0, -side, -jnp.sign(dx)) * jnp.clip((jnp.abs(dx) + 7) // 8, 1, 4)
    vy = jnp.where((dy % 8 != 0) | (jnp.abs(dy) > 16), away * jnp.where(jnp.abs(dy) >= 8, 2, 1), dy // 8)
    serve = (y == 0) | (jnp.abs(dx) > 32) | (jnp.abs(dy) > 32)
    knob = jnp.clip(((player + lag) // 2 * KNOB_OHMS - KNOB_OFFSET) // 2 + 4000, KNOB_LOW, KNOB_HIGH)
    return start()._replace(
        wait=jnp.where(y > 0, 0, 40), knob=knob, aim=player, player=player, enemy=enemy, ball_x=x, ball_y=y,
        vx=jnp.where(serve, side, vx), vy=jnp.where(serve, -away, vy),
    )  # fmt: skip
