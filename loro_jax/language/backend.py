"""What a policy asks of a language model, whoever runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from loro_jax.tasks.actions import Reader


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How answers are sampled; the temperature and top-p are the reference study's.

    Attributes:
        temperature: of the softmax; 0 takes the likeliest token.
        top_p: share of the probability kept, after the temperature as in the study's library.
        max_tokens: longest reasoning, in tokens.
        mark: what stands before the action; an answer ends with the line that holds it.
        mark_tokens: most tokens drawn after the mark.
        ask: an answer that ends, or reaches `max_tokens`, without the mark is given the mark as the
            beginning of a new line, and goes on from there (the answer-extraction step of zero-shot
            chain of thought, Kojima et al., 2022).
    """

    temperature: float = 0.9
    top_p: float = 0.6
    max_tokens: int = 32
    mark: str = "Action:"
    mark_tokens: int = 6
    ask: bool = True


@dataclasses.dataclass(frozen=True)
class Query:
    """One question: a user message and the seed its answer is sampled with.

    Attributes:
        head: the message's beginning, the same for a whole collection; a backend may keep it evaluated.
        tail: the rest of the message.
        start: the answer's first words, given to the model; the completion's text repeats them.
        seed: from 0 to 2**31 - 1.
        mark: what stands before what is asked for, if it is another than the decoding's.
        reader: what follows the mark is held to this reader's grammar; free if None.
    """

    head: str
    tail: str
    start: str
    seed: int
    mark: str = ""
    reader: Reader | None = None


@dataclasses.dataclass(frozen=True)
class Completion:
    """An answer's text and what it cost, in tokens; `asked` if it had to be given the mark.

    Attributes:
        reasoning: what a server keeps apart from an answer in which it says nothing; no action is read there.
        read_tokens: tokens of the prompt, beyond its head, that were evaluated for this answer: 0 where the
            same question was read for another; None where it is not known. What was kept decides it, not the
            query, so that equal answers may differ in it.
        tail_tokens: how many it would have been, had no beginning but the head been kept.
    """

    text: str
    prompt_tokens: int
    answer_tokens: int
    asked: bool
    reasoning: str = ""
    read_tokens: int | None = dataclasses.field(default=None, compare=False)
    tail_tokens: int | None = dataclasses.field(default=None, compare=False)


def whole(text: str) -> str:
    """`text` as UTF-8 can hold it: U+FFFD for each half of a surrogate pair whose other half is missing.

    JSON can name such halves, as servers do that cut an answer within an emoji. Every answer passes here
    where it comes in, so that what is read, recorded and sent back is one text.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Backend(Protocol):
    """Answers questions, each in a conversation of its own.

    `versions` goes into the card. `complete` may answer queries side by side; an answer depends on
    its own query alone, up to floating-point noise. `score` is there for a backend that has the model's
    probabilities; another raises a `UserError`.
    """

    @property
    def versions(self) -> dict[str, Any]: ...

    def complete(self, queries: Sequence[Query]) -> list[Completion]: ...

    def score(self, queries: Sequence[Query], words: Sequence[str]) -> list[list[float]]:
        """How likely each of `words` is, exactly as it is written, right behind each query's `start`.

        Natural logarithms of probabilities at temperature 1, a row for each query; seeds do not matter.
        """
        ...
