"""Times every arm beside the kernel, here, into a file: `python -m benchmarks.regression.timing FILE`."""

from __future__ import annotations

import pathlib
import sys

from benchmarks.regression.cases import CASES
from loro_jax import files
from loro_jax.errors import run
from loro_jax.running import machine


def main() -> int:
    machine.start()
    from benchmarks.regression.command import speeds
    from benchmarks.regression.measure import Prepared

    files.write_json(pathlib.Path(sys.argv[1]), speeds([Prepared(case) for case in CASES]))
    return 0


if __name__ == "__main__":
    run(main)
