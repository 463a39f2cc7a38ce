"""The reference study's files of LLM episodes as arrays, checked for shape, type and range.

Whole-number observations, as the grid worlds' files hold them, become one-hot, as the suite's environments
give them.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from loro_jax import files
from loro_jax.errors import EpisodeError, UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks import Environment

KEYS = ("observations", "actions", "rewards", "episode_lengths", "terminated")


@dataclasses.dataclass(frozen=True)
class Rows:
    """A file as it is: E episodes of N rows in all.

    `observations` (N, *obs) as the environment gives them; `actions` int32 (N,) or float32 (N, k);
    `rewards` (N,); `episode_lengths` and `terminated` (E,).
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    episode_lengths: np.ndarray
    terminated: np.ndarray

    @property
    def spans(self) -> list[slice]:
        """Each episode's rows."""
        ends = np.cumsum(self.episode_lengths)
        return [slice(int(end - n), int(end)) for end, n in zip(ends, self.episode_lengths, strict=True)]


def read(path: pathlib.Path, environment: Environment) -> Rows:
    """The rows of an `.npz` or a pickled `MDPDataset` (`.pkl`), checked; an `EpisodeError` says why not."""
    if not path.is_file():
        raise EpisodeError(f"{path}: no such file")
    if path.suffix == ".pkl":
        from loro_jax.interchange.pickles import read_mdp_dataset

        arrays = read_mdp_dataset(path)
    else:
        try:
            arrays = files.read_npz(path, KEYS)
        except UserError as error:
            raise EpisodeError(error) from None
    return checked(path, arrays, environment)


def checked(path: pathlib.Path, arrays: dict[str, np.ndarray], environment: Environment) -> Rows:
    """The rows of `arrays` under `KEYS`; an `EpisodeError` names `path` and says what is wrong."""

    def refuse(why: str) -> None:
        raise EpisodeError(f"{path}: {why}")

    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            refuse(f"{name} has type {array.dtype}, expected numbers")
        if not np.isfinite(array).all():
            refuse(f"{name} holds values that are not finite")
    observations, actions, rewards, lengths, terminated = (arrays[key] for key in KEYS)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or len(lengths) == 0 or (lengths < 1).any():
        refuse("episode_lengths must list a positive whole number per episode")
    if (lengths < 2).all():
        refuse("no episode has two rows: there is nothing to check against the simulator")
    rows = sum(int(n) for n in lengths)
    space = environment.action_space
    # A number per row may be a column, as d3rlpy has it, or not.
    shape = environment.observation_shape if not environment.states else (1,)
    shapes = {"observations": (observations, shape), "actions": (actions, space.shape or (1,))}
    for name, (array, shape) in shapes.items():
        if array.shape != (rows, *shape) and (array.shape, shape) != ((rows,), (1,)):
            refuse(f"{name} have shape {array.shape}; {environment.name} needs {(rows, *shape)}")
    if rewards.shape not in ((rows,), (rows, 1)):
        refuse(f"rewards have shape {rewards.shape}, expected {(rows,)}")
    if terminated.shape != lengths.shape:
        refuse(f"terminated has shape {terminated.shape}, expected {lengths.shape}")
    if environment.states:
        if why := Discrete(environment.states).refuses(observations):
            refuse(f"{why.replace('actions', 'observations')} for {environment.name}")
        observations = np.eye(environment.states)[observations.reshape(-1).astype(np.int64)]
    actions = actions.reshape(rows, *space.shape)
    if why := space.refuses(actions):
        refuse(f"{why} for {environment.name}")
    return Rows(
        observations.reshape(rows, *environment.observation_shape).astype(np.float32),
        actions.astype(space.dtype),
        rewards.reshape(-1).astype(np.float32),
        lengths.astype(np.int64),
        terminated.astype(bool),
    )
