"""Asks a language model about every text that matters in a game, once, and keeps the answers as a table.

    python -m loro_jax.language.survey --task cartpole --model qwen2.5-coder-0.5b-instruct --prompt rate

Players (uniform, the answers so far, the task's reference, agents trained without a model) find the texts.
Those that they meet most often are asked about first, until the least covered of the players, on episodes
kept apart, has `--coverage` of its steps in texts that were asked about. Interrupted, it goes on where it
stopped; a finished table only grows, by more texts or more answers about each. With `--score` the table also
says how likely the model finds each action after its thoughts, which are not asked for again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

import loro_jax
from loro_jax import errors, progress, tasks
from loro_jax.data import answers
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError, command, within
from loro_jax.language import collect, journal, players, prompts, tables
from loro_jax.language import settings as collecting
from loro_jax.language.backend import Backend, Decoding, Query
from loro_jax.language.policy import Mode, number_of
from loro_jax.language.server import Server
from loro_jax.spaces import Discrete
from loro_jax.tasks import Task
from loro_jax.tasks.actions import MARK, Reader, Spoken, among, to_mark
from loro_jax.validation import parameters

ROUND = 32
"""Texts that are asked about, and recorded, together."""
TRIAL = 20
"""Answers in a row, none of them readable, after which a survey is not begun."""
OUT = -1000.0
"""The log-probability of a word that stands for no action there is."""

READ_COUNTS = ("read_tokens", "tail_tokens")
"""What a `Completion` may know of how its prompt was read."""

Digits = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Asks a language model about every text that matters in a game, and keeps the answers as a table."""

    model: str
    """a .gguf file; or smollm2-135m-instruct, qwen2.5-coder-0.5b-instruct or qwen2.5-coder-1.5b-instruct,
    looked up in $LORO_JAX_MODELS or ~/.cache/loro_jax/models; or hf:owner/repository/file.gguf; with
    --backend http the server's name for its model"""
    backend: Literal["llama.cpp", "http"] = "llama.cpp"
    """llama.cpp loads the model into this process; http asks an OpenAI-compatible server at --url"""
    task: Annotated[str, tyro.conf.arg(aliases=("--environment",))] = "cartpole"
    """what the texts are about: cartpole and so on; or FILE.py:NAME for a task of your own"""
    prompt: str = "cot"
    """one of the task's prompts, such as a file of prompts/TASK/ without its suffix, or a .txt file; one that
    tells the observation alone, nothing that a life remembers"""
    samples: int = 8
    """answers about each text; more than a table has add the missing ones, fewer change nothing"""
    coverage: float = 0.98
    """share of the least covered player's steps that is to be in texts that were asked about"""
    episodes: int = 200
    """episodes that each player plays to find texts, and again as many to measure the coverage"""
    most: int = 20_000
    """texts that are asked about at most"""
    game: tuple[str, ...] = ()
    """parameters of the game that is played to find texts, such as games=all; another game adds its texts to
    a table that is there"""
    out: pathlib.Path | None = None
    """the table's folder; default results/answers/TASK/MODEL-PROMPT"""
    seed: int = 0
    """of every answer, and of the players"""
    threads: int = 0
    """CPU threads for llama.cpp; 0 takes the machine's cores, of which other work should need none"""
    parallel: int = 8
    """answers that grow side by side; changes them by floating-point noise only"""
    rules: Literal["strict", "released"] = "strict"
    """what a free answer means in a game of phrases: strict, as `loro_jax.tasks.actions.Mentions` reads it;
    or as the study's scripts have it, where equals, and an answer without any phrase, mean the last one"""
    grammar: bool = False
    """hold what follows "Action:" to the game's actions while decoding"""
    score: bool = False
    """add the model's probability of each action behind "Action:", the mean over the answers' thoughts, among
    the actions alone (llama.cpp only); answers that are there already are scored, not asked for again, and a
    table that was ever scored stays scored as it grows, with or without this flag"""
    allow_unreadable: bool = False
    """go on although none of the first 20 answers names an action"""
    context: int = 1024
    """room for one prompt and its answer, in tokens"""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Decoding)
    server: Annotated[Server, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Server)

    def asking(self, mode: Literal["direct", "cot"] = "cot") -> collecting.Settings:
        """What reaches the model, as a collection has it."""
        return collecting.Settings(
            model=self.model, backend=self.backend, task=self.task, prompt=self.prompt, seed=self.seed,
            threads=self.threads or cores(), parallel=self.parallel, grammar=self.grammar,
            context=self.context, decoding=self.decoding, server=self.server, samples=self.samples,
            mode=mode, out=self.out,
        )  # fmt: skip


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.language.survey"
    settings = errors.arguments(lambda: tyro.cli(Settings, args=arguments, description=__doc__, prog=prog))
    collecting.check(settings.asking())
    within("--samples", settings.samples, 1, 1000)
    within("--episodes", settings.episodes, 8, 100_000)
    within("--most", settings.most, 1, 1_000_000)
    if not 0 < settings.coverage <= 1:
        raise UserError("--coverage must be above 0, at most 1")
    task = tasks.load(settings.task)
    begins = prompts.load(task, settings.prompt).start.endswith(MARK)  # with the action, no thought before it
    asking = settings.asking("direct" if begins else "cot")
    prompt, mode = collecting.asked(asking, task)
    if settings.score:
        check_scores(settings, task)
    coding = tables.coding_of(task, prompt.text)
    answers.check_size(coding)
    tables.ruled(task, settings.rules == "released")
    console = Console(stderr=True, highlight=False)
    with progress.lines(console, lambda: f"reading or fetching {settings.model}"):
        model, opened = collecting.source(asking)
    identity = identify(asking, task, model, prompt, mode, settings.rules)
    name = name_of(model, prompt, settings.grammar) + ("-released" if settings.rules == "released" else "")
    out = settings.out or answers.SURVEYED / task.name / name
    with collect.on_cpu(), contextlib.closing(journal.Journal(out, identity, order)) as record:
        record.check_writable()
        survey = Survey(settings, task, prompt, coding, out, identity, console)
        try:
            with errors.terminating():
                return survey.run(record, opened)
        except KeyboardInterrupt:
            print(
                f"stopped after {len(Known(record.steps).said)} texts; the same command goes on from there",
                file=sys.stderr,
            )
            return 130


