"""Finds a task by what a command names: the suite's own, one in a file or module, or a game of gymnax's."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import traceback
from typing import Any

from loro_jax.errors import UserError
from loro_jax.tasks.base import Task

NAMES = (
    "cartpole", "frozen_lake", "cliff_walking", "mountain_car", "pendulum", "pong", "frozen_lake_nonslippery",
    "overcooked_tomato", "overcooked_salad", "household", "blackjack", "snake", "connect_four",
)  # fmt: skip
"""The suite's own, in the order in which tables show them."""
SUITE = NAMES[:6]
"""Those that `benchmarks.suite` runs when none are named: the reference study's, with tuned baselines."""
USAGE = (
    "a task is named by the suite's own name, as FILE.py:NAME (a module-level `NAME = Task(...)`), as"
    " PACKAGE.MODULE:NAME, or as gymnax:NAME"
)


def load(task: str | Task) -> Task:
    """The task called so; a `Task` is its own name.

    Args:
        task: "cartpole"; "my_game.py:TASK", or "my_game.py" for its `TASK`; "package.module:NAME"; or
            "gymnax:Catch-bsuite".

    Raises:
        UserError: there is none, or its file cannot be run; one line that says what to do.

    >>> load("frozen_lake").environment().limit
    100
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, os.PathLike):
        task = os.fspath(task)
    if not isinstance(task, str):
        raise UserError(f"a task is a text or a Task, got {task!r}; {USAGE}")
    place, _, name = task.rpartition(":")
    name = name or "TASK"
    if task in NAMES:
        found = importlib.import_module(f"loro_jax.tasks.{task}").TASK
    elif place == "gymnax":
        from loro_jax.tasks.gymnax import task_of

        found = task_of(name)
    elif task.endswith(".py"):
        found = _attribute(_run(pathlib.Path(task)), task, "TASK")
    elif place.endswith(".py"):
        found = _attribute(_run(pathlib.Path(place)), place, name)
    elif place:
        found = _attribute(_import(place), place, name)
    else:
        raise UserError(f"no task is called '{task}'; there are: {', '.join(NAMES)}; {USAGE}")
    if not isinstance(found, Task):
        raise UserError(f"{task}: is {type(found).__name__}, not a Task; {USAGE}")
    found = dataclasses.replace(found, source=task)
    return dataclasses.replace(found, file_sha256=_fingerprint(found))


def recorded(name: str, source: object, sha256: object) -> Task:
    """The task called `name` that a record of a run says comes from `source`.

    A record may say anything: no file is run but the one that it has the SHA-256 of.

    Raises:
        UserError: it is not here, or is not the one that ran; `--task` then names one.
    """
    where = source if isinstance(source, str) and source else name
    if where == name and sha256 is None and name not in NAMES and not name.startswith("gymnax:"):
        raise UserError(
            f"the task {name} was given from Python as an object, of which no file is known: give it again,"
            " to lj.run or lj.load_policy"
        )
    if where not in NAMES and not where.startswith("gymnax:"):
        path = _file(where)
        if path is None or not path.is_file():
            raise UserError(f"the task {name} comes from '{where}', which is not here: name it with --task")
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise UserError(
                f"the task {name} comes from '{where}', which is not the file that ran: restore it, or name"
                " another with --task"
            )
    found = load(where)
    if found.name != name:
        raise UserError(f"the task {name} does not come from '{where}', which holds {found.name}")
    return found


def _file(task: str) -> pathlib.Path | None:
    """The file that a task's name stands for, of which nothing is run to find it."""
    place = task if task.endswith(".py") else task.rpartition(":")[0]
    if place.endswith(".py"):
        return pathlib.Path(place)
    if not all(part.isidentifier() for part in place.split(".")):
        return None
    spec, places = None, None
    parts = place.split(".")
    for i in range(len(parts)):  # `importlib.util.find_spec` would import the packages that it lies in
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: i + 1]), places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return pathlib.Path(spec.origin) if spec is not None and spec.origin else None


def _fingerprint(task: Task) -> str:
    """SHA-256 of the file that a stranger's task comes from; empty for any other."""
    path = task.source if task.source.endswith(".py") else task.source.rpartition(":")[0]
    if not path.endswith(".py"):
        if ":" not in task.source or path == "gymnax" or not (spec := importlib.util.find_spec(path)):
            return ""
        path = spec.origin or ""
    if not pathlib.Path(path).is_file():
        raise UserError(f"{task.name}: its source is '{task.source}', but {path} is no file")
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _run(path: pathlib.Path) -> Any:
    """The module that a file makes; it may import its neighbours."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; {USAGE}")
    # Read again where it was changed since.
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()
    name = f"loro_jax_task_{path.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    beside = str(path.resolve().parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[name]
        raise
    except SystemExit:
        del sys.modules[name]
        raise UserError(f"{path}: ends the program (sys.exit) when it is imported") from None
    except Exception as error:
        del sys.modules[name]
        line = _line(error, spec.origin)
        where = f"{path}:{line}" if line else f"{path}"
        raise UserError(f"{where}: cannot be run ({_said(error)})") from error
    finally:
        sys.path.remove(beside)
    return module


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except UserError:
        raise
    except SystemExit:
        raise UserError(f"{name}: ends the program (sys.exit) when it is imported") from None
    except ImportError as error:
        raise UserError(f"{name}: cannot be imported ({error}); {USAGE}") from None
    except Exception as error:
        raise UserError(f"{name}: cannot be imported ({_said(error)}); {USAGE}") from error


def _line(error: Exception, file: str | None) -> int | None:
    """The line of `file` in which an error arose, the innermost one; None where it knows of none."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [n for frame, n in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else None


def _said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _attribute(module: Any, place: str, name: str) -> Any:
    if not hasattr(module, name):
        tasks = [k for k, v in vars(module).items() if isinstance(v, Task)]
        raise UserError(f"{place}: has no {name}; its tasks are: {', '.join(tasks) or 'none'}")
    return getattr(module, name)
