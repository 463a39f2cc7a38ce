"""`python -m benchmarks.mountain_car --help`; the task is `loro_jax/tasks/mountain_car`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("mountain_car")
