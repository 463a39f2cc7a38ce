"""Sound files of every kind that the suite reads, small, in a folder of their own each."""

from __future__ import annotations

import enum
import pathlib
import pickle
import struct
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.analysis import summary
from loro_jax.records import results

IDENTITY: dict[str, Any] = {
    "schema": 2, "task": "frozen_lake", "protocol": "standard@1",
    "settings": {
        "schedule": {"budget": 2000, "eval_interval": 200, "eval_episodes": 1},
        "agent": {"name": "ddqn", "learning_rate": 0.001, "hidden": [16]},
        "prior": {"tau": 1}, "departures": {}, "game": {},
    },
    "seeds": 4, "seed": 0, "episodes": None, "arms": {"pure_rl": ["Interact(steps=2000)"]},
}  # fmt: skip


def run(folder: pathlib.Path) -> None:
    """A finished run of one arm, as a command leaves it, without its tables."""
    rng = np.random.default_rng(0)
    curves = {"pure_rl": rng.random((4, 10))}
    steps, flat = 200 * np.arange(1, 11), {"random_policy": rng.random(20)}
    found = summary.summarise(
        "frozen_lake", "standard@1", curves, steps, flat, "pure_rl", 0.7, curves,
        {"model": None, "prompt": None, "dataset": None, "prior_steps": 0, "warnings": []},
    )  # fmt: skip
    counters = {"counters/pure_rl/env_steps": np.full(4, 2000)}
    details = {"llm_free/pure_rl": curves["pure_rl"], "flat/random_policy": flat["random_policy"], **counters}
    with results.together(folder) as staging:
        files.write_npz(staging / "curves.npz", {**curves, "env_steps": steps})
        files.write_npz(staging / "details.npz", details)
        files.write_json(staging / "summary.json", found)
        ran = {"identity": IDENTITY, "source": "frozen_lake", "packages": {"jax": "1"}, "commit": "a" * 40}
        ran |= {"seconds": {"compile": 1.0, "training": 2.5}, "computed_on": {"devices": 1}}
        files.write_json(staging / results.RUN, ran)


def cartpole(episodes: int = 6) -> dict[str, np.ndarray]:
    """The reference study's arrays of uniform play: rows (s[t+1], a[t], r[t])."""
    import gymnasium

    game, rng = gymnasium.make("CartPole-v1", max_episode_steps=200), np.random.default_rng(0)
    rows: list[tuple[Any, int, float]] = []
    lengths = []
    for index in range(episodes):
        game.reset(seed=index)
        over, length = False, 0
        while not over:
            action = int(rng.integers(2))
            obs, reward, terminated, truncated, _ = game.step(action)
            rows.append((obs, action, float(reward)))
            over, length = terminated or truncated, length + 1
        lengths.append(length)
    obs, actions, rewards = zip(*rows, strict=True)
    return {
        "observations": np.array(obs), "actions": np.array(actions)[:, None], "rewards": np.array(rewards),
        "episode_lengths": np.array(lengths), "terminated": np.ones(episodes, bool),
    }  # fmt: skip


@contextmanager
def _d3rlpy() -> Iterator[types.SimpleNamespace]:
    """Classes under d3rlpy's names, so that pickles can be written without it."""
    places = {
        "d3rlpy": (), "d3rlpy.dataset": (), "d3rlpy.constants": (),
        "d3rlpy.dataset.components": ("Episode",), "d3rlpy.dataset.compat": ("MDPDataset",),
        "d3rlpy.dataset.buffers": ("InfiniteBuffer",),
    }  # fmt: skip
    made: dict[str, Any] = {}
    before = {name: sys.modules.get(name) for name in places}
    for place, names in places.items():
        sys.modules[place] = types.ModuleType(place)
        for name in names:
            made[name] = type(name, (), {"__module__": place})
            setattr(sys.modules[place], name, made[name])
    made["ActionSpace"] = enum.Enum("ActionSpace", "DISCRETE", module="d3rlpy.constants")
    sys.modules["d3rlpy.constants"].ActionSpace = made["ActionSpace"]  # type: ignore[attr-defined]
    try:
        yield types.SimpleNamespace(**made)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def pickled(arrays: dict[str, np.ndarray]) -> bytes:
    """An MDPDataset of the arrays, as the study's pickles are."""
    with _d3rlpy() as made:
        root, root._buffer = made.MDPDataset(), made.InfiniteBuffer()
        root._space, root._buffer._episodes = made.ActionSpace.DISCRETE, []
        ends = np.cumsum(arrays["episode_lengths"])
        for end, length in zip(ends, arrays["episode_lengths"], strict=True):
            episode = made.Episode()
            episode.observations = arrays["observations"][end - length : end]
            episode.actions = np.asfortranarray(arrays["actions"][end - length : end])
            episode.rewards = arrays["rewards"][end - length : end].reshape(-1, 1)
            episode.terminated = True
            root._buffer._episodes.append(episode)
        return pickle.dumps(root, 4)


TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}<end>{% endfor %}"
WIDTH, HEADS, INNER = 32, 4, 64


def gguf(**changes: Any) -> tuple[bytes, int]:
    """A model of one layer with random weights, that llama.cpp loads -> the file, and its header's length.

    `changes`: settings by their names, dots written as two underscores.
    """
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters += range(256, 256 + 256 - len(letters))
    tokens = [chr(n) for n in letters] + ["ab", "<user>", "<end>", "<begin>"]
    kinds = [1] * 257 + [3] * 3
    settings: dict[str, Any] = {
        "general.architecture": "llama", "general.alignment": 32, "general.name": "Tiny",
        "llama.block_count": 1, "llama.context_length": 512, "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0, "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(tokens), "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.bos_token_id": 259,
        "tokenizer.ggml.eos_token_id": 258, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    settings |= {name.replace("__", "."): value for name, value in changes.items()}
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (WIDTH, len(tokens)), "output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,), "blk.0.ffn_gate": (WIDTH, INNER), "blk.0.ffn_up": (WIDTH, INNER),
        "blk.0.ffn_down": (INNER, WIDTH),
        **{f"blk.0.attn_{k}": (WIDTH, WIDTH) for k in ("q", "k", "v", "output")},
    }  # fmt: skip
    data = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(settings))
    for name, value in settings.items():
        data += _text(name) + _value(value)
    rng, body = np.random.default_rng(0), b""
    for name, shape in shapes.items():
        data += (
            _text(f"{name}.weight") + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        )
        data += struct.pack("<IQ", 0, len(body))
        body += (rng.normal(size=shape) / 8).astype("<f4").tobytes()
    return data + bytes(-len(data) % 32) + body, len(data)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<Ii", 4, value) if value < 0 else struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    inner, parts = (8, map(_text, value)) if isinstance(value[0], str) else (
        5, (struct.pack("<i", n) for n in value)
    )  # fmt: skip
    return struct.pack("<IIQ", 9, inner, len(value)) + b"".join(parts)
