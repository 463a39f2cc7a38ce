"""Asks a language model about every text that matters in a game, once, and keeps the answers as a table.

    python -m loro_jax.language.survey --task cartpole --model qwen2.5-coder-0.5b-instruct --prompt hint

Players (uniform, the answers so far, the task's reference, agents trained without a model) find the texts.
Those that they meet most often are asked about first, until the least covered of the players, on episodes
kept apart, has `--coverage` of its steps in texts that were asked about. Interrupted, it goes on where it
stopped; a finished table only grows, by more texts or more answers about each.
"""

from __future__ import annotations
