"""`python -m benchmarks.cliff_walking --help`; the task is `loro_jax/tasks/cliff_walking`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("cliff_walking")