def check_scores(settings: Settings, task: Task) -> None:
    """Refuses to score where there are no words, or no probabilities."""
    if settings.backend == "http":
        raise UserError("--score needs the model in this process: --backend llama.cpp")
    assert task.words is not None
    if not isinstance(task.words.reader, Spoken) or not isinstance(task.environment().action_space, Discrete):
        raise UserError(f"--score needs a word for each action, and {task.name} has none")


def name_of(model: Mapping[str, Any], prompt: prompts.Prompt, grammar: bool) -> str:
    return f"{model['name']}-{prompt.name}" + ("-grammar" if grammar else "")


def order(entry: journal.Step) -> Any:
    """Where an entry stands in the transcript."""
    return entry["round"], entry["place"]


RULES: dict[str, dict[str, str]] = {"strict": {}, "released": {"rules": "released"}}


def identify(
    asking: collecting.Settings,
    task: Task,
    model: dict[str, Any],
    prompt: prompts.Prompt,
    mode: Mode,
    rules: str = "strict",
) -> dict[str, Any]:
    """All that decides the answers: not how many texts are asked about, nor how often."""
    known = collecting.identify(asking, task, model, prompt, mode)
    kept = ("environment", "model", "prompt", "decoding", "seed", "grammar", "precision")
    return {"kind": "survey"} | {k: known[k] for k in kept if k in known} | RULES[rules]


def attempts_of(entries: Sequence[journal.Step]) -> list[dict[str, Any]]:
    """All answers of a record."""
    return [attempt for entry in entries for attempt in entry.get("attempts", ())]


def prompt_tokens(entries: Sequence[journal.Step]) -> dict[str, int]:
    """Tokens that the answers' prompts have; and what was read of them, if that is known of all answers."""
    made = attempts_of(entries)
    known = (k for k in READ_COUNTS if all(k in attempt for attempt in made))
    return {k: sum(attempt[k] for attempt in made) for k in ("prompt_tokens", *known)}


