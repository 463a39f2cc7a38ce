"""Lets a language model play, and keeps the episodes.

    python -m loro_jax.language.collect --environment cartpole --model smollm2-135m-instruct --prompt hint

Writes a dataset folder (card.json, episodes.npz) with a transcript of every answer. Interrupted, it
goes on where it stopped; finished, it asks nothing more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import rich.progress
import tyro

import loro_jax
from loro_jax import environments, errors
from loro_jax.episodes import SHIPPED
from loro_jax.errors import UserError, command
from loro_jax.language import describe, journal, llamacpp, models, play, policy, prompts, session
from loro_jax.language.backend import Backend, Decoding, Query
from loro_jax.language.parse import MARK
from loro_jax.language.policy import Mode, ModeName

RANDOM_EPISODES = 1000


@dataclasses.dataclass(frozen=True)
class Settings:
    """Lets a language model play an environment and keeps the episodes."""

    model: str
    """a .gguf file; or smollm2-135m-instruct, qwen2.5-coder-0.5b-instruct or qwen2.5-coder-1.5b-instruct,
    looked up in $LORO_JAX_MODELS or ~/.cache/loro_jax/models; or hf:owner/repository/file.gguf"""
    environment: str = "cartpole"
    """what to play"""
    mode: ModeName = "cot"
    """direct: the action alone; cot: a thought, then the action; vote: the majority of --candidates answers;
    best: the one of --candidates answers that the model itself prefers"""
    prompt: str = ""
    """a file of prompts/ENVIRONMENT/ without its suffix; by default direct in mode direct, else cot"""
    episodes: int = 30
    """episodes wanted; more than there are in --out adds the missing ones"""
    out: pathlib.Path | None = None
    """dataset folder; default results/episodes/ENVIRONMENT/MODEL-PROMPT"""
    seed: int = 0
    """of the start states and of every answer"""
    threads: int = 1
    """CPU threads for llama.cpp"""
    parallel: int = 8
    """episodes played side by side; changes answers by floating-point noise only"""
    retries: int = 2
    """further samples after an answer without a readable action; then a uniformly random action"""
    samples: int | None = None
    """0 asks anew at every step; n > 0 asks n times about the same prompt, and reuses these answers; by
    default 4 in the grid worlds and 0 elsewhere"""
    candidates: int = 5
    """answers for each step in modes vote and best"""
    grammar: bool = False
    """hold what follows "Action:" to the game's actions while decoding"""
    context: int = 1024
    """room for one prompt and its answer, in tokens"""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Decoding)


