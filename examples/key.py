"""A task whose legal actions differ by state: fetch a key and open the door, in a hall of six places.

python -m loro_jax.check examples/key.py:TASK
python examples/key.py      # DQN, DQN-Prior and PPO with a KL term among answers that are half right
"""

import jax
import jax.numpy as jnp
import numpy as np

import loro_jax as lj
from loro_jax.tasks.words import at, rounded

END = 5
LEFT, RIGHT, TAKE, OPEN = range(4)
NAMES = ("left", "right", "take", "open")


def reset(key):
    """Somewhere between the two ends, without the key; a state is the observation, (2,)."""
    place = jax.random.randint(key, (), 1, END)
    state = jnp.stack([place, 0]).astype(jnp.float32)
    return state, state


def step(key, state, action):
    """Left, right, take the key at place 0, open the door at the other end."""
    place, carried = state
    moved = jnp.select([action == LEFT, action == RIGHT], [-1.0, 1.0], 0.0)
    state = jnp.stack([jnp.clip(place + moved, 0, END), jnp.where(action == TAKE, 1.0, carried)])
    return state, state, jnp.where(action == OPEN, 1.0, -0.02), action == OPEN


def legal(obs):
    """Which actions there are, bool (4,)."""
    place, carried = obs
    return jnp.stack([place > 0, place < END, (place == 0) & (carried == 0), (place == END) & (carried == 1)])


# The sets of actions that there are in some state, and which of them an observation has: a number that
# comparisons give, of NumPy's arrays and of JAX's alike.
SETS = ((RIGHT, TAKE), (RIGHT,), (LEFT, RIGHT), (LEFT,), (LEFT, OPEN))


def options(obs):
    first, last, key = (x.astype("int32") for x in (obs[0] == 0, obs[0] == END, obs[1] == 1))
    return first * key + 2 * (1 - first) * (1 - last) + last * (3 + key)


WORDS = lj.Description(
    fields=(
        rounded("place", at(0), 1, END, "{:.0f}"),
        lj.Field("key", ("no key", "the key"), lambda obs: obs[1].astype("int32")),
        lj.Field("options", tuple(", ".join(NAMES[a] for a in some) for some in SETS), options, SETS),
    ),
    reader=lj.Words(NAMES),
)
PROMPT = """You are in a hall of places 0 to 5. The key lies at place 0, the door that it opens is at place 5.
Think in one short sentence, then write the line "Action: WORD" with one of your options.

You stand at place {place} with {key}. Your options: {options}.
"""


def reference(observations):
    """The shortest way, (N, 2) -> bool (N, 4)."""
    place, carried = observations.T
    wanted = np.stack([carried == 0, carried == 1, carried == 0, carried == 1], axis=1)
    masks = np.array([legal(obs) for obs in observations])
    there = wanted & masks
    there[:, LEFT] &= place > 0
    return there


TASK = lj.Task(
    name="key",
    game=lj.environment(
        reset, step, observation_shape=(2,), actions=lj.Discrete(4), limit=40, legal=legal, best=0.83
    ),
    words=WORDS,
    prompts={"cot": PROMPT},
    reference=reference,
)


def half_right(observations):
    """Eight answers about each observation, of which each is right with a chance of a half, (N, 8)."""
    chance = np.random.default_rng(0)
    best = reference(observations).argmax(axis=1)
    said = chance.integers(4, size=(len(observations), 8))
    return np.where(chance.random(said.shape) < 0.5, best[:, None], said)


if __name__ == "__main__":
    answers = lj.answers_from_policy(half_right, TASK)
    arms = ("pure_rl", "dqn_prior", "ppo", "kl_prior")
    result = lj.run(TASK, arms, answers=answers, proposals="own", seeds=16, budget=4000)
    print(result)
    print(result.compare("kl_prior", "ppo"))
