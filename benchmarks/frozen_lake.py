"""`python -m benchmarks.frozen_lake --help`; the task is `loro_jax/tasks/frozen_lake`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("frozen_lake")
