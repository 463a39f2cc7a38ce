"""`python -m benchmarks.frozen_lake_nonslippery --help`; the task is in `loro_jax/tasks/`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("frozen_lake_nonslippery")
