"""Compiled programs, kept from one start to the next by JAX's persistent cache.

They lie in the user's cache folder, or where `LORO_JAX_CACHE` says, in a folder for each version of jaxlib
and kind of processor: a program is machine code, and XLA compiles it for the very processor that it runs on.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import warnings

import platformdirs

from loro_jax.running import machine

VARIABLE = "LORO_JAX_CACHE"
MOST_BYTES = 2 * 2**30
"""Of all programs together; those that were not used for longest go first."""
LEAST_FREE = 2**28
"""Bytes that the disk must have left: a program that is cut off there would be of no use later."""


def keep() -> None:
    """Lets JAX keep what it compiles, and load what it has kept; call it before anything is compiled.

    A folder that JAX was given already (`JAX_COMPILATION_CACHE_DIR`) stays. Where no folder can be made, or
    the disk is full, nothing is kept, and where an entry cannot be read, the program is compiled: a start
    then takes longer, and that is all.
    """
    import jax

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return
    folder = root() / kind()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < LEAST_FREE:
            return
        trim(root(), MOST_BYTES)
    except OSError:
        return
    _listen()
    # JAX's own bound asks for a lock at every program, and writes no more once a killed process has left an
    # entry without its time stamp; `trim` needs neither.
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # small programs as well
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


_events: collections.Counter[str] = collections.Counter()


@functools.cache
def _listen() -> None:
    """Counts what JAX tells of its cache, once a process."""
    import jax

    jax.monitoring.register_event_listener(lambda event, **_: _events.update([event]))


def asked() -> tuple[int, int]:
    """Programs so far that were in the cache, and that were not; none where nothing is kept."""
    found = (_events[f"/jax/compilation_cache/cache_{what}"] for what in ("hits", "misses"))
    return next(found), next(found)


def root() -> pathlib.Path:
    """The folder of all programs."""
    if named := os.environ.get(VARIABLE):
        return pathlib.Path(named).expanduser()
    return platformdirs.user_cache_path("loro_jax", appauthor=False) / "compiled"


def kind() -> str:
    """The name of the folder for programs that run here: jaxlib's version, and a hash of the processor.

    Of the processor it is the model, what instructions it has, and the cores that this process may use.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    here = [platform.machine(), str(machine.cores()), *sorted(told or lines[:1])]
    digest = hashlib.sha256("\n".join(here).encode()).hexdigest()
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest[:12]}"


def trim(folder: pathlib.Path, most: int) -> None:
    """Deletes the programs below `folder` that were not used for longest, until `most` bytes are left.

    Other processes may use the folder meanwhile; one that misses a program compiles it.
    """
    found = []
    for entry in folder.glob("jaxlib-*/*-cache"):
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            found.append((max(status.st_atime, status.st_mtime), status.st_size, entry))
    excess = sum(size for _, size, _ in found) - most
    for _, size, entry in sorted(found):
        if excess <= 0:
            break
        entry.unlink(missing_ok=True)
        excess -= size
