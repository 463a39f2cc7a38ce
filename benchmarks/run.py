"""Any task: `python -m benchmarks.run --task my_game.py:TASK --help`."""

from loro_jax.running.command import main

if __name__ == "__main__":
    main()