def check(settings: Settings) -> None:
    """Refuses settings that cannot mean anything, in one line."""
    d = settings.decoding
    wrong = {
        "--episodes must be at least 1": settings.episodes < 1,
        "--seed must be from 0 to 2147483647": not 0 <= settings.seed < 2**31,
        "--threads must be at least 1": settings.threads < 1,
        "--parallel must be from 1 to 64": not 1 <= settings.parallel <= 64,
        "--samples must be at least 0": (settings.samples or 0) < 0,
        "--candidates must be from 2 to 64": not 2 <= settings.candidates <= 64,
        "--retries must be at least 0": settings.retries < 0,
        "--context must be at least 64": settings.context < 64,
        "--temperature must be 0 or more": not (d.temperature >= 0 and math.isfinite(d.temperature)),
        "--top-p must be above 0 and at most 1": not 0 < d.top_p <= 1,
        "--max-tokens and --mark-tokens must be at least 1": min(d.max_tokens, d.mark_tokens) < 1,
        "--mark must be the prompts' own 'Action:'": d.mark.lower() != "action:",
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise UserError(message)


def main(arguments: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.language.collect"
    settings = errors.arguments(lambda: tyro.cli(Settings, args=arguments, description=__doc__, prog=prog))
    check(settings)
    environment = environments.make(settings.environment)
    words = describe.description(settings.environment)
    prompt, mode = asked(settings, words)
    if settings.samples is None:
        settings = dataclasses.replace(settings, samples=words.samples)
    model = models.find(settings.model)
    name = f"{model.name}-{prompt.name}" + ("-grammar" if settings.grammar else "")
    name += f"-{mode.name}{mode.answers}" if mode.answers > 1 else ""
    out = settings.out or SHIPPED / settings.environment / name
    identity = identify(settings, model, prompt, mode)
    on_cpu = jax.default_device(jax.local_devices(backend="cpu")[0])  # one tiny step at a time
    with on_cpu, contextlib.closing(journal.Journal(out, identity)) as record:
        simulator = play.Simulator(environment, settings.seed)
        card = {"name": name, "alignment": "true", **identity}
        plan = session.Collection(simulator, words, settings.episodes, settings.parallel, out, card)
        games = plan.replay(record.steps)
        if record.finished and all(game.done for game in games):
            print(f"{out}: all {settings.episodes} episodes are there; the model was not asked")
            return 0
        record.check_writable()
        try:
            return _play(settings, plan, record, prompt, mode, model, games)
        except KeyboardInterrupt:
            print(
                f"stopped after {len(record.steps)} steps; the same command goes on from there",
                file=sys.stderr,
            )
            return 130


def _play(
    settings: Settings,
    plan: session.Collection,
    record: journal.Journal,
    prompt: prompts.Prompt,
    mode: Mode,
    model: models.ModelFile,
    games: list[play.Episode],
) -> int:
    """Loads the model and plays what is missing."""
    returns, lengths = play.random_policy(plan.simulator.environment, RANDOM_EPISODES, settings.seed)
    with llamacpp.LlamaCpp(
        model,
        settings.decoding,
        threads=settings.threads,
        parallel=settings.parallel,
        context=settings.context,
    ) as backend:
        player = policy.LanguagePolicy(
            backend,
            prompt,
            plan.description.reader,
            settings.seed,
            settings.retries,
            settings.samples or 0,
            mode,
        )
        card = plan.card | {
            "mode": mode.name,
            "answers_for_a_step": mode.answers,
            "held_to_a_grammar": settings.grammar,
            "reuse": (
                f"answers are kept by (prompt, sample) and reused, {settings.samples} samples for each prompt"
                if settings.samples
                else "every step was asked anew"
            ),
            "unreadable_answers": (
                f"asked again up to {settings.retries} times with another sampling seed,"
                " then an action drawn uniformly from a key of its own"
            ),
            "random_policy": {
                "episodes": RANDOM_EPISODES,
                "mean": float(returns.mean()),
                "std": float(returns.std(ddof=1)),
            },
            "versions": {"loro_jax": loro_jax.__version__, "jax": jax.__version__, **backend.versions},
            "command": "python -m loro_jax.language.collect " + shlex.join(sys.argv[1:]),
        }
        plan = dataclasses.replace(plan, card=card)
        _estimate(settings, plan, backend, prompt, mode, games, float(lengths.mean()))
        with _bar(settings, sum(g.done for g in games)) as report:
            plan.run(record, player, report)
    _summary(plan.out)
    return 0


def _estimate(
    settings: Settings,
    plan: session.Collection,
    backend: Backend,
    prompt: prompts.Prompt,
    mode: Mode,
    games: list[play.Episode],
    length: float,
) -> None:
    """Times one step's answers that are not kept, and says how long the collection may take."""
    missing = [g for g in games if not g.done]
    fields = plan.description.fields(missing[0].observations[-1], missing[0].rows)
    query = Query(prompt.head, prompt.tail(fields), prompt.start, policy.draw("warm-up", settings.seed))
    backend.complete([query])  # evaluates the prompt's head
    began = time.monotonic()
    backend.complete([query] * mode.answers)
    seconds = time.monotonic() - began
    limit = plan.simulator.environment.limit
    short, long_ = (len(missing) * steps * seconds / 60 for steps in (length, limit))
    reuse = "; answers are reused, so that it may take much less" if settings.samples else ""
    print(
        f"{plan.card['model']['name']} plays {settings.environment}: {len(missing)} episodes to go,"
        f" {seconds:.2f} s a step at first sight; about {short:.0f} min if they last as long as"
        f" a random policy's ({length:.0f} steps), {long_:.0f} min if all reach the limit ({limit}){reuse}",
        flush=True,
    )


@contextlib.contextmanager
def _bar(settings: Settings, finished: int) -> Iterator[Callable[[session.Progress], None]]:
    """A progress bar, as a function to call after every round."""
    columns = (
        rich.progress.TextColumn("{task.completed:.0f}/{task.total} episodes"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.fields[figures]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.fields[left]}"),
    )
    with rich.progress.Progress(*columns) as bar:
        task = bar.add_task("", total=settings.episodes, completed=finished, figures="", left="")

        def report(p: session.Progress) -> None:
            rate = p.run_steps / p.run_seconds
            left = "time left unknown"
            if p.finished:
                missing = p.finished_steps / p.finished * settings.episodes - p.steps
                left = f"about {max(missing, 0) / rate / 60:.1f} min left"
            speed = f"{p.run_tokens / p.run_seconds:.0f} tokens/s"
            figures = f"{p.steps} steps, mean return {p.mean_return:.4g}, {speed}"
            bar.update(task, completed=p.finished, figures=figures, left=left)

        yield report


def _summary(out: pathlib.Path) -> None:
    card = json.loads((out / "card.json").read_text())
    answers, mean, random = card["answers"], card["returns"]["mean"], card["random_policy"]["mean"]
    print(
        f"{out}: {card['episodes']} episodes, {card['steps']} steps; mean return {mean:.4g}"
        f" (random policy {random:.4g}); {answers['unparsable_share']:.1%} of the answers unreadable,"
        f" {answers['random_action_share']:.1%} of the actions drawn at random"
    )


def asked(settings: Settings, words: describe.Description) -> tuple[prompts.Prompt, Mode]:
    """The prompt and the mode; a `UserError` where they do not fit each other."""
    direct = settings.mode == "direct"
    name = settings.prompt or ("direct" if direct else "cot")
    prompt = prompts.load(settings.environment, name, words.names)
    if direct != prompt.start.endswith(MARK):
        how = f"must end with '{MARK}' below the line ---" if direct else f"begins the answer with '{MARK}'"
        raise UserError(f"prompt '{name}' does not fit --mode {settings.mode}: it {how}")
    judge = None
    if settings.mode == "best":
        judge = prompts.load("", "judge", ("question", "answers"))
    return prompt, Mode(settings.mode, settings.candidates, judge, settings.grammar)


def identify(
    settings: Settings, model: models.ModelFile, prompt: prompts.Prompt, mode: Mode
) -> dict[str, Any]:
    """Everything that decides which episodes come out, beside their number.

    What is not used is left out, so that records from before it existed stay valid.
    """
    several = {"mode": mode.name, "candidates": mode.answers} if mode.answers > 1 else {}
    judge = {"judge": {"sha256": mode.judge.sha256, "text": mode.judge.text}} if mode.judge else {}
    return (
        several
        | judge
        | ({"grammar": True} if settings.grammar else {})
        | {
            "environment": settings.environment,
            "model": {"name": model.name, "file": model.path.name, "sha256": model.sha256},
            "prompt": {"name": prompt.name, "sha256": prompt.sha256, "text": prompt.text},
            "decoding": dataclasses.asdict(settings.decoding),
            "seed": settings.seed,
            "retries": settings.retries,
            "samples": settings.samples,
            "parallel": settings.parallel,
        }
    )


if __name__ == "__main__":
    sys.exit(command(main))
