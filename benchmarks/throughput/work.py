"""How much a gradient step has to compute and to move, counted from the agent's matrix products.

With W the number of weights of a network (biases left out), W1 those of its first layer and B the batch: a
forward pass takes 2 W B floating-point operations, a backward pass 2 W B for the weights' gradient and
2 (W - W1) B to get through the layers. What an algorithm needs is counted, once, and not what a program
does: neither Adam, activations, sampling and random keys, nor evaluations, which are no training.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from loro_jax.agents import DDQN, SAC, OffPolicy

FLOAT = 4
"""Bytes."""


class Work(NamedTuple):
    """What one seed needs.

    Attributes:
        gradient_step: floating-point operations of one gradient step.
        act: of one action.
        bytes: what a gradient step moves at least: the agent's numbers read and written once, and a batch
            read, if the rest stays in the cache.
    """

    gradient_step: float
    act: float
    bytes: float


def weights(widths: Sequence[int]) -> tuple[int, int]:
    """W and W1 of a network with these widths, from input to output."""
    each = [a * b for a, b in itertools.pairwise(widths)]
    return sum(each), each[0]


def needed(agent: OffPolicy, observation: int, actions: int, state_bytes: int, states: int = 0) -> Work:
    """The work of `agent`.

    Args:
        observation: numbers of an observation.
        actions: discrete actions, or numbers of a continuous one.
        state_bytes: bytes of the agent's state.
        states: where observations are one of n states, and the networks see each of these once for a batch,
            n; else 0. The first layer is then no product, and the target network is asked when it is copied:
            forward and back through the online network takes 6 (W - W1) n, and a target that moves at each
            step 2 (W - W1) n more.

    Double DQN: three forward passes (Q(s), and both networks on s') and one backward, 10 W B - 2 W1 B.

    SAC, with actor a and two critics c: the critics' loss takes the actor on s', targets and critics forward
    and critics backward, 2 a + 2 (2 c + 2 c + 4 c - 2 c1); the actor's takes the actor both ways and the
    critics forward and back to their inputs, 2 a + 4 a - 2 a1 + 2 (2 c + 2 c); both times B. The
    temperature's step uses the actor's pass.

    >>> needed(DDQN(hidden=(256, 256), batch_size=256), 4, 2, 0).gradient_step / 1e6
    171.44...
    """
    b = agent.batch_size
    if isinstance(agent, DDQN):
        w, w1 = weights((observation, *agent.hidden, actions))
        step, act, row = 10.0 * w - 2 * w1, 2.0 * w, 2 * observation + 4
        if states:
            each = 6.0 if agent.polyak == 1 else 8.0
            step, act, row = each * (w - w1) * states / b, 2.0 * (w - w1), 6
    elif isinstance(agent, SAC):
        a, a1 = weights((observation, *agent.hidden, 2 * actions))
        c, c1 = weights((observation + actions, *agent.hidden, 1))
        step, act, row = 8.0 * a - 2 * a1 + 24.0 * c - 4 * c1, 2.0 * a, 2 * observation + actions + 3
    else:
        raise NotImplementedError(f"the work of {type(agent).__name__} is not counted")
    return Work(step * b, act, 2.0 * state_bytes + FLOAT * row * b)
