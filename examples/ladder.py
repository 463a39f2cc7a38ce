"""A task of one's own in one file: climb a ladder that sways in the wind.

python -m loro_jax.check examples/ladder.py:TASK
python -m benchmarks.run --task examples/ladder.py:TASK --seeds 8
python -m loro_jax.language.collect --task examples/ladder.py:TASK --model NAME
"""

import jax
import jax.numpy as jnp

import loro_jax as lj
from loro_jax.tasks.words import at, banded, size

RUNGS = 8


def reset(key):
    """The foot of the ladder; a state is the rung and the wind, each ()."""
    state = (jnp.int32(0), jax.random.uniform(key, minval=-1.0, maxval=1.0))
    return observe(state), state


def step(key, state, action):
    """Wait, climb, or jump two rungs; in a strong wind climbing slips, and jumping falls to the ground."""
    rung, wind = state
    strong = jnp.abs(wind) > 0.5
    climbed = rung + jnp.where(strong, 0, 1)
    jumped = jnp.where(strong, 0, rung + 2)
    rung = jnp.select([action == 0, action == 1], [rung, climbed], jumped).astype(jnp.int32)
    gust = 0.5 * jax.random.normal(key)
    wind = jnp.clip(0.7 * wind + gust, -1.0, 1.0)
    reward = jnp.where(rung >= RUNGS, 1.0, -0.05)  # each step costs a little; the top pays
    return observe((rung, wind)), (rung, wind), reward, rung >= RUNGS


def observe(state):
    """Rung as a share of the ladder, and the wind: (2,)."""
    rung, wind = state
    return jnp.stack([rung / RUNGS, wind])


# An observation in words: each field finds the place of its text by comparisons.
LEFT = [str(RUNGS - n) for n in range(RUNGS + 1)]
WORDS = lj.Description(
    fields=(
        banded(
            "left",
            at(0),
            [(n + 0.5) / RUNGS for n in range(RUNGS)],
            LEFT,
        ),
        banded("wind", size(1), (0.25, 0.5), ("calm", "breezy", "stormy")),
    ),
    reader=lj.Words(("wait", "climb", "jump")),
)


PROMPT = """You climb a ladder. You can wait, climb one rung, or jump two rungs up.
In a storm climbing slips, and a jump falls down to the ground. Every moment costs a little.
Think in one short sentence, then write the line "Action: wait", "Action: climb" or "Action: jump".

{left} rungs are left. The wind is {wind}.
"""

TASK = lj.Task(
    name="ladder",
    game=lj.environment(
        reset, step, observation_shape=(2,), actions=lj.Discrete(3), limit=40, threshold=0.5, best=0.85
    ),
    words=WORDS,
    prompts={"cot": PROMPT},
)
