"""The arms of each part of the study: names, and sentences of phases."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from loro_jax.training.arms import Plan, Sentence
from loro_jax.training.guidance import Conservative, Kl
from loro_jax.training.phases import Evaluate, Interact, Keep
from loro_jax.types import Arm
from studies.blocks import BEST, UNIFORM, WORST, Block, N
from studies.priors.worlds import RELEASED, Known

KS = (1, 4, 16)
K = 4
TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0)
WEIGHTS = (0.0, 0.01, 0.05, 0.1, 0.5)
"""Of the KL term (METHODS.md 1.4, and 0)."""
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Of answers that are replaced."""
PERCENT = (1, 3, 10, 30, 100)
"""Of the dataset's rows."""
CONSERVATIVE = (0.2, 1.0, 5.0)
"""Weights of CQL's penalty that are tried; the study of LLM priors has 5."""
EPISODES = 100
"""By which what was learned offline is evaluated."""
NUMBERS = ("KS", "K", "TEMPERATURES", "WEIGHTS", "SHARES", "PERCENT", "CONSERVATIVE", "EPISODES")
"""Those above, which decide what is run."""


def tag(number: float) -> str:
    """A number as a part of an arm's name, which has no points."""
    return f"{number:g}".replace(".", "p")


def dqn_prior(name: str, says: str, support: Block) -> Sentence:
    return lambda p: Arm(name, (Interact(p.protocol.schedule.budget, support=support),), says)


def kl_prior(name: str, says: str, penalty: Kl) -> Sentence:
    return lambda p: Arm(name, (Interact(p.protocol.schedule.budget, penalty=penalty),), says, agent=p.ppo)


def online(known: Known) -> list[str | Sentence]:
    """Learners without a prior; and for each model k of its answers, the acting rules, each seed's own draw
    of the answers, and PPO with either KL term."""
    found: list[str | Sentence] = ["pure_rl", "ppo", "random_policy"]
    for model in known.models:
        of = functools.partial(known.blocks.block, model)
        for k in ks(known, model):
            found.append(dqn_prior(f"dqn-{model}-k{k}", f"DQN-Prior, {k} answers of {model}", of(k)))
        rules = {
            "own": of(K, own=True),
            "softmax": of(K, temperature=0.1, epsilon=0.0),
            "both": of(K, temperature=0.1, epsilon=0.2),
        }
        for rule, block in rules.items():
            found.append(dqn_prior(f"dqn-{model}-{rule}", f"DQN-Prior, {K} of {model}, {rule}", block))
        for estimator in ("forward", "reverse"):
            penalty = Kl(0.1, of(N), estimator=estimator)  # type: ignore[arg-type]
            found.append(
                kl_prior(f"kl-{model}-{estimator}", f"PPO with a {estimator} KL to {model}", penalty)
            )
    return found


def ks(known: Known, model: str) -> list[int]:
    """`KS`, of a model that gave fewer answers as many as there are."""
    return list(dict.fromkeys(min(k, known.blocks.sizes[model]) for k in KS))


def sweeps(known: Known) -> list[str | Sentence]:
    """Softmax temperatures of DQN-Prior, and weights of both KL terms, by the best model's answers."""
    model = best(known)
    of = functools.partial(known.blocks.block, model)
    found: list[str | Sentence] = ["pure_rl", "ppo"]
    for temperature in TEMPERATURES:
        block = of(K, temperature=temperature, epsilon=0.0)
        says = f"DQN-Prior, softmax at {temperature:g}"
        found.append(dqn_prior(f"temperature-{tag(temperature)}", says, block))
    for estimator in ("forward", "reverse"):
        for weight in WEIGHTS:
            penalty = Kl(weight, of(N), estimator=estimator)  # type: ignore[arg-type]
            says = f"PPO, {estimator} KL x {weight:g}"
            found.append(kl_prior(f"{estimator}-{tag(weight)}", says, penalty))
    return found


def corrupted(known: Known) -> Iterable[tuple[str, str, str, float]]:
    """Names of arms, what their answers are of, by what they are replaced, and the share."""
    for base in (best(known), BEST):
        for other in (UNIFORM, WORST):
            for share in SHARES:
                # Nothing replaced, or all of it, is the same whatever was there, or whatever comes.
                if (share or other == UNIFORM) and (share < 1 or base == BEST):
                    yield f"on-{base}-{other}-{tag(share)}", base, other, share


def coverage(known: Known) -> list[str | Sentence]:
    """DQN-Prior on answers of which a share is replaced, each seed drawing which."""
    found: list[str | Sentence] = ["pure_rl"]
    for name, base, other, share in corrupted(known):
        block = known.blocks.block(base, K, other=other, share=share, own=True)
        found.append(dqn_prior(name, f"DQN-Prior on {base}, {share:.0%} {other}", block))
    return found


def offline(
    name: str, says: str, rows: int, weight: float, support: Block | None = None
) -> Callable[[Plan], Arm]:
    """CQL, or among a block's answers CQL-Prior, on so many rows of the dataset, each seed's own draw."""

    def sentence(p: Plan) -> Arm:
        fit = p.fit(support=support, penalty=Conservative(weight))
        return Arm(name, (p.load, Keep(rows), *fit, Evaluate(EPISODES, support=support)), says, "llm")

    return sentence


def cql(rows: int, weights: Sequence[float] = CONSERVATIVE) -> list[str | Sentence]:
    """CQL on each share of `rows`, with each weight."""
    found: list[str | Sentence] = []
    for percent in PERCENT:
        for weight in weights:
            name, many = f"cql-{percent}-{tag(weight)}", max(1, rows * percent // 100)
            found.append(offline(name, f"CQL x {weight:g}, {percent} % of the rows", many, weight))
    return found


def cql_prior(known: Known, rows: int, weight: float) -> list[str | Sentence]:
    """CQL-Prior on each share of `rows`, by each model's answers, and by the two that are no model's."""
    found: list[str | Sentence] = []
    for base in (*known.models, BEST, UNIFORM):
        block = known.blocks.block(base, K, own=True)
        for percent in PERCENT:
            many = max(1, rows * percent // 100)
            says = f"CQL-Prior, {K} of {base}, {percent} % of the rows"
            found.append(offline(f"prior-{base}-{percent}", says, many, weight, block))
    return found


def offline_names(bases: Iterable[str], weight: float) -> dict[str, list[str]]:
    """The arms of `cql` and `cql_prior` by method, in the order of their shares of the rows."""
    found = {"cql": [f"cql-{percent}-{tag(weight)}" for percent in PERCENT]}
    return found | {base: [f"prior-{base}-{percent}" for percent in PERCENT] for base in bases}


def projection(known: Known) -> list[str | Sentence]:
    """DQN-Prior on answers as they are read here, and by the study's rules, and on draws by scores."""
    found: list[str | Sentence] = ["pure_rl"]
    for model in known.models:
        for kind, name in projections(known, model).items():
            block = known.blocks.block(name, K, own=True)
            found.append(dqn_prior(f"dqn-{model}-{kind}", f"DQN-Prior on {kind} of {model}", block))
    return found


def projections(known: Known, model: str) -> dict[str, str]:
    """The blocks of a model's answers, by how they became actions: "map" as they are read here."""
    every = {"map": model, "released": f"{model} {RELEASED}", "dist": f"{model} p_dist"}
    return {kind: name for kind, name in every.items() if name in known.blocks.names}


def best(known: Known) -> str:
    """The model most of whose first answers are best actions, weighed by play."""
    return max(known.models, key=lambda model: known.blocks.covered(model, 1))
