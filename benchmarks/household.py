"""`python -m benchmarks.household --help`; the task is `loro_jax/tasks/household`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("household")
