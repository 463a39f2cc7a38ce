"""Recordings of Atari's Pong under the Arcade Learning Environment, which our Pong is measured against.

Needs ale-py, which is in the `dev` extra.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from loro_jax.errors import UserError
from loro_jax.tasks.pong import ENEMY_X, FRAMES, PLAYER_X, observation, start

BYTES = {"clock": 8, "wait": 11, "aim": 60, "player": 51, "enemy": 50, "ball_x": 49, "ball_y": 54, "vx": 58,
         "vy": 56, "enemy_score": 13, "player_score": 14}  # fmt: skip
"""Fields of `Memory` and the bytes of the console that they stand for."""
OBSERVED = ("player y", "player x", "enemy y", "enemy x", "ball x", "ball y", "enemy's score",
            "player's score", "ball's x velocity", "ball's y velocity")  # fmt: skip

Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Observations (E, 10), a generator -> actions (E,)."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """Play on the console. E episodes of T steps of 8 frames.

    Attributes:
        actions: int (E, T).
        memory: the bytes of `BYTES` after every frame, (E, 8 T, 11).
        rewards: of both halves of a step, (E, T, 2).
        over: whether the emulator had ended the game after the step, bool (E, T).
    """

    actions: np.ndarray
    memory: np.ndarray
    rewards: np.ndarray
    over: np.ndarray

    @property
    def observations(self) -> np.ndarray:
        """What an agent would have seen after each step, (E, T, 10), made from the bytes."""
        at = {name: self.memory[:, 2 * FRAMES - 1 :: 2 * FRAMES, i] for i, name in enumerate(BYTES)}
        return _observed(at, at["ball_x"].shape)


def _observed(at: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    first = start()
    moved = [np.diff(at[n], axis=1, prepend=int(getattr(first, n))) for n in ("ball_x", "ball_y")]
    columns = [at["player"], np.full(shape, PLAYER_X), at["enemy"], np.full(shape, ENEMY_X)]
    return np.stack([*columns, at["ball_x"], at["ball_y"], at["enemy_score"], at["player_score"], *moved], -1)


class Console:
    """Atari's Pong under ALE, one frame for each call; `sticky` is ALE's chance of repeating an action."""

    def __init__(self, sticky: float = 0.0, seed: int = 0) -> None:
        try:
            import ale_py
            from ale_py import roms
        except ImportError:
            raise UserError("ale-py is not installed; pip install 'loro-jax[dev]' brings it") from None
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        for name, value in (("random_seed", seed), ("frame_skip", 1)):
            self.ale.setInt(name, value)
        self.ale.setFloat("repeat_action_probability", sticky)
        rom = roms.get_rom_path("pong")
        assert rom is not None
        self.ale.loadROM(rom)
        self.buttons = self.ale.getMinimalActionSet()
        self.ale.reset_game()

    def frame(self, action: int) -> float:
        return float(self.ale.act(self.buttons[action]))

    def memory(self) -> np.ndarray:
        """The bytes of `BYTES`, int (11,)."""
        return self.ale.getRAM()[list(BYTES.values())].astype(np.int64)


def record(policy: Policy, episodes: int, steps: int, seed: int, sticky: float = 0.0) -> Recording:
    """`episodes` of `steps` each on as many consoles, side by side."""
    consoles = [Console(sticky, seed + i) for i in range(episodes)]
    rng = np.random.default_rng(seed)
    obs = np.tile(np.asarray(observation(start(), start())), (episodes, 1))
    actions, memory, rewards, over = [], [], [], []
    for _ in range(steps):
        actions.append(policy(obs, rng))
        frames = [[(c.frame(int(a)), c.memory()) for _ in range(2 * FRAMES)]
                  for c, a in zip(consoles, actions[-1], strict=True)]  # fmt: skip
        memory.append(np.asarray([[m for _, m in rows] for rows in frames]))
        rewards.append(np.asarray([[r for r, _ in rows] for rows in frames]).reshape(-1, 2, FRAMES).sum(-1))
        over.append([c.ale.game_over() for c in consoles])
        before, at = obs, dict(zip(BYTES, memory[-1][:, -1].T, strict=True))
        obs = _observed({n: x[:, None] for n, x in at.items()}, (episodes, 1))[:, 0].astype(np.float32)
        obs[:, 8:] = obs[:, 4:6] - before[:, 4:6]
    return Recording(
        np.stack(actions, 1), np.concatenate(memory, 1), np.stack(rewards, 1), np.asarray(over).T
    )
