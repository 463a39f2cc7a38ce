"""What a collection is told to do: its flags, what they may be, and what of them is its identity."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import tyro

from loro_jax.errors import UserError, within
from loro_jax.language import models, prompts
from loro_jax.language.backend import Backend, Decoding
from loro_jax.language.policy import Mode, ModeName
from loro_jax.language.server import Server, is_text
from loro_jax.tasks import Task
from loro_jax.tasks.actions import MARK

MOST_THREADS = 512  # above which llama.cpp ends the process
MOST_TOKENS = 1 << 20  # so that 66 sequences of them can be counted in its 32 bits


@dataclasses.dataclass(frozen=True)
class Settings:
    """Lets a language model play a task and keeps the episodes."""

    model: str
    """a .gguf file; or smollm2-135m-instruct, qwen2.5-coder-0.5b-instruct or qwen2.5-coder-1.5b-instruct,
    looked up in $LORO_JAX_MODELS or ~/.cache/loro_jax/models; or hf:owner/repository/file.gguf; with
    --backend http the server's name for its model"""
    backend: Literal["llama.cpp", "http"] = "llama.cpp"
    """llama.cpp loads the model into this process; http asks an OpenAI-compatible server at --url"""
    task: Annotated[str, tyro.conf.arg(aliases=("--environment",))] = "cartpole"
    """what to play: cartpole and so on; or FILE.py:NAME for a task of your own"""
    mode: ModeName = "cot"
    """direct: the action alone; cot: a thought, then the action; vote: the majority of --candidates answers;
    best: the one of --candidates answers that the model itself prefers"""
    prompt: str = ""
    """one of the task's prompts, such as a file of prompts/TASK/ without its suffix, or a .txt file; by
    default direct in mode direct, else cot"""
    episodes: int = 30
    """episodes wanted; more than there are in --out adds the missing ones"""
    out: pathlib.Path | None = None
    """dataset folder; default results/episodes/TASK/MODEL-PROMPT"""
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
    allow_unreadable: bool = False
    """play although none of the first 20 answers names an action; the actions are then drawn at random"""
    context: int = 1024
    """room for one prompt and its answer, in tokens"""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Decoding)
    server: Annotated[Server, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Server)


def check(settings: Settings) -> None:
    """Refuses settings that cannot mean anything, in one line."""
    d = settings.decoding
    names = (settings.model, settings.prompt, str(settings.out or ""))
    for flag, number, least, most in (
        ("--episodes", settings.episodes, 1, 100_000),
        ("--threads", settings.threads, 1, MOST_THREADS),
        ("--samples", settings.samples or 0, 0, 1_000_000),
        ("--retries", settings.retries, 0, 1_000),
        ("--context", settings.context, 64, MOST_TOKENS),
        ("--max-tokens", d.max_tokens, 1, MOST_TOKENS),
        ("--mark-tokens", d.mark_tokens, 1, MOST_TOKENS),
    ):
        within(flag, number, least, most)
    wrong = {
        "--model, --prompt and --out must be UTF-8 text; rename the file": not all(map(is_text, names)),
        "--seed must be from 0 to 2147483647": not 0 <= settings.seed < 2**31,
        "--parallel must be from 1 to 64": not 1 <= settings.parallel <= 64,
        "--candidates must be from 2 to 64": not 2 <= settings.candidates <= 64,
        "--temperature must be 0 or more": not (d.temperature >= 0 and math.isfinite(d.temperature)),
        "--top-p must be above 0 and at most 1": not 0 < d.top_p <= 1,
        "--mark must be the prompts' own 'Action:'": d.mark.lower() != "action:",
        "--grammar needs --backend llama.cpp": settings.grammar and settings.backend == "http",
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise UserError(message)
    if settings.backend == "http":
        settings.server.check()


def asked(settings: Settings, task: Task) -> tuple[prompts.Prompt, Mode]:
    """The prompt and the mode; a `UserError` where they do not fit each other."""
    direct = settings.mode == "direct"
    name = settings.prompt or ("direct" if direct else "cot")
    prompt = prompts.load(task, name)
    if direct != prompt.start.endswith(MARK):
        how = f"must end with '{MARK}' below the line ---" if direct else f"begins the answer with '{MARK}'"
        raise UserError(f"prompt '{name}' does not fit --mode {settings.mode}: it {how}")
    judge = None
    if settings.mode == "best":
        path = prompts.FOLDER / f"judge{prompts.SUFFIX}"
        judge = prompts.parse(prompts.read(path), "judge", ("question", "answers"), str(path))
    return prompt, Mode(settings.mode, settings.candidates, judge, settings.grammar)


def identify(
    settings: Settings, task: Task, model: dict[str, Any], prompt: prompts.Prompt, mode: Mode
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
        | ({"precision": "64 bits"} if jax.config.read("jax_enable_x64") else {})  # of the game's steps
        | {
            "environment": task.name,
            "model": model,
            "prompt": {"name": prompt.name, "sha256": prompt.sha256, "text": prompt.text},
            "decoding": dataclasses.asdict(settings.decoding),
            "seed": settings.seed,
            "retries": settings.retries,
            "samples": settings.samples,
            "parallel": settings.parallel,
        }
    )


def source(
    settings: Settings,
) -> tuple[dict[str, Any], Callable[[], contextlib.AbstractContextManager[Backend]]]:
    """What the card says about the model, and what loads or reaches it; a `UserError` if it is not there."""
    if settings.backend == "http":

        def reach() -> contextlib.AbstractContextManager[Backend]:
            from loro_jax.language.http import Http

            return Http(settings.server, settings.model, settings.decoding, parallel=settings.parallel)

        return settings.server.identity(settings.model), reach
    model = models.find(settings.model)

    def load() -> contextlib.AbstractContextManager[Backend]:
        from loro_jax.language.llamacpp import LlamaCpp

        return LlamaCpp(
            model,
            settings.decoding,
            threads=settings.threads,
            parallel=settings.parallel,
            context=settings.context,
        )

    return {"name": model.name, "file": model.path.name, "sha256": model.sha256}, load
