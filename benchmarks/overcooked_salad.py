"""`python -m benchmarks.overcooked_salad --help`; the task is `loro_jax/tasks/overcooked_salad`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("overcooked_salad")
