"""Off-policy agents: frozen hyper-parameters, pure `init`, `act`, `explore`, `learn` (`types.Agent`)."""

from loro_jax.agents.ddqn import DDQN
from loro_jax.agents.sac import SAC

__all__ = ["DDQN", "SAC"]
