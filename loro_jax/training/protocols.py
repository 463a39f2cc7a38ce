"""Protocols: how every arm of a benchmark is run, and which of the reference study's departures are on.

A `Protocol` is flat data, so that every field is a command-line flag and a line of `run.json`. All of
it is static. The three protocols of an environment are in its benchmark module.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import tyro

from loro_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings shared by every arm. The reference study is arXiv 2505.10861 with its released code."""

    name: Annotated[str, tyro.conf.Suppress]
    """Name of the protocol these settings started from."""
    budget: int = 30_000
    """Environment steps per member, prior data included as `charge` says; a whole number of chunks."""
    eval_every: int = 200
    """Environment steps per chunk: training, then one evaluation."""
    eval_episodes: int = 1
    """Greedy episodes per evaluation."""
    eval_limit: int = 0
    """Steps after which an evaluation episode is cut; 0 for the environment's own limit, at which training
    and prior data are cut whatever this says."""
    tau: int = 10
    """Prior episodes an arm starts from."""
    fit_steps: int = 3000
    """K: gradient steps of pretraining on the prior data."""
    charge: Literal["episodes", "steps"] = "episodes"
    """What prior data costs: "episodes" one chunk for each prior episode, as the study plots it;
    "steps" the environment steps it took, rounded up to whole chunks."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the network's hidden layers."""
    learning_rate: float = 5e-5
    """Adam's learning rate."""
    batch_size: int = 256
    """Transitions per gradient step."""
    discount: float = 0.99
    """Discount per environment step."""
    target_interval: int = 1000
    """Gradient steps between copies into the target network."""
    epsilon: float = 0.1
    """Probability that a uniform action (SAC's exploration "mode": a zero) replaces the greedy one."""
    train_every: int = 1
    """Environment steps per gradient step."""
    warmup: int = 256
    """Transitions in the replay before online gradient steps begin."""
    replay_capacity: int = 100_000
    """Transitions the replay holds."""
    reset_each_chunk: bool = True
    """A chunk begins with a fresh episode, cutting (never terminating) the one before."""
    normalise_observations: bool = False
    """Networks see observations divided by the environment's magnitudes, where it names any."""
    soft_update: float = 0.005
    """SAC: share of the critics that their targets take over at each gradient step."""
    initial_temperature: float = 1.0
    """SAC: weight of the policy's entropy before it is learned."""
    exploration: Literal["policy", "mode"] = "policy"
    """SAC, departure 6: "mode" never samples the policy while training, and replaces its mode with
    probability epsilon by zero."""
    action_range: Literal["environment", "unit"] = "environment"
    """SAC, departure 6: "unit" limits the policy to [-1, 1], whatever the environment accepts."""

    alignment: Literal["true", "released"] = "true"
    """Departure 1: "released" pairs each action with the observation after it, in LLM and random data."""
    chained_repeats: int = 1
    """Departure 2: above 1 adds the arm `loro_chained`, in which so many successive repeats each start
    from the weights that the one before ended with."""
    pretrain_target_interval: int = 0
    """Departure 3: target interval of the LORO arms, kept online; 0 for that of every other arm."""
    limits_terminal: bool = False
    """Departure 4: the last row of every prior episode terminates, also where a limit cut it."""
    shared_pretraining: bool = False
    """Departure 5: all members of an arm that pretrains on LLM episodes start from one initial network
    and one pretraining, as if all seeds were repeats of one study; the other arms' start afresh."""
    keep_baseline_data: bool = False
    """Departure 7: the random-data and on-policy arms keep their pretraining data online."""
    drop_cut: bool = False
    """The last transition of an episode that a limit cut is not stored (d3rlpy's recorder)."""
    drop_first_half: bool = False
    """Pong: a step advances the game twice, and the reward of the first half is lost."""

    def __post_init__(self) -> None:
        for name in ("budget", "eval_every", "eval_episodes", "batch_size", "train_every", "replay_capacity",
                     "target_interval", "tau", "chained_repeats"):  # fmt: skip
            self._require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("eval_limit", "fit_steps", "warmup", "pretrain_target_interval"):
            self._require(getattr(self, name) >= 0, f"{name} must not be negative")
        for name in ("budget", "fit_steps", "replay_capacity", "warmup", "target_interval"):
            self._require(
                getattr(self, name) < 2**31, f"{name} must be less than 2**31, as steps are counted"
            )
        steps = self.budget * self.chained_repeats + self.fit_steps
        self._require(steps < 2**31, "budget times chained_repeats, and fit_steps, must be less than 2**31")
        for name in ("learning_rate", "discount", "epsilon", "soft_update", "initial_temperature"):
            self._require(math.isfinite(getattr(self, name)), f"{name} must be a finite number")
        self._require(self.budget % self.eval_every == 0, f"budget must be a multiple of {self.eval_every}")
        self._require(self.eval_every % self.train_every == 0, "train_every must divide eval_every")
        self._require(0 <= self.epsilon <= 1, "epsilon must lie in [0, 1]")
        self._require(0 < self.soft_update <= 1, "soft_update must lie in (0, 1]")
        self._require(self.initial_temperature > 0, "initial_temperature must be positive")
        self._require(0 <= self.discount <= 1, "discount must lie in [0, 1]")
        self._require(self.learning_rate > 0, "learning_rate must be positive")
        self._require(bool(self.hidden) and min(self.hidden) > 0, "hidden must list positive widths")

    def _require(self, holds: bool, message: str) -> None:
        if not holds:
            raise UserError(f"{message} (--{message.split()[0].replace('_', '-')})")

    @property
    def chunks(self) -> int:
        """Evaluations on every learning curve."""
        return self.budget // self.eval_every


SAC_ONLY = ("soft_update", "initial_temperature", "exploration", "action_range")
DQN_ONLY = ("target_interval", "pretrain_target_interval")
GAME_ONLY = ("drop_first_half",)  # of environments that take it as a parameter (`Benchmark.parameters`)

YOUNGER = {"eval_limit": 0}  # settings that older runs do not name, with the values that they ran with


def relevant(protocol: Protocol, unused: tuple[str, ...]) -> dict[str, Any]:
    """The settings that a run depends on: all but the `unused` ones, and those as before they existed."""
    values = dataclasses.asdict(protocol)
    return {k: v for k, v in values.items() if k not in unused and not (k in YOUNGER and YOUNGER[k] == v)}


PAPER = Protocol("paper")
"""The reference study as its paper describes the method; the defaults above are its settings."""

RELEASED = dataclasses.replace(
    PAPER,
    name="released",
    alignment="released",
    chained_repeats=5,
    pretrain_target_interval=200,
    limits_terminal=True,
    keep_baseline_data=True,
    drop_cut=True,
)
"""Bug-compatible with the released code. A seed stands for one replicate of the whole study: its own
pretraining, which the repeats of `loro_chained` share and go on from (departures 2 and 5), and of which
`loro` is run 0. `shared_pretraining` would give all replicates one draw of it, and stays off."""

SAC_PAPER = dataclasses.replace(PAPER, learning_rate=3e-4)
"""`paper` for continuous actions: SAC with the study's settings."""

SAC_RELEASED = dataclasses.replace(
    RELEASED,
    learning_rate=3e-4,
    pretrain_target_interval=0,
    exploration="mode",
    action_range="unit",
)
"""`released` for continuous actions; SAC copies no target network, so that departure 3 does not apply."""
