"""The collector with a real model of 135 M parameters, through llama.cpp."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from loro_jax.data import answers
from loro_jax.data import episodes as dataset
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.language import journal, models, tables
from loro_jax.language.backend import Decoding, Query
from loro_jax.language.llamacpp import LlamaCpp
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.tasks.actions import Number, Reader, Words

pytestmark = [pytest.mark.llm, pytest.mark.slow]

NAME = "smollm2-135m-instruct"
ROOT = pathlib.Path(__file__).parent.parent.parent
FETCH = ROOT.parent / "shared" / "tools" / "get_models.py"
HEAD = "You are asked about colours and animals. Answer in a few words.\n\n"


@pytest.fixture(scope="module")
def model() -> models.ModelFile:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    if not (models.cache() / models.KNOWN[NAME].file).is_file() and FETCH.is_file():
        subprocess.run([sys.executable, FETCH, NAME, "--out", models.cache()], check=False)
    try:
        return models.find(NAME)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def llama(model: models.ModelFile) -> Iterator[LlamaCpp]:
    with LlamaCpp(model, Decoding(max_tokens=12), threads=1, parallel=3, context=256) as loaded:
        yield loaded


def queries(seed: int) -> list[Query]:
    tails = ("Name a colour.", "Name an animal that can fly.", "Which colour has grass?", "Name a fish.")
    return [Query(HEAD, tail, "", seed + i) for i, tail in enumerate(tails)]


@contextlib.contextmanager
def evaluations(llama: LlamaCpp, growing: bool = True) -> Iterator[list[int]]:
    """How many tokens are evaluated for each sequence at a time; for `growing` answers too."""
    counted: list[int] = []
    evaluate = llama._evaluate

    def count(answers: Sequence[Any], *at_once: int) -> None:
        counted.extend(len(answer.pending) for answer in answers if growing or not answer.sampled)
        evaluate(answers, *at_once)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama, "_evaluate", count)
        yield counted


def test_seeds_decide_answers(llama: LlamaCpp) -> None:
    first, again, other = (llama.complete(queries(seed)) for seed in (1, 1, 1000))
    assert first == again
    assert [c.text for c in first] != [c.text for c in other]


def test_answers_do_not_depend_on_their_neighbours(llama: LlamaCpp) -> None:
    together = [c.text for c in llama.complete(queries(5))]
    assert together == [llama.complete([q])[0].text for q in queries(5)]


def test_the_shared_prompt_is_evaluated_once(llama: LlamaCpp) -> None:
    long = Query(HEAD * 5, "Name a colour.", "", 1)
    (first,) = llama.complete([long])
    with evaluations(llama) as evaluated:
        assert llama.complete([long]) == [first]
    assert sum(evaluated) < first.prompt_tokens / 2 + first.answer_tokens


def test_a_question_asked_several_times_is_evaluated_once(llama: LlamaCpp) -> None:
    same = [dataclasses.replace(queries(1)[1], seed=seed) for seed in (1, 2, 3)]
    llama.complete(same[:1])  # the head
    with evaluations(llama) as evaluated:
        together = llama.complete(same)
    assert [c.text for c in together] == [llama.complete([q])[0].text for q in same]
    assert sum(n > 4 and n != 3 for n in evaluated) == 1  # one long evaluation; the others are single tokens


@pytest.mark.parametrize("reader", [Words(("green", "red")), Number(-2.0, 2.0)])
def test_a_grammar_holds_what_follows_the_mark(llama: LlamaCpp, reader: Reader) -> None:
    for start in ("", "Action:", "I think. Action: "):
        asked = [dataclasses.replace(q, start=start, reader=reader) for q in queries(20)]
        for completion in llama.complete(asked):
            assert reader.read(completion.text) is not None, completion.text


def test_what_was_read_is_counted(llama: LlamaCpp) -> None:
    """Against what is evaluated, with and without what neighbours have in common."""
    tails = ("Name a red fish.", "Name a red fish of the sea.", "Name a red house.", "Name a red house.")
    asked = [Query(HEAD, tail, "", seed) for seed, tail in enumerate(tails)]
    llama.complete(asked[:1])  # the head

    with evaluations(llama, growing=False) as evaluated:
        said = llama.complete(asked)
    assert sum(c.read_tokens or 0 for c in said) == sum(evaluated)
    hold = llama._hold
    with pytest.MonkeyPatch.context() as patch, evaluations(llama, growing=False) as evaluated:
        patch.setattr(llama, "_hold", lambda *question: (llama._forget(), hold(*question))[1])
        llama.complete(asked)
    assert sum(c.tail_tokens or 0 for c in said) == sum(evaluated)
    assert sum(c.tail_tokens or 0 for c in said) > sum(c.read_tokens or 0 for c in said) + 4


WORDS = (" red", " green", " zebrafish", " zebrafinch", " upward bound", " upward right")
THOUGHTS = (
    "Action:",
    "I think so. Action:",
    "I think it is the colour of grass.\nAction:",
    "Well, it **is**, and it was, whatever they say about it in books, the colour of fire. **Action**:",
)


def thoughts() -> list[Query]:
    return [Query(HEAD, q.tail, start, 0) for q in queries(0) for start in THOUGHTS]


def test_scores_are_the_models_probabilities(llama: LlamaCpp, model: models.ModelFile) -> None:
    """Against logits of llama-cpp-python's own class, for words of one token and of several."""
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    # In batches of less than 64 tokens it attends as `score` does (`llamacpp.READ`).
    plain = llama_cpp.Llama(
        str(model.path), n_ctx=256, n_batch=60, n_threads=1, logits_all=True, flash_attn=True, verbose=False
    )
    frame = Jinja2ChatFormatter(plain.metadata["tokenizer.chat_template"], eos_token="", bos_token="")

    def log_prob(query: Query, word: str) -> float:
        asked = frame(messages=[{"role": "user", "content": query.head + query.tail}]).prompt + query.start
        begun, whole = (
            plain.tokenize(t.encode(), add_bos=False, special=True) for t in (asked, asked + word)
        )
        assert whole[: len(begun)] == begun
        plain.reset()
        plain.eval(whole)
        logits = np.array(plain.scores[: len(whole)], np.float64)
        at = range(len(begun), len(whole))
        return sum(logits[i - 1, whole[i]] - np.logaddexp.reduce(logits[i - 1]) for i in at)

    some = thoughts()[::5]  # each with another question
    lengths = {len(llama._tokenize(word)) for word in WORDS}
    assert lengths == {1, 2, 3}
    wanted = [[log_prob(query, word) for word in WORDS] for query in some]
    np.testing.assert_allclose(llama.score(some, WORDS), wanted, atol=1e-3)


