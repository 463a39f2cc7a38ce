"""How exactly our Pong plays Atari's: `python -m studies.pong_fidelity --help`.

Three policies play the console under the Arcade Learning Environment, one frame at a time. Our game is then
given the same actions from its own reset, without ever being corrected, and every recorded byte is compared
with its own. The policies also play both games by themselves, with other random numbers, and the points of
200 steps are compared. The reference study's recorded episodes are replayed as well where they are at hand.

Needs ale-py, which is in the `dev` extra.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, run, within
from loro_jax.records import results
from loro_jax.running import machine
from loro_jax.tasks.pong.rules import (
    FRAMES,
    WINNING_SCORE,
    Memory,
    frame,
    lead,
    observation,
    play,
    pong,
    reference,
    start,
)
from studies.pong_console import BYTES, OBSERVED, Policy, Recording, record
from studies.pong_report import markdown

STEPS, GAME_STEPS = 200, 700
WANDER = 0.1
"""Share of `follow`'s actions that are drawn uniformly, so that its episodes differ."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures how exactly our Pong plays Atari's."""

    episodes: int = 60
    """Episodes of 200 steps that each policy plays on the console, and as many with sticky actions."""
    own_episodes: int = 200
    """Episodes of 200 steps that each policy plays in our game."""
    games: int = 5
    """Whole games to 21 points that random play gives the console."""
    width: int = 4000
    """States that the search for the best play keeps after each step."""
    seed: int = 0
    """Of every random choice."""
    study: pathlib.Path = pathlib.Path("../shared/paper/datasets")
    """Folder with the reference study's RepresentedPong_*.npz; left out where there is none."""
    out: pathlib.Path = pathlib.Path("results/pong_fidelity")
    """Written as .md and .json."""


@jax.jit
@jax.vmap
def replay(actions: jax.Array) -> tuple[Memory, jax.Array, jax.Array]:
    """Our game from its reset, with actions int (E, T).

    -> memory after every frame, fields (E, T, 8); observations (E, T, 10); rewards of both halves (E, T, 2).
    """

    def step(memory: Memory, action: jax.Array) -> tuple[Memory, tuple[Memory, jax.Array, jax.Array]]:
        one = lambda m, _: (frame(m, action),) * 2  # noqa: E731
        _, frames = jax.lax.scan(one, memory, None, length=2 * FRAMES)
        later, rewards = play(memory, action)
        return later, (frames, observation(later, memory), jnp.stack(rewards))

    return jax.lax.scan(step, start(), actions)[1]


def compare(recording: Recording) -> dict[str, Any]:
    """How our game, never corrected, differs from a recording."""
    ours, obs, rewards = jax.device_get(replay(jnp.asarray(recording.actions, jnp.int32)))
    frames = np.stack([getattr(ours, name).reshape(len(obs), -1) for name in BYTES], -1) % 256
    exact, off = obs == recording.observations, np.abs(obs - recording.observations)
    points = np.stack([ours.player_score[..., -1], ours.enemy_score[..., -1]])
    return {
        "frames": int(frames[..., 0].size),
        "steps": int(obs[..., 0].size),
        "points": int(np.abs(recording.rewards).sum()),
        "bytes_exact": dict(zip(BYTES, (frames == recording.memory).mean((0, 1)).tolist(), strict=True)),
        "fields_exact": dict(zip(OBSERVED, exact.mean((0, 1)).tolist(), strict=True)),
        "fields_mean_absolute_error": dict(zip(OBSERVED, off.mean((0, 1)).tolist(), strict=True)),
        "rewards_exact": float((rewards == recording.rewards).mean()),
        "ends_exact": float(((points >= WINNING_SCORE).any(0) == recording.over).mean()),
    }


