"""Studies of this repository, one command each: `python -m studies.<name>`. They belong to the clone."""

from loro_jax.errors import importing

importing(__name__)
