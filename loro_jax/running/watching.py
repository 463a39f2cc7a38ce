"""Learning curves while they grow: TensorBoard, and Weights & Biases offline. Both are optional extras.

One run an arm. The tags are the field's where it has some (stable-baselines3's `eval/mean_reward` and
`time/fps`); beside them the interquartile mean over seeds and its 95 % interval, which TensorBoard shows as a
band under Custom Scalars.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any
from typing import Protocol as Interface

import numpy as np

from loro_jax import files
from loro_jax.analysis import statistics
from loro_jax.errors import UserError

RESAMPLES = 500
"""Of the bootstrap behind a band, drawn anew for every evaluation."""
MEAN, IQM, LOW, HIGH = "eval/mean_reward", "eval/iqm_reward", "eval/iqm_reward_low", "eval/iqm_reward_high"
FPS, LOST = "time/fps", "eval/diverged_seeds"
MODES = ("offline", "online", "shared", "disabled")
"""What WANDB_MODE can be; the first is ours where it is not set."""


class Writer(Interface):
    """Where the curve of one run goes."""

    def write(self, env_steps: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Watch:
    """Curves of a run's arms, written as they come. Use it as a context manager.

    Args:
        about: what runs, as JSON (`records.identity`).
        tensorboard: folder for TensorBoard's event files, each arm's in one of its own.
        wandb: project of Weights & Biases.
        out: folder for its offline runs.

    Raises:
        UserError: a package is missing, or the folder cannot be written to.
    """

    def __init__(
        self, about: Mapping[str, Any], tensorboard: pathlib.Path | None, wandb: str, out: pathlib.Path
    ) -> None:
        self.about, self.folder, self.project, self.out = about, tensorboard, wandb, out
        self.writers: dict[str, list[Writer]] = {}
        self.written: dict[str, int] = {}
        if tensorboard is not None:
            _needed("tensorboardX", "tensorboard")
            try:
                self._runs(tensorboard).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to {tensorboard}: {error.strerror}; choose another") from None
            files.check_writable(self._runs(tensorboard))
        if wandb:
            _needed("wandb", "wandb")
            if found := set(wandb) & set("/\\#?%:"):
                raise UserError(f"--wandb: a project's name has no {min(found)!r}, got {wandb!r}")
            if (mode := os.environ.get("WANDB_MODE", MODES[0])) not in MODES:
                raise UserError(f"WANDB_MODE is {mode!r}; it can be: {', '.join(MODES)}")

    def _runs(self, folder: pathlib.Path) -> pathlib.Path:
        """Where an experiment's event files go."""
        return folder / f"{self.about['task']}-{self.about['protocol']}"

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        for writers in self.writers.values():
            for writer in writers:
                writer.close()

    def saw(self, name: str, env_steps: np.ndarray, returns: np.ndarray, frames_per_second: float) -> None:
        """What an arm has evaluated so far, (evaluations,) and (seeds, evaluations); of it what is new is
        written."""
        if name not in self.writers:
            self.writers[name] = self._opened(name)
        for i in range(self.written.get(name, 0), returns.shape[1]):
            values = summary(returns[:, i]) | {FPS: frames_per_second}
            for writer in self.writers[name]:
                writer.write(int(env_steps[i]), values)
        self.written[name] = returns.shape[1]

    def _opened(self, name: str) -> list[Writer]:
        found: list[Writer] = []
        if self.folder is not None:
            found.append(TensorBoard(self._runs(self.folder) / name, self.about))
        if self.project:
            found.append(Wandb(self.project, name, self.about, self.out))
        return found


def summary(returns: np.ndarray) -> dict[str, float]:
    """What is written of one evaluation's returns, (seeds,); what diverged is left out, and counted."""
    kept = returns[np.isfinite(returns)].astype(np.float64)
    lost = len(returns) - len(kept)
    found = {LOST: float(lost)} if lost else {}
    if not len(kept):
        return found
    found |= {MEAN: float(kept.mean()), IQM: float(statistics.iqm(kept))}
    if len(kept) > 1:
        low, high = statistics.interval(kept, statistics.weighted_iqm, seed=0, resamples=RESAMPLES)
        found |= {LOW: float(low), HIGH: float(high)}
    return found


class TensorBoard:
    """Event files of one run; what a run before has left in its folder is written over."""

    def __init__(self, folder: pathlib.Path, about: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=0)
        self.writer.add_custom_scalars({"eval": {"IQM over seeds": ["Margin", [IQM, LOW, HIGH]]}})
        self.writer.add_text("identity", f"```json\n{json.dumps(about, indent=1)}\n```", 0)

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, env_steps)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, offline unless WANDB_MODE says otherwise; `wandb sync` uploads it."""

    def __init__(self, project: str, name: str, about: Mapping[str, Any], out: pathlib.Path) -> None:
        import wandb

        out.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE", MODES[0])
        try:
            self.run = wandb.init(
                project=project, name=name, group=f"{about['task']} {about['protocol']}", config=dict(about),
                dir=str(out), mode=mode, reinit="create_new",
            )  # fmt: skip
        except Exception as error:  # of many types, over several lines
            raise UserError(f"Weights & Biases: {' '.join(str(error).split())[:200]}") from None
        self.run.define_metric("env_steps")
        self.run.define_metric("*", step_metric="env_steps")

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        self.run.log({"env_steps": env_steps, **values})

    def close(self) -> None:
        self.run.finish()


def _needed(package: str, extra: str) -> None:
    """A `UserError` where an optional package is not installed."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UserError(f"--{extra} needs {package}: pip install 'loro_jax[{extra}]'")
