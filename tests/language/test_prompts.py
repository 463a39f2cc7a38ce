"""Prompts: the shipped ones are whole, and a faulty one is refused in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re

import numpy as np
import pytest

import loro_jax as lj
from loro_jax.data.episodes import SHIPPED as EPISODES
from loro_jax.errors import UserError
from loro_jax.language import prompts
from loro_jax.tasks import NAMES, SUITE, Task, cooking, household, load
from loro_jax.tasks.actions import Words
from loro_jax.tasks.kitchen import SALAD, TOMATO

FIELDS = ("angle", "side")
SHIPPED = [(name, prompt) for name in NAMES for prompt in prompts.available(load(name))]


def leaning(held: dict[str, str] | pathlib.Path | None) -> Task:
    """A task whose prompts lie in a folder, or that holds them itself."""
    cartpole = load("cartpole")
    assert cartpole.words is not None
    return dataclasses.replace(
        cartpole,
        words=lj.Description((), cartpole.words.reader, lambda obs, life: {}, FIELDS),
        prompts=held,
    )


@pytest.mark.parametrize(("task", "name"), SHIPPED)
def test_shipped_prompts(task: str, name: str) -> None:
    words = load(task).words
    assert words is not None
    prompt = prompts.load(load(task), name)
    message, _, start = prompt.text.partition("\n---\n")
    values = {field: f"<{field}>" for field in words.names}
    assert prompt.head + prompt.tail(values) == message.format(**values)
    assert prompt.start == start
    assert len(prompt.head) > len(prompt.tail(values))  # most of it is evaluated once
    if isinstance(words.reader, Words):
        assert all(f"Action: {word}" in prompt.head for word in words.reader.words)
    # Some examples are about things that the games do not have.
    strange = r"take the pan|the onion|the carrot|the cucumber"
    shown = [line for line in prompt.head.splitlines() if re.search(r"Action:(?!.*(" + strange + "))", line)]
    assert all(words.reader.read(line) is not None for line in shown)


@pytest.mark.parametrize(
    ("name", "prompt", "own", "shown"),
    [
        ("overcooked_tomato", "other", 0, 6),
        ("overcooked_tomato", "shots", 6, 6),
        ("overcooked_salad", "other", 0, 10),
        ("overcooked_salad", "shots", 10, 10),
        ("household", "shots", 0, 9),
        ("frozen_lake_nonslippery", "shots", 1, 6),
    ],
)
def test_how_many_examples_are_the_games_own_texts(name: str, prompt: str, own: int, shown: int) -> None:
    """results/answers/README.md; of all that there is to be seen in the game."""
    task = load(name)
    assert task.words is not None
    seen = {
        "overcooked_tomato": lambda: cooking.solved(TOMATO).observations,
        "overcooked_salad": lambda: cooking.solved(SALAD).observations,
        "household": lambda: np.unique(household.solved()[0], axis=0).astype(np.float32),
        "frozen_lake_nonslippery": lambda: np.eye(16, dtype=np.float32),
    }[name]()
    asked = prompts.load(task, prompt)
    tails = {asked.tail(task.words.tell(obs, [])) for obs in seen}
    examples = [
        line.rpartition("Action:")[0].strip() for line in asked.head.splitlines() if "Action:" in line
    ]
    assert (sum(example in tails for example in examples), len(examples)) == (own, shown)


def test_every_task_of_the_suite_can_be_told_and_has_a_prompt_for_each_mode() -> None:
    assert all(load(name).words is not None for name in NAMES)
    assert {(name, mode) for name in SUITE for mode in ("direct", "cot")} <= set(SHIPPED)
    assert {name for name, _ in SHIPPED} == set(NAMES)


def test_only_the_hint_states_a_rule() -> None:
    assert "Rule of thumb" in prompts.load(load("cartpole"), "hint").head
    assert "ule of thumb" not in prompts.load(load("cartpole"), "plain").text


def test_cartpole_in_words() -> None:
    words = load("cartpole").words
    assert words is not None
    fields = words.tell(np.array([-0.123, 1.5, np.radians(3.4), np.radians(-20.6)]), [])
    assert fields == {
        "cart_side": "left",
        "cart_distance": "0.12",
        "cart_direction": "right",
        "cart_speed": "1.50",
        "pole_side": "right",
        "pole_angle": "3",
        "pole_direction": "left",
        "pole_speed": "21",
        "cart_place": "near",
        "cart_pace": "fast",
        "pole_pace": "steadily",
        "pole_rate": "15",
    }
    assert set(fields) == set(words.names)


def test_splits_at_the_line_of_the_first_placeholder() -> None:
    prompt = prompts.parse("Rules {{x}}.\n\nLeans {angle} to the {side}.\n---\nSo", "p", FIELDS, "p.txt")
    assert prompt.head == "Rules {x}.\n\n"
    assert prompt.tail({"angle": "3", "side": "left"}) == "Leans 3 to the left."
    assert prompt.start == "So"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Leans {angel}.", "unknown placeholder {angel}; there are: angle, side"),
        ("Leans {}.", "unknown placeholder {}"),
        ("Leans {angle.__class__}.", "unknown placeholder"),
        ("Leans {angle[0]}.", "unknown placeholder"),
        ("Leans {angle!r}.", "unknown placeholder"),
        ("Leans {angle:>9}.", "unknown placeholder"),
        ("Leans {angle.", "p.txt:"),
        ("Leans angle}.", "p.txt:"),
        ("Nothing changes.", "names no placeholder"),
        ("\x00{angle}", "NUL character, which no prompt may; save it as UTF-8"),
        ("Leans {angle}.\n\ufeff---\nSo", "holds a byte-order mark behind its beginning; remove it"),
        ("---\nLeans {angle}.\n---\nSo", "holds 2 lines ---; leave one"),
        ("Leans {angle}.\n---\nSo\n--- \n", "holds 2 lines ---; leave one"),
        ("---\nLeans {angle}.", "the message is missing"),
        ("Leans {angle}.\n---\nTo the {side}, so", "{side} stands below the line ---"),
        ("Leans {angle}.\n---\nTo the {sdie!r}", "{sdie!r} stands below the line ---"),
    ],
)
def test_faulty_templates(text: str, says: str) -> None:
    with pytest.raises(UserError) as refusal:
        prompts.parse(text, "p", FIELDS, "p.txt")
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_missing_and_unreadable_files(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "cartpole"
    folder.mkdir()
    (folder / "mine.txt").write_bytes(b"\xff\xfe{angle}")
    with pytest.raises(UserError, match="there are: mine"):
        prompts.load(leaning(folder), "yours")
    with pytest.raises(UserError, match="no prompt"):
        prompts.load(leaning(folder), "../cartpole/mine")
    with pytest.raises(UserError, match=r"cannot be read as text .*; save it as UTF-8"):
        prompts.load(leaning(folder), "mine")
    with pytest.raises(UserError, match=r"yours\.txt: no such file"):
        prompts.load(leaning(None), str(folder / "yours.txt"))


def test_prompts_of_a_folder_a_file_or_the_task_itself(tmp_path: pathlib.Path) -> None:
    """Read from each, it is the same prompt."""
    (tmp_path / "p.txt").write_text(TEMPLATE)
    expected = prompts.parse(TEMPLATE, "p", FIELDS, "p.txt")
    assert prompts.available(leaning(tmp_path)) == ["p"] == prompts.available(leaning({"p": TEMPLATE}))
    assert prompts.load(leaning(tmp_path), "p") == expected
    assert prompts.load(leaning({"p": f"\n{TEMPLATE}\n"}), "p") == expected
    assert prompts.load(leaning(None), str(tmp_path / "p.txt")) == expected
    assert prompts.load(leaning({}), str(tmp_path / "p.txt")) == expected
    with pytest.raises(UserError, match=r"^no prompt 'q' for cartpole; there are: p; or give a \.txt file$"):
        prompts.load(leaning({"p": TEMPLATE}), "q")
    with pytest.raises(UserError, match=r"^no prompt 'cot' for cartpole; there are: none; or give a"):
        prompts.load(leaning({}), "cot")  # not the suite's, which is of other fields
    with pytest.raises(UserError, match=r"^cartpole's prompt 'p': unknown placeholder \{speed\}"):
        prompts.load(leaning({"p": "At {speed}."}), "p")


def test_a_task_without_words_has_no_prompts() -> None:
    with pytest.raises(UserError, match=r"^cartpole has no words: no language model can play it"):
        prompts.load(dataclasses.replace(load("cartpole"), words=None), "cot")


TEMPLATE = "Rules.\nLeans {angle}.\n---\nSo \u00e9"


@pytest.mark.parametrize(
    "raw",
    [
        TEMPLATE.encode("utf-8-sig"),
        TEMPLATE.replace("\n", "\r\n").encode(),
        TEMPLATE.replace("\n", "\r\n").encode("utf-8-sig"),
        b"\n\n" + TEMPLATE.encode() + b"\r\n",
    ],
)
def test_how_a_file_is_written_does_not_matter(tmp_path: pathlib.Path, raw: bytes) -> None:
    """Not even to the hash: it is the same prompt."""
    (tmp_path / "p.txt").write_bytes(raw)
    assert prompts.load(leaning(tmp_path), "p") == prompts.parse(TEMPLATE, "p", FIELDS, "p.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused(tmp_path: pathlib.Path, encoding: str) -> None:
    (tmp_path / "p.txt").write_text("Leans {angle}.", encoding=encoding)
    with pytest.raises(UserError, match=r"p\.txt: .*save it as UTF-8$"):
        prompts.load(leaning(tmp_path), "p")


@pytest.mark.parametrize("line", ["---", "--- ", "---\t \t", " ---", "---\r", "---\u00a0"])
def test_blanks_beside_the_separator_do_not_matter(line: str) -> None:
    prompt = prompts.parse(f"Leans {{angle}}.\n{line}\nSo", "p", FIELDS, "p.txt")
    assert (prompt.tail_template, prompt.start) == ("Leans {angle}.", "So")


def test_other_dashes_are_text() -> None:
    for text in ("{angle}\n----\nSo", "{angle}\n--- So", "{angle}\n-- -\nSo"):
        assert prompts.parse(text, "p", FIELDS, "p").tail_template == text


@pytest.mark.parametrize("start", ["So {", '{"action": "left"}', "{", "{}"])
def test_braces_below_the_separator_are_text(start: str) -> None:
    assert prompts.parse(f"{{angle}}\n---\n{start}", "p", FIELDS, "p").start == start


def test_a_start_may_be_empty() -> None:
    prompt = prompts.parse("Leans {angle}.\n---", "p", FIELDS, "p")
    assert (prompt.tail_template, prompt.start) == ("Leans {angle}.", "")


def test_shipped_prompts_are_those_of_the_shipped_episodes() -> None:
    held = [json.loads(card.read_text())["prompt"] for card in sorted(EPISODES.glob("*/*/card.json"))]
    assert held and all(hashlib.sha256(p["text"].encode()).hexdigest() == p["sha256"] for p in held)
    shipped = {prompts.load(load(task), name).sha256 for task, name in SHIPPED}
    assert {p["sha256"] for p in held} <= shipped


def test_an_edited_prompt_has_another_hash(tmp_path: pathlib.Path) -> None:
    one, other = (prompts.parse(text, "p", FIELDS, "p") for text in ("a {angle}", "a  {angle}"))
    assert one.sha256 != other.sha256