def saved(tokens: Mapping[str, int]) -> str:
    """A few words about what sharing beginnings saves; none where it is not known."""
    if not tokens.get("read_tokens"):
        return ""
    asked, read, tails = (tokens[k] for k in ("prompt_tokens", *READ_COUNTS))
    fewer = f"{tails / read:.1f} times fewer than the {tails:,} behind the heads alone"
    return f"; read {read:,} of the prompts' {asked:,} tokens, {fewer}"


class Known:
    """What a record says: the answers about each text, in the order asked.

    Attributes:
        said: the actions; None where unreadable.
        texts: the answers' own texts.
        scores: for each answer that was scored, the log-probabilities of the reader's words, (W,).
        rounds: rounds that were recorded.
    """

    def __init__(self, entries: Sequence[journal.Step]) -> None:
        self.said: dict[Digits, list[Any]] = {}
        self.texts: dict[Digits, list[str]] = {}
        self.scores: dict[Digits, list[list[float]]] = {}
        self.rounds = 0
        self.add(entries)

    def add(self, entries: Sequence[journal.Step]) -> None:
        for entry in entries:
            digits, attempts = tuple(entry["digits"]), entry.get("attempts", ())
            self.said.setdefault(digits, []).extend(attempt["action"] for attempt in attempts)
            self.texts.setdefault(digits, []).extend(attempt["answer"] for attempt in attempts)
            if "scores" in entry:
                self.scores.setdefault(digits, []).extend(entry["scores"])
            self.rounds = max(self.rounds, entry["round"] + 1)

    @property
    def samples(self) -> int:
        """Answers that every text has."""
        return min(map(len, self.said.values()), default=0)

    @property
    def answers(self) -> int:
        return sum(map(len, self.said.values()))

    @property
    def scored(self) -> int:
        """Answers that were scored."""
        return sum(map(len, self.scores.values()))

    def unscored(self) -> list[Digits]:
        """Texts that have fewer scores than answers."""
        return [d for d, said in self.said.items() if len(self.scores.get(d, ())) < len(said)]

    def lacking(self, samples: int) -> list[Digits]:
        """Texts that have fewer answers than that."""
        return [digits for digits, said in self.said.items() if len(said) < samples]

    def actions(self, space: Any) -> dict[Digits, np.ndarray]:
        """As many answers as every text has, (n, *action) each: -1, or NaN, where unreadable."""
        if not self.said:
            return {}
        samples = self.samples
        discrete = isinstance(space, Discrete)
        unread = -1 if discrete else np.nan
        kind = np.int32 if discrete else np.float32

        def one(said: list[Any]) -> np.ndarray:
            numbers = [unread if action is None else action for action in said[:samples]]
            return np.array(numbers, kind).reshape(samples, *space.shape)

        return {digits: one(said) for digits, said in self.said.items()}

    def log_probs(self, reader: Reader, space: Any) -> dict[Digits, np.ndarray] | None:
        """Of the actions, (A,), by the same answers; None unless all of them were scored."""
        if self.unscored() or not isinstance(reader, Spoken):
            return None
        samples = self.samples
        actions = [reader.action(word) for word in range(len(reader.words))]
        return {d: of_actions(np.array(s[:samples]), actions, space.n) for d, s in self.scores.items()}


def of_actions(words: np.ndarray, actions: Sequence[int], n: int) -> np.ndarray:
    """The words' log-probabilities behind k thoughts, (k, W) -> those of n actions, float32 (n,).

    `actions` has the action of each word, (W,). Behind each thought the words' probabilities are made to sum
    to 1, and the mean over thoughts is taken. None of them is less than float32 can hold.
    """
    likely = np.exp(words - words.max(axis=1, keepdims=True))
    mean = (likely / likely.sum(axis=1, keepdims=True)).mean(axis=0)
    found = np.bincount(actions, mean, n)
    return np.log(np.clip(found, np.finfo(np.float32).tiny, 1)).astype(np.float32)


