"""`python -m benchmarks.connect_four --help`; the task is `loro_jax/tasks/connect_four`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("connect_four")
