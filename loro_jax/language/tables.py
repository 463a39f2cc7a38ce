"""Tables of answers, read beside the words of the task that they are about."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from loro_jax.data import answers
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.language import journal, players, prompts
from loro_jax.spaces import Discrete, Space
from loro_jax.tasks import Environment, Task, load
from loro_jax.tasks.actions import Mentions, Reader, among

TURNS = 20
"""Times that a policy's table plays, each time by the texts found so far, to find more."""
EPISODES = 200
"""That each player plays to find the texts of a policy's table."""


def read(folder: pathlib.Path, task: Task) -> Answers:
    """The answers in `folder`, checked, about a task whose words are those that were asked about."""
    space = task.environment().action_space
    texts = functools.partial(_texts, task)
    return answers.load(folder, task.name, functools.partial(coding_of, task), space, texts)


def _texts(task: Task, text: str, coding: Coding, digits: np.ndarray) -> list[str]:
    """The ends of a prompt that has this text, of texts with these digits (T, F)."""
    prompt = prompts.parse(text, "prompt", _names(task), f"{task.name}'s prompt")
    return [prompt.tail(coding.texts(of_one)) for of_one in digits.tolist()]


def coding_of(task: Task, text: str) -> Coding:
    """The coding of the fields that a prompt names.

    Raises:
        UserError: it names what the observation alone does not tell.
    """
    if task.words is None:
        raise UserError(f"{task.name} has no words: no language model was asked about it")
    prompt = prompts.parse(text, "prompt", task.words.names, f"{task.name}'s prompt")
    used = prompts.placeholders(prompt)
    if told := [name for name in used if name in task.words.history_names]:
        raise UserError(
            f"the prompt names {{{told[0]}}}, which a life remembers: its texts cannot be asked about ahead;"
            " name one that tells the observation alone"
        )
    return Coding(tuple(field for field in task.words.fields if field.name in used))


def ruled(task: Task, released: bool) -> Reader:
    """Who reads a task's answers, by the study's scripts' rules if `released` (`Mentions.as_released`).

    Raises:
        UserError: a game without phrases, which these rules are about.
    """
    assert task.words is not None
    reader = task.words.reader
    if not released:
        return reader
    if not isinstance(reader, Mentions):
        raise UserError(f"the released rules are about phrases, and {task.name}'s actions have none")
    return dataclasses.replace(reader, as_released=True)


def reread(folder: pathlib.Path, task: Task, released: bool = True) -> Answers:
    """The table in `folder`, its transcript's answers read by other rules (`ruled`); nobody is asked."""
    table, reader = read(folder, task), ruled(task, released)
    _, steps = journal.read_transcript(folder / journal.TRANSCRIPT)
    rows = {tuple(d): row for row, d in enumerate(table.digits.tolist())}
    said = np.full_like(table.actions, -1)
    for step in steps:
        here, digits = rows[tuple(step["digits"])], tuple(step["digits"])
        reads = among(reader, table.coding.legal(digits))
        for place, attempt in enumerate(step.get("attempts", ()), step.get("first", 0)):
            found = reads.read(attempt["answer"])
            said[here, place] = -1 if found is None else found
    name = f"{table.name}, released rules" if released else table.name
    return dataclasses.replace(table, actions=said, card=table.card | {"name": name}, log_probs=None)


def from_policy(
    policy: Callable[[np.ndarray], np.ndarray], task: Task | str, prompt: str = "", name: str = "policy"
) -> Answers:
    """A table of any function, as if a model had answered so: a perfect tutor, an adversarial one.

    The texts are those that uniform play, the task's reference and the answers themselves meet; each has the
    answers for the first observation met that it stands for.

    Args:
        policy: observations (N, *obs) -> actions, (N, *action) for one answer or (N, n, *action) for n; -1,
            or NaN where actions are continuous, for one that cannot be read.
        task: or its name, or FILE.py:NAME.
        prompt: one of the task's, whose fields tell texts apart; by default the first of them that names what
            the observation alone tells.

    >>> from loro_jax.tasks import load
    >>> always_left = from_policy(lambda obs: np.zeros(len(obs), int), load("frozen_lake"), "cell")
    >>> always_left.actions.shape
    (11, 1)
    """
    task = load(task) if isinstance(task, str) else task
    env = task.environment()
    text = prompts.load(task, prompt or _first(task))
    coding = coding_of(task, text.text)
    acts = [players.uniform(env)] + ([players.reference(task)] if task.reference is not None else [])
    seen = np.concatenate([players.observations(env, act, EPISODES, i) for i, act in enumerate(acts)])

    def several(observations: np.ndarray) -> np.ndarray:
        try:
            said = np.asarray(policy(observations))
        except (TypeError, ValueError) as error:
            raise UserError(f"the policy gives no actions for observations (N, ...): {error}") from None
        said = said[:, None] if said.ndim == 1 + len(env.action_space.shape) else said
        if said.dtype.kind not in "biuf" or said.ndim < 2 or len(said) != len(observations):
            raise UserError(
                f"the policy gives {said.dtype} of shape {said.shape} for {len(observations)} observations;"
                f" actions are numbers, {_shapes(env.action_space)}"
            )
        whole = isinstance(env.action_space, Discrete)
        if whole and not (abs(said.astype(np.float64)) < 2**31).all():
            raise UserError("the policy: actions must be whole numbers")
        return said.astype(np.float32 if not whole else np.float64 if said.dtype.kind == "f" else np.int32)

    def made() -> Answers:
        found = answers.from_policy(several, coding, seen, name)
        _check(found, env.action_space, "the policy")
        return _typed(found, env.action_space)

    found = made()
    for turn in range(TURNS):  # what it comes to by its own answers, which uniform play may never meet
        known = dict(zip(map(tuple, found.digits.tolist()), found.actions, strict=True))
        own = players.observations(env, players.answering(env, coding, known), EPISODES, len(acts) + turn)
        seen, before = np.concatenate([seen, own]), len(found.digits)
        found = made()
        if len(found.digits) == before:
            break
    card = {
        "name": name,
        "environment": task.name,
        "model": {"name": name},
        "prompt": {"name": text.name, "sha256": text.sha256, "text": text.text},
    }
    return dataclasses.replace(found, card=card)