def test_scores_do_not_depend_on_their_neighbours(llama: LlamaCpp) -> None:
    asked = thoughts()
    together = np.array(llama.score(asked, WORDS))
    mixed = np.random.default_rng(1).permutation(len(asked))
    np.testing.assert_allclose(llama.score([asked[i] for i in mixed], WORDS), together[mixed], atol=1e-3)
    llama.complete(queries(3))
    alone = [llama.score([query], WORDS)[0] for query in asked[:5]]
    np.testing.assert_allclose(alone, together[:5], atol=1e-3)


def test_answers_do_not_depend_on_what_was_asked_before(llama: LlamaCpp) -> None:
    """Or scored; whatever heads lay in the cache, and come to lie there between two questions."""
    first, scores = llama.complete(queries(2)), llama.score(thoughts()[:5], WORDS)
    for head in ("", "A.", HEAD * 4):
        other = [Query(head + HEAD, q.tail, "", q.seed) for q in queries(7)[:2]]
        llama.complete([other[0], queries(2)[0], other[1]])
        assert llama.complete(queries(2)) == first
        np.testing.assert_allclose(llama.score(thoughts()[:5], WORDS), scores, atol=1e-3)


def test_what_words_share_is_evaluated_once(llama: LlamaCpp) -> None:
    """Three thoughts about a question: what they have in common, the rest of each, and behind each one token
    for every beginning of words that go on."""
    asked = thoughts()[:3]
    head, *tokens = (
        llama._tokenize(text)
        for text in (
            llama._before + HEAD,
            *(llama._before + q.head + q.tail + llama._after + q.start for q in asked),
        )
    )
    llama.score(asked, WORDS)
    with evaluations(llama) as evaluated:
        llama.score([*asked, *asked], WORDS)
    kept, shared = common(head, tokens[0]), common(*tokens)
    parts = {tuple(word[:i]) for word in map(llama._tokenize, WORDS) for i in range(1, len(word))}
    assert sum(evaluated) == shared - kept + sum(len(t) - shared for t in tokens) + len(parts) * len(asked)


def common(*tokens: list[int]) -> int:
    """How many tokens all of them begin with."""
    shortest = min(map(len, tokens))
    return next((i for i in range(shortest) if len({t[i] for t in tokens}) > 1), shortest)


def test_answers_are_drawn_as_scored(model: models.ModelFile) -> None:
    """At temperature 1, of the whole distribution."""
    free = Decoding(temperature=1, top_p=1, max_tokens=1, mark_tokens=1)
    with LlamaCpp(model, free, threads=1, parallel=32, context=256) as llama:
        asked = [
            Query(HEAD, "Is grass red or green?", "It is the colour of grass. Action:", s) for s in range(320)
        ]
        (scores,) = llama.score(asked[:1], WORDS[:2])
        drawn = [c.text.rpartition(":")[2] for c in llama.complete(asked)]
    for word, likely in zip(WORDS, np.exp(scores), strict=False):
        error = np.sqrt(likely * (1 - likely) / len(drawn))
        assert abs(drawn.count(word) / len(drawn) - likely) < 4 * error + 0.01, (word, likely)


