"""States in words: alike in NumPy and XLA, as shipped transcripts have them, and numbered without gaps."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from loro_jax.data import episodes
from loro_jax.data.answers import Coding, code_of
from loro_jax.errors import UserError
from loro_jax.language.journal import read_transcript
from loro_jax.tasks import NAMES, load
from loro_jax.tasks.rollout import recorded, uniform
from loro_jax.tasks.words import Field, banded, rounded, sided, size

TRANSCRIPTS = [(task, name) for task in NAMES for name in episodes.shipped(task)]


def coding(task: str) -> Coding:
    words = load(task).words
    assert words is not None
    return Coding(words.fields)


@pytest.mark.parametrize("task", NAMES)
def test_numpy_and_xla_tell_the_same(task: str) -> None:
    env, code = load(task).environment(), coding(task)
    keys = jax.random.split(jax.random.key(3), 8)
    play = jax.jit(jax.vmap(lambda key: recorded(env, uniform(env), key, 60).obs))
    obs = np.asarray(play(keys)).reshape(-1, *env.observation_shape)
    compiled = np.asarray(jax.jit(jax.vmap(code.digits))(obs))
    eager = [[int(field.index(row)) for field in code.fields] for row in obs]
    np.testing.assert_array_equal(compiled, eager)
    assert (compiled >= 0).all() and (compiled < np.array(code.sizes)).all()


@pytest.mark.parametrize(("task", "name"), TRANSCRIPTS)
def test_the_shipped_transcripts_say_what_their_observations_tell(task: str, name: str) -> None:
    env, code, folder = load(task).environment(), coding(task), episodes.SHIPPED / task / name
    _, steps = read_transcript(folder / "transcript.jsonl.gz")
    data = episodes.load(folder, task, env.observation_shape, env.action_space)
    starts = data.ends - data.episode_lengths
    rows = np.array([starts[s["episode"]] + s["step"] for s in steps])
    digits = np.asarray(jax.jit(jax.vmap(code.digits))(data.transitions.obs[rows]))
    for place, field in enumerate(code.fields):
        told = [field.values[d] for d in digits[:, place]]
        said = [s["state"].get(field.name, t) for s, t in zip(steps, told, strict=True)]
        assert said == told, field.name


def test_a_number_on_an_edge_is_not_beyond_it() -> None:
    field = banded("pace", size(0), (0.3, 1.0), ("slowly", "steadily", "fast"))
    below, on, beyond = np.nextafter(np.float32(0.3), [0, 0.3, 1], dtype=np.float32)
    texts = [field.text(np.float32([x])) for x in (below, on, beyond, -beyond)]
    assert texts == ["slowly", "slowly", "steadily", "steadily"]
    assert (
        rounded("lines", size(0), 8, 24, "{:.0f}").text(np.float32([1000])) == "24"
    )  # the last one's and more


@pytest.mark.parametrize("sizes", [(3, 2, 4), (5000, 5000, 300), (70000, 60000, 70000, 3)])
def test_codes_number_texts_in_order(sizes: tuple[int, ...]) -> None:
    fields = tuple(
        Field(f"f{i}", tuple(map(str, range(n))), lambda obs, i=i: obs[i]) for i, n in enumerate(sizes)
    )
    code = Coding(fields)
    rng = np.random.default_rng(0)
    digits = np.stack([rng.integers(n, size=200) for n in sizes], axis=1).astype(np.int32)
    numbers = [code_of(code, row) for row in digits.tolist()]
    found = np.asarray(jax.jit(jax.vmap(code.number))(digits)).astype(np.uint64)
    assert code.dense == (np.prod(sizes, dtype=object) <= 2**20)
    if code.dense:
        assert found.tolist() == numbers and max(numbers) < code.space
    else:  # two halves, compared one after the other
        order = np.lexsort((found[:, 1], found[:, 0]))
        assert [numbers[i] for i in order] == sorted(numbers)
        assert len({tuple(pair) for pair in found.tolist()}) == len(set(numbers))


def test_fields_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="ascending edges"):
        banded("pace", size(0), (1.0, 0.3), ("a", "b", "c"))
    with pytest.raises(UserError, match="one value more"):
        sided("side", size(0)) and banded("pace", size(0), (1.0,), ("a",))
    with pytest.raises(UserError, match="needs a name"):
        Field("two words", ("a",), lambda obs: 0)
