"""From a state in words to an action: ask, read the answer, ask again, and at last draw at random.

How many answers one step takes, and how they are settled, is the *mode*: one answer (`direct`, `cot`), the
majority of several (`vote`), or the best of several in the model's own judgement (`best`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from loro_jax.language.backend import Backend, Completion, Query
from loro_jax.language.prompts import Prompt
from loro_jax.tasks.actions import Action, Reader, Words, among
from loro_jax.tasks.words import Fields

ModeName = Literal["direct", "cot", "vote", "best"]
BEST = "Best:"
TRIAL = 20
"""Answers in a row, none of them readable, after which a collection is not begun.

A model whose answers can be read half of the time fails so once in a million collections, and one that is
read in an answer of five about once in ninety."""


@dataclasses.dataclass(frozen=True)
class Request:
    """Step `step` of episode `episode`, with its state in words, and the actions that there are; None for
    all."""

    episode: int
    step: int
    fields: Fields
    legal: tuple[int, ...] | None = None


class Question(NamedTuple):
    """A state in words, the numbers that its seeds are made of, and which actions there are."""

    fields: Fields
    numbers: tuple[int, int]
    legal: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One answer, what was read from it, and its cost in tokens (`Completion`).

    A `judge`'s answer names the place of the answer it prefers among those it was shown.
    """

    answer: str
    action: Action | None
    asked: bool
    prompt_tokens: int
    answer_tokens: int
    role: Literal["answer", "judge"] = "answer"


@dataclasses.dataclass(frozen=True)
class Decision:
    """The action of a step: what its last answers say, or a uniform draw where none was readable.

    `sample` is the number of the sample that was used where answers are reused, else None. A `reused`
    decision repeats an earlier one and cost no attempt.
    """

    action: Action
    random: bool
    attempts: tuple[Attempt, ...]
    sample: int | None = None
    reused: bool = False


class Policy(Protocol):
    """Decides steps of several episodes side by side."""

    def decide(self, requests: Sequence[Request]) -> list[Decision]: ...

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        """Takes up the steps that an earlier run recorded, for policies with a memory."""


