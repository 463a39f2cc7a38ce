"""Checkpoints of a running population with orbax: atomic, one step kept behind the newest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from loro_jax import files, processes
from loro_jax.errors import line
from loro_jax.training.population import Progress
from loro_jax.types import Run

HASHES = ".files.json"
"""Behind a step's number: the name of the file with the hashes of its files."""


def digest(progress: Progress) -> str:
    """SHA-256 over all numbers: orbax notices a damaged array only where its compression does."""
    h = hashlib.sha256()
    for array in map(processes.numbers, [*jax.tree.leaves(progress.runs), progress.records]):
        h.update(f"{array.dtype.str} {array.shape} ".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def _as(like: Any, found: Any) -> Any:
    """A leaf as `like` has it; older checkpoints hold keys, not their data."""
    if processes.is_key(like) and not processes.is_key(found):
        return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like))
    return found


def _is_awaited(record: logging.LogRecord) -> bool:
    """Whether what asyncio logs is not of a step that orbax was writing."""
    return ".orbax-checkpoint-tmp" not in record.getMessage()


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Orbax raises its first error without awaiting its other writes, each of which then complains, from a
    thread of its own or when it is collected, that nobody waits for it: from an error on that is left unsaid.
    """
    logging.getLogger("asyncio").addFilter(_is_awaited)
    before = sys.unraisablehook

    def hook(about: Any) -> None:
        if str(about.exc_value) != "Event loop is closed":
            before(about)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before


class Checkpoints:
    """The checkpoints of one arm, in a folder of their own."""

    def __init__(self, folder: pathlib.Path, of: str = "") -> None:
        """`of` names the run and the arm whose checkpoints these are: others' are not read."""
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax logs is raised, or its internals
        self.folder, self.of = folder.absolute(), of
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        if jax.process_count() > 1:  # of which this one writes alone
            alone = ocp.options.MultiprocessingOptions(
                active_processes={jax.process_index()}, primary_host=jax.process_index()
            )
            options = dataclasses.replace(options, multiprocessing_options=alone, create=False)
            self.folder.mkdir(parents=True, exist_ok=True)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def steps(self) -> list[int]:
        """The steps that are there, readable or not."""
        return sorted(self.manager.all_steps())

    def save(self, progress: Progress) -> None:
        """Writes a step named by the pieces done; a step that is there already is left.

        Raises:
            OSError: it cannot be written; the steps before it are whole.
        """
        if progress.done in self.manager.all_steps():
            return
        args = ocp.args.Composite(
            runs=ocp.args.StandardSave(jax.tree.map(processes.numbers, progress.runs)),
            records=ocp.args.ArraySave(np.pad(progress.records, ((0, 0), (1, 0)))),  # never empty
            says=ocp.args.JsonSave({"done": progress.done, "of": self.of, "sha256": digest(progress)}),
        )
        self._files_of(progress.done).unlink(missing_ok=True)
        try:
            with _one_error():
                self.manager.save(progress.done, args=args)
                self.manager.wait_until_finished()
            hashes = files.sealed({"files": self._hashes(progress.done)})
            files.write_json(self._files_of(progress.done), hashes)
            kept = {self._files_of(step) for step in self.manager.all_steps()}
            for path in set(self.folder.glob(f"*{HASHES}")) - kept:
                path.unlink(missing_ok=True)
        except OSError:
            raise
        except Exception as error:  # tensorstore has types of its own for a full disk
            code = re.search(r"os_error_code='(\d+)'", str(error))
            why = os.strerror(int(code[1])) if code else " ".join(str(error).split())[:200]
            raise OSError(int(code[1]) if code else 0, why) from error

    def newest(self, like: Run) -> Progress | None:
        """The newest checkpoint that can be read, with the shapes and devices of `like`, or None."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                self._check(step)
                read: Any = self.manager.restore(
                    step,
                    args=ocp.args.Composite(
                        runs=ocp.args.StandardRestore(abstract),
                        records=ocp.args.ArrayRestore(),
                        says=ocp.args.JsonRestore(),
                    ),
                )
                runs = jax.tree.map(_as, like, read["runs"])
                found = Progress(step, runs, np.asarray(read["records"])[:, 1:])
                if read["says"] != {"done": step, "of": self.of, "sha256": digest(found)}:
                    raise ValueError("it is not what was written")
            except Exception as error:  # orbax raises a bare Exception where an array's file is damaged
                self._set_aside(step)
                why = line(f"{type(error).__name__}: {error}".splitlines()[0][:100])
                print(
                    f"checkpoint {step} of {self.folder.name} cannot be read ({why}); trying one before it",
                    file=sys.stderr,
                )
                continue
            return found
        return None

    def _files_of(self, step: int) -> pathlib.Path:
        """Beside a step: the hashes of its files, written once it is whole."""
        return self.folder / f"{step}{HASHES}"

    def _hashes(self, step: int) -> dict[str, str]:
        below = self.folder / str(step)
        return {
            path.relative_to(below).as_posix(): files.digest(path)
            for path in sorted(below.rglob("*"))
            if path.is_file()
        }

    def _check(self, step: int) -> None:
        """A `ValueError` where a step's files are not those that were written, before orbax reads them: of
        what is damaged it makes what it can, and it says so in many lines.

        A step that was written before there were hashes, or whose writing was cut, has none.
        """
        try:
            wanted = files.read_json(self._files_of(step))
        except FileNotFoundError:
            return
        files.check_seal(self._files_of(step), wanted)
        if wanted.get("files") != self._hashes(step):
            raise ValueError("its files are not those that were written")

    def _set_aside(self, step: int) -> None:
        """Moves a step out of orbax's sight, which else would write no step before it."""
        aside = self.folder.with_name(f"{self.folder.name}.{step}.unreadable")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.move(self.folder / str(step), aside)
        self._files_of(step).unlink(missing_ok=True)
        self.manager.reload()

    def close(self, delete: bool = False) -> None:
        self.manager.close()
        if delete:
            shutil.rmtree(self.folder, ignore_errors=True)
