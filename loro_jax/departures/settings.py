"""The departures as settings: all off, as the method is described."""

from __future__ import annotations

import dataclasses
from typing import Literal

from loro_jax.errors import require
from loro_jax.validation import checked


@dataclasses.dataclass(frozen=True)
class Departures:
    """Switches of the reference study's released code (arXiv 2505.10861), each a command-line flag."""

    alignment: Literal["true", "released"] = "true"
    """Departure 1: "released" pairs each action with the observation after it, in LLM and random data."""
    chained_repeats: int = 1
    """Departure 2: above 1 adds the arm `loro_chained`, in which so many successive repeats each start
    from the weights that the one before ended with."""
    pretrain_target_frequency: int = 0
    """Departure 3: target network frequency of the LORO arms, kept online; 0 for that of every other arm."""
    limits_terminal: bool = False
    """Departure 4: the last row of every prior episode terminates, also where a limit cut it."""
    shared_pretraining: bool = False
    """Departure 5: all seeds of an arm that pretrains on LLM episodes start from one initial network and one
    pretraining, as if they were repeats of one study; the other arms' start afresh."""
    keep_baseline_data: bool = False
    """Departure 7: the random-data and on-policy arms keep their pretraining data online."""
    drop_cut: bool = False
    """The last transition of an episode that a limit cut is not stored (d3rlpy's recorder)."""

    def __post_init__(self) -> None:
        checked(self)
        require(self.chained_repeats >= 1, "chained_repeats", "must be at least 1")
        frequency = self.pretrain_target_frequency
        require(0 <= frequency < 2**31, "pretrain_target_frequency", "must lie between 0 and 2**31 - 1")
