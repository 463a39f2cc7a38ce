"""`python -m benchmarks.regression`."""

from benchmarks.regression.command import main
from loro_jax.errors import run

if __name__ == "__main__":
    run(main)
