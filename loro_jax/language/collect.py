"""Lets a language model play, and keeps the episodes.

    python -m loro_jax.language.collect --task cartpole --model smollm2-135m-instruct --prompt hint

Writes a dataset folder (card.json, episodes.npz) with a transcript of every answer. Interrupted, it
goes on where it stopped; finished, it asks nothing more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator

import jax
import rich.progress
import tyro
from rich.console import Console

import loro_jax
from loro_jax import errors, progress, tasks
from loro_jax.data import episodes
from loro_jax.errors import UserError, command
from loro_jax.language import journal, play, policy, prompts, session
from loro_jax.language.backend import Backend, Completion, Query
from loro_jax.language.policy import Mode
from loro_jax.language.settings import Settings, asked, check, identify, source

RANDOM_EPISODES = 1000


def main(arguments: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.language.collect"
    settings = errors.arguments(lambda: tyro.cli(Settings, args=arguments, description=__doc__, prog=prog))
    check(settings)
    task = tasks.load(settings.task)
    prompt, mode = asked(settings, task)
    words = task.words
    assert words is not None  # which `asked` has refused
    if settings.samples is None:
        settings = dataclasses.replace(settings, samples=words.samples)
    console = Console(stderr=True, highlight=False)
    with progress.lines(console, lambda: f"reading or fetching {settings.model}"):  # a download has its bar
        model, opened = source(settings)
    identity = identify(settings, task, model, prompt, mode)
    name = f"{model['name']}-{prompt.name}" + ("-grammar" if settings.grammar else "")
    name += f"-{mode.name}{mode.answers}" if mode.answers > 1 else ""
    out = settings.out or episodes.COLLECTED / task.name / name
    with on_cpu(), contextlib.closing(journal.Journal(out, identity)) as record:
        simulator = play.Simulator(task.environment(), settings.seed)
        card = {"name": name, "alignment": "true", **identity}
        plan = session.Collection(simulator, words, settings.episodes, settings.parallel, out, card)
        with progress.waiting(console, f"replaying {len(record.steps)} steps"):
            games = plan.replay(record.steps)
        if record.finished and all(game.done for game in games):
            print(f"{out}: all {settings.episodes} episodes are there; the model was not asked")
            return 0
        record.check_writable()
        try:
            return _play(settings, plan, record, prompt, mode, opened, games, console)
        except KeyboardInterrupt:
            print(
                f"stopped after {len(record.steps)} steps; the same command goes on from there",
                file=sys.stderr,
            )
            return 130


def on_cpu() -> contextlib.AbstractContextManager[object]:
    """Makes a CPU take the game's tiny steps, unless JAX_PLATFORMS leaves it out."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        jax.devices()  # raises where there is no device at all
        return contextlib.nullcontext()
    return jax.default_device(cpu)


def _play(
    settings: Settings,
    plan: session.Collection,
    record: journal.Journal,
    prompt: prompts.Prompt,
    mode: Mode,
    opened: Callable[[], contextlib.AbstractContextManager[Backend]],
    games: list[play.Episode],
    console: Console,
) -> int:
    """Loads the model and plays what is missing."""
    with progress.waiting(console, "random policy"):
        returns, lengths = play.random_policy(plan.simulator.environment, RANDOM_EPISODES, settings.seed)
    with contextlib.ExitStack() as stack:
        with progress.waiting(console, f"opening {plan.card['model']['name']}"):
            backend = stack.enter_context(opened())
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
        if not all(game.done for game in games):  # as where a run was killed before its last save
            with progress.waiting(console, "first answers"):
                _try_out(settings, plan, player, games)
            _estimate(settings, plan, backend, prompt, mode, games, float(lengths.mean()))
        with _bar(settings, sum(g.done for g in games), console) as report:
            plan.run(record, player, report)
    _summary(plan.out)
    return 0


