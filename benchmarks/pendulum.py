"""`python -m benchmarks.pendulum --help`; the task is `loro_jax/tasks/pendulum`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("pendulum")
