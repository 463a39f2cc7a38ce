"""From answers to actions: retries, the random action of last resort, and samples that are reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from loro_jax.language import policy, prompts
from loro_jax.language.backend import Completion, Query
from loro_jax.language.policy import LanguagePolicy, Mode, Request
from loro_jax.tasks.actions import Number, Words

PROMPT = prompts.parse("Push.\nLeans {side}.\n---\nSo", "p", ("side",), "p")
WORDS = Words(("left", "right"))


class Script:
    """A backend that answers by a function of the query and keeps what it was asked."""

    versions: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, answer: Callable[[Query], str]) -> None:
        self._answer = answer
        self.asked: list[Query] = []

    def complete(self, queries: Sequence[Query]) -> list[Completion]:
        self.asked.extend(queries)
        return [Completion(self._answer(q), 10, 5, False) for q in queries]


def copies_the_side(query: Query) -> str:
    return f"Action: {'left' if 'left' in query.tail else 'right'}"


def requests(sides: Sequence[str], step: int = 0) -> list[Request]:
    return [Request(episode, step, {"side": side}) for episode, side in enumerate(sides)]


def test_readable_answers_are_asked_for_once() -> None:
    backend = Script(copies_the_side)
    decisions = LanguagePolicy(backend, PROMPT, WORDS, seed=0).decide(requests(["left", "right"]))
    assert [d.action for d in decisions] == [0, 1]
    assert not any(d.random or d.reused for d in decisions)
    assert [(q.head, q.tail, q.start) for q in backend.asked] == [
        ("Push.\n", "Leans left.", "So"),
        ("Push.\n", "Leans right.", "So"),
    ]


def test_unreadable_answers_are_retried_with_another_seed() -> None:
    backend = Script(lambda q: "Action: right" if len(backend.asked) > 2 else "hmm")
    (decision, other) = LanguagePolicy(backend, PROMPT, WORDS, seed=0).decide(requests(["left", "left"]))
    assert [a.action for a in decision.attempts] == [None, 1]
    assert decision.action == other.action == 1 and not decision.random
    assert len({q.seed for q in backend.asked}) == 4


def test_the_last_resort_is_a_fair_coin_of_its_own() -> None:
    backend = Script(lambda q: "hmm")
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0, retries=1)
    decisions = [d for step in range(200) for d in player.decide(requests(["left"] * 2, step))]
    assert all(d.random and len(d.attempts) == 2 for d in decisions)
    share = sum(d.action for d in decisions) / 400
    assert 0.4 < share < 0.6
    assert player.decide(requests(["left"] * 2, 7)) == decisions[14:16]


@pytest.mark.parametrize("readable", [1, 2, 3, 4, 20])
def test_a_trial_asks_until_it_can_read(readable: int) -> None:
    """Once, and then twice as often each time; each answer is drawn anew, about the states in turn."""
    backend = Script(lambda q: "Action: left" if len(backend.asked) >= readable else "hm")
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0)
    assert player.try_out([{"side": "left"}, {"side": "right"}]) is None
    assert len(backend.asked) == {1: 1, 2: 3, 3: 3, 4: 7, 20: 20}[readable]
    assert len({q.seed for q in backend.asked}) == len(backend.asked)
    assert all(q.tail == f"Leans {'right' if i % 2 else 'left'}." for i, q in enumerate(backend.asked))


def test_a_trial_in_vain_shows_its_first_answer() -> None:
    backend = Script(lambda q: f"hm {len(backend.asked)}")
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0)
    first = player.try_out([{"side": "left"}])
    assert first is not None and first.text == "hm 1" and len(backend.asked) == policy.TRIAL
    assert player.try_out([{"side": "left"}], 1) is not None and len(backend.asked) == policy.TRIAL + 1


def test_seeds_depend_on_every_number() -> None:
    seeds = {
        policy.number_of(purpose, a, b)
        for purpose in ("answer", "sample")
        for a in range(30)
        for b in range(30)
    }
    assert len(seeds) == 1800 and all(0 <= s < 2**31 for s in seeds)
    assert policy.number_of("answer", 1, 23) != policy.number_of("answer", 12, 3)


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_are_asked_for_once_and_reused(samples: int) -> None:
    backend = Script(copies_the_side)
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0, samples=samples)
    decisions = [d for step in range(40) for d in player.decide(requests(["left", "right", "left"], step))]
    assert len(backend.asked) == 2 * samples == len({q.seed for q in backend.asked})
    assert [d.action for d in decisions] == [0, 1, 0] * 40
    assert sum(not d.reused for d in decisions) == 2 * samples
    assert all(bool(d.attempts) != d.reused for d in decisions)
    assert {d.sample for d in decisions} == set(range(samples))


def test_recalled_samples_are_not_asked_for_again() -> None:
    backend = Script(copies_the_side)
    decided = LanguagePolicy(backend, PROMPT, WORDS, seed=0, samples=1).decide(requests(["left"]))
    steps = [
        {
            "state": {"side": "left"},
            "action": decided[0].action,
            "random": False,
            "sample": 0,
            "reused": False,
        }
    ]
    again = LanguagePolicy(Script(lambda q: pytest.fail("asked again")), PROMPT, WORDS, seed=0, samples=1)
    again.recall(steps)
    (decision,) = again.decide(requests(["left"], step=5))
    assert (decision.action, decision.reused) == (0, True)


JUDGE = prompts.parse("Choose.\n{question}\n{answers}\n---\nBest:", "judge", ("question", "answers"), "judge")


def votes(query: Query) -> str:
    """Two of five say left, three say right, by the order of the candidates' seeds."""
    place = [policy.number_of("answer", 0, 0, 0, k) for k in range(10)].index(query.seed)
    return f"{place}: Action: {'left' if place % 5 in (0, 3) else 'right'}"


