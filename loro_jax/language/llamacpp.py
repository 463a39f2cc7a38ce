"""llama.cpp in this process: several answers decoded side by side, the shared prompt evaluated once.

llama-cpp-python's own classes decode one sequence at a time, so this speaks to llama.cpp's C
interface, through the same package. The prompt's head lies in a sequence of a unified KV cache; the question
at hand copies it (a copy of references), or what the question before it has in common with it, and evaluates
the rest. All answers copy their questions and grow together, one token per pass. Samplers are per answer and
seeded by the query.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from loro_jax.errors import UserError
from loro_jax.language import gguf
from loro_jax.language.backend import Completion, Decoding, Query
from loro_jax.language.models import MISSING_EXTRA, PINNED, ModelFile
from loro_jax.tasks.actions import Reader

HEADS = 2  # prompts' heads that stay evaluated: the question's and the judge's
LAST = HEADS  # the sequence of the last question, whose beginning the next one may share beyond the head
KEPT = HEADS + 1
BATCH = 512  # tokens that are evaluated in one pass at most
READ = 48
"""Tokens of questions that are evaluated in one pass at most. From 64 on llama.cpp attends by another
algorithm, whose last bits differ: an answer would depend on how much of its question had been kept."""
MARK = "\x00"  # stands for the user's message while the chat template is rendered; in no prompt


def library() -> Any:
    """llama_cpp, silenced; a `UserError` names the extra where it is not installed."""
    try:
        import llama_cpp
    except ImportError:
        raise UserError(MISSING_EXTRA) from None
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # else it starts a debugger where it gives up
    llama_cpp.llama_log_set(_mute(llama_cpp), ctypes.c_void_p(0))
    return llama_cpp


_muted: list[Any] = []  # llama.cpp keeps the callback's address, so Python has to keep the callback


def _mute(llama_cpp: Any) -> Any:
    if not _muted:
        _muted.append(llama_cpp.llama_log_callback(lambda level, text, data: None))
    return _muted[0]


TRIAL = "from loro_jax.language import llamacpp; llamacpp.trial()"
PATIENCE = 120
"""Seconds that a trial may take, and one more for every `PACE` bytes of the file."""
PACE = 10_000_000


def _try(model: ModelFile, threads: int) -> None:
    """Loads the model and asks it one thing, in a process that may crash or hang -> a `UserError` then."""
    limit = PATIENCE + model.path.stat().st_size // PACE
    line = [sys.executable, "-c", TRIAL, os.fspath(model.path), str(threads)]
    found = os.pathsep.join(place for place in sys.path if place)
    try:
        done = subprocess.run(
            line, capture_output=True, timeout=limit, env=os.environ | {"PYTHONPATH": found}
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{model.path}: llama.cpp does not come to an end with it; fetch it again") from None
    if done.returncode == 2:
        raise UserError(done.stdout.decode(errors="replace"))
    if done.returncode:
        raise UserError(
            f"{model.path}: llama.cpp crashes on it ({done.returncode}); the file is damaged or of an unknown"
            " kind: fetch it again"
        )


def trial() -> None:
    """What `_try` starts, with a path and a number of threads; exits with 2 where it refuses the model."""
    path, threads = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    model = ModelFile(path.stem, path, "")
    try:
        with LlamaCpp(model, Decoding(), threads=threads, parallel=1, context=256, tried=True) as llama:
            (scores,) = llama.score([Query("", "Hello.", "", 0)], [" yes", " no"])
        if not np.isfinite(scores).all():
            raise UserError(f"{path}: its answers are no numbers; the file is damaged: fetch it again")
    except UserError as error:
        print(error)
        sys.exit(2)


@dataclasses.dataclass
class _Answer:
    """An answer as it grows in sequence `seq`; `output` is its row among the last pass's logits."""

    seq: int
    sampler: Any
    position: int
    prompt_tokens: int
    output: int = -1
    prompt: list[int] = dataclasses.field(default_factory=list)
    text: bytes = b""
    pending: list[int] = dataclasses.field(default_factory=list)
    read_tokens: int = 0
    tail_tokens: int = 0
    sampled: int = 0
    room: int = 0
    mark: bytes = b""
    reader: Reader | None = None
    seed: int = 0
    marked: bool = False
    asked: bool = False
    ended: bool = False


