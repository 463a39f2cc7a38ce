"""Reads the episodes of a pickled d3rlpy `MDPDataset` without running anything that the file names.

A pickle is a program: it names callables, and loading it calls them. Here every name outside a short
list is refused, and the names inside it stand for inert classes of this module; neither d3rlpy nor
numpy's own reconstruction functions are ever called.
"""

from __future__ import annotations

import io
import pathlib
import pickle
import pickletools
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.errors import EpisodeError

LARGEST = 1 << 30  # bytes; the study's files have a third of a megabyte


class _Inert:
    """Stands for a d3rlpy object: keeps what the pickle says about it and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {}


class _Episode(_Inert):
    pass


class _Dataset(_Inert):
    pass


class _Kind:
    """Stands for a numpy dtype; only plain numbers and booleans are allowed."""

    def __init__(self, code: str = "", *_: Any) -> None:
        if not isinstance(code, str) or code[:1] not in "fiub" or not code[1:].isdigit():
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an unknown array type")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


class _Array:
    """Stands for a numpy array: its bytes are read as numbers, nothing else."""

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array that does not hold plain numbers")
        self.values = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")


ALLOWED: dict[tuple[str, str], Any] = {
    ("d3rlpy.dataset.components", "Episode"): _Episode,
    ("d3rlpy.dataset.compat", "MDPDataset"): _Dataset,
    ("d3rlpy.dataset.components", "DatasetInfo"): _Inert,
    ("d3rlpy.dataset.components", "Signature"): _Inert,
    ("d3rlpy.dataset.buffers", "InfiniteBuffer"): _Inert,
    ("d3rlpy.dataset.writers", "ExperienceWriter"): _Inert,
    ("d3rlpy.dataset.writers", "_ActiveEpisode"): _Inert,
    ("d3rlpy.dataset.writers", "BasicWriterPreprocess"): _Inert,
    ("d3rlpy.dataset.transition_pickers", "BasicTransitionPicker"): _Inert,
    ("d3rlpy.dataset.trajectory_slicers", "BasicTrajectorySlicer"): _Inert,
    ("d3rlpy.constants", "ActionSpace"): _Inert,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of a dataset")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


PLACES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
"""Instructions with the number of a place, up to which Python's reader makes room for objects."""


def _look_through(data: bytes) -> None:
    """Refuses instructions that no dataset has: cut ones, and places beyond the objects there are."""
    count = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.name in PLACES and argument not in range(count + 1):
            raise pickle.UnpicklingError(f"it keeps an object at place {argument}")
    if not data.endswith(b".") or not count:
        raise pickle.UnpicklingError("it goes on behind its end, or is empty")


def read_mdp_dataset(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The file's arrays as the study's `.npz` has them: `observations` (N, d), `actions` (N, k),
    `rewards` (N,), `episode_lengths` (E,), `terminated` (E,); an `EpisodeError` says why not.
    """
    try:
        if files.size(path) > LARGEST:
            raise EpisodeError(f"{path}: larger than {LARGEST >> 20} MiB; not a dataset of the study")
    except OSError as error:
        raise EpisodeError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        data = path.read_bytes()
        _look_through(data)
        dataset = _Reader(io.BytesIO(data)).load()
        if not isinstance(dataset, _Dataset):
            raise pickle.UnpicklingError("it does not hold an MDPDataset")
        episodes = dataset.fields["_buffer"].fields["_episodes"]
        if not episodes or not all(isinstance(e, _Episode) for e in episodes):
            raise pickle.UnpicklingError("it holds no episodes")
        columns = {
            name: [e.fields[name].values for e in episodes] for name in ("observations", "actions", "rewards")
        }
        if sum(part.nbytes for parts in columns.values() for part in parts) > len(data):
            raise pickle.UnpicklingError("its episodes share their numbers")
        arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
        arrays["rewards"] = arrays["rewards"].reshape(-1)
        arrays["episode_lengths"] = np.array([len(part) for part in columns["rewards"]])
        arrays["terminated"] = np.array([e.fields["terminated"] is True for e in episodes])
        return arrays
    except Exception as error:  # a hostile pickle can fail in any way; none of them is ours to tell apart
        why = str(error) if isinstance(error, pickle.UnpicklingError) else f"damaged ({type(error).__name__})"
        raise EpisodeError(f"{path}: refused as a pickled dataset: {why}") from None
