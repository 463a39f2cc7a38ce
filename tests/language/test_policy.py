"""From answers to actions: retries, the random action of last resort, and samples that are reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from loro_jax.language import policy, prompts
from loro_jax.language.backend import Completion, Query
from loro_jax.language.policy import LanguagePolicy, Request

PROMPT = prompts.parse("Push.\nLeans {side}.\n---\nSo", "p", ("side",), "p")
WORDS = ("left", "right")


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


def test_seeds_depend_on_every_number() -> None:
    seeds = {
        policy.draw(purpose, a, b) for purpose in ("answer", "sample") for a in range(30) for b in range(30)
    }
    assert len(seeds) == 1800 and all(0 <= s < 2**31 for s in seeds)
    assert policy.draw("answer", 1, 23) != policy.draw("answer", 12, 3)


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