def check_told(task: Task, env: Environment) -> None:
    """A `UserError` where a task's words do not read the observations of this game of it."""
    usual = task.environment()
    anywhere = task.words is not None and task.words.any_shape
    if env.observation_shape != usual.observation_shape and not anywhere:
        raise UserError(
            f"{task.name}'s words read observations of shape {usual.observation_shape}, not"
            f" {env.observation_shape} as this game has: no answers can be looked up in it"
        )


def checked(table: Answers, task: Task, env: Environment) -> Answers:
    """The table, which is about this task, and says something of this form of its game.

    Raises:
        UserError: it is about another one, or about other words, or its answers are no actions of the game.
    """
    check_told(task, env)
    about = table.card.get("environment", task.name)
    if about != task.name:
        raise UserError(f"answers about '{about}', not about '{task.name}'")
    text = table.card.get("prompt", {}).get("text") if isinstance(table.card.get("prompt"), dict) else None
    names = [(f.name, f.values) for f in table.coding.fields]
    if text is not None and names != [(f.name, f.values) for f in coding_of(task, text).fields]:
        raise UserError(
            f"the answers' texts are not those of {task.name}'s words as they are; make them anew"
        )
    space, listed = env.action_space, table.legal
    if listed is not None and not (isinstance(space, Discrete) and listed.shape[1] <= space.n):
        raise UserError(f"{task.name}'s words list the action {listed.shape[1] - 1}; there are {space}")
    _check(table, space, "the answers")
    return _typed(table, space)


def save(table: Answers, task: str | Task, folder: str | pathlib.Path) -> None:
    """Writes a table of `from_policy` as a survey would, so that `--answers FOLDER` finds it, and `--answers
    NAME` where FOLDER is results/answers/TASK/NAME.

    >>> import tempfile
    >>> always_left = from_policy(lambda obs: np.zeros(len(obs), int), "frozen_lake", "cell")
    >>> save(always_left, "frozen_lake", tempfile.mkdtemp() + "/left")
    """
    task, folder = load(task) if isinstance(task, str) else task, pathlib.Path(folder)
    prompt = prompts.parse(
        table.card["prompt"]["text"], table.card["prompt"]["name"], _names(task), f"{task.name}'s prompt"
    )
    texts = [prompt.tail(table.coding.texts(digits)) for digits in table.digits.tolist()]
    answers.save(table, texts, folder)


def _first(task: Task) -> str:
    """The name of the task's first prompt whose texts can be asked about ahead."""
    refused = UserError(f"{task.name} has no prompts")
    for name in prompts.available(task):
        try:
            coding_of(task, prompts.load(task, name).text)
        except UserError as error:
            refused = error
        else:
            return name
    raise refused


def _names(task: Task) -> Sequence[str]:
    return task.words.names if task.words is not None else ()


def _shapes(space: Space) -> str:
    """The forms that a policy's actions may have, of N observations."""
    one = "".join(f", {n}" for n in space.shape)
    return f"(N{one or ','}) for one answer or (N, n{one}) for n"


def _typed(table: Answers, space: Space) -> Answers:
    """The table, its actions in the type that is saved and that programs take."""
    kind = np.int32 if isinstance(space, Discrete) else np.float32
    return dataclasses.replace(table, actions=table.actions.astype(kind))


def _check(table: Answers, space: Space, who: str) -> None:
    """A `UserError` where answers are no actions of the game, or texts none of the fields."""
    t = table
    if why := answers.why_not(t.coding, t.digits, t.asked, t.actions, t.log_probs, space):
        raise UserError(f"{who}: {why}")
