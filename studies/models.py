"""The models that studies compare, and their tables."""

from __future__ import annotations

import pathlib

from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.language import tables
from loro_jax.tasks import Task

MODELS = {
    "135m": "smollm2-135m-instruct",
    "05b": "qwen2.5-coder-0.5b-instruct",
    "15b": "qwen2.5-coder-1.5b-instruct",
}
"""Tags of arms, and the names that tables begin with."""


def drawn(model: str, prompt: str) -> str:
    """The name of a model's table, drawn at temperature 1 from the whole distribution, as in the study of LLM
    priors; what the suite's protocols play by is not."""
    return f"{model}-{prompt}-t1"


def asked(task: Task, prompt: str, folder: pathlib.Path | None = None) -> dict[str, Answers]:
    """The models' tables of a task that there are, by tag (`drawn`).

    Args:
        folder: where tables are, TASK/NAME; else those of the suite.

    Raises:
        UserError: no model was asked.
    """
    where = (folder or answers.SHIPPED) / task.name
    paths = {tag: where / drawn(model, prompt) for tag, model in MODELS.items()}
    found = {tag: tables.read(p, task) for tag, p in paths.items() if (p / "card.json").is_file()}
    if not found:
        out = f"{folder or 'results/answers'}/{task.name}/{drawn('NAME', prompt)}"
        raise UserError(
            f"{task.name}: no model was asked with the prompt {prompt} (python -m loro_jax.language.survey"
            f" --task {task.name} --prompt {prompt} --model NAME --temperature 1 --top-p 1 --out {out})"
        )
    return found
