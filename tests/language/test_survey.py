"""A survey: which texts are asked about, what is kept of the answers, and that it only grows."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import AnswerError, UserError, command
from loro_jax.language import journal, llamacpp, players, show, survey, tables
from loro_jax.language.backend import Completion, Query
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.tasks.actions import Words

WORDS = ("left", "down", "right", "up")
TASK = load("frozen_lake")


class Script:
    """Stands in for llama.cpp: what it answers follows from the question and its seed, and one answer in
    eight cannot be read; it is killed at a given call."""

    versions: dict[str, str] = {"script": "1"}  # noqa: RUF012
    asked: list[Query] = []  # noqa: RUF012
    scored: list[Query] = []  # noqa: RUF012
    calls = 0
    killed_at = -1

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def complete(self, queries: Sequence[Query]) -> list[Completion]:
        self._called()
        Script.asked.extend(queries)
        return [Completion(said(q), 9, 3, False, read_tokens=2, tail_tokens=5) for q in queries]

    def score(self, queries: Sequence[Query], words: Sequence[str]) -> list[list[float]]:
        self._called()
        assert words == [" left", " down", " right", " up"]
        Script.scored.extend(queries)
        return [log_probs(q) for q in queries]

    @staticmethod
    def _called() -> None:
        Script.calls += 1
        if Script.calls == Script.killed_at:
            raise KeyboardInterrupt


def said(query: Query) -> str:
    number = hashlib.sha256(f"{query.tail} {query.seed}".encode()).digest()[0]
    return "..." if number % 8 == 0 else f"Action: {WORDS[number % 4]}"


def log_probs(query: Query) -> list[float]:
    """Of the four words, which together are as likely as not."""
    number = hashlib.sha256(f"{query.tail} {query.start}".encode()).digest()
    shares = np.array([1 + byte for byte in number[:4]])
    return np.log(shares / shares.sum() / 2).tolist()


@pytest.fixture
def gguf(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "Tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    return path


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's part and the trained agents' are played by others; nothing else is."""
    monkeypatch.setattr(llamacpp, "LlamaCpp", Script)
    monkeypatch.setattr(Script, "asked", [])
    monkeypatch.setattr(Script, "scored", [])
    monkeypatch.setattr(Script, "calls", 0)
    monkeypatch.setattr(players, "trained", lambda task, game: players.uniform(task.environment(**game)))
    monkeypatch.setattr(survey, "ROUND", 4)


def surveyed(gguf: pathlib.Path, out: pathlib.Path, *more: str, prompt: str = "map") -> int:
    arguments = ["--task", "frozen_lake", "--model", str(gguf), "--prompt", prompt, "--out", str(out)]
    return command(lambda: survey.main([*arguments, "--samples", "3", "--episodes", "8", *more]))


def table(out: pathlib.Path) -> Answers:
    return tables.read(out, TASK)


