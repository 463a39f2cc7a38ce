"""The parser reads what is clearly an action, and nothing else, from any answer."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loro_jax.language import parse

WORDS = ("left", "right")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The pole falls left, so I push left. Action: left", 0),
        ("Action: right", 1),
        ("ACTION: Right.", 1),
        ("**Action:** left", 0),
        ("**Action**: `left`\n", 0),
        ("Action:\nright", 1),
        ("Action: left\nOn second thought.\nAction: right", 1),
        ("Action: left, since it falls that way", 0),
        ("Interaction: left", None),
        ("", None),
        ("left", None),
        ("Action left", None),
        ("Action: push left", None),
        ("Action: left or right", None),
        ("Action: left|right", None),
        ("Action: right, not left", None),
        ("Action: leftover", None),
        ("Action: left\nAction: none of them", None),
        ("Action: left\nAction:", None),
        ("Action: \uff2c\uff25\uff26\uff34", None),
        ("\u0410ction: left", None),
        ("Action: [[[left]]]", 0),
        ('{"answer": {"Action: right"}}', 1),
    ],
)
def test_answers(answer: str, expected: int | None) -> None:
    assert parse.action(answer, WORDS) == expected


@given(st.text())
@example("Action:" * 5000)
@example("action" + " " * 10_000 + ":")
@example("\x00\ud800Action: \u2028left")
@settings(deadline=None)
def test_never_raises(answer: str) -> None:
    assert parse.action(answer, WORDS) in (None, 0, 1)


@given(st.text(max_size=200), st.sampled_from([0, 1]))
@settings(deadline=None)
def test_the_last_action_counts(before: str, action: int) -> None:
    assert parse.action(f"{before}\nAction: {WORDS[action]}", WORDS) == action


@given(st.text(alphabet="abcdefghij \n.:*", max_size=200))
@settings(deadline=None)
def test_no_action_without_its_word(answer: str) -> None:
    assert parse.action(f"Action: {answer}", WORDS) is None


def test_long_answers_count_from_their_end() -> None:
    assert parse.action("nonsense " * 10_000 + "Action: right", WORDS) == 1
    assert parse.action("Action: right" + " nonsense" * 10_000, WORDS) is None


def test_numbered_actions() -> None:
    assert parse.action("Action: 2", ("1", "2")) == 1
    assert parse.action("Action: 12", ("1", "2")) is None
