"""`python -m studies.priors --help`."""

from loro_jax.errors import run
from studies.priors.command import main

if __name__ == "__main__":
    run(main)