@dataclasses.dataclass(frozen=True)
class _Thought:
    """An answer's beginning in tokens, and words one of which may follow, each the tokens that it adds."""

    begun: list[int]
    words: list[tuple[int, ...]]

    @property
    def behind(self) -> set[tuple[int, ...]]:
        """All that a word's next token may have to be drawn behind: parts of words, and the empty one."""
        return {word[:i] for word in self.words for i in range(len(word))}

    def next(self, behind: tuple[int, ...], log_probs: np.ndarray) -> list[float]:
        """The log-probability of each word's token behind `behind`; 0 where the word has none there."""
        at = len(behind)
        return [log_probs[w[at]] if len(w) > at and w[:at] == behind else 0.0 for w in self.words]


class LlamaCpp:
    """A loaded model. Not thread-safe; `close` frees it (also used as a context manager)."""

    def __init__(
        self,
        model: ModelFile,
        decoding: Decoding,
        *,
        threads: int,
        parallel: int,
        context: int = 2048,
        tried: bool = False,
    ) -> None:
        """Loads `model`, to answer up to `parallel` (at most 64) queries side by side.

        `context` is the room for one prompt and its answer, in tokens. A `UserError` if llama.cpp
        cannot load the file. What is not a file that the suite knows is first tried in a process of its own,
        since llama.cpp crashes on some that are damaged, unless it was `tried`.
        """
        self._c = c = library()
        if not tried and model.sha256 not in PINNED:
            gguf.check(model.path)
            _try(model, threads)
        self._decoding, self._parallel, self._context_tokens = decoding, parallel, context
        self.evaluated = 0
        """Tokens that the model evaluated so far, but for heads."""
        self._cleanup = contextlib.ExitStack()
        self._model = c.llama_model_load_from_file(os.fsencode(model.path), c.llama_model_default_params())
        if not self._model:
            raise UserError(
                f"{model.path}: llama.cpp cannot load it; the file is damaged or of an unknown kind"
            )
        self._cleanup.callback(c.llama_model_free, self._model)
        params = c.llama_context_default_params()
        params.n_ctx = context * (parallel + KEPT)
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = parallel + KEPT
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        self._context = c.llama_init_from_model(self._model, params)
        if not self._context:
            self.close()
            raise UserError(
                f"{model.path}: llama.cpp cannot make room for {params.n_ctx} tokens; lower --parallel"
            )
        self._cleanup.callback(c.llama_free, self._context)
        self._batch = c.llama_batch_init(params.n_batch, 0, 1)
        self._cleanup.callback(c.llama_batch_free, self._batch)
        self._memory = c.llama_get_memory(self._context)
        self._vocab = c.llama_model_get_vocab(self._model)
        self._heads: dict[str, tuple[int, list[int]]] = {}  # head -> its sequence and tokens
        self._last: list[int] = []  # the tokens in sequence `LAST`
        try:
            self._before, self._after = self._chat_frame()
        except UserError as error:
            self.close()
            raise UserError(f"{model.path}: {error}") from None

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model; the object is of no use afterwards."""
        self._cleanup.close()

    @property
    def versions(self) -> dict[str, Any]:
        return {"llama_cpp_python": self._c.__version__}

    def complete(self, queries: Sequence[Query]) -> list[Completion]:
        """The answers, `parallel` at a time, in the order of the queries.

        Queries share what they have in common with the one before them, but not with those of an earlier
        call: a call's answers are the same whatever was asked before it.
        """
        found: dict[int, Completion] = {}
        self._forget()
        for head in dict.fromkeys(q.head for q in queries):
            places = [i for i, q in enumerate(queries) if q.head == head]
            for first in range(0, len(places), self._parallel):
                group = places[first : first + self._parallel]
                found |= dict(zip(group, self._complete([queries[i] for i in group]), strict=True))
        return [found[i] for i in range(len(queries))]

    def _complete(self, queries: Sequence[Query]) -> list[Completion]:
        """Up to `parallel` answers to queries with the same head."""
        c = self._c
        head = queries[0].head
        _, begun = self._evaluate_head(head)
        answers: list[_Answer] = []
        try:
            for seq, query in enumerate(queries, start=KEPT):
                answers.append(self._begin(seq, query, begun))
            asked: dict[tuple[int, ...], list[_Answer]] = {}
            for answer in answers:
                asked.setdefault(tuple(answer.prompt), []).append(answer)
            for first, *same in asked.values():  # a question that is asked several times is read once
                question = self._hold(first.prompt, head)
                first.read_tokens = len(question.pending)
                for answer in same:
                    answer.tail_tokens = 0
                for answer in (first, *same):
                    c.llama_memory_seq_cp(self._memory, LAST, answer.seq, -1, -1)
                    answer.output = question.output
                    self._sample(answer)
            while live := [a for a in answers if not a.ended]:
                self._evaluate(live)
                for answer in live:
                    self._sample(answer)
        finally:
            for answer in answers:
                c.llama_sampler_free(answer.sampler)
                c.llama_memory_seq_rm(self._memory, answer.seq, -1, -1)
        return [
            Completion(
                a.text.decode("utf-8", errors="replace"),
                a.prompt_tokens,
                a.sampled,
                a.asked,
                read_tokens=a.read_tokens,
                tail_tokens=a.tail_tokens,
            )
            for a in answers
        ]

    def score(self, queries: Sequence[Query], words: Sequence[str]) -> list[list[float]]:
        """How likely each of `words` is right behind each query's `start` (`Backend.score`).

        Queries that put the same question belong side by side: what they have in common is evaluated once,
        and so is what a question has in common with the one before it.
        """
        self._forget()
        found: dict[tuple[str, ...], list[float]] = {}
        asked, size = dict.fromkeys((q.head, q.tail, q.start) for q in queries), min(self._parallel, READ)
        for (head, tail), same in itertools.groupby(asked, lambda key: key[:2]):
            starts = [start for _, _, start in same]
            for first in range(0, len(starts), size):
                group = starts[first : first + size]
                scores = self._score(head, tail, group, words)
                found |= {(head, tail, start): s for start, s in zip(group, scores, strict=True)}
        return [found[q.head, q.tail, q.start] for q in queries]

    def _score(self, head: str, tail: str, starts: Sequence[str], words: Sequence[str]) -> list[list[float]]:
        """The words' log-probabilities behind up to `parallel` beginnings of an answer."""
        texts = [self._before + head + tail + self._after + start for start in starts]
        thoughts = [self._thought(text, words) for text in texts]
        shared = min(_common(thoughts[0].begun, t.begun[:-1]) for t in thoughts)
        self._hold(thoughts[0].begun[:shared], head)
        answers, scores = [], np.zeros((len(thoughts), len(words)))
        try:
            for seq, thought in enumerate(thoughts, start=KEPT):
                self._c.llama_memory_seq_cp(self._memory, LAST, seq, 0, shared)
                between = thought.begun[shared:-1]
                answers.append(_Answer(seq, None, shared, len(thought.begun), pending=between))
            self._evaluate(answers, READ)
            # Parts of words in this order come after what they begin with: it only takes a cut to go on.
            for behind in sorted(set().union(*(thought.behind for thought in thoughts))):
                now = [i for i, thought in enumerate(thoughts) if behind in thought.behind]
                for i in now:
                    answer, begun = answers[i], thoughts[i].begun
                    answer.position = len(begun) - 1 + len(behind)
                    answer.pending = [behind[-1] if behind else begun[-1]]
                    self._c.llama_memory_seq_rm(self._memory, answer.seq, answer.position, -1)
                self._evaluate([answers[i] for i in now])
                for i in now:
                    scores[i] += thoughts[i].next(behind, self._log_probs(answers[i].output))
        finally:
            for seq in range(KEPT, KEPT + len(thoughts)):
                self._c.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return scores.tolist()

    def _thought(self, text: str, words: Sequence[str]) -> _Thought:
        """`text`, and what each of the words adds to it, in tokens."""
        begun = self._tokenize(text)
        whole = [self._tokenize(text + word) for word in words]
        # A tokenizer may join the text's end with a word's beginning.
        kept = min(_common(begun, tokens) for tokens in whole)
        longest = max(map(len, whole))
        if longest > self._context_tokens:
            raise UserError(
                f"a prompt and its answer have {longest} tokens, more than {self._context_tokens};"
                " raise --context"
            )
        return _Thought(begun[:kept], [tuple(tokens[kept:]) for tokens in whole])

    def _log_probs(self, row: int) -> np.ndarray:
        """Of every token, (vocabulary,), in a row of the last pass."""
        size = self._c.llama_vocab_n_tokens(self._vocab)
        logits = np.ctypeslib.as_array(self._c.llama_get_logits_ith(self._context, row), (size,))
        above = logits.astype(np.float64) - logits.max()
        return above - np.log(np.exp(above).sum())

    def _begin(self, seq: int, query: Query, head: list[int]) -> _Answer:
        """An answer for sequence `seq`, which is empty as yet."""
        d = self._decoding
        # As one text: where two texts meet, a tokenizer may join what it would split in either.
        tokens = self._tokenize(self._before + query.head + query.tail + self._after + query.start)
        self._check_room(len(tokens))
        answer = _Answer(seq, self._sampler(query.seed), len(tokens), len(tokens), prompt=tokens)
        answer.tail_tokens = len(tokens) - _kept(head, tokens)
        answer.room, answer.text = d.max_tokens, query.start.encode()
        answer.mark, answer.reader, answer.seed = (query.mark or d.mark).encode(), query.reader, query.seed
        self._notice(answer)
        return answer

    def _hold(self, tokens: list[int], head: str) -> _Answer:
        """Makes `LAST` hold these tokens; evaluates those that neither it nor the head's sequence has.

        Texts that are asked about in sorted order begin as their neighbours do. `LAST` is cut back before
        more is added, so that the cache's cells keep the order of their tokens: in another order attention
        adds up otherwise, and a last bit that differs can turn a rounding where activations are quantised.
        """
        source, begun = self._evaluate_head(head)
        kept = _kept(self._last, tokens)
        if kept < _kept(begun, tokens):
            kept = _kept(begun, tokens)
            self._forget()
            self._c.llama_memory_seq_cp(self._memory, source, LAST, 0, kept)
        self._c.llama_memory_seq_rm(self._memory, LAST, kept, -1)
        held = _Answer(LAST, None, kept, len(tokens), pending=tokens[kept:])
        self._evaluate([held], READ)
        self._last = tokens
        return held

    def _forget(self) -> None:
        """Empties `LAST`, so that what comes does not depend on what was asked before."""
        self._c.llama_memory_seq_rm(self._memory, LAST, -1, -1)
        self._last = []

    def _evaluate_head(self, head: str) -> tuple[int, list[int]]:
        """Evaluates the head, unless a sequence holds it; -> that sequence, and its tokens."""
        if head not in self._heads:
            tokens = self._tokenize(self._before + head)
            self._check_room(len(tokens))
            self._forget()
            if len(self._heads) == HEADS:  # all go: one alone would leave a hole, for tokens that come later
                self._heads.clear()
                self._c.llama_memory_clear(self._memory, False)
            seq = len(self._heads)
            self._evaluate([_Answer(seq, None, 0, 0, pending=tokens)], READ)
            self.evaluated -= len(tokens)
            self._heads[head] = (seq, tokens)
        return self._heads[head]

    def _evaluate(self, answers: Sequence[_Answer], at_once: int = BATCH) -> None:
        """Appends each answer's pending tokens to its sequence; logits are kept for the last of each."""
        self.evaluated += sum(len(answer.pending) for answer in answers)
        queue = [
            (answer, token, i == len(answer.pending) - 1)
            for answer in answers
            for i, token in enumerate(answer.pending)
        ]
        for first in range(0, len(queue), at_once):
            batch, part = self._batch, queue[first : first + at_once]
            batch.n_tokens = len(part)
            for row, (answer, token, last) in enumerate(part):
                batch.token[row], batch.pos[row] = token, answer.position
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, answer.seq
                batch.logits[row] = last
                answer.position += 1
                answer.output = row
            if status := self._c.llama_decode(self._context, batch):
                raise RuntimeError(f"llama_decode failed with status {status}")

    def _sample(self, answer: _Answer) -> None:
        """Draws an answer's next token, and decides whether it goes on (see `Decoding`)."""
        d = self._decoding
        token = self._c.llama_sampler_sample(answer.sampler, self._context, answer.output)
        answer.sampled += 1
        answer.room -= 1
        closed = bool(self._c.llama_vocab_is_eog(self._vocab, token))
        if not closed:
            answer.text += self._piece(token)
        answer.pending = [token]
        after = self._notice(answer)
        if not (closed or answer.room <= 0 or (answer.marked and b"\n" in after.lstrip())):
            return
        if answer.marked or not d.ask:
            answer.ended = True
            return
        ask = b"\n" + answer.mark
        answer.asked = True
        answer.text = answer.text.rstrip() + ask
        answer.pending = ([] if closed else [token]) + self._tokenize(ask.decode())
        answer.room = d.mark_tokens
        self._notice(answer)

    def _notice(self, answer: _Answer) -> bytes:
        """What follows the last mark; at the first one the answer comes to its end, held to its grammar."""
        _, mark, after = answer.text.rpartition(answer.mark)
        if mark and not answer.marked:
            answer.marked, answer.room = True, min(answer.room, self._decoding.mark_tokens)
            grammar = answer.reader.grammar(after.decode(errors="replace")) if answer.reader else ""
            if grammar:
                self._c.llama_sampler_free(answer.sampler)
                answer.sampler = self._sampler(answer.seed, grammar)
        return after if mark else b""

    def _sampler(self, seed: int, grammar: str = "") -> Any:
        """A grammar, temperature, top-p, then a draw: the order of the study's library (transformers).

        llama.cpp takes a malformed grammar without complaint and then crashes, so that only a `Reader`
        writes them.
        """
        c, d = self._c, self._decoding
        chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        if grammar:
            held = c.llama_sampler_init_grammar(self._vocab, grammar.encode(), b"root")
            c.llama_sampler_chain_add(chain, held)
        if d.temperature <= 0:
            c.llama_sampler_chain_add(chain, c.llama_sampler_init_greedy())
            return chain
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_temp(d.temperature))
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_top_p(d.top_p, 1))
        c.llama_sampler_chain_add(chain, c.llama_sampler_init_dist(seed))
        return chain

    def _check_room(self, prompt_tokens: int) -> None:
        needed = prompt_tokens + self._decoding.max_tokens + 2 * self._decoding.mark_tokens
        if needed > self._context_tokens:
            raise UserError(
                f"a prompt of {prompt_tokens} tokens and an answer of up to {self._decoding.max_tokens} need"
                f" more than {self._context_tokens} tokens; shorten the prompt or raise --context"
            )

    def _chat_frame(self) -> tuple[str, str]:
        """What the model's own chat template puts before and after a user's message."""
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self._c.llama_model_chat_template(self._model, None)
        if not template:
            raise UserError("has no chat template; use an instruction-tuned model")
        bos, eos = self._c.llama_vocab_bos(self._vocab), self._c.llama_vocab_eos(self._vocab)
        try:  # the file's own program, which jinja runs in a sandbox
            formatter = Jinja2ChatFormatter(
                template.decode(),
                bos_token=self._piece(bos).decode() if bos >= 0 else "",
                eos_token=self._piece(eos).decode() if eos >= 0 else "",
            )
            text = formatter(messages=[{"role": "user", "content": MARK}]).prompt
        except Exception as error:
            raise UserError(f"its chat template cannot be used ({type(error).__name__}: {error})") from None
        if text.count(MARK) != 1:
            raise UserError("its chat template does not show the user's message exactly once")
        before, after = text.split(MARK)
        return before, after

    def _tokenize(self, text: str) -> list[int]:
        raw = text.encode()
        room = (self._c.llama_token * (len(raw) + 8))()
        count = self._c.llama_tokenize(self._vocab, raw, len(raw), room, len(room), False, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize failed on {len(raw)} bytes")
        return list(room[:count])

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(512)
        count = self._c.llama_token_to_piece(self._vocab, token, room, len(room), 0, True)
        return room.raw[: max(count, 0)]


def _kept(known: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens need not be evaluated where `known` were; the last one's logits are wanted anew."""
    return min(_common(known, tokens), len(tokens) - 1)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)
