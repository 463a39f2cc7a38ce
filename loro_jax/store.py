"""The state of an unfinished run in its output folder: finished arms, checkpoints, and what is running."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np

from loro_jax.checkpoints import Checkpoints
from loro_jax.errors import UserError
from loro_jax.population import Progress
from loro_jax.results import write_json, write_npz
from loro_jax.types import Run


class Store:
    """`folder/checkpoints`, claimed for one configuration.

    Raises:
        UserError: the folder cannot be written, holds an interrupted run that is not to be resumed, or
            a run of another configuration that is.

    Attributes:
        complete: the folder holds this very run, finished, and it is to be resumed: nothing is left.
    """

    def __init__(self, folder: pathlib.Path, identity: dict[str, Any], resume: bool) -> None:
        self.folder = folder / "checkpoints"
        there = _read(self.folder / "identity.json")
        self.complete = False
        if there is None and resume and (finished := _read(folder / "run.json")) is not None:
            there = finished.get("identity")
            self.complete = there == identity
        if resume and there is not None and there != identity:
            raise UserError(
                f"{folder} holds another configuration ({_difference(there, identity)}); resume with the same"
                " options, or choose another --out"
            )
        if not resume and (self.folder / "identity.json").exists():
            raise UserError(
                f"{folder} holds an interrupted run; add --resume to go on, or delete {self.folder}"
            )
        if self.complete:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "identity.json", identity)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None

    def finished(self, arm: str) -> dict[str, np.ndarray] | None:
        """What `finish` kept of an arm, or None."""
        path = self.folder / f"{arm}.npz"
        if not path.exists():
            return None
        with np.load(path) as archive:
            return dict(archive)

    def finish(self, arm: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps a finished arm and drops its checkpoints."""
        write_npz(self.folder / f"{arm}.npz", arrays)
        shutil.rmtree(self.folder / arm, ignore_errors=True)

    def checkpoint(self, arm: str, progress: Progress, seconds: float) -> None:
        checkpoints = Checkpoints(self.folder / arm)
        checkpoints.save(progress)
        checkpoints.close()
        write_json(self.folder / f"{arm}.json", {"done": progress.done, "seconds": seconds})

    def restore(self, arm: str, like: Run) -> tuple[Progress, float] | None:
        """The newest checkpoint of an arm and the seconds spent so far, or None."""
        if not (self.folder / arm).exists():
            return None
        checkpoints = Checkpoints(self.folder / arm)
        progress = checkpoints.newest(like)
        checkpoints.close()
        spent = _read(self.folder / f"{arm}.json") or {}
        return None if progress is None else (progress, float(spent.get("seconds", 0.0)))

    def clear(self) -> None:
        """Deletes everything, once the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first fields in which two identities differ, in words."""

    def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for key, item in value.items():
            rows |= flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
        return rows

    a, b = flatten(there), flatten(here)
    rows = [
        f"{k} {a.get(k)} there, {b.get(k)} here"
        for k in [*a, *(k for k in b if k not in a)]
        if a.get(k) != b.get(k)
    ]
    return "; ".join(rows[:2]) + ("; ..." if len(rows) > 2 else "")