def test_the_table_is_what_was_answered(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Text by text, against the transcript; an answer that cannot be read is -1."""
    assert surveyed(gguf, tmp_path / "out") == 0
    found = table(tmp_path / "out")
    identity, entries = journal.read_transcript(tmp_path / "out" / journal.TRANSCRIPT)
    assert identity["prompt"]["name"] == "map" and "episodes" not in identity
    rows = {tuple(d): row for d, row in zip(found.digits.tolist(), found.actions.tolist(), strict=True)}
    reader = TASK.words.reader if TASK.words else None
    assert reader is not None
    for entry in entries:
        read = [reader.read(attempt["answer"]) for attempt in entry["attempts"]]
        assert rows[tuple(entry["digits"])] == [-1 if action is None else action for action in read]
    assert len(entries) == found.asked.sum() and (found.actions == -1).any()
    assert found.card["unreadable_share"] == (found.actions[found.asked] == -1).mean()
    assert found.card["model"]["name"] == "tiny" and found.card["complete"]
    texts = np.load(tmp_path / "out/answers.npz")["texts"]
    assert set(texts[found.asked]) == {query.tail for query in Script.asked}


def test_every_player_meets_texts_that_were_asked_about(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Counted by players of this test's own seeds."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.9", "--episodes", "20") == 0
    found = table(tmp_path / "out")
    assert min(found.card["coverage"].values()) >= 0.9
    asked = set(map(tuple, found.digits[found.asked].tolist()))
    env = TASK.environment()
    for act in (players.uniform(env), players.reference(TASK)):
        visits = players.visit(env, found.coding, act, 300, seed=12345)
        assert visits.share(asked) > 0.85  # 300 episodes of 7 steps or more: one standard error is below 0.02


def test_all_samples_of_a_text_are_asked_together(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """After the trial, by which nothing is kept: neighbours share what a backend evaluates."""
    assert surveyed(gguf, tmp_path / "out") == 0
    tails = [query.tail for query in Script.asked[survey.TRIAL :]]
    assert [tails[i] for i in range(0, len(tails), 3)] == [tails[i] for i in range(2, len(tails), 3)]
    seeds = [query.seed for query in Script.asked[survey.TRIAL :]]
    assert len(set(seeds)) == len(seeds)


def test_scores_are_those_behind_the_thoughts(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Text by text: the mean of the actions' probabilities, among themselves, behind each answer's mark."""
    assert surveyed(gguf, tmp_path / "out", "--score") == 0
    found = table(tmp_path / "out")
    assert found.log_probs is not None and found.log_probs.dtype == np.float32
    assert not found.log_probs[~found.asked].any()
    np.testing.assert_allclose(np.exp(found.log_probs[found.asked]).sum(axis=1), 1, atol=1e-6)
    prompt = survey.prompts.load(TASK, "map")
    asked = 0
    for entry in journal.read_transcript(tmp_path / "out" / journal.TRANSCRIPT)[1]:
        if "attempts" not in entry:
            continue
        (row,) = np.flatnonzero((found.digits == entry["digits"]).all(axis=1))
        starts = ["Action:" if a["answer"] != "..." else "...\nAction:" for a in entry["attempts"]]
        queries = [Query(prompt.head, prompt.tail(entry["state"]), start, 0) for start in starts]
        assert set(queries) <= set(Script.scored)
        likely = np.exp([log_probs(q) for q in queries])
        np.testing.assert_allclose(np.exp(found.log_probs[row]), 2 * likely.mean(axis=0), atol=1e-5)
        asked += len(queries)
    assert found.card["scored_answers"] == found.card["answers"] == asked == len(Script.scored)
    assert found.card["probability_of_words"] == 0.5


def test_a_table_is_scored_later(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """From the recorded texts, without asking again, and to the same end."""
    assert surveyed(gguf, tmp_path / "along", "--score") == surveyed(gguf, tmp_path / "out") == 0
    asked, scored = len(Script.asked), len(Script.scored)
    assert table(tmp_path / "out").log_probs is None
    assert surveyed(gguf, tmp_path / "out", "--score") == 0
    assert len(Script.asked) == asked and len(Script.scored) == 2 * scored
    assert answers.digest(table(tmp_path / "out")) == answers.digest(table(tmp_path / "along"))
    card = (tmp_path / "out/card.json").read_bytes()
    assert surveyed(gguf, tmp_path / "out", "--score") == 0
    assert (tmp_path / "out/card.json").read_bytes() == card and len(Script.scored) == 2 * scored


def test_a_scored_table_stays_scored(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As it grows, whether it is told to or not; each answer is scored once."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3", "--score") == 0
    few = table(tmp_path / "out")
    more = ("--coverage", "0.9", "--samples", "5")
    assert surveyed(gguf, tmp_path / "out", *more) == surveyed(gguf, tmp_path / "new", *more, "--score") == 0
    many, new = table(tmp_path / "out"), table(tmp_path / "new")
    assert few.log_probs is not None and many.log_probs is not None and many.asked.sum() > few.asked.sum()
    assert many.card["scored_answers"] == many.card["answers"] == 5 * many.asked.sum()
    both = dict(zip(map(tuple, new.digits[new.asked]), new.log_probs[new.asked], strict=True))  # type: ignore[index]
    for digits, scores in zip(many.digits[many.asked], many.log_probs[many.asked], strict=True):
        if tuple(digits) in both:
            np.testing.assert_array_equal(scores, both[tuple(digits)])


def test_words_and_actions_need_not_be_the_same_many() -> None:
    """Words of one action count together, an action without a word is as unlikely as float32 can say, and so
    is a word that no number can tell from impossible."""
    log_probs = survey.of_actions(np.log([[0.1, 0.2, 0.1], [0.02, 0.01, 0.01]]), (2, 0, 2), 4)
    np.testing.assert_allclose(np.exp(log_probs), [0.375, 0, 0.625, 0], atol=1e-6)
    assert log_probs.dtype == np.float32 and np.isfinite(log_probs).all()
    least = survey.of_actions(np.array([[-1.0, -900.0]]), (0, 1), 2)
    assert least[0] == 0 and -88 < least[1] < -87


KILLED = [*((at, ()) for at in range(1, 5)), *((at, ("--score",)) for at in range(2, 8))]


@pytest.mark.parametrize(("at", "more"), KILLED)
def test_killed_and_resumed_is_uninterrupted(
    gguf: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: int,
    more: tuple[str, ...],
) -> None:
    assert surveyed(gguf, tmp_path / "whole", *more) == 0
    last = capsys.readouterr().out
    monkeypatch.setattr(Script, "calls", 0)
    monkeypatch.setattr(Script, "killed_at", at)
    assert surveyed(gguf, tmp_path / "cut", *more) == 130
    monkeypatch.setattr(Script, "killed_at", -1)
    assert surveyed(gguf, tmp_path / "cut", *more) == 0
    assert capsys.readouterr().out == last.replace("whole", "cut")  # which has sums over both sittings
    assert answers.digest(table(tmp_path / "cut")) == answers.digest(table(tmp_path / "whole"))
    both = [journal.read_transcript(tmp_path / name / journal.TRANSCRIPT) for name in ("cut", "whole")]
    for one, other in zip(both[0][1], both[1][1], strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in other.items() if k != "seconds"
        }


def test_a_table_only_grows(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """By answers about each text and by texts; what was there stays."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    few, calls = table(tmp_path / "out"), Script.calls
    card = (tmp_path / "out/card.json").read_bytes()
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    assert Script.calls == calls  # the model is not even opened
    assert (tmp_path / "out/card.json").read_bytes() == card
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.9", "--samples", "5") == 0
    many = table(tmp_path / "out")
    assert many.samples == 5 and many.asked.sum() > few.asked.sum()
    for digits, actions in zip(few.digits[few.asked], few.actions[few.asked], strict=True):
        (row,) = np.flatnonzero((many.digits == digits).all(axis=1))
        np.testing.assert_array_equal(many.actions[row, :3], actions)
    assert many.card["versions"]["script"] == "1"


def test_a_finished_table_is_asked_about_another_game(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The coverage that its card has is of the game that was played for it."""
    out, short = tmp_path / "out", ("--coverage", "0.9", "--game", "limit=6")
    assert surveyed(gguf, out, *short) == 0
    few, calls = table(out), Script.calls
    assert few.card["game"] == ["limit=6"] and few.card["complete"]
    assert surveyed(gguf, out, *short) == 0
    assert Script.calls == calls
    assert surveyed(gguf, out, "--coverage", "0.9") == 0
    many, calls = table(out), Script.calls
    assert "game" not in many.card and many.asked.sum() > few.asked.sum()
    assert surveyed(gguf, out, *short) == 0  # no text more; the card is of the last game
    assert Script.calls == calls and table(out).card["game"] == ["limit=6"]
    np.testing.assert_array_equal(table(out).actions, many.actions)


def test_fewer_samples_shrink_nothing(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More texts are then asked about as often as those that are there."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    few = table(tmp_path / "out")
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.9", "--samples", "1") == 0
    many = table(tmp_path / "out")
    assert many.samples == few.samples == 3 and many.asked.sum() > few.asked.sum()
    assert "3 answers about each" in capsys.readouterr().out


def test_a_survey_killed_as_it_begins_to_grow_loses_nothing(
    gguf: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the new journal's first line and the old answers that it takes over."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    asked = len(Script.asked)
    identity, _ = journal.read_transcript(tmp_path / "out" / journal.TRANSCRIPT)
    (tmp_path / "out" / journal.JOURNAL).write_text(json.dumps(identity) + "\n")
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    assert len(Script.asked) == asked


def test_what_another_survey_added_meanwhile_is_not_lost(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Both read the finished transcript; the second comes to write when the first has finished."""
    assert surveyed(gguf, tmp_path / "out", "--coverage", "0.3") == 0
    identity, steps = journal.read_transcript(tmp_path / "out" / journal.TRANSCRIPT)
    first, second = (journal.Journal(tmp_path / "out", identity, survey.order) for _ in range(2))
    first.append([steps[0] | {"round": 99}])
    first.finish()
    with pytest.raises(UserError, match="another collection has just finished here; run this again"):
        second.append([steps[0] | {"round": 98}])
    assert len(journal.read_transcript(tmp_path / "out" / journal.TRANSCRIPT)[1]) == len(steps) + 1


def test_words_that_have_changed_are_refused(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Also where their number has not."""
    assert surveyed(gguf, tmp_path / "out") == 0
    assert TASK.words is not None
    (first, *others) = TASK.words.fields
    other = dataclasses.replace(first, values=tuple(f"no. {v}" for v in first.values))
    words = dataclasses.replace(TASK.words, fields=(other, *others))
    with pytest.raises(AnswerError, match=f"the words of '{first.name}' have changed since; survey anew"):
        tables.read(tmp_path / "out", dataclasses.replace(TASK, words=words))


def test_words_that_change_between_sittings_are_refused(
    gguf: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Answers in other words do not stand beside those of before."""
    assert surveyed(gguf, tmp_path / "out") == 0
    assert TASK.words is not None
    (first, *others) = TASK.words.fields
    other = dataclasses.replace(first, values=tuple(f"no. {v}" for v in first.values))
    words = dataclasses.replace(TASK.words, fields=(other, *others))
    monkeypatch.setattr(survey.tasks, "load", lambda _: dataclasses.replace(TASK, words=words))
    assert surveyed(gguf, tmp_path / "out", "--samples", "4") == 2
    assert "was asked in other words than frozen_lake has" in capsys.readouterr().err


def lines_of(path: pathlib.Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines.append(lines[1]),
        lambda lines: lines[1].pop("digits"),
        lambda lines: lines[1].update(digits=[9] * len(lines[1]["digits"])),
        lambda lines: lines[1].update(digits=lines[1]["digits"][1:]),
        lambda lines: lines[1].update(digits="0"),
        lambda lines: lines[1].update(seconds="long"),
        lambda lines: lines[1].update(first=1),
        lambda lines: lines[1].update(attempts=[[]]),
        lambda lines: lines[1]["attempts"][0].update(action=9),
        lambda lines: lines[1]["attempts"][0].update(action="left"),
        lambda lines: lines[1]["attempts"][0].pop("action"),
        lambda lines: lines[1].update(scores=[[float("nan")] * 4]),
        lambda lines: lines[1].update(scores=[[-1.0]]),
    ],
)
def test_a_damaged_transcript_is_one_line(
    gguf: pathlib.Path,
    tmp_path: pathlib.Path,
    damage: Callable[[list[dict[str, Any]]], Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert surveyed(gguf, tmp_path / "out") == 0
    (tmp_path / "out" / "card.json").unlink()  # which tells that the transcript is another
    path = tmp_path / "out" / journal.TRANSCRIPT
    lines = lines_of(path)
    damage(lines)
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    capsys.readouterr()
    assert surveyed(gguf, tmp_path / "out", "--samples", "4") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "damaged; restore it, or choose another --out" in said


@pytest.mark.parametrize("damage", ["lost", "overwritten"])
def test_a_table_that_is_lost_is_written_anew(
    gguf: pathlib.Path, tmp_path: pathlib.Path, damage: str
) -> None:
    """From the transcript, asking nothing."""
    assert surveyed(gguf, tmp_path / "out") == 0
    before, asked = table(tmp_path / "out"), len(Script.asked)
    path = tmp_path / "out" / "answers.npz"
    path.unlink() if damage == "lost" else path.write_bytes(b"x")
    assert surveyed(gguf, tmp_path / "out") == 0
    assert len(Script.asked) == asked
    np.testing.assert_array_equal(table(tmp_path / "out").actions, before.actions)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (lambda obs: obs.argmax() - 1, "the field 'row' has 4 values, and its index is -1"),
        (lambda obs: obs.argmax(), "the field 'row' has 4 values, and its index is 4|5|6|7|8"),
        (lambda obs: obs.nothing, "a field's index is not a whole number for an observation"),
    ],
)
def test_an_index_that_is_no_place_is_refused(index: Callable[[Any], Any], says: str) -> None:
    assert TASK.words is not None
    fields = [dataclasses.replace(f, index=index) if f.name == "row" else f for f in TASK.words.fields]
    with pytest.raises(UserError, match=says):
        answers.digits_of(answers.Coding(tuple(fields)))(np.eye(16, dtype=np.float32))


def test_a_prompt_of_ones_own_may_begin_with_the_action(gguf: pathlib.Path, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "mine.txt"
    own.write_text("You are in row {row}. Where to?\n---\nAction:")
    assert surveyed(gguf, tmp_path / "out", prompt=str(own)) == 0
    assert table(tmp_path / "out").asked.sum() == 4


def test_what_sharing_beginnings_saves_is_told(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert surveyed(gguf, tmp_path / "out") == 0
    card = table(tmp_path / "out").card
    assert (card["prompt_tokens"], card["read_tokens"], card["tail_tokens"]) == tuple(
        n * card["answers"] for n in (9, 2, 5)
    )
    says = f"read {2 * card['answers']} of the prompts' {9 * card['answers']} tokens, 2.5 times fewer than"
    assert says in capsys.readouterr().out


def test_what_a_server_reads_is_not_told(
    gguf: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        Script, "complete", lambda _, queries: [Completion(said(q), 9, 3, False) for q in queries]
    )
    assert surveyed(gguf, tmp_path / "out") == 0
    assert "read_tokens" not in table(tmp_path / "out").card and "tokens" not in capsys.readouterr().out


def test_another_prompt_or_model_is_refused(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert surveyed(gguf, tmp_path / "out") == 0
    capsys.readouterr()
    for more, differs in ((("--seed", "1"), "seed"), (("--temperature", "0.1"), "decoding")):
        assert surveyed(gguf, tmp_path / "out", *more) == 2
        assert f"begun with another {differs}" in capsys.readouterr().err
    assert surveyed(gguf, tmp_path / "out", prompt="cell") == 2
    assert "begun with another prompt" in capsys.readouterr().err


def test_two_surveys_do_not_share_a_folder(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / journal.JOURNAL, "a") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        assert surveyed(gguf, tmp_path / "out") == 2
    assert "another collection is writing here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--samples", "0"), "--samples must be at least 1, got 0"),
        (("--coverage", "0"), "--coverage must be above 0, at most 1"),
        (("--coverage", "nan"), "--coverage must be above 0, at most 1"),
        (("--episodes", "1"), "--episodes must be at least 8, got 1"),
        (("--most", "0"), "--most must be at least 1, got 0"),
        (("--prompt", "cot"), "which a life remembers: its texts cannot be asked about ahead"),
        (("--task", "gymnax:Catch-bsuite"), "gymnax_catch_bsuite has no words"),
        (("--score", "--backend", "http"), "--score needs the model in this process: --backend llama.cpp"),
        (
            ("--score", "--task", "pendulum", "--prompt", "hint"),
            "--score needs a word for each action, and pendulum has none",
        ),
    ],
)
def test_bad_settings_are_one_line(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], more: Any, says: str
) -> None:
    assert surveyed(gguf, tmp_path / "out", *more) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_read_is_not_surveyed(
    gguf: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        Script, "complete", lambda _, queries: [Completion("hm", 9, 3, False) for _ in queries]
    )
    assert surveyed(gguf, tmp_path / "out") == 2
    assert "none of the first 20 answers names an action" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert surveyed(gguf, tmp_path / "out", "--allow-unreadable") == 0
    assert (table(tmp_path / "out").actions == -1).all()


def test_a_table_is_shown(
    gguf: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert surveyed(gguf, tmp_path / "one") == surveyed(gguf, tmp_path / "two", "--seed", "1") == 0
    capsys.readouterr()
    assert command(lambda: show.main([str(tmp_path / "one"), "--rows", "3", "--episodes", "20"])) == 0
    printed = capsys.readouterr().out
    assert "3 answers about each" in printed and "The reference agrees with" in printed
    assert f"3 of {table(tmp_path / 'one').asked.sum()} texts" in printed
    against = [str(tmp_path / "one"), "--against", str(tmp_path / "two"), "--rows", "0"]
    assert command(lambda: show.main(against)) == 0
    assert "The two differ by 0." in capsys.readouterr().out
    card = json.loads((tmp_path / "two/card.json").read_text())
    (tmp_path / "two/card.json").write_text(json.dumps(card | {"environment": "cliff_walking"}))
    assert command(lambda: show.main(against)) == 2


def test_scores_are_told_in_words() -> None:
    """An action without a word by its number."""
    said = np.array([0, 1, 1, 2, -1])
    assert show.said(said, Words(("left", "right")), Discrete(3)) == "right 2, 2 1, left 1, unreadable 1"
    only = np.array([True, False, False])
    told = show.said(said, Words(("left", "right")), Discrete(3), only)
    assert told == "left 1, unreadable 1, none of the options 3"
    assert show.scored(np.log([0.25, 0.7, 0.05]), Words(("left", "right")), only) == "left 25%"
    told = show.scored(np.log([0.25, 0.7, 0.05]), Words(("left", "right")))
    assert told == "right 70%, left 25%, 2 5%"


def test_how_far_answers_are_apart() -> None:
    one, other = np.array([0, 0, 1, -1]), np.array([1, 1, 1, 1])
    # An unreadable answer is a quarter of each of four: (9, 5, 1, 1) / 16 against (0, 16, 0, 0) / 16.
    assert show.apart(one, other, Discrete(4)) == pytest.approx(11 / 16)
    assert show.apart(one, one, Discrete(4)) == 0
    # Of three that there are a third of each: (28, 16, 4, 0) / 48.
    there = np.array([True, True, True])
    assert show.apart(one, other, Discrete(4), there) == pytest.approx(2 / 3)


@pytest.mark.long
@pytest.mark.slow
def test_agents_that_the_suite_trains_play_too(
    gguf: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    act = players.trained(TASK, seeds=2)
    env = TASK.environment()
    coding = tables.coding_of(TASK, survey.prompts.load(TASK, "map").text)
    trained, random = (players.visit(env, coding, player, 100, 3) for player in (act, players.uniform(env)))
    assert trained.times.sum() > 2 * random.times.sum()  # it falls into fewer holes
