"""One module per task: `python -m benchmarks.<name>`."""

from loro_jax.errors import importing

importing(__name__)
