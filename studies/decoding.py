"""Measures how fast answers are decoded: `python -m studies.decoding --help`.

Three ways to put the same questions to the same model, in one run, repeated in turn: one
sequence at a time, each prompt read whole (llama-cpp-python's own class); one at a time, the shared
head kept (this suite with --parallel 1); several side by side (this suite). The questions are states
of real episodes under a shipped prompt.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np
import tyro
from rich.console import Console

from loro_jax import progress
from loro_jax.errors import arguments, command, within


@dataclasses.dataclass(frozen=True)
class Options:
    """Measures how fast answers are decoded, one at a time and side by side."""

    model: str = "qwen2.5-coder-0.5b-instruct"
    """As in loro_jax.language.collect."""
    task: str = "frozen_lake"
    """What is played: cartpole and so on, or FILE.py:NAME."""
    prompt: str = "cot"
    """A file of prompts/ENVIRONMENT/ without its suffix."""
    queries: int = 32
    """Questions in every repetition."""
    parallel: tuple[int, ...] = (4, 8, 16)
    """Numbers of sequences side by side."""
    repetitions: int = 3
    """Rounds through all ways, each with other sampling seeds."""
    threads: int = 1
    """CPU threads for llama.cpp."""
    max_tokens: int = 32
    """Longest reasoning."""
    out: pathlib.Path = pathlib.Path("results/decoding")
    """Written as .json and .md."""


CONTEXT = 1024
"""Room for one prompt and its answer, in tokens."""


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to decode: its name, and what answers all questions -> tokens sampled."""

    name: str
    answer: Callable[[int], int]


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.decoding", description=__doc__, args=argv)
    )
    within("--queries", options.queries, 1, 100_000)
    for parallel in options.parallel:
        within("--parallel", parallel, 1, 64)
    within("--repetitions", options.repetitions, 1, 100_000)
    from loro_jax.language.settings import MOST_THREADS

    within("--threads", options.threads, 1, MOST_THREADS)
    within("--max-tokens", options.max_tokens, 1, CONTEXT)
    from loro_jax import files
    from loro_jax.language import llamacpp, models, play, prompts
    from loro_jax.language.backend import Decoding, Query
    from loro_jax.records import results
    from loro_jax.running import machine
    from loro_jax.tasks import load

    console = Console(stderr=True, highlight=False)

    task = load(options.task)
    prompt, words = prompts.load(task, options.prompt), task.words
    assert words is not None
    game = play.Simulator(task.environment(), seed=0)
    tails = _tails(game, words, prompt, options.queries)
    model = models.find(options.model)
    decoding = Decoding(max_tokens=options.max_tokens, ask=False)
    library = llamacpp.library()
    single = library.Llama(
        str(model.path),
        n_ctx=CONTEXT,
        n_threads=options.threads,
        n_threads_batch=options.threads,
        verbose=False,
    )

    def ask(tail: str, seed: int) -> int:
        single.reset()
        found = single.create_chat_completion(
            [{"role": "user", "content": prompt.head + tail}],
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=0,
            repeat_penalty=1.0,
            max_tokens=decoding.max_tokens,
            seed=seed,
        )
        return int(found["usage"]["completion_tokens"])

    def whole_prompts(seed: int) -> int:
        return sum(ask(tail, seed + i) for i, tail in enumerate(tails))

    def by(backend: llamacpp.LlamaCpp) -> Callable[[int], int]:
        def answer(seed: int) -> int:
            queries = [Query(prompt.head, tail, prompt.start, seed + i) for i, tail in enumerate(tails)]
            return sum(c.answer_tokens for c in backend.complete(queries))

        return answer

    with progress.waiting(console, f"loading {model.name}"):
        backends = {
            n: llamacpp.LlamaCpp(model, decoding, threads=options.threads, parallel=n, context=CONTEXT)
            for n in (1, *options.parallel)
        }
    ways = [Way("one at a time, whole prompts", whole_prompts)]
    ways += [
        Way("one at a time, head kept" if n == 1 else f"{n} side by side, head kept", by(backend))
        for n, backend in backends.items()
    ]
    for way in progress.track(ways, "warming up", console):
        way.answer(0)  # model in memory, head evaluated
    rates: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
    for repetition in progress.track(range(options.repetitions), "decoding", console):
        for way in ways:
            began = time.perf_counter()
            tokens = way.answer(1000 * (repetition + 1))
            seconds = time.perf_counter() - began
            rates[way.name].append((tokens / seconds, seconds / len(tails)))
    for backend in backends.values():
        backend.close()
    rows = _rows(rates)
    record = {
        "command": " ".join(["python -m studies.decoding", *sys.argv[1:]]),
        "model": {"name": model.name, "sha256": model.sha256},
        "prompt": f"{options.task}/{options.prompt}",
        "questions": len(tails),
        "repetitions": options.repetitions,
        "threads": options.threads,
        "max_tokens": options.max_tokens,
        "rows": rows,
        "llama_cpp_python": library.__version__,
        **machine.provenance(),
    }
    text = _markdown(record)
    with results.report(options.out) as out:
        files.write_json(out.with_suffix(".json"), record)
        files.write_text(out.with_suffix(".md"), text)
    print(text)
    return 0


def _tails(game: object, words: object, prompt: object, count: int) -> list[str]:
    """The changing parts of `count` prompts, from states of a random player."""
    from loro_jax.language import play
    from loro_jax.language.prompts import Prompt
    from loro_jax.tasks.words import Description

    assert isinstance(game, play.Simulator) and isinstance(words, Description) and isinstance(prompt, Prompt)
    tails: list[str] = []
    rng, index = np.random.default_rng(0), 0
    while len(tails) < count:
        episode, index = game.begin(index), index + 1
        while not episode.done and len(tails) < count:
            tails.append(prompt.tail(words.tell(episode.observations[-1], episode.rows)))
            game.advance(episode, words.reader.random(int(rng.integers(2**31))))
    return tails


def _rows(rates: dict[str, list[tuple[float, float]]]) -> list[dict[str, object]]:
    """Medians over the repetitions, and the ratio of tokens per second to the first way's."""
    first = np.array([rate for rate, _ in next(iter(rates.values()))])
    rows: list[dict[str, object]] = []
    for name, measured in rates.items():
        rate, seconds = (np.array(column) for column in zip(*measured, strict=True))
        ratio = rate / first
        rows.append(
            {
                "way": name,
                "tokens_per_second": float(np.median(rate)),
                "seconds_per_answer": float(np.median(seconds)),
                "ratio": float(np.median(ratio)),
                "ratio_range": [float(ratio.min()), float(ratio.max())],
            }
        )
    return rows


def _markdown(record: dict[str, object]) -> str:
    rows = record["rows"]
    assert isinstance(rows, list) and isinstance(record["model"], dict)
    lines = [
        "# Decoding, one answer at a time and side by side",
        "",
        f"    {record['command']}",
        "",
        f"{record['model']['name']}, {record['questions']} questions of `{record['prompt']}`,"
        f" {record['threads']} thread, answers of up to {record['max_tokens']} tokens; medians of"
        f" {record['repetitions']} rounds through all ways in one run. The ratio is that of tokens per second"
        " to the first row's in the same round, with its range.",
        "",
        "| way | tokens per second | seconds per answer | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["ratio_range"]
        lines.append(
            f"| {row['way']} | {row['tokens_per_second']:.1f} | {row['seconds_per_answer']:.2f}"
            f" | {row['ratio']:.2f} [{low:.2f}, {high:.2f}] |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(command(main))
