"""Off-policy agents: frozen hyper-parameters and pure `init`, `act`, `learn` (`loro_jax.types.Agent`)."""

from loro_jax.agents.ddqn import DDQN

__all__ = ["DDQN"]
