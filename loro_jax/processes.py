"""Several processes as one run, on JAX's own distributed runtime (`jax.distributed`): docs/scale.md.

Every process runs the same program on the devices of all. Process 0 alone reads and writes the run's folder
and talks to the user; what it finds there, or fails at, it tells the others, so that all go the same way.
With one process these functions do nothing but call.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from rich.console import Console

from loro_jax import progress
from loro_jax.errors import UserError

T = TypeVar("T")

FLAGS = "--coordinator-address HOST:PORT, --num-processes N and --process-id I (docs/scale.md)"
LOST = ("Gloo", "NCCL", "Connection closed", "Connection reset", "oordination service", "DEADLINE_EXCEEDED")
"""What JAX's errors say where another process is gone."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run, and which of them this one is; what is None is found by JAX, as SLURM, Open
    MPI, Kubernetes or a TPU pod tell it.

    Attributes:
        address: HOST:PORT of process 0.
        count: how many there are.
        index: which of them this one is, counted from 0.
    """

    address: str | None = None
    count: int | None = None
    index: int | None = None


def join(cluster: Cluster) -> None:
    """Makes this process one of several; before JAX starts. Once joined, it stays.

    Where the others do not come within five minutes JAX ends the process.

    Raises:
        UserError: nothing says which processes there are, or JAX runs already.
    """
    if jax.distributed.is_initialized():
        return
    if cluster.address is not None:
        host, _, port = cluster.address.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(f"--coordinator-address takes HOST:PORT, got '{cluster.address}'")
    # Its own handler would take the place of the one that stops at a checkpoint.
    jax.config.update("jax_enable_preemption_service", False)
    where = cluster.address or "the address that the cluster gives"
    try:
        with progress.waiting(Console(stderr=True, highlight=False), f"waiting for all processes at {where}"):
            jax.distributed.initialize(cluster.address, cluster.count, cluster.index)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        if None in (cluster.address, cluster.count, cluster.index) and "efined" in why:
            raise UserError(f"--distributed finds no cluster here ({why}); give {FLAGS}") from None
        raise UserError(f"this process cannot join the others ({why}); check {FLAGS}") from None


def check() -> None:
    """A `UserError`, the same on every process, where they have different numbers of devices."""
    counted = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counted.values())) > 1:
        words = ", ".join(str(counted[process]) for process in sorted(counted))
        raise UserError(f"the processes have {words} devices; give each the same number (--devices)")


def first() -> bool:
    """Whether this is the process that reads, writes and talks."""
    return jax.process_index() == 0


def is_key(array: Any) -> bool:
    """Whether it holds typed keys, which numpy does not."""
    return isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)


def gathered(array: Any) -> np.ndarray:
    """An array that lies on the devices of all processes, whole, on each of them; keys as their data."""
    if is_key(array):
        array = jax.random.key_data(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def placed(whole: Any, sharding: Sharding) -> jax.Array:
    """The reverse: from an array that every process has whole."""
    array = np.asarray(whole)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def anywhere(*flags: bool) -> list[bool]:
    """Of each flag, whether it is set in any process."""
    return np.any(multihost_utils.process_allgather(np.array(flags)), axis=0).tolist()


def told(value: T) -> T:
    """What process 0 calls `value`, on every process."""
    if jax.process_count() == 1:
        return value
    words = np.frombuffer(pickle.dumps(value), np.uint8)  # bytes, whose sum with zeros is exact
    length = int(multihost_utils.broadcast_one_to_all(np.array(len(words), np.int32)))
    words = multihost_utils.broadcast_one_to_all(words if first() else np.zeros(length, np.uint8))
    return pickle.loads(np.asarray(words, np.uint8).tobytes())


def each(text: str) -> list[str]:
    """What every process says, in their order."""
    words = np.frombuffer(text.encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.array([len(words)], np.int32)))
    padded = np.pad(words, (0, int(lengths.max()) - len(words)))
    said = np.reshape(multihost_utils.process_allgather(padded), (len(lengths), -1)).astype(np.uint8)
    return [row[:n].tobytes().decode() for row, n in zip(said, lengths, strict=True)]


def together(work: Callable[[], T]) -> T:
    """What `work` returns here; where it fails in one process, all of them raise.

    Raises:
        UserError: it failed in another process.
    """
    if jax.process_count() == 1:
        return work()
    failed: Exception | None = None
    try:
        value = work()
    except Exception as error:
        failed = error
    said = each("" if failed is None else (str(failed) or type(failed).__name__))
    if failed is not None:
        raise failed
    for process, words in enumerate(said):
        if words:
            raise UserError(f"process {process}: {words}")
    return value


def alone(work: Callable[[], T]) -> T:
    """What `work` returns on process 0, which alone does it; where it fails there, all raise."""
    return told(together(lambda: work() if first() else None))  # type: ignore[arg-type, return-value]


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Within, that another process is gone is a `UserError`."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not any(words in str(error) for words in LOST):
            raise
        raise UserError(
            "another process of this run has ended, or cannot be reached; see what it says, then start all of"
            " them again with --resume"
        ) from None