def test_two_heads_stay_evaluated(llama: LlamaCpp) -> None:
    one, other, third = (Query(f"{head} {HEAD}", "Name a fish.", "", 4) for head in ("A.", "B.", "C."))
    alone = [llama.complete([q])[0] for q in (one, other, third)]
    assert llama.complete([one, other, one, third]) == [alone[0], alone[1], alone[0], alone[2]]


def test_every_answer_reaches_its_mark(llama: LlamaCpp) -> None:
    for completion in llama.complete(queries(9)):
        assert "Action:" in completion.text
        assert completion.answer_tokens <= 12 + 2 * 6


def test_the_beginning_of_an_answer_is_kept(llama: LlamaCpp) -> None:
    (completion,) = llama.complete([Query(HEAD, "Name a colour.", "My favourite colour is", 3)])
    assert completion.text.startswith("My favourite colour is")


def test_a_prompt_that_does_not_fit_is_refused(llama: LlamaCpp) -> None:
    with pytest.raises(UserError, match="raise --context"):
        llama.complete([Query(HEAD, "word " * 300, "", 1)])
    assert llama.complete(queries(1)) == llama.complete(queries(1))


@pytest.mark.long
def test_killed_and_resumed_equals_uninterrupted(model: models.ModelFile, tmp_path: pathlib.Path) -> None:
    def start(out: pathlib.Path) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "loro_jax.language.collect",
            "--model",
            str(model.path),
            "--out",
            str(out),
        ]
        command += ["--task", "frozen_lake", "--episodes", "3", "--parallel", "2", "--max-tokens", "4"]
        command += ["--seed", "1", "--threads", "1"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(out: pathlib.Path) -> str:
        process = start(out)
        printed, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        said = re.compile(
            r"\d+ of \d+ episodes: .*|[^:]*: \d+ s so far"
        )  # every half minute, on a slow machine
        assert all(said.fullmatch(line) for line in errors.splitlines()), errors  # llama.cpp keeps quiet
        return printed

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    process = start(killed)
    record, deadline = killed / journal.JOURNAL, time.monotonic() + 300
    while not (record.exists() and record.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert record.exists() and not (killed / journal.TRANSCRIPT).exists()
    finish(killed)
    one, other = (dataset.load(out, "frozen_lake", (16,), Discrete(4)) for out in (whole, killed))
    assert dataset.digest(one) == dataset.digest(other)
    assert one.card["complete"] and one.card["model"]["sha256"] == model.sha256
    assert "the model was not asked" in finish(killed)


SMALL = """
import dataclasses
from loro_jax.protocols import by_name
from loro_jax.tasks import load
cartpole = load("cartpole")
small = cartpole.protocol("standard").replace(budget=400, hidden=(8,), batch_size=8, learning_starts=20)
TASK = dataclasses.replace(cartpole, protocols=by_name([small]), source="")
"""
"""CartPole, the agents that meet its texts trained for a moment."""


@pytest.mark.long
def test_a_killed_survey_ends_with_the_same_table(model: models.ModelFile, tmp_path: pathlib.Path) -> None:
    """Killed after its first round, on CartPole's texts: what was answered stands, and the rest is asked."""

    (tmp_path / "small.py").write_text(SMALL)

    def start(out: pathlib.Path) -> subprocess.Popen[str]:
        command = [
            *(sys.executable, "-m", "loro_jax.language.survey", "--model", str(model.path)),
            *("--task", "small.py:TASK"),
            *("--out", str(out), "--prompt", "rate", "--samples", "2", "--episodes", "8", "--most", "40"),
            *("--threads", "1", "--max-tokens", "4", "--allow-unreadable"),
        ]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(out: pathlib.Path) -> Answers:
        process = start(out)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        return tables.read(out, load("cartpole"))

    out = tmp_path / "killed"
    process = start(out)
    record, deadline = out / journal.JOURNAL, time.monotonic() + 300
    while not (record.exists() and record.read_bytes().count(b"\n") >= 2):  # a line for each round
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    first = json.loads(record.read_bytes().splitlines()[1])["steps"]
    assert first and not (out / journal.TRANSCRIPT).exists()
    kept = finish(out)
    _, steps = journal.read_transcript(out / journal.TRANSCRIPT)
    assert [step for step in steps if step["round"] == 0] == first
    assert len(steps) > len(first)
    assert kept.asked.sum() == 40 and kept.samples == 2
    assert answers.digest(kept) == answers.digest(finish(tmp_path / "whole"))
