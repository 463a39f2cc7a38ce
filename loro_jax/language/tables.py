"""Tables of answers, read beside the words of the task that they are about."""

from __future__ import annotations

import functools
import pathlib

from loro_jax.data import answers
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.language import prompts
from loro_jax.tasks import Task


def read(folder: pathlib.Path, task: Task) -> Answers:
    """The answers in `folder`, checked, about a task whose words are those that were asked about."""
    space = task.environment().action_space
    return answers.load(folder, task.name, functools.partial(coding_of, task), space)


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
