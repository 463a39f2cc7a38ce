"""What a model says about some hundreds of texts is the model: shipped transcripts, replayed as tables."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from loro_jax.data import answers, episodes
from loro_jax.data.answers import Answers
from loro_jax.language import tables
from loro_jax.language.journal import read_transcript
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.training.prior import played


def table(task: str, name: str) -> tuple[Answers, episodes.Episodes]:
    """The answers in a shipped transcript, a text with fewer than another repeating its own; and the episodes
    that were played by them."""
    found, folder = load(task), episodes.SHIPPED / task / name
    env = found.environment()
    identity, steps = read_transcript(folder / "transcript.jsonl.gz")
    coding = tables.coding_of(found, identity["prompt"]["text"])
    said: dict[tuple[int, ...], list[float]] = {}
    for step in steps:
        digits = tuple(f.values.index(step["state"][f.name]) for f in coding.fields)
        if step["attempts"]:
            said.setdefault(digits, []).append(step["action"])
    rows = sorted(said, key=lambda d: answers.code_of(coding, d))
    most = max(map(len, said.values()))
    kind = np.int32 if isinstance(env.action_space, Discrete) else np.float32
    actions = np.array([np.resize(said[row], most) for row in rows], kind).reshape(
        len(rows), most, *env.action_space.shape
    )
    kept = Answers(coding, np.array(rows, np.int32), actions, np.ones(len(rows), bool), {"name": name})
    return kept, episodes.load(folder, task, env.observation_shape, env.action_space)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("mountain_car", "qwen2.5-coder-0.5b-instruct-hint"),
        ("cartpole", "qwen2.5-coder-0.5b-instruct-hint"),
        ("cartpole", "qwen2.5-coder-0.5b-instruct-cot"),
        ("pendulum", "qwen2.5-coder-0.5b-instruct-cot-grammar"),
    ],
)
def test_a_transcript_as_a_table_plays_as_the_model_did(task: str, name: str) -> None:
    """2,000 fresh episodes against the 30 shipped ones, within four of their standard errors (rate 1e-4)."""
    kept, shipped = table(task, name)
    env = load(task).environment()
    protocol = load(task).protocol("standard").replace(charge="episodes")
    prior = played(kept, env, protocol, seed=1)
    error = shipped.returns.std(ddof=1) / len(shipped.returns) ** 0.5
    assert abs(prior.returns.mean() - shipped.returns.mean()) < 4 * error


def test_every_lookup_is_the_transcripts() -> None:
    """Step by step, from the observation in the episodes to the row, compiled."""
    kept, shipped = table("mountain_car", "qwen2.5-coder-0.5b-instruct-hint")
    looked_up, coding = kept.table(), kept.coding
    obs = shipped.transitions.obs
    found = jax.jit(jax.vmap(lambda o: answers.find(looked_up, coding, coding.digits(o))))(obs)
    assert np.asarray(found.own).all()
    said = np.asarray(looked_up.actions)[np.asarray(found.row)]
    assert (said == shipped.transitions.action[:, None]).any(axis=1).all()
