"""From a state in words to an action: ask, read the answer, ask again, and at last draw at random."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from loro_jax.language import parse
from loro_jax.language.backend import Backend, Query
from loro_jax.language.describe import Fields
from loro_jax.language.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Request:
    """Step `step` of episode `episode`, with its state in words."""

    episode: int
    step: int
    fields: Fields


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One answer, what was read from it, and its cost in tokens (`Completion`)."""

    answer: str
    action: int | None
    asked: bool
    prompt_tokens: int
    answer_tokens: int


@dataclasses.dataclass(frozen=True)
class Decision:
    """The action of a step: the last attempt's, or a uniform draw where no attempt was readable.

    `sample` is the number of the sample that was used where answers are reused, else None. A `reused`
    decision repeats an earlier one and cost no attempt.
    """

    action: int
    random: bool
    attempts: tuple[Attempt, ...]
    sample: int | None = None
    reused: bool = False


class Policy(Protocol):
    """Decides steps of several episodes side by side."""

    def decide(self, requests: Sequence[Request]) -> list[Decision]: ...

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        """Takes up the steps that an earlier run recorded, for policies with a memory."""


def draw(purpose: str, *numbers: int) -> int:
    """A number from 0 to 2**31 - 1 that depends on the purpose and the numbers alone."""
    text = " ".join((purpose, *map(str, numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class LanguagePolicy:
    """A prompt put to a language model, up to `1 + retries` times per question.

    With `samples` = 0 every step asks anew. With n > 0 a step uses one of n samples of its state's
    answer, its number drawn by (seed, episode, step); each sample is asked for once and then reused.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        words: tuple[str, ...],
        seed: int,
        retries: int = 2,
        samples: int = 0,
    ) -> None:
        """`words` are the actions' names; `seed` is the collection's."""
        self._backend, self._prompt, self._words = backend, prompt, words
        self._seed, self._retries, self._samples = seed, retries, samples
        self._known: dict[tuple[str, int], Decision] = {}

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        """Fills the memory of samples from recorded steps."""
        for step in steps:
            if step["sample"] is not None and not step["reused"]:
                decision = Decision(step["action"], step["random"], (), step["sample"], True)
                self._known[self._prompt.tail(step["state"]), step["sample"]] = decision

    def decide(self, requests: Sequence[Request]) -> list[Decision]:
        """A decision per request; a request that repeats another's question shares its answer."""
        if not self._samples:
            return self._ask([(r.fields, (r.episode, r.step)) for r in requests])
        keys = [self._key(r) for r in requests]
        new = {key: r.fields for key, r in zip(keys, requests, strict=True) if key not in self._known}
        asked = self._ask([(fields, (draw(key[0]), key[1])) for key, fields in new.items()])
        fresh = {
            key: dataclasses.replace(decision, sample=key[1])
            for key, decision in zip(new, asked, strict=True)
        }
        self._known |= {
            key: dataclasses.replace(decision, attempts=(), reused=True) for key, decision in fresh.items()
        }
        return [fresh.pop(key) if key in fresh else self._known[key] for key in keys]

    def _key(self, request: Request) -> tuple[str, int]:
        sample = draw("sample", self._seed, request.episode, request.step) % self._samples
        return self._prompt.tail(request.fields), sample

    def _ask(self, questions: Sequence[tuple[Fields, tuple[int, int]]]) -> list[Decision]:
        """Questions with the numbers that their seeds are made of; retries are asked side by side too."""
        attempts: list[list[Attempt]] = [[] for _ in questions]
        for attempt in range(1 + self._retries):
            unread = [i for i, tried in enumerate(attempts) if not tried or tried[-1].action is None]
            if not unread:
                break
            queries = [self._query(*questions[i], attempt) for i in unread]
            for i, c in zip(unread, self._backend.complete(queries), strict=True):
                action = parse.action(c.text, self._words)
                attempts[i].append(Attempt(c.text, action, c.asked, c.prompt_tokens, c.answer_tokens))
        return [
            self._decision(tuple(tried), numbers)
            for tried, (_, numbers) in zip(attempts, questions, strict=True)
        ]

    def _query(self, fields: Fields, numbers: tuple[int, int], attempt: int) -> Query:
        seed = draw("answer", self._seed, *numbers, attempt)
        return Query(self._prompt.head, self._prompt.tail(fields), self._prompt.start, seed)

    def _decision(self, attempts: tuple[Attempt, ...], numbers: tuple[int, int]) -> Decision:
        read = attempts[-1].action
        if read is not None:
            return Decision(read, False, attempts)
        return Decision(draw("unreadable", self._seed, *numbers) % len(self._words), True, attempts)
