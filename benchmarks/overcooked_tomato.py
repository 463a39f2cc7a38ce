"""`python -m benchmarks.overcooked_tomato --help`; the task is `loro_jax/tasks/overcooked_tomato`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("overcooked_tomato")
