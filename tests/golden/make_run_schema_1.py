"""Writes run_schema_1/: a finished and an interrupted run as commit 070b3ef left them, of schema 1.

    git archive 070b3ef | tar -x -C FOLDER
    cd FOLDER && PYTHONPATH=. python .../tests/golden/make_run_schema_1.py OUT

The interrupted one is the same run, stopped by Ctrl-C after the fourth piece of its second arm; its folder
`checkpoints` is kept as interrupted.zip. Figures are left out of the finished one, and out of its run.json.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import sys
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 2)

from loro_jax.command import main  # type: ignore[import-not-found]  # noqa: E402

from benchmarks.cartpole import CARTPOLE  # type: ignore[attr-defined]  # noqa: E402
from loro_jax import experiment  # type: ignore[attr-defined]  # noqa: E402

ARGUMENTS = (
    "--seeds 2 --budget 1000 --arms pure_rl,loro --tau 2 --fit-steps 20 --hidden 8 --batch-size 8 --warmup 20"
    " --replay-capacity 400 --devices 2"
)


def run(out: pathlib.Path, stop: int) -> None:
    """The run, stopped after so many pieces of its second arm, if any."""
    train = experiment.population.train

    def pressed(sentence: Any, programs: Any, start: Any, data: Any, after: Any) -> Any:
        def then(progress: Any) -> None:
            if progress.done == stop and (out / "checkpoints" / "pure_rl.npz").exists():
                os.kill(os.getpid(), signal.SIGINT)
            after(progress)

        return train(sentence, programs, start, data, then)

    experiment.population.train = pressed
    main(CARTPOLE, [*ARGUMENTS.split(), "--out", str(out)])
    experiment.population.train = train


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    run(folder / "finished", stop=0)
    run(folder / "interrupted", stop=4)
    shutil.make_archive(str(folder / "interrupted"), "zip", folder / "interrupted", "checkpoints")
    shutil.rmtree(folder / "interrupted")
    shutil.rmtree(folder / "finished" / "figures")
    path = folder / "finished" / "run.json"
    ran = json.loads(path.read_text())
    ran["files"] = {name: sha for name, sha in ran["files"].items() if not name.startswith("figures/")}
    path.write_text(json.dumps(ran, indent=2, ensure_ascii=False) + "\n")
