"""The parser reads what is clearly an action, and nothing else, from any answer."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loro_jax.tasks.actions import Number, Words

WORDS = Words(("left", "right"))
TORQUE = Number(-2.0, 2.0)


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
    assert WORDS.read(answer) == expected


@given(st.text())
@example("Action:" * 5000)
@example("action" + " " * 10_000 + ":")
@example("\x00\ud800Action: \u2028left")
@settings(deadline=None)
def test_never_raises(answer: str) -> None:
    assert WORDS.read(answer) in (None, 0, 1)


@given(st.text(max_size=200), st.sampled_from([0, 1]))
@settings(deadline=None)
def test_the_last_action_counts(before: str, action: int) -> None:
    assert WORDS.read(f"{before}\nAction: {WORDS.words[action]}") == action


@given(st.text(alphabet="abcdefghij \n.:*", max_size=200))
@settings(deadline=None)
def test_no_action_without_its_word(answer: str) -> None:
    assert WORDS.read(f"Action: {answer}") is None


def test_long_answers_count_from_their_end() -> None:
    assert WORDS.read("nonsense " * 10_000 + "Action: right") == 1
    assert WORDS.read("Action: right" + " nonsense" * 10_000) is None


def test_numbered_actions() -> None:
    numbered = Words(("1", "2"), mark="Best:")
    assert numbered.read("Action: left. Best: 2") == 1
    assert numbered.read("Best: 12") is None
    assert numbered.read("Action: 2") is None


def test_words_may_stand_for_other_actions() -> None:
    pong = Words(("stay", "up", "down"), (0, 2, 3))
    assert [pong.read(f"Action: {word}") for word in pong.words] == [0, 2, 3]
    assert {pong.random(number) for number in range(30)} == {0, 2, 3}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("so I push. Action: 1.5", 1.5),
        ("Action: -2", -2.0),
        ("Action: <-0.25>", -0.25),
        ("Action: **+0.5** Nm", 0.5),
        ("Action: 2.0, because 3 is too much", 2.0),
        ("Action: 2.1", None),
        ("Action: -7", None),
        ("Action: 1e5", None),
        ("Action: 1,5", None),
        ("Action: 1.2.3", None),
        ("Action: nan", None),
        ("Action: .5", None),
        ("Action: two", None),
        ("Action:", None),
        ("1.5", None),
    ],
)
def test_numbers(answer: str, expected: float | None) -> None:
    assert TORQUE.read(answer) == expected


@given(st.text())
@example("Action: " + "9" * 10_000)
@example("Action: 1." + "0" * 10_000)
@settings(deadline=None)
def test_numbers_never_raise(answer: str) -> None:
    found = TORQUE.read(f"Action: {answer}")
    assert found is None or -2 <= found <= 2


def test_several_answers_are_settled() -> None:
    assert WORDS.settle([0, 1, 1]) == 1
    assert WORDS.settle([1, 0, 0, 1]) == 1  # among equals the first
    assert TORQUE.settle([2.0, -2.0, 0.5]) == 0.5
    assert TORQUE.settle([2.0, -2.0]) == -2.0


def test_grammars_say_what_may_follow() -> None:
    assert WORDS.grammar("") == 'root ::= " "? ("left" | "right")'
    assert WORDS.grammar(" le") == 'root ::= "ft"'
    assert WORDS.grammar(" up") == WORDS.grammar("left") == ""
    assert TORQUE.grammar("") == 'root ::= " "? "-"? ([0-1] ("." [0-9] [0-9]?)? | "2" (".0")?)'


def test_random_torques_fill_their_range() -> None:
    drawn = [TORQUE.random(i * (2**31 - 1) // 100) for i in range(101)]
    assert drawn == sorted(drawn) and (drawn[0], drawn[50], drawn[-1]) == (-2.0, 0.0, 2.0)
