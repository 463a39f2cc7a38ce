"""`python -m benchmarks.cartpole --help`; the task is `loro_jax/tasks/cartpole`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("cartpole")
