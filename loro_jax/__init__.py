"""Does knowledge from a language model make reinforcement learning more sample-efficient?"""

from loro_jax.errors import importing

__version__ = "0.1.0"

importing(__name__)
