"""One collection from beginning to end: play, record, save; the same whether it was interrupted or not.

Episodes are decided in rounds: the first `parallel` unfinished episodes, one step each. What a round
asks is a function of the record so far, so a run that resumes asks what it would have asked.
"""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from loro_jax.data import episodes as dataset
from loro_jax.errors import UserError
from loro_jax.language import journal, play
from loro_jax.language.journal import Journal, Step, writing
from loro_jax.language.policy import Decision, Policy, Request
from loro_jax.spaces import Space
from loro_jax.tasks.words import Description, Fields


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where a collection stands: all of it, and this run's share for speeds."""

    finished: int
    finished_steps: int
    steps: int
    mean_return: float
    run_steps: int
    run_tokens: int
    run_seconds: float


@dataclasses.dataclass(frozen=True)
class Collection:
    """What to collect, and where.

    Attributes:
        simulator: the game, with the collection's seed.
        description: puts its states into words.
        episodes: number wanted.
        parallel: episodes played side by side.
        out: the dataset's folder.
        card: what the card says beside what is measured; `name` and `environment` among it.
    """

    simulator: play.Simulator
    description: Description
    episodes: int
    parallel: int
    out: pathlib.Path
    card: dict[str, Any]

    def run(
        self, record: Journal, policy: Policy, report: Callable[[Standing], None] = lambda _: None
    ) -> None:
        """Plays what the record lacks, saving the dataset whenever an episode ends.

        `report` is called after every round. Interrupt it at any point: the journal stays whole.
        """
        games = self.replay(record.steps)
        if record.finished and all(g.done for g in games):
            return
        record.begin()
        policy.recall(record.steps)
        began, old_steps, old_tokens = time.monotonic(), len(record.steps), tokens(record.steps)
        ended = sum(g.done for g in games)
        while True:
            active = self._active(games)
            finished = [g for g in games if g.done]
            if finished and (len(finished) > ended or not active):
                self.save(finished, record.steps)
                ended = len(finished)
            if not active:
                break
            record.append(self._round(policy, games, active))
            returns = [g.total for g in games if g.done]
            report(
                Standing(
                    len(returns),
                    sum(g.step for g in games if g.done),
                    len(record.steps),
                    float(np.mean(returns)) if returns else float("nan"),
                    len(record.steps) - old_steps,
                    tokens(record.steps) - old_tokens,
                    time.monotonic() - began,
                )
            )
        record.finish()

    def replay(self, steps: Sequence[Step]) -> list[play.Episode]:
        """The wanted episodes, advanced as recorded; a `UserError` if the record is not of this game, or of
        none."""
        games = [self.simulator.begin(i) for i in range(self.episodes)]
        space = self.simulator.environment.action_space
        for step in steps:
            if not _is_step(step, space):
                raise UserError(f"{self.out}: its record is damaged; restore it, or choose another --out")
            index = step["episode"]
            if index >= len(games):
                continue
            game = games[index]
            fields = self._fields(games, game)
            if game.done or game.step != step["step"] or not step["state"].items() <= fields.items():
                raise UserError(
                    f"{self.out}: the record does not fit the game at episode {index}, step {step['step']};"
                    " it was made with another simulator: choose another --out"
                )
            self.simulator.advance(game, step["action"])
        return games

    def save(self, finished: list[play.Episode], steps: Sequence[Step]) -> None:
        """Writes episodes.npz and card.json from the finished episodes."""
        card = {
            **self.card,
            "complete": len(finished) == self.episodes,
            "answers": statistics([s for s in steps if s["episode"] in {g.index for g in finished}]),
            journal.HASH: journal.digest(sorted(steps, key=journal.by_episode)),
        }
        with writing(self.out):
            dataset.save(play.gather(finished, card), self.out)

    def _active(self, games: Sequence[play.Episode]) -> list[play.Episode]:
        """The episodes that take a step now, at most `parallel`.

        Where a life outlasts an episode, episodes i, i + parallel, i + 2 parallel, ... are one life, and
        each waits for the one before it.
        """
        unfinished = [g for g in games if not g.done]
        if not self.description.remembers:
            return unfinished[: self.parallel]
        lives: dict[int, play.Episode] = {}
        for game in unfinished:
            lives.setdefault(game.index % self.parallel, game)
        return list(lives.values())

    def _fields(self, games: Sequence[play.Episode], game: play.Episode) -> Fields:
        """The state of `game` in words, with what its life has seen."""
        life = list(game.rows)
        if self.description.remembers:
            earlier = range(game.index % self.parallel, game.index, self.parallel)
            life = [row for i in earlier for row in games[i].rows] + life
        return self.description.tell(game.observations[-1], life)

    def _round(
        self, policy: Policy, games: Sequence[play.Episode], active: Sequence[play.Episode]
    ) -> list[Step]:
        began = time.monotonic()
        legal = self.simulator.legal
        requests = [
            Request(g.index, g.step, self._fields(games, g), legal(g.observations[-1])) for g in active
        ]
        decisions = policy.decide(requests)
        seconds = round((time.monotonic() - began) / len(active), 4)
        for game, decision in zip(active, decisions, strict=True):
            self.simulator.advance(game, decision.action)
        return [_step(r, d, seconds) for r, d in zip(requests, decisions, strict=True)]


def _is_step(step: Step, space: Space) -> bool:
    """Whether an entry of a record is a step of a game with these actions."""
    if not journal.is_step(step):
        return False
    try:
        taken = np.asarray(step["action"])
        return taken.dtype.kind in "if" and not space.refuses(taken.reshape(1, *space.shape))
    except (KeyError, ValueError):
        return False


def _step(request: Request, decision: Decision, seconds: float) -> Step:
    return {
        "episode": request.episode,
        "step": request.step,
        "state": request.fields,
        "action": decision.action,
        "random": decision.random,
        "sample": decision.sample,
        "reused": decision.reused,
        "attempts": [dataclasses.asdict(attempt) for attempt in decision.attempts],
        "seconds": seconds,
    }


def tokens(steps: Sequence[Step]) -> int:
    """Tokens sampled by the model."""
    return sum(attempt["answer_tokens"] for step in steps for attempt in step["attempts"])


def statistics(steps: Sequence[Step]) -> dict[str, Any]:
    """What the answers cost and how many could be read, for the card."""
    made = [attempt for step in steps for attempt in step["attempts"]]
    attempts = [a for a in made if a.get("role", "answer") == "answer"]
    judgements = [a for a in made if a.get("role") == "judge"]
    unreadable = sum(attempt["action"] is None for attempt in attempts)
    random = sum(step["random"] for step in steps)
    seconds = sum(step["seconds"] for step in steps)
    return {
        "steps": len(steps),
        "steps_with_a_reused_answer": sum(step["reused"] for step in steps),
        "answers": len(attempts),
        "unparsable_answers": unreadable,
        "unparsable_share": unreadable / max(len(attempts), 1),
        "asked_for_the_action_share": sum(a["asked"] for a in attempts) / max(len(attempts), 1),
        "judgements": len(judgements),
        "unparsable_judgements": sum(j["action"] is None for j in judgements),
        "random_actions": random,
        "random_action_share": random / max(len(steps), 1),
        "answer_tokens": tokens(steps),
        "prompt_tokens": sum(attempt["prompt_tokens"] for attempt in made),
        "seconds": round(seconds, 1),
        "answer_tokens_per_second": round(tokens(steps) / max(seconds, 1e-9), 1),
    }