def test_the_majority_decides_a_vote() -> None:
    backend = Script(votes)
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0, mode=Mode("vote", 5))
    (decision,) = player.decide(requests(["left"]))
    assert [a.action for a in decision.attempts] == [0, 1, 1, 0, 1]
    assert decision.action == 1 and not decision.random
    assert len({q.seed for q in backend.asked}) == len(backend.asked) == 5


def test_unreadable_votes_do_not_count_and_an_unreadable_round_is_asked_again() -> None:
    backend = Script(lambda q: "hmm" if len(backend.asked) <= 3 else "Action: left" if q.seed % 2 else "hm")
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=1, retries=1, mode=Mode("vote", 3))
    (decision,) = player.decide(requests(["left"]))
    assert len(decision.attempts) == 6 and decision.action == 0 and not decision.random
    assert len({q.seed for q in backend.asked}) == 6


def test_the_model_judges_its_own_answers() -> None:
    backend = Script(lambda q: "Best: 4" if q.head == "Choose.\n" else votes(q))
    player = LanguagePolicy(backend, PROMPT, WORDS, seed=0, mode=Mode("best", 5, JUDGE, True))
    (decision,) = player.decide(requests(["left"]))
    *answers, judged = decision.attempts
    assert (judged.role, judged.action) == ("judge", 3)
    assert {a.role for a in answers} == {"answer"}
    assert decision.action == 0  # the fourth answer, though the majority says right
    question = backend.asked[-1]
    assert question.start == question.mark == "Best:"
    assert "Push.\nLeans left." in question.tail and "4. 3: Action: left" in question.tail
    assert question.reader == Words(("1", "2", "3", "4", "5"), mark="Best:")


def test_a_judge_is_not_asked_where_answers_agree_nor_believed_where_it_cannot_be_read() -> None:
    agreed = Script(copies_the_side)
    player = LanguagePolicy(agreed, PROMPT, WORDS, seed=0, mode=Mode("best", 3, JUDGE))
    (decision,) = player.decide(requests(["right"]))
    assert len(agreed.asked) == 3 and decision.action == 1
    backend = Script(lambda q: "Best: 9" if q.head == "Choose.\n" else votes(q))
    (decision,) = LanguagePolicy(backend, PROMPT, WORDS, seed=0, mode=Mode("best", 5, JUDGE)).decide(
        requests(["left"])
    )
    assert decision.attempts[-1].action is None and decision.action == 1  # the majority


def test_a_vote_on_numbers_is_their_median() -> None:
    backend = Script(lambda q: f"Action: {policy.number_of('torque', q.seed) % 5 - 2}")
    player = LanguagePolicy(backend, PROMPT, Number(-2, 2), seed=0, mode=Mode("vote", 5))
    (decision,) = player.decide(requests(["left"]))
    assert decision.action == sorted(a.action for a in decision.attempts)[2]  # type: ignore[type-var]


def test_answers_are_held_to_the_actions_only_where_asked_to_be() -> None:
    for constrained, reader in ((False, None), (True, WORDS)):
        backend = Script(copies_the_side)
        mode = Mode("cot", constrained=constrained)
        LanguagePolicy(backend, PROMPT, WORDS, seed=0, mode=mode).decide(requests(["left"]))
        assert backend.asked[0].reader == reader