@dataclasses.dataclass
class Survey:
    """A survey and where it goes."""

    settings: Settings
    task: Task
    prompt: prompts.Prompt
    coding: Coding
    out: pathlib.Path
    identity: dict[str, Any]
    console: Console

    def __post_init__(self) -> None:
        self.environment = self.task.environment(**parameters(self.settings.game))
        assert self.task.words is not None
        tables.check_told(self.task, self.environment)
        self.reader: Reader = tables.ruled(self.task, self.settings.rules == "released")

    def run(self, record: journal.Journal, opened: Any) -> int:
        self.check(record.steps)
        known = Known(record.steps)
        if record.finished:
            self.check_table(known)
        self.samples = max(self.settings.samples, known.samples)
        if record.finished and self.done(known):
            self.say(known, self.kept_card()["coverage"], prompt_tokens(record.steps))
            return 0
        with progress.waiting(self.console, "players"):
            self.fixed = self.standing()
            found = {name: self.visits(act, 0) for name, act in self.fixed.items()}
            kept = {name: self.visits(act, 1) for name, act in self.fixed.items()}
        with contextlib.ExitStack() as stack:
            backend: Backend | None = None
            began, asked, scored_before = time.monotonic(), 0, known.scored
            while True:
                if (self.settings.score or known.scored) and known.unscored():
                    if backend is None:
                        backend = self.open(stack, opened)
                        record.begin()
                    entries = self.score(backend, known)
                    record.append(entries)
                    known.add(entries)
                    rate = (known.scored - scored_before) / (time.monotonic() - began)
                    self.console.print(f"{known.scored} answers scored, {rate:.2f} a second", markup=False)
                    continue
                played = players.answering(
                    self.environment, self.coding, known.actions(self.environment.action_space)
                )
                found["answers"], kept["answers"] = self.visits(played, 0), self.visits(played, 1)
                covered = {name: v.share(set(known.said)) for name, v in kept.items()}
                if backend is None and not record.finished and known.said and not self.kept_card():
                    backend = self.open(stack, opened)  # killed before it could say its versions
                self.save(record, known, found, kept, backend)
                texts = self.next(known, found, covered)
                if not texts:
                    break
                if backend is None:
                    backend = self.open(stack, opened)
                if not asked:
                    self.try_out(backend, texts)
                    record.begin()
                entries = self.ask(backend, known, texts)
                record.append(entries)
                known.add(entries)
                asked += len(entries)
                now = {name: visits.share(set(known.said)) for name, visits in kept.items()}
                least = min(now, key=lambda name: now[name])
                rate = asked / (time.monotonic() - began)
                self.console.print(
                    f"{len(known.said)} texts asked about, {rate:.2f} a second; least covered: {least},"
                    f" {now[least]:.1%}",
                    markup=False, soft_wrap=True,
                )  # fmt: skip
        if not record.finished:
            record.finish()  # last: while there is a journal, the same command goes on
        self.say(known, covered, prompt_tokens(record.steps))
        return 0

    def check(self, entries: Sequence[journal.Step]) -> None:
        """A `UserError` where a record is damaged, or texts were asked about in other words."""
        said: dict[Digits, int] = {}
        for entry in entries:
            try:
                self.check_entry(entry, said)
            except (KeyError, IndexError, TypeError, ValueError):
                raise UserError(
                    f"{self.out}: its record is damaged; restore it, or choose another --out"
                ) from None
            if entry.get("state") not in (None, self.coding.texts(entry["digits"])):
                raise UserError(
                    f"{self.out}: was asked in other words than {self.task.name} has; choose another --out"
                )

    def check_table(self, known: Known) -> None:
        """A `UserError` where the table that is there, if it can be read, is not made of these answers."""
        try:
            table = tables.read(self.out, self.task)
        except UserError:
            return
        actions = known.actions(self.environment.action_space)
        scores = known.log_probs(self.reader, self.environment.action_space)
        rows = {tuple(digits): row for row, digits in enumerate(table.digits.tolist()) if table.asked[row]}
        same = rows.keys() == actions.keys() and all(
            np.array_equal(table.actions[row], actions[digits], equal_nan=True)
            for digits, row in rows.items()
        )
        if same and scores is not None and table.log_probs is not None:
            found = np.stack([scores[digits] for digits in rows])
            same = bool(np.allclose(found, table.log_probs[list(rows.values())], atol=1e-4))
        if not same:
            raise UserError(
                f"{self.out}: its table is not made of the answers that its transcript has; restore it, or"
                " choose another --out"
            )

    def check_entry(self, entry: journal.Step, said: dict[Digits, int]) -> None:
        """A `ValueError`, or what Python raises, where an entry is none; `said`: answers so far, counted."""
        space, digits = self.environment.action_space, entry["digits"]
        sound = [type(d) is int and 0 <= d < n for d, n in zip(digits, self.coding.sizes, strict=True)]
        numbers = [entry[k] for k in ("round", "place", "seconds", "first")]
        if not all(sound) or not all(type(n) in (int, float) and n >= 0 for n in numbers):
            raise ValueError
        if "scores" in entry:
            scores = np.asarray(entry["scores"], np.float64)
            assert isinstance(self.reader, Spoken)
            if scores.ndim != 2 or scores.shape[1] != len(self.reader.words) or not np.isfinite(scores).all():
                raise ValueError
        if "attempts" not in entry:
            return
        if entry["first"] != said.get(tuple(digits), 0):
            raise ValueError
        said[tuple(digits)] = entry["first"] + len(entry["attempts"])
        for attempt in entry["attempts"]:
            counts = (attempt["prompt_tokens"], attempt["answer_tokens"])
            if type(attempt["answer"]) is not str or not all(type(n) is int for n in counts):
                raise ValueError
            if attempt["action"] is not None:
                action = np.asarray(attempt["action"])
                if action.dtype.kind not in "if" or space.refuses(action.reshape(1, *space.shape)):
                    raise ValueError
            if self.reads(digits).read(attempt["answer"]) != attempt["action"]:
                raise ValueError

    def readable(self) -> bool:
        """Whether the table in the folder can be read."""
        try:
            tables.read(self.out, self.task)
        except UserError:
            return False
        return True

    def done(self, known: Known) -> bool:
        """Whether the table that is there is as wanted."""
        card = self.kept_card()
        covered, played = card.get("coverage"), card.get("episodes_of_each_player")
        unscored = (self.settings.score or known.scored) and known.unscored()
        return (
            card.get("answers") == known.answers
            and not known.lacking(self.samples)
            and not unscored
            and isinstance(covered, dict)
            and bool(covered)
            and min(covered.values()) >= self.settings.coverage
            and played == self.settings.episodes
            and card.get("game", []) == list(self.settings.game)
            and self.readable()
        )

    def open(
        self,
        stack: contextlib.ExitStack,
        opened: Callable[[], contextlib.AbstractContextManager[Backend]],
    ) -> Backend:
        """The model, until the stack ends."""
        with progress.waiting(self.console, f"opening {self.identity['model']['name']}"):
            return stack.enter_context(opened())

    def standing(self) -> dict[str, players.Act]:
        """Those whose play does not depend on the answers."""
        found = {
            "uniform": players.uniform(self.environment),
            "trained": players.trained(self.task, parameters(self.settings.game)),
        }
        if self.task.reference is not None:
            found["reference"] = players.reference(self.task)
        return found

    def visits(self, act: players.Act, apart: int) -> players.Visits:
        seed = number_of("survey", self.settings.seed, apart)
        return players.visit(self.environment, self.coding, act, self.settings.episodes, seed)

    def next(
        self, known: Known, found: Mapping[str, players.Visits], covered: Mapping[str, float]
    ) -> list[Digits]:
        """The texts to ask about now, in the order of their words; none where the table is as wanted."""
        if few := known.lacking(self.samples):
            return sorted(few, key=self.tail)[:ROUND]
        if min(covered.values()) >= self.settings.coverage:
            return []
        shares: dict[Digits, float] = {}
        for visits in found.values():
            for digits, times in zip(visits.digits.tolist(), visits.times / visits.times.sum(), strict=True):
                shares[tuple(digits)] = shares.get(tuple(digits), 0.0) + times
        unasked = [d for d in sorted(shares, key=lambda d: (-shares[d], d)) if d not in known.said]
        room = max(0, self.settings.most - len(known.said))
        return sorted(unasked[: min(ROUND, room)], key=self.tail)

    def tail(self, digits: Digits) -> str:
        """The changing part of the prompt."""
        return self.prompt.tail(self.coding.texts(digits))

    def reads(self, digits: Sequence[int]) -> Reader:
        """Who reads the answers about a text: of the actions that it lists, if it lists them."""
        return among(self.reader, self.coding.legal(digits))

    def query(self, digits: Digits, sample: int) -> Query:
        code = answers.code_of(self.coding, digits)
        seed = number_of("answer", self.settings.seed, code, sample)
        reader = self.reads(digits) if self.settings.grammar else None
        return Query(self.prompt.head, self.tail(digits), self.prompt.start, seed, reader=reader)

    def ask(self, backend: Backend, known: Known, texts: Sequence[Digits]) -> list[journal.Step]:
        """What they have too few answers about, asked together."""
        began = time.monotonic()
        first = {digits: len(known.said.get(digits, ())) for digits in texts}
        wanted = [(d, k) for d in texts for k in range(first[d], self.samples)]
        said = backend.complete([self.query(digits, sample) for digits, sample in wanted])
        seconds = round((time.monotonic() - began) / len(texts), 4)
        attempts: dict[Digits, list[dict[str, Any]]] = {digits: [] for digits in texts}
        for (digits, _), c in zip(wanted, said, strict=True):
            attempts[digits].append(
                {
                    "answer": c.text,
                    "action": self.reads(digits).read(c.text),
                    "asked": c.asked,
                    "prompt_tokens": c.prompt_tokens,
                    **({} if c.read_tokens is None else {k: getattr(c, k) for k in READ_COUNTS}),
                    "answer_tokens": c.answer_tokens,
                }
            )
        return [
            {
                "round": known.rounds,
                "place": place,
                "digits": list(digits),
                "state": self.coding.texts(digits),
                "first": first[digits],
                "attempts": attempts[digits],
                "seconds": seconds,
            }
            for place, digits in enumerate(texts)
        ]

    def score(self, backend: Backend, known: Known) -> list[journal.Step]:
        """The probabilities behind the thoughts of a round of texts that lack them."""
        assert isinstance(self.reader, Spoken)
        began = time.monotonic()
        texts = sorted(known.unscored(), key=self.tail)[:ROUND]
        first = {digits: len(known.scores.get(digits, ())) for digits in texts}
        mark, words = self.settings.decoding.mark, self.reader.words
        before = getattr(backend, "evaluated", None)
        thoughts = [
            Query(self.prompt.head, self.tail(digits), to_mark(said, mark), seed=0)
            for digits in texts
            for said in known.texts[digits][first[digits] :]
        ]
        told = [self.legal(digits) for digits in texts for _ in known.texts[digits][first[digits] :]]
        every: list[list[float]] = []
        # Of words that stand for no action there is, nobody is asked.
        for there, group in itertools.groupby(range(len(thoughts)), key=lambda i: told[i]):
            which = list(group)
            asked = backend.score([thoughts[i] for i in which], [f" {words[w]}" for w in there])
            for row in asked:
                mine = [OUT] * len(words)
                for w, value in zip(there, row, strict=True):
                    mine[w] = value
                every.append(mine)
        found = iter(every)
        scores = {digits: [next(found) for _ in known.texts[digits][first[digits] :]] for digits in texts}
        seconds = round((time.monotonic() - began) / len(texts), 4)
        read = None if before is None else (getattr(backend, "evaluated", 0) - before) / len(texts)
        return [
            {
                "round": known.rounds,
                "place": place,
                "digits": list(digits),
                "first": first[digits],
                "scores": [[round(log_prob, 6) for log_prob in each] for each in scores[digits]],
                "seconds": seconds,
                **({} if read is None else {"evaluated_tokens": round(read, 2)}),
            }
            for place, digits in enumerate(texts)
        ]

    def legal(self, digits: Digits) -> tuple[int, ...]:
        """The reader's words, by place, that stand for actions which a text lists; all if it lists none."""
        assert isinstance(self.reader, Spoken)
        listed, every = self.coding.legal(digits), range(len(self.reader.words))
        return tuple(w for w in every if listed is None or self.reader.action(w) in listed)

    def try_out(self, backend: Backend, texts: Sequence[Digits]) -> None:
        """A `UserError` where no answer can be read, before anything is recorded."""
        if self.settings.allow_unreadable:
            return
        queries = [self.query(texts[k % len(texts)], k // len(texts)) for k in range(TRIAL)]
        said = backend.complete(queries)
        about = [texts[k % len(texts)] for k in range(TRIAL)]
        if all(self.reads(d).read(c.text) is None for d, c in zip(about, said, strict=True)):
            raise UserError(
                f"none of the first {TRIAL} answers names an action; {collect.looks(said[0])};"
                " or go on with --allow-unreadable"
            )

    def save(
        self,
        record: journal.Journal,
        known: Known,
        found: Mapping[str, players.Visits],
        kept: Mapping[str, players.Visits],
        backend: Backend | None,
    ) -> None:
        """Writes the table as it stands, with the texts that were met and not asked about."""
        actions = known.actions(self.environment.action_space)
        before = self.kept_card()
        same = (
            before.get("answers") == known.answers
            and before.get("scored_answers", 0) == known.scored
            and before.get("game", []) == list(self.settings.game)
        )
        if not actions or (backend is None and same and self.readable()):
            return
        met = {tuple(d) for visits in found.values() for d in visits.digits.tolist()} | set(actions)
        rows = sorted(met, key=lambda d: answers.code_of(self.coding, d))
        blank = np.full_like(next(iter(actions.values())), -1)
        if blank.dtype.kind == "f":
            blank[:] = np.nan
        space = self.environment.action_space
        scores = known.log_probs(self.reader, space)
        unscored = np.zeros(space.n if isinstance(space, Discrete) else 0, np.float32)
        covered = {name: round(v.share(set(known.said)), 4) for name, v in kept.items()}
        made = attempts_of(record.steps)
        seconds = sum(entry["seconds"] for entry in record.steps if "attempts" in entry)
        tokens = sum(a["answer_tokens"] for a in made)
        card = {
            "name": self.out.name,
            **self.identity,
            "complete": not known.lacking(self.samples) and min(covered.values()) >= self.settings.coverage,
            "coverage": covered,
            "coverage_wanted": self.settings.coverage,
            "episodes_of_each_player": self.settings.episodes,
            **({"game": list(self.settings.game)} if self.settings.game else {}),
            "unreadable_answers": "-1 (NaN where actions are continuous); each seed draws uniformly instead",
            "unreadable_share": sum(a["action"] is None for a in made) / max(len(made), 1),
            "answers": known.answers,
            **prompt_tokens(record.steps),
            "answer_tokens": tokens,
            "seconds": round(seconds, 1),
            "answer_tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
            **self.about_scores(record, known),
            "threads": self.settings.threads or cores(),
            journal.HASH: journal.digest(sorted(record.steps, key=order)),
            "versions": {
                "loro_jax": loro_jax.__version__,
                "jax": jax.__version__,
                **(backend.versions if backend else before.get("versions", {})),
            },
            "command": "python -m loro_jax.language.survey " + shlex.join(sys.argv[1:]),
        }
        table = Answers(
            self.coding,
            np.array(rows, np.int32),
            np.stack([actions.get(row, blank) for row in rows]),
            np.array([row in actions for row in rows]),
            card,
            None if scores is None else np.stack([scores.get(row, unscored) for row in rows]),
        )
        with journal.writing(self.out):
            answers.save(table, [self.tail(row) for row in rows], self.out)

    def about_scores(self, record: journal.Journal, known: Known) -> dict[str, Any]:
        """What the card says about scores; nothing where there are none."""
        if not known.scored:
            return {}
        every = [words for scores in known.scores.values() for words in scores]
        asked = [entry for entry in record.steps if "scores" in entry]
        seconds = sum(entry["seconds"] for entry in asked)
        read = [entry["evaluated_tokens"] for entry in asked if "evaluated_tokens" in entry]
        return {
            "scored_answers": known.scored,
            **({"score_tokens": round(sum(read))} if len(read) == len(asked) else {}),
            "probability_of_words": round(float(np.exp(every).sum(axis=1).mean()), 4),
            "score_seconds": round(seconds, 1),
        }

    def kept_card(self) -> dict[str, Any]:
        """What stands beside the table that is there already; empty if there is none."""
        try:
            return answers.card_of(self.out)
        except UserError:
            return {}

    def say(self, known: Known, covered: Mapping[str, float], tokens: Mapping[str, int]) -> None:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in covered.items())
        print(
            f"{self.out}: {len(known.said)} texts, {self.samples} answers about each; covered: {shares}"
            f"{'; scored' if known.scored else ''}{saved(tokens)}"
        )


if __name__ == "__main__":
    sys.exit(command(main))
