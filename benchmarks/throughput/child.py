"""A process that is measured, as its parent sees it (`peers.lines` is its own side)."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from loro_jax.errors import UserError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which numpy's and torch's libraries are told how many threads to use."""
INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
"""What another environment's Python must not see of this one's."""


class Child:
    """A running process that answers in JSON, a line a message."""

    def __init__(self, name: str, line: Sequence[str], threads: int, foreign: bool = False) -> None:
        """`line` is the command; `foreign` if it is another environment's Python."""
        own = {k: v for k, v in os.environ.items() if not (foreign and k in INHERITED)}
        own |= dict.fromkeys(THREADS, str(threads))
        # Programs are compiled anew, and processes that take turns share an accelerator's memory.
        own |= {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.name, self.log = name, tempfile.TemporaryFile("w+")  # noqa: SIM115  (open as long as the child)
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=own
        )

    def tell(self, word: str) -> None:
        """Gives it its word; whether it is still there is seen when it is `heard`."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """Its next message; a `UserError` with the last line of its log if it has ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.log.seek(0)
            said = [x.strip() for x in self.log.read().splitlines() if x.strip()] or ["it said nothing"]
            raise UserError(f"{self.name} ended with status {status}: {said[-1][:300]}")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


class Team:
    """Processes that work at the same time; what they do in a second is added up."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self.ready: dict[str, Any] = {}

    def wait(self) -> None:
        """Until all are ready; what the first says of itself is kept in `ready`."""
        self.ready = [child.heard() for child in self.children][0]  # noqa: RUF015  (all have to be heard)

    def go(self) -> dict[str, Any]:
        """A stretch of training of all -> environment and gradient steps per second, and the rest of what
        the first says."""
        for child in self.children:
            child.tell("go")
        said = [child.heard() for child in self.children]
        for kind in ("env_steps", "gradient_steps"):
            said[0][f"{kind}_per_second"] = sum(x[kind] / x["seconds"] for x in said)
        return said[0]

    def end(self) -> dict[str, Any]:
        """Their last word: the first's, and the memory of all."""
        for child in self.children:
            child.tell("end")
        said = [child.heard() for child in self.children]
        self.close()
        return said[0] | {"peak_memory": sum(x["peak_memory"] for x in said)}

    def close(self) -> None:
        for child in self.children:
            child.close()


def script(name: str) -> str:
    """The path of a peer's script."""
    return str(pathlib.Path(__file__).parent / "peers" / f"{name}.py")
