"""`python -m benchmarks.throughput`."""

from benchmarks.throughput.command import main
from loro_jax.errors import run

if __name__ == "__main__":
    run(main, lambda: "stopped; finished rows are kept: the same command with --resume goes on")
