"""One of several processes of a run, for test_processes.py: `one_of_several.py SIGNAL PIECE WHICH ARGS...`.

As piece PIECE ends, the processes named (01: both) send themselves SIGNAL, 0 for none. A checkpoint is kept
after every piece; figures are not drawn.
"""

from __future__ import annotations

import os
import sys

import jax

from loro_jax import processes
from loro_jax.analysis import figures
from loro_jax.running import trainer
from loro_jax.running.command import main
from loro_jax.training.population import OPTIONS

if __name__ == "__main__":
    if "fusion_emitters" in os.environ["XLA_FLAGS"]:  # as conftest.py has it in the process that compares
        OPTIONS["xla_cpu_use_fusion_emitters"] = True
    signal, piece, which = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    del sys.argv[1:4]
    trainer.CHECKPOINT_SECONDS = 0.0
    ended, anywhere = 0, processes.anywhere

    def counted(*flags: bool) -> list[bool]:
        global ended
        ended += 1
        if signal and ended == piece and str(jax.process_index()) in which:
            os.kill(os.getpid(), signal)
        return anywhere(*flags)

    processes.anywhere = counted
    figures.draw_all = lambda *args, **settings: None
    main("frozen_lake")