def uniform(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(6, size=len(obs))


def follow(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Towards the ball where the paddle's middle is more than 12 lines away, button held one time in four."""
    gap = np.where(obs[:, 5] > 0, obs[:, 5] - obs[:, 0] - 7, 0)
    move = np.where(gap < -12, 2, np.where(gap > 12, 3, 0))
    fire = rng.random(len(obs)) < 0.25
    actions = np.where(fire, np.where(move > 0, move + 2, 1), move)
    return np.where(rng.random(len(obs)) < WANDER, rng.integers(6, size=len(obs)), actions)


_plan = jax.jit(jax.vmap(reference))


def planner(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`reference`, after uniform actions until the first serve, where the ball's x is 0."""
    planned = np.asarray(_plan(jnp.asarray(obs, jnp.float32)))
    return np.where(obs[:, 4] == 0, rng.integers(6, size=len(obs)), planned)


POLICIES: dict[str, Policy] = {"uniform": uniform, "follow": follow, "reference": planner}


def own_returns(policy: Policy, episodes: int, seed: int) -> np.ndarray:
    """Returns of 200 steps in our environment, (episodes,)."""
    env = pong(limit=STEPS)
    keys = jax.random.split(jax.random.key(0), episodes)  # which the game does not use
    obs, state = jax.vmap(env.reset)(keys)
    step, rng, total = jax.jit(jax.vmap(env.step)), np.random.default_rng(seed), np.zeros(episodes)
    for _ in range(STEPS):
        actions = jnp.asarray(policy(np.asarray(obs), rng), jnp.int32)
        obs, state, reward, _, _ = step(keys, state, actions)
        total += np.asarray(reward)
    return total


def search(width: int, seed: int) -> dict[int, int]:
    """Leads that a beam search over the rules reaches from the reset, and the first step with each.

    Of all memories that the six actions lead to it keeps `width` different ones, those with the best lead,
    and among equals a random choice.
    """
    step = jax.jit(jax.vmap(lambda m, a: play(m, a)[0]))
    rng = np.random.default_rng(seed)
    actions = jnp.tile(jnp.arange(6), width)
    beam = np.tile(np.asarray(start(), np.int32), (width, 1))
    first: dict[int, int] = {}
    for t in range(1, STEPS + 1):
        fields = dict(zip(Memory._fields, np.repeat(beam, 6, 0).T, strict=True))
        fields["button"] = fields["button"].astype(bool)
        reached = np.unique(np.stack(step(Memory(**fields), actions), 1).astype(np.int32), axis=0)
        leads = lead(Memory(*reached.T))
        kept = np.lexsort((rng.random(len(leads)), -leads))[:width]
        beam = np.resize(reached[kept], beam.shape)  # repeated while there are few
        if leads.max() > 0:
            first.setdefault(int(leads.max()), t)
    return first


def mean(returns: np.ndarray) -> dict[str, float]:
    """Mean and its 95 % interval, by the normal law."""
    half = 1.96 * returns.std(ddof=1) / np.sqrt(len(returns))
    return {"mean": float(returns.mean()), "low": float(returns.mean() - half),
            "high": float(returns.mean() + half), "episodes": len(returns)}  # fmt: skip


def study(folder: pathlib.Path) -> dict[str, Any]:
    """The study's recorded episodes against our replay of their actions; {} where there are none."""
    found = {}
    for path in sorted(folder.glob("RepresentedPong_*.npz")):
        with np.load(path) as data:
            lengths = data["episode_lengths"]
            if len(set(lengths.tolist())) != 1:
                raise UserError(f"{path.name}: its episodes must have one length")
            seen, actions, rewards = (
                data[name].reshape(len(lengths), lengths[0], -1)
                for name in ("observations", "actions", "rewards")
            )
        _, obs, ours = jax.device_get(replay(jnp.asarray(actions[..., 0], jnp.int32)))
        found[path.stem.split("_")[1]] = {
            "rows": int(lengths.sum()),
            "fields_exact": dict(zip(OBSERVED, (obs == seen).mean((0, 1)).tolist(), strict=True)),
            "rewards_exact_second_half": float((ours[..., 1] == rewards[..., 0]).mean()),
            "rewards_exact_both_halves": float((ours.sum(-1) == rewards[..., 0]).mean()),
            "ranges": {name: [seen[..., i].min().item(), seen[..., i].max().item(),
                              obs[..., i].min().item(), obs[..., i].max().item()]
                       for i, name in enumerate(OBSERVED)},
            "points_won_lost": [int((rewards > 0).sum()), int((rewards < 0).sum())],
            "own_points_won_lost": [int((ours > 0).sum()), int((ours < 0).sum())],
        }  # fmt: skip
    return found


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.pong_fidelity", description=__doc__, args=argv)
    )
    for flag, least in (("episodes", 2), ("own_episodes", 2), ("games", 1), ("width", 1)):
        within(f"--{flag.replace('_', '-')}", getattr(options, flag), least, 1_000_000)
    within(
        "--seed", options.seed, 0, 2**30
    )  # the emulator's has 31 bits, and further ones are counted from it
    console = Console(stderr=True, highlight=False)
    found: dict[str, Any] = {"options": {k: str(v) for k, v in dataclasses.asdict(options).items()}}
    found["versions"] = {name: machine.version(name) for name in ("ale-py", "jax")}
    found["replayed"], found["returns"] = {}, {}
    for i, (name, policy) in enumerate(progress.track(list(POLICIES.items()), "policies", console)):
        seed = options.seed + 10_000 * i
        played = record(policy, options.episodes, STEPS, seed)
        found["replayed"][name] = compare(played)
        sticky = record(policy, options.episodes, STEPS, seed + 3000, sticky=0.25)
        found["returns"][name] = {
            "console": mean(played.rewards.sum((1, 2))),
            "ours": mean(own_returns(policy, options.own_episodes, seed + 6000)),
            "console, sticky actions 0.25": mean(sticky.rewards.sum((1, 2))),
        }
    with progress.waiting(console, "whole games"):
        games = record(uniform, options.games, GAME_STEPS, options.seed + 50_000)
        found["replayed"]["uniform, whole games"] = compare(games)
    with progress.waiting(console, "search for the best play"):
        found["search"] = search(options.width, options.seed)
    with progress.waiting(console, "the study's episodes"):
        found["study"] = study(options.study)
    text = markdown(found)
    with results.report(options.out) as out:
        files.write_json(out.with_suffix(".json"), found)
        files.write_text(out.with_suffix(".md"), text)
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
