"""Reads an action from an answer, strictly: what is not clearly an action is none.

A *reader* knows what a game's actions look like in words: it reads them, writes the grammar that an
answer can be held to at decode time, and settles what several answers say.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from loro_jax.errors import UserError

Action = int | float

MARK = "Action:"
_LONGEST = 20_000
"""Characters read of an answer, from its end."""
_WORD = re.compile(r"[A-Za-z0-9]+")
_NUMBER = re.compile(r"[*_`<]{0,3}([+-]?\d{1,6}(?:\.\d{1,9})?)(?![\w.,]*\d)")


class Reader(Protocol):
    """What a game's actions look like in words."""

    def read(self, answer: str) -> Action | None:
        """The action that an answer names, or None; never raises, whatever the answer."""

    def grammar(self, begun: str) -> str:
        """GBNF for what may follow the mark once `begun` stands there; empty where nothing fits."""

    def settle(self, actions: Sequence[Action]) -> Action:
        """What the majority of several answers says."""

    def random(self, number: int) -> Action:
        """The action that a number from 0 to 2**31 - 1 stands for, uniformly."""


def among(reader: Reader, legal: Sequence[int] | None) -> Reader:
    """The reader, of these actions alone; of all where `legal` is None.

    Raises:
        UserError: a reader of one's own that has no `among(legal)`, in a game whose actions differ by state.
    """
    if legal is None:
        return reader
    if not hasattr(reader, "among"):
        raise UserError(f"{type(reader).__name__} reads a game whose actions differ: it needs among(legal)")
    return reader.among(legal)  # type: ignore[no-any-return]