def number_of(purpose: str, *numbers: int) -> int:
    """A number from 0 to 2**31 - 1 that depends on the purpose and the numbers alone."""
    text = " ".join((purpose, *map(str, numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclasses.dataclass(frozen=True)
class Mode:
    """How many answers settle a step.

    Attributes:
        name: the mode.
        candidates: answers per step in `vote` and `best`.
        judge: what `best` asks about the answers; its placeholders are `question` and `answers`.
        constrained: what follows the mark is held to a grammar of the game's actions.
    """

    name: ModeName = "cot"
    candidates: int = 5
    judge: Prompt | None = None
    constrained: bool = False

    @property
    def answers(self) -> int:
        """Answers asked for at once."""
        return self.candidates if self.name in ("vote", "best") else 1


class LanguagePolicy:
    """A prompt put to a language model, up to `1 + retries` times per question.

    With `samples` = 0 every step asks anew. With n > 0 a step uses one of n samples of its state's
    answer, its number drawn by (seed, episode, step); each sample is asked for once and then reused.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        reader: Reader,
        seed: int,
        retries: int = 2,
        samples: int = 0,
        mode: Mode = Mode(),
    ) -> None:
        """`reader` reads the game's actions; `seed` is the collection's."""
        self._backend, self._prompt, self._reader, self._mode = backend, prompt, reader, mode
        self._seed, self._retries, self._samples = seed, retries, samples
        self._known: dict[tuple[str, int], Decision] = {}

    def try_out(self, states: Sequence[Fields], most: int = TRIAL) -> Completion | None:
        """The first of `most` answers about `states`, taken in turn, if none of them can be read; else None.

        Asks no more often than it takes to read one, and keeps nothing.
        """
        answers: list[Completion] = []
        while (asked := len(answers)) < most:
            numbers = range(asked, min(2 * asked + 1, most))
            asked_about = [Question(states[k % len(states)], (number_of("trial"), 0)) for k in numbers]
            queries = [self._query(q, k) for q, k in zip(asked_about, numbers, strict=True)]
            answers += self._backend.complete(queries)
            if any(self._reader.read(c.text) is not None for c in answers[asked:]):
                return None
        return answers[0]

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        """Fills the memory of samples from recorded steps."""
        for step in steps:
            if step["sample"] is not None and not step["reused"]:
                decision = Decision(step["action"], step["random"], (), step["sample"], True)
                self._known[self._prompt.tail(step["state"]), step["sample"]] = decision

    def decide(self, requests: Sequence[Request]) -> list[Decision]:
        """A decision per request; a request that repeats another's question shares its answer."""
        if not self._samples:
            return self._ask([Question(r.fields, (r.episode, r.step), r.legal) for r in requests])
        keys = [self._key(r) for r in requests]
        new = {key: r for key, r in zip(keys, requests, strict=True) if key not in self._known}
        asked = self._ask(
            [Question(r.fields, (number_of(key[0]), key[1]), r.legal) for key, r in new.items()]
        )
        fresh = {
            key: dataclasses.replace(decision, sample=key[1])
            for key, decision in zip(new, asked, strict=True)
        }
        self._known |= {
            key: dataclasses.replace(decision, attempts=(), reused=True) for key, decision in fresh.items()
        }
        return [fresh.pop(key) if key in fresh else self._known[key] for key in keys]

    def _key(self, request: Request) -> tuple[str, int]:
        sample = number_of("sample", self._seed, request.episode, request.step) % self._samples
        return self._prompt.tail(request.fields), sample

    def _ask(self, questions: Sequence[Question]) -> list[Decision]:
        """Retries are asked side by side too."""
        attempts: list[list[Attempt]] = [[] for _ in questions]
        for attempt in range(1 + self._retries):
            unread = [i for i, tried in enumerate(attempts) if all(a.action is None for a in tried)]
            if not unread:
                break
            places = [
                (i, self._mode.answers * attempt + k) for i in unread for k in range(self._mode.answers)
            ]
            queries = [self._query(questions[i], number) for i, number in places]
            for (i, _), c in zip(places, self._backend.complete(queries), strict=True):
                action = among(self._reader, questions[i].legal).read(c.text)
                attempts[i].append(Attempt(c.text, action, c.asked, c.prompt_tokens, c.answer_tokens))
        judged = self._judge(questions, attempts) if self._mode.name == "best" else {}
        return [
            self._decision(tried, question, judged.get(i))
            for i, (tried, question) in enumerate(zip(attempts, questions, strict=True))
        ]

    def _query(self, asked: Question, attempt: int) -> Query:
        seed = number_of("answer", self._seed, *asked.numbers, attempt)
        reader = among(self._reader, asked.legal) if self._mode.constrained else None
        tail = self._prompt.tail(asked.fields)
        return Query(self._prompt.head, tail, self._prompt.start, seed, reader=reader)

    def _judge(self, questions: Sequence[Question], attempts: list[list[Attempt]]) -> dict[int, Attempt]:
        """By question, the model's own choice among readable answers that differ; one look at each."""
        assert self._mode.judge is not None
        judge = self._mode.judge
        shown_of = {i: readable(tried) for i, tried in enumerate(attempts)}
        open_ = {i: shown for i, shown in shown_of.items() if len({a.action for a in shown}) > 1}
        queries: list[Query] = []
        readers: list[Words] = []
        for i, shown in open_.items():
            fields, numbers, _ = questions[i]
            answers = "\n".join(f"{k}. {' '.join(a.answer.split())}" for k, a in enumerate(shown, start=1))
            asked = {"question": self._prompt.head + self._prompt.tail(fields), "answers": answers}
            reader = Words(tuple(str(k + 1) for k in range(len(shown))), mark=BEST)
            seed = number_of("judge", self._seed, *numbers)
            held = reader if self._mode.constrained else None
            queries.append(Query(judge.head, judge.tail(asked), judge.start, seed, BEST, held))
            readers.append(reader)
        found = self._backend.complete(queries) if queries else []
        return {
            i: Attempt(c.text, reader.read(c.text), c.asked, c.prompt_tokens, c.answer_tokens, "judge")
            for i, reader, c in zip(open_, readers, found, strict=True)
        }

    def _decision(self, tried: Sequence[Attempt], asked: Question, judged: Attempt | None) -> Decision:
        shown = readable(tried)
        every = (*tried, *([judged] if judged else ()))
        if not shown:
            reader = among(self._reader, asked.legal)
            return Decision(reader.random(number_of("unreadable", self._seed, *asked.numbers)), True, every)
        if judged is not None and judged.action is not None:
            action = shown[int(judged.action)].action
            assert action is not None
            return Decision(action, False, every)
        return Decision(self._reader.settle([a.action for a in shown if a.action is not None]), False, every)


def readable(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts that name an action, in their order."""
    return [attempt for attempt in attempts if attempt.action is not None]
