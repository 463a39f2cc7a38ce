"""Tasks: a game and all that is known of it, one file each, with a module-level `TASK`.

A task need not be here: every command takes `FILE.py:NAME`, and every function a `Task` (`loading.py`).
"""

from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.loading import NAMES, SUITE, load, recorded

__all__ = ["NAMES", "SUITE", "Environment", "Task", "load", "recorded"]