class Spoken:
    """A reader with a word or a phrase for each action, whose probabilities a model can be asked for.

    Its `words` are all different; `actions` has the action of each, their own places when empty.
    """

    words: tuple[str, ...]
    actions: tuple[int, ...]

    def action(self, word: int) -> int:
        return self.actions[word] if self.actions else word

    def _of(self, legal: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The words of these actions, and the actions."""
        kept = [i for i in range(len(self.words)) if self.action(i) in legal]
        return tuple(self.words[i] for i in kept), tuple(map(self.action, kept))

    def grammar(self, begun: str) -> str:
        begun = begun.lstrip().lower()
        rests = [w[len(begun) :] for w in self.words if w.lower().startswith(begun)]
        if not rests or "" in rests:
            return ""
        choice = " | ".join(f'"{rest}"' for rest in rests)
        return f'root ::= " "? ({choice})' if not begun else f"root ::= {choice}"

    def settle(self, actions: Sequence[Action]) -> int:
        """The action named most often; among equals the one named first."""
        return int(Counter(actions).most_common(1)[0][0])

    def random(self, number: int) -> int:
        return self.action(number % len(self.words))


@dataclasses.dataclass(frozen=True)
class Words(Spoken):
    """Discrete actions, each with a word.

    Attributes:
        words: letters and digits only, all different.
        actions: the action of each word; the words' own places when empty.
        mark: what stands before the word.

    >>> Words(("left", "right")).read("The pole leans to the right. Action: right")
    1
    >>> Words(("left", "right")).read("Action: left or right") is None
    True
    """

    words: tuple[str, ...]
    actions: tuple[int, ...] = ()
    mark: str = MARK

    def among(self, legal: Sequence[int]) -> Words:
        """The same, with the words of these actions alone."""
        words, actions = self._of(legal)
        return dataclasses.replace(self, words=words, actions=actions)

    def read(self, answer: str) -> int | None:
        """The action that the last `Action: WORD` of an answer names, or None.

        Case and Markdown's emphasis do not matter. The first word after the last `Action:` must be one
        of `words`, and the same line must name no other ("Action: left or right" is none).
        """
        index = {word.lower(): i for i, word in enumerate(self.words)}
        said = [word.lower() for word in _WORD.findall(after_mark(answer, self.mark))]
        named = {index[word] for word in said if word in index}
        if not said or said[0] not in index or len(named) != 1:
            return None
        return self.action(named.pop())


@dataclasses.dataclass(frozen=True)
class Mentions(Spoken):
    """Discrete actions, each with a phrase; the action whose phrase an answer mentions most often is meant.

    The projection of free-form answers of arXiv 2410.07927 (p_map). Case does not matter.

    Attributes:
        phrases: all different.
        actions: the action of each phrase; the phrases' own places when empty.
        as_released: what equals and silence mean. As the study's scripts have it, of phrases that are
            mentioned equally often the last is meant, an answer that mentions none of them among those. Else
            an answer is read after its last `Action:` if it has one, a phrase within a longer one that is
            mentioned there does not count, equals go to what is mentioned first, and silence is unreadable.

    >>> reader = Mentions(("take the bowl", "serve the dish"))
    >>> reader.read("First take the bowl. Then take the bowl and serve the dish.")
    0
    >>> reader.read("I would wait.") is None
    True
    >>> dataclasses.replace(reader, as_released=True).read("I would wait.")
    1
    """

    phrases: tuple[str, ...]
    actions: tuple[int, ...] = ()
    as_released: bool = False

    @property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        """The phrases, as `Words` has its words."""
        return self.phrases

    def among(self, legal: Sequence[int]) -> Mentions:
        """The same, with the phrases of these actions alone."""
        phrases, actions = self._of(legal)
        return dataclasses.replace(self, phrases=phrases, actions=actions)

    def read(self, answer: str) -> int | None:
        """The action that an answer mentions most often, or None."""
        said = answer[-_LONGEST:].lower()
        lowered = [phrase.lower() for phrase in self.phrases]
        if self.as_released:
            counts = [said.count(phrase) for phrase in lowered]
            most = max(counts)
            return self.action(max(i for i, count in enumerate(counts) if count == most))
        said = after_mark(said) or said
        spans: list[list[int]] = []
        taken: set[int] = set()
        # The longest first, so that "go to shelf 1" is not found within "go to shelf 12".
        for place in sorted(range(len(lowered)), key=lambda i: -len(lowered[i])):
            for found in re.finditer(rf"(?<!\w){re.escape(lowered[place])}(?!\w)", said):
                if not taken & set(range(*found.span())):
                    taken |= set(range(*found.span()))
                    spans.append([place, found.start()])
        if not spans:
            return None
        times = Counter(place for place, _ in spans)
        best = [place for place, count in times.items() if count == max(times.values())]
        return self.action(min(best, key=lambda i: min(start for place, start in spans if place == i)))


@dataclasses.dataclass(frozen=True)
class Number:
    """One continuous action between `low` and `high`, written as a decimal number.

    >>> Number(-2.0, 2.0).read("Swing up. Action: -1.5")
    -1.5
    """

    low: float
    high: float

    def read(self, answer: str) -> float | None:
        """The number after the last `Action:` of an answer; None if it is none or out of range."""
        found = _NUMBER.match(after_mark(answer).lstrip(" \t:"))
        if not found or not self.low <= float(found[1]) <= self.high:
            return None
        return float(found[1])

    def grammar(self, begun: str) -> str:
        if begun.strip():
            return ""
        sign = '"-"? ' if self.low < 0 else ""
        whole = int(max(abs(self.low), abs(self.high)))
        below = f'[0-{whole - 1}] ("." [0-9] [0-9]?)? | ' if whole else ""
        return f'root ::= " "? {sign}({below}"{whole}" (".0")?)'

    def settle(self, actions: Sequence[Action]) -> float:
        """The median; of an even number of answers, the lower of the two in the middle."""
        return float(statistics.median_low(actions))

    def random(self, number: int) -> float:
        return round(self.low + (self.high - self.low) * number / (2**31 - 1), 2)


def after_mark(answer: str, mark: str = MARK) -> str:
    """The rest of the line after the last mark, or the first line below it that says anything."""
    end = _mark_end(answer, mark)
    lines = answer[end:].lstrip().splitlines() if end else []
    return lines[0] if lines else ""


def to_mark(answer: str, mark: str = MARK) -> str:
    """An answer up to the end of its last mark; where there is none, the mark is its last line.

    >>> to_mark("It leans left. Action: left"), to_mark("It leans left.")
    ('It leans left. Action:', 'It leans left.\\nAction:')
    """
    return answer[: _mark_end(answer, mark)] or f"{answer.rstrip()}\n{mark}"


def _mark_end(answer: str, mark: str) -> int:
    """Where the last mark ends; 0 where there is none."""
    pattern = re.compile(
        rf"\b{re.escape(mark.rstrip(':'))}[*_`]{{0,3}}[ \t]{{0,3}}:", re.IGNORECASE | re.ASCII
    )
    skipped = max(0, len(answer) - _LONGEST)
    marks = list(pattern.finditer(answer[skipped:]))
    return skipped + marks[-1].end() if marks else 0
