"""`python -m studies.tutors`."""

from loro_jax.errors import run
from studies.tutors.command import main

if __name__ == "__main__":
    run(main)
