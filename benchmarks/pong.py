"""`python -m benchmarks.pong --help`; the task is `loro_jax/tasks/pong`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("pong")
