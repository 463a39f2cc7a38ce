"""`python -m benchmarks.blackjack --help`; the task is `loro_jax/tasks/blackjack`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main("blackjack")
