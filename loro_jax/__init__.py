"""Does knowledge from a language model make reinforcement learning more sample-efficient?

    import loro_jax as lj

    task = lj.load_task("cartpole")
    result = lj.run(task, arms=("pure_rl", "loro"), seeds=32)
    print(result)

Names are looked up on demand, so that importing the package costs nothing and needs no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from loro_jax.errors import importing

if TYPE_CHECKING:
    from loro_jax.agents import DDQN as DDQN
    from loro_jax.agents import SAC as SAC
    from loro_jax.analysis.named import NamedArray as NamedArray
    from loro_jax.api import Policy as Policy
    from loro_jax.api import Result as Result
    from loro_jax.api import load_policy as load_policy
    from loro_jax.api import read as read
    from loro_jax.api import run as run
    from loro_jax.data.answers import Answers as Answers
    from loro_jax.errors import UserError as UserError
    from loro_jax.language.tables import from_policy as answers_from_policy
    from loro_jax.language.tables import save as save_answers
    from loro_jax.protocols import Protocol as Protocol
    from loro_jax.spaces import Box as Box
    from loro_jax.spaces import Discrete as Discrete
    from loro_jax.tasks import Environment as Environment
    from loro_jax.tasks import Task as Task
    from loro_jax.tasks.actions import Number as Number
    from loro_jax.tasks.actions import Words as Words
    from loro_jax.tasks.check import check_task as check_task
    from loro_jax.tasks.loading import load as load_task
    from loro_jax.tasks.rules import environment as environment
    from loro_jax.tasks.words import Description as Description
    from loro_jax.tasks.words import Field as Field
    from loro_jax.training.arms import Plan as Plan
    from loro_jax.types import Arm as Arm

__version__ = "0.1.0"

WHERE = {
    "Answers": "data.answers", "Arm": "types", "Box": "spaces", "DDQN": "agents",
    "Description": "tasks.words", "Discrete": "spaces", "Environment": "tasks", "Field": "tasks.words",
    "NamedArray": "analysis.named", "Number": "tasks.actions", "Plan": "training.arms", "Policy": "api",
    "Protocol": "protocols", "Result": "api", "SAC": "agents", "Task": "tasks", "UserError": "errors",
    "Words": "tasks.actions", "answers_from_policy": "language.tables:from_policy",
    "check_task": "tasks.check", "environment": "tasks.rules", "load_policy": "api",
    "load_task": "tasks.loading:load", "read": "api", "run": "api", "save_answers": "language.tables:save",
}  # fmt: skip
"""Public names, and the modules that hold them."""

__all__ = [
    "DDQN", "SAC", "Answers", "Arm", "Box", "Description", "Discrete", "Environment", "Field", "NamedArray",
    "Number", "Plan", "Policy", "Protocol", "Result", "Task", "UserError", "Words", "answers_from_policy",
    "check_task", "environment", "load_policy", "load_task", "read", "run", "save_answers",
]  # fmt: skip

importing(__name__)


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module 'loro_jax' has no attribute '{name}'; it has {', '.join(__all__)}")
    module, _, attribute = WHERE[name].partition(":")
    found = getattr(importlib.import_module(f"loro_jax.{module}"), attribute or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
