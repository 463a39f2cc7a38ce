"""Does knowledge from a language model make reinforcement learning more sample-efficient?"""

__version__ = "0.1.0"
