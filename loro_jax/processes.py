"""Several processes as one run, on JAX's own distributed runtime (`jax.distributed`): docs/scale.md.

Every process runs the same program on the devices of all. Process 0 alone reads and writes the run's folder
and talks to the user; what it finds there, or fails at, it tells the others, so that all go the same way.
With one process these functions do nothing but call.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console

from loro_jax import progress
from loro_jax.errors import UserError

T = TypeVar("T")

WAIT = 300.0
"""Seconds in which all processes have to come."""
HEAD, PIECE = 4096, 2**20
"""Bytes that a process sends at once: a short message, or a piece of a long one."""
FLAGS = "--coordinator-address HOST:PORT, --num-processes N and --process-id I (docs/scale.md)"
LOST = ("Gloo", "NCCL", "Connection closed", "Connection reset", "oordination service", "DEADLINE_EXCEEDED")
"""What JAX's errors say where another process is gone."""


_met = threading.Event()


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

    Raises:
        UserError: nothing says which processes there are, or not all come, or JAX runs already.
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
    failed: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                cluster.address, cluster.count, cluster.index, initialization_timeout=int(WAIT) + 60
            )
        except Exception as error:
            failed.append(error)

    # In a thread: while it waits no signal is heard, and where nobody comes it aborts the process.
    joining = threading.Thread(target=connect, daemon=True)
    with progress.waiting(Console(stderr=True, highlight=False), f"waiting for all processes at {where}"):
        joining.start()
        joining.join(WAIT)
    if joining.is_alive():
        raise UserError(f"not all processes came to {where} in {progress.words(WAIT)}; check {FLAGS}")
    if failed:
        why = " ".join(str(failed[0]).split())[:200]
        if None in (cluster.address, cluster.count, cluster.index) and "efined" in why:
            raise UserError(f"--distributed finds no cluster here ({why}); give {FLAGS}")
        raise UserError(f"this process cannot join the others ({why}); check {FLAGS}")
    _met.set()


def leave(status: int) -> NoReturn:
    """Ends this process at once: at an orderly end JAX would wait for the others, who learn of it from the
    system."""
    sys.stdout.flush()
    sys.stderr.flush()
    if _met.is_set() and first():
        time.sleep(1)  # the others would be aborted, before they have said why they end
    os._exit(status)


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


def numbers(array: Any) -> np.ndarray:
    """An array of this process as numpy's, keys as their data."""
    return np.asarray(jax.random.key_data(array) if is_key(array) else array)


def each(value: T, everywhere: bool = True) -> list[T]:
    """What every process calls `value`, in their order; with `everywhere` False, on process 0 alone.

    It goes through the devices as bytes, in pieces of two fixed sizes: two small programs are compiled for
    whatever is said, and a device never holds much of it.
    """
    if jax.process_count() == 1:
        return [value]
    words = pickle.dumps(value)
    words = len(words).to_bytes(8, "little") + words
    heads = _exchanged(words[:HEAD], HEAD)
    longest = max(int.from_bytes(head[:8], "little") for head in heads) + 8
    kept = everywhere or first()
    parts = [heads]
    for at in range(HEAD, longest, PIECE):
        part = _exchanged(words[at : at + PIECE], PIECE)
        parts += [part] if kept else []
    if not kept:
        return []
    return [pickle.loads(b"".join(said)[8:]) for said in zip(*parts, strict=True)]  # which says where it ends


def _exchanged(words: bytes, size: int) -> list[bytes]:
    """As many bytes of every process, filled up with zeros."""
    own = np.frombuffer(words.ljust(size, b"\0"), np.uint8)
    return [row.tobytes() for row in np.asarray(multihost_utils.process_allgather(own))]


def told(value: T) -> T:
    """What process 0 calls `value`, on every process; the others' is not looked at."""
    return each(value if first() else None)[0]  # type: ignore[return-value]


def anywhere(*flags: bool) -> list[bool]:
    """Of each flag, whether it is set in any process."""
    return [any(flag) for flag in zip(*each(flags), strict=True)]


def gathered(tree: Any, everywhere: bool = True) -> Any:
    """Arrays on the devices of all processes, whole, as numpy's, keys as their data; with `everywhere` False
    on process 0 alone, and None on the others."""
    leaves, shape = jax.tree.flatten(tree)
    if jax.process_count() == 1:
        return jax.tree.unflatten(shape, list(map(numbers, leaves)))
    own = [[(shard.index, numbers(shard.data)) for shard in leaf.addressable_shards] for leaf in leaves]
    said = each(own, everywhere)
    if not said:
        return None
    whole = []
    for leaf, shards in zip(leaves, zip(*said, strict=True), strict=True):
        parts = [part for shard in shards for part in shard]
        more = parts[0][1].shape[leaf.ndim :]  # of a key's data
        array = np.empty(leaf.shape + more, parts[0][1].dtype)
        for index, part in parts:
            array[index] = part
        whole.append(array)
    return jax.tree.unflatten(shape, whole)


def placed(whole: Any, like: jax.Array) -> jax.Array:
    """The reverse, of one array: its numbers, which every process has whole, laid out as `like`."""
    array = np.asarray(whole)
    if not is_key(like):
        return jax.make_array_from_callback(array.shape, like.sharding, lambda index: array[index])
    return jax.random.wrap_key_data(placed(array, jax.random.key_data(like)), impl=jax.random.key_impl(like))


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
