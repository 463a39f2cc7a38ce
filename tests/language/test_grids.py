"""What the grid worlds' prompts say: places, ways, neighbours, and the memory of a life."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from loro_jax.language import play, session
from loro_jax.language.journal import Journal
from loro_jax.language.policy import Attempt, Decision, Request
from loro_jax.tasks import cliff_walking, frozen_lake, load
from loro_jax.types import Transition

LEFT, DOWN, RIGHT, UP = range(4)


def cell(index: int, cells: int = 16) -> np.ndarray:
    return np.eye(cells, dtype=np.float32)[index]


def moved(
    before: int, action: int, after: int, reward: float = 0.0, terminated: bool = False, cells: int = 16
) -> Transition:
    ends = np.bool_(terminated), np.bool_(False)
    return Transition(cell(before, cells), np.int32(action), np.float32(reward), cell(after, cells), *ends)


def test_the_lake_without_memory() -> None:
    assert frozen_lake.DESCRIPTION.tell(cell(0), []) == {
        "row": "1",
        "column": "1",
        "down": "3",
        "right": "3",
        "beside": "left: the edge, down: safe ice, right: safe ice, up: the edge",
        "around": "left: the edge, down: not seen yet, right: not seen yet, up: the edge",
        "seen": "none yet",
    }
    assert frozen_lake.DESCRIPTION.tell(cell(14), [])["around"].endswith("right: the goal, up: not seen yet")


def test_the_lake_remembers_holes_and_safe_ice() -> None:
    life = [moved(0, RIGHT, 1), moved(1, DOWN, 5, terminated=True), moved(0, DOWN, 4)]
    fields = frozen_lake.DESCRIPTION.tell(cell(4), life)  # nobody has come back to the start
    assert fields["around"] == "left: the edge, down: not seen yet, right: a hole, up: not seen yet"
    assert fields["seen"] == "row 2 column 2"
    assert frozen_lake.DESCRIPTION.tell(cell(0), life)["around"].split(", ")[2] == "right: safe ice"


def test_reaching_the_goal_is_no_hole() -> None:
    life = [moved(14, RIGHT, 15, reward=1.0, terminated=True)]
    assert frozen_lake.DESCRIPTION.tell(cell(14), life)["seen"] == "none yet"


def test_the_cliff_is_remembered_where_it_was_stepped_on() -> None:
    game = load("cliff_walking").environment()
    _, state = game.reset(jax.random.key(0))
    obs, _, reward, _, _ = game.step(jax.random.key(0), state, np.int32(1))  # right, off the start
    assert float(reward) == -100
    fall = moved(36, 1, int(np.argmax(obs)), float(reward), cells=48)
    up = moved(36, 0, 24, -1.0, cells=48)
    fields = cliff_walking.DESCRIPTION.tell(cell(36, 48), [fall, up])
    assert fields["around"] == "up: safe, right: the cliff, down: the edge, left: the edge"
    assert (fields["seen"], fields["down"], fields["right"]) == ("row 4 column 2", "0", "11")


def test_words_and_actions_go_the_same_way() -> None:
    """The word for an action moves as the game does, in every inner cell of a lake that is not slippery."""
    lake = load("frozen_lake").environment(layout=("SFFF", "FFFF", "FFFF", "FFFG"), slippery=False)
    for name, game, moves, size in (
        ("frozen_lake", lake, frozen_lake.WORDS, (4, 4)),
        ("cliff_walking", load("cliff_walking").environment(), cliff_walking.WORDS, (4, 12)),
    ):
        words = load(name).words
        assert words is not None
        for word, (down, right) in moves.items():
            action = words.reader.read(f"Action: {word}")
            row, column = 1, 2
            cell = np.eye(size[0] * size[1], dtype=np.float32)[row * size[1] + column]
            state = load(name).restore(game, cell, np.int32(0))
            obs, *_ = game.step(jax.random.key(0), state, np.int32(action))
            assert divmod(int(np.argmax(obs)), size[1]) == (row + down, column + right)


class Rightwards:
    """A policy that always goes to the right, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: dict[tuple[int, int], str] = {}

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        pass

    def decide(self, requests: Sequence[Request]) -> list[Decision]:
        self.told |= {(r.episode, r.step): r.fields["seen"] for r in requests}
        return [Decision(RIGHT, False, (Attempt("Action: right", RIGHT, False, 1, 1),)) for _ in requests]


def test_a_life_remembers_its_earlier_episodes_and_no_other_life(tmp_path: pathlib.Path) -> None:
    game = load("frozen_lake").environment(layout=("SFFF", "FHHF", "FFFH", "HFFG"))
    collection = session.Collection(
        play.Simulator(game, seed=1), frozen_lake.DESCRIPTION, 12, 3, tmp_path,
        {"name": "rightwards", "environment": "frozen_lake"},
    )  # fmt: skip
    policy, record = Rightwards(), Journal(tmp_path, {})
    collection.run(record, policy)
    steps = record.steps
    record.close()
    games = collection.replay(steps)
    fell = {
        g.index: int(np.argmax(g.observations[-1])) for g in games if g.rows[-1].terminated and not g.total
    }
    assert len(fell) >= 4  # with 12 episodes on such a lake
    for g in games:
        earlier = [fell[i] for i in range(g.index % 3, g.index, 3) if i in fell]
        holes = "; ".join(f"row {h // 4 + 1} column {h % 4 + 1}" for h in sorted(set(earlier)))
        assert policy.told[g.index, 0] == (holes or "none yet")
    others = [policy.told[i, 0] for i in range(9, 12)]
    assert len(set(others)) > 1  # lives differ in what they know
    again = Journal(tmp_path, {})
    assert [g.step for g in collection.replay(again.steps)] == [
        g.step for g in games
    ]  # also from a transcript
    again.close()
