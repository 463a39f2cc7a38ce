"""Reads an action from an answer, strictly: what is not clearly an action is none."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARK = re.compile(r"\baction[*_`]{0,3}[ \t]{0,3}:", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9]+")
_LONGEST = 20_000
"""Characters read of an answer, from its end."""


def action(answer: str, words: Sequence[str]) -> int | None:
    """The action that the last `Action: WORD` of an answer names, as its index in `words`; or None.

    Case and Markdown's emphasis do not matter. The first word after the last `Action:` must be one of
    `words`, and the same line must name no other action ("Action: left or right" is none). Never
    raises, whatever the answer.
    """
    index = {word.lower(): i for i, word in enumerate(words)}
    marks = list(_MARK.finditer(answer[-_LONGEST:]))
    if not marks:
        return None
    rest = answer[-_LONGEST:][marks[-1].end() :].lstrip().splitlines()
    said = [word.lower() for word in _WORD.findall(rest[0])] if rest else []
    named = {index[word] for word in said if word in index}
    if not said or said[0] not in index or len(named) != 1:
        return None
    return named.pop()