def _try_out(
    settings: Settings, plan: session.Collection, player: policy.LanguagePolicy, games: list[play.Episode]
) -> None:
    """A `UserError` where no answer can be read, before anything is recorded; evaluates the prompt's head.

    A resumed collection is tried out as well: the server may be another since.
    """
    missing = [g for g in games if not g.done]
    states = [plan.description.tell(g.observations[-1], g.rows) for g in missing[: policy.TRIAL]]
    first = player.try_out(states, 1 if settings.allow_unreadable else policy.TRIAL)
    if first is not None and not settings.allow_unreadable:
        raise UserError(
            f"none of the first {policy.TRIAL} answers names an action; {looks(first)};"
            " or play at random with --allow-unreadable"
        )


def looks(answer: Completion) -> str:
    """An unreadable answer in a few words, and what may mend it."""
    found = f"the first one is {_short(answer.text)}" if answer.text.strip() else "the first one is empty"
    if answer.reasoning:
        found += f" beside a reasoning of its own, {_short(answer.reasoning)}"
    if answer.reasoning or "<think>" in answer.text:
        return (
            f"{found}: raise --max-tokens, or switch the reasoning off (vLLM and llama-server:"
            ' --extra \'{"chat_template_kwargs": {"enable_thinking": false}}\')'
        )
    return f"{found}: see --prompt, --max-tokens and --model"


def _short(text: str) -> str:
    """A text's beginning, quoted, in one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:77]}...")


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
    fields = plan.description.tell(missing[0].observations[-1], missing[0].rows)
    query = Query(prompt.head, prompt.tail(fields), prompt.start, policy.number_of("warm-up", settings.seed))
    began = time.monotonic()
    backend.complete([query] * mode.answers)
    seconds = time.monotonic() - began
    limit = plan.simulator.environment.limit
    short, long_ = (len(missing) * steps * seconds / 60 for steps in (length, limit))
    reuse = "; answers are reused, so that it may take much less" if settings.samples else ""
    print(
        f"{plan.card['model']['name']} plays {settings.task}: {len(missing)} episodes to go,"
        f" {seconds:.2f} s a step at first sight; about {short:.0f} min if they last as long as"
        f" a random policy's ({length:.0f} steps), {long_:.0f} min if all reach the limit ({limit}){reuse}",
        flush=True,
    )


@contextlib.contextmanager
def _bar(settings: Settings, finished: int, console: Console) -> Iterator[Callable[[session.Standing], None]]:
    """A progress bar, as a function to call after every round; lines where there is no terminal."""
    columns = (
        rich.progress.TextColumn("{task.completed:.0f}/{task.total} episodes"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.fields[figures]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.fields[left]}"),
    )
    said = "waiting for the first answers"

    def say() -> str:
        return f"{bar.tasks[task].completed:.0f} of {settings.episodes} episodes: {said}"

    shown = rich.progress.Progress(*columns, console=console, disable=not progress.live(console))
    with shown as bar:
        task = bar.add_task("", total=settings.episodes, completed=finished, figures="", left="")

        def report(p: session.Standing) -> None:
            nonlocal said
            rate = p.run_steps / p.run_seconds
            left = "time left unknown"
            if p.finished:
                missing = p.finished_steps / p.finished * settings.episodes - p.steps
                left = f"about {max(missing, 0) / rate / 60:.1f} min left"
            speed = f"{p.run_tokens / p.run_seconds:.0f} tokens/s"
            figures = f"{p.steps} steps, mean return {p.mean_return:.4g}, {speed}"
            bar.update(task, completed=p.finished, figures=figures, left=left)
            said = f"{figures}, {left}"

        with progress.lines(console, say):
            yield report


def _summary(out: pathlib.Path) -> None:
    card = json.loads((out / "card.json").read_text())
    answers, mean, random = card["answers"], card["returns"]["mean"], card["random_policy"]["mean"]
    print(
        f"{out}: {card['episodes']} episodes, {card['steps']} steps; mean return {mean:.4g}"
        f" (random policy {random:.4g}); {answers['unparsable_share']:.1%} of the answers unreadable,"
        f" {answers['random_action_share']:.1%} of the actions drawn at random"
    )
    for warning in episodes.warnings(card):
        print(f"WARNING: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(command(main))
