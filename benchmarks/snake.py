"""`python -m benchmarks.snake --help`; the task is `loro_jax/tasks/snake`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("snake")
