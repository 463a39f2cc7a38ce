"""Agents: frozen settings and pure functions (`types.Agent`), one file each.

To add one, write its file and name it in `AGENTS`.
"""

from loro_jax.agents.a2c import A2C
from loro_jax.agents.base import OffPolicy, settings
from loro_jax.agents.ddqn import DDQN
from loro_jax.agents.on_policy import OnPolicy
from loro_jax.agents.ppo import PPO
from loro_jax.agents.sac import SAC
from loro_jax.errors import UserError
from loro_jax.spaces import Space

Learner = DDQN | SAC | PPO | A2C
AGENTS: dict[str, type[Learner]] = {agent.name: agent for agent in (DDQN, SAC, PPO, A2C)}


def untuned(actions: Space) -> Learner:
    """The first agent that can choose among `actions`, under settings that nothing was tuned for."""
    for agent in AGENTS.values():
        if agent.accepts(actions):
            return agent.untuned()
    raise UserError(f"no agent chooses among {actions}; there are: {', '.join(AGENTS)}")


__all__ = ["A2C", "AGENTS", "DDQN", "PPO", "SAC", "Learner", "OffPolicy", "OnPolicy", "settings", "untuned"]
