"""The parts of the study: what each trains, and what is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import loro_jax as lj
from loro_jax.analysis import statistics
from loro_jax.data import answers
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.running import experiment
from loro_jax.training import prior
from loro_jax.training.arms import Sentence
from studies import runs
from studies.blocks import BEST, UNIFORM, WORST, only, without
from studies.priors import arms, datasets
from studies.priors.inference import Trained
from studies.priors.worlds import Known
from studies.runs import SEED, Kept, against, curves, described, means


@dataclasses.dataclass(frozen=True)
class How(runs.How):
    """`runs.How`, of a world."""

    def of(self, known: Known) -> int:
        return self.seeds or known.world.seeds

    def protocol(self, known: Known, least: int = 0) -> Protocol:
        """The world's, with room for so much prior data."""
        budget = self.budget or known.protocol.schedule.budget
        interval = known.protocol.schedule.eval_interval
        more = -(-least // interval) * interval + interval if least else 0
        return known.protocol.replace(budget=max(budget, more))


def ran(
    how: How,
    known: Known,
    part: str,
    chosen: Sequence[str | Sentence],
    protocol: Protocol,
    seed: int = SEED,
    **given: Any,
) -> lj.Result:
    """A run, which goes on where it was interrupted."""
    folder = how.work / known.world.task / part
    return runs.ran(folder, known.task, chosen, protocol, how.of(known), seed, **given)


def trained(
    how: How,
    known: Known,
    part: str,
    chosen: Sequence[str | Sentence],
    pairs: Callable[[Sequence[str]], list[tuple[str, str]]],
    **given: Any,
) -> Kept:
    """A part that learns online: its arms' numbers, and the contrasts of pairs of them."""
    result = ran(how, known, part, chosen, how.protocol(known), answers=known.blocks.table, **given)
    kept, uniform = curves(result), result.flat.get("random_policy")
    found = {
        "arms": described(kept),
        "contrasts": against(means(kept), pairs(list(kept))),
        "random_return": None if uniform is None else float(uniform.mean()),
        "env_steps": list(result.returns.axes["env_steps"]),
        "diverged": {arm: len(seeds) for arm, seeds in result.summary["diverged"].items()},
    }
    return found, kept


def online(how: How, known: Known) -> Kept:
    """Learners without a prior and with it; LORO and the model's own play beside them, on the same budget."""

    def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
        others = [n for n in names if n not in ("pure_rl", "ppo")]
        return [(n, "ppo" if n.startswith("kl-") else "pure_rl") for n in others] + [("ppo", "pure_rl")]

    found, kept = trained(how, known, "online", arms.online(known), pairs, save_policies=True)
    loro: dict[str, np.ndarray] = {}
    for model in known.models:
        table = only(known.blocks, model)
        result = ran(how, known, f"loro-{model}", ("loro",), how.protocol(known), answers=table)
        loro[f"loro-{model}"] = curves(result)["loro"]
    found["arms"] |= described(loro)
    every = [*pairs(list(kept)), *((name, "pure_rl") for name in loro)]
    found["contrasts"] = against(means(kept | loro), every)
    found["policies"] = {name: of_policy(known, name) for name in known.blocks.names}
    return found, kept | loro


def of_policy(known: Known, name: str) -> dict[str, Any]:
    """What a block's answers are worth: their play, and how often a best action is among the first k."""
    played = prior.played(only(known.blocks, name), known.env, _roomy(known), seed=SEED).returns
    means = statistics.resample(len(played), 1, seed=SEED).T @ played / len(played)
    said = known.blocks.said(name)
    return {
        "return": float(played.mean()),
        "ci95": [float(end) for end in np.quantile(means, (0.025, 0.975))],
        "best_among_first": [known.blocks.covered(name, k) for k in range(1, said.shape[1] + 1)],
        "best_among_any": [known.blocks.covered(name, k, own=True) for k in range(1, said.shape[1] + 1)],
        "unreadable": float(known.blocks.weights @ (said < 0).mean(axis=1)),
    }


def _roomy(known: Known) -> Protocol:
    """The protocol, of whose budget prior data cannot take too much."""
    return known.protocol.replace(charge="episodes", tau=1)


def sweeps(how: How, known: Known) -> Kept:
    """Temperatures of DQN-Prior's softmax, and weights of the KL term."""

    def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
        return [
            (n, "pure_rl" if n.startswith("temperature") else "ppo")
            for n in names
            if n not in ("pure_rl", "ppo")
        ]

    found, kept = trained(how, known, "sweeps", arms.sweeps(known), pairs)
    return found | {"model": arms.best(known)}, kept


def coverage(how: How, known: Known) -> Kept:
    """Answers of which a share is replaced; beside it how often a best action is among those proposed."""

    def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
        return [(n, "pure_rl") for n in names if n != "pure_rl"]

    found, kept = trained(how, known, "coverage", arms.coverage(known), pairs)
    found["cells"] = {
        name: {
            "base": base, "other": other, "share": share,
            "best_among": known.blocks.covered(base, arms.K, share, other, own=True),
        }
        for name, base, other, share in arms.corrupted(known)
    }  # fmt: skip
    return found | {"model": arms.best(known)}, kept


def projection(how: How, known: Known) -> Kept:
    """Free answers mapped onto actions, also by the study's rules, against draws by each action's score."""
    of = {m: arms.projections(known, m) for m in known.models}
    several = [m for m in of if len(of[m]) > 1]
    if not several:
        return {"arms": {}, "contrasts": [], "policies": {}, "tokens": {}}, {}

    def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
        return [(f"dqn-{m}-{kind}", f"dqn-{m}-map") for m in several for kind in of[m] if kind != "map"]

    found, kept = trained(how, known, "projection", arms.projection(known), pairs)
    found["policies"] = {m: {kind: of_policy(known, name) for kind, name in of[m].items()} for m in several}
    found["tokens"] = {m: cost(known.models[m].card) for m in several}
    return found, kept


def cost(card: Mapping[str, Any]) -> dict[str, float | None]:
    """Tokens that a model evaluates for a text beyond what all prompts begin with: to read it and give K
    answers, or to score every action that there is; None where the table does not say."""
    texts, said = card.get("asked"), card.get("answers")
    read, answered, scored = (card.get(k) for k in ("read_tokens", "answer_tokens", "score_tokens"))
    free = None
    if texts and said and read is not None and answered is not None:
        free = read / texts + arms.K * answered / said
    return {"map": free, "dist": None if scored is None or not texts else scored / texts}


def offline(how: How, known: Known) -> Kept:
    """CQL and CQL-Prior on shares of a dataset of mixed quality."""
    folder = how.work / known.world.task / f"dataset-{known.world.success:g}-{datasets.ROWS}"
    data = datasets.written(known.task, known.env, known.world.success, folder)
    rows = len(data.transitions.reward)
    protocol = how.protocol(known, rows).replace(
        tau=len(data.episode_lengths), fit_steps=known.world.fit_steps, charge="steps",
        replay_capacity=max(rows, known.protocol.agent.replay_capacity),
    )  # fmt: skip
    given: dict[str, Any] = {"answers": known.blocks.table, "episodes": str(folder)}
    # The weight with which CQL itself earns most, over the shares, on other keys than what follows.
    tried = flat(ran(how, known, "offline-weights", arms.cql(rows), protocol, seed=SEED + 1, **given))
    earned = {
        w: float(np.mean([tried[f"cql-{percent}-{arms.tag(w)}"].mean() for percent in arms.PERCENT]))
        for w in arms.CONSERVATIVE
    }
    weight = max(earned, key=lambda w: earned[w])
    chosen = [*arms.cql(rows, (weight,)), *arms.cql_prior(known, rows, weight)]
    result = ran(how, known, f"offline-{arms.tag(weight)}", chosen, protocol, **given)
    values = flat(result)
    methods = arms.offline_names((*known.models, BEST, UNIFORM), weight)
    pairs = [
        (name, base) for m, names in methods.items() if m != "cql"
        for name, base in zip(names, methods["cql"], strict=True)
    ]  # fmt: skip
    random = result.summary["random_return"]
    found = {
        "rows": rows, "episodes": len(data.episode_lengths), "weight": weight,
        "successes": float((data.returns >= known.world.success - 1e-6).mean()),
        "data_return": float(data.returns.mean()), "random_return": random,
        "tried": {str(w): x for w, x in earned.items()},
        "diverged": {
            name: n for name, x in result.flat.items() if (n := int(np.isnan(np.asarray(x, float)).sum()))
        },
        "values": {
            m: [
                {"percent": percent, "mean": float(values[name].mean()),
                 "ci95": list(statistics.interval(values[name], statistics.weighted_mean, seed=SEED))}
                for percent, name in zip(arms.PERCENT, names, strict=True)
            ]
            for m, names in methods.items()
        },
        "contrasts": against(values, pairs),
        "in_dataset": {name: among(known, name, data) for name in (*known.models, BEST, UNIFORM)},
    }  # fmt: skip
    return found, values


def flat(result: lj.Result) -> dict[str, np.ndarray]:
    """Returns of flat lines, (seeds,) by arm; what diverged earns what a random policy does."""
    worst = result.summary["random_return"]
    return {
        name: np.where(np.isnan(x), np.nan if worst is None else worst, x)
        for name, x in ((k, np.asarray(v, np.float64)) for k, v in result.flat.items())
    }


def among(known: Known, name: str, data: Any) -> float:
    """The share of the dataset's rows whose action is among K answers that are drawn of a block's."""
    table, said = known.blocks.table, known.blocks.said(name)
    rows = table.nearest(np.asarray(answers.digits_of(table.coding)(data.transitions.obs)))
    said, there = said[rows], known.blocks.legal[rows].sum(axis=1)
    hit = np.where(said < 0, 1 / there[:, None], said == data.transitions.action[:, None])
    return float((1 - without(1 - hit, min(arms.K, said.shape[1]))).mean())


SAME = 0.95
"""Of the way from a uniform policy to where CQL comes with all rows: what counts as the same return."""


def needed(
    values: Mapping[str, np.ndarray], methods: Mapping[str, Sequence[str]], random: float
) -> dict[str, dict[str, Any]]:
    """The share of rows, in percent, with which each method earns as much as CQL with all but for `SAME`:
    between two shares by a line in their logarithms; intervals resample seeds of all methods together.

    The least share stands for it or less. None where not even all rows do; `fewer` is the share of CQL's rows
    that a method does not need. "level" says whether CQL earns more than a `random` policy at all, without
    which nothing is needed.

    Args:
        values: returns (seeds,) by arm.
        methods: of each, its arms by shares of the rows, "cql" among them.
    """
    shares = np.log(np.array(arms.PERCENT, np.float64))
    every = values[methods["cql"][-1]].astype(np.float64)
    counts = statistics.resample(len(every), 1, seed=SEED) / len(every)
    counts = np.concatenate([np.full((len(every), 1), 1 / len(every)), counts], axis=1)
    level = random + SAME * (every @ counts - random)
    percents = {}
    for method, names in methods.items():
        curve = np.stack([values[name] for name in names]).astype(np.float64) @ counts
        at = np.full(counts.shape[1], np.inf)
        for i in range(counts.shape[1]):
            reached = np.flatnonzero(curve[:, i] >= level[i] - 1e-9)
            if len(reached):
                first = reached[0]
                at[i] = shares[first]
                if first:
                    low, high = curve[first - 1, i], curve[first, i]
                    way = (level[i] - low) / (high - low)
                    at[i] = shares[first - 1] + way * (shares[first] - shares[first - 1])
        percents[method] = np.exp(at)
    found = {}
    for method, each in percents.items():
        low, high = np.quantile(each[1:], (0.025, 0.975), method="nearest")
        fewer = (
            1 - each / percents["cql"] if np.isfinite(percents["cql"]).all() else np.full(len(each), np.nan)
        )
        ends = np.quantile(fewer[1:], (0.025, 0.975), method="nearest")
        found[method] = {
            "percent": _or_none(each[0]), "ci95": [_or_none(low), _or_none(high)],
            "fewer": _or_none(fewer[0]), "fewer_ci95": [_or_none(end) for end in ends],
            "level": float(every.mean()) > random,
        }  # fmt: skip
    return found


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def inference(how: How, known: Known) -> Kept:
    """Learners trained among one model's answers, choosing among another's, or another number of them; and in
    games that nothing was trained on."""
    if not there(how, known, "online"):
        path = how.out / known.world.task / "online.json"
        raise UserError(f"{path}: is not there, or of another run; run the part online first")
    folder = how.work / known.world.task / "online"
    supports = {
        f"{model}-k{k}": known.blocks.block(model, k) for model in known.models for k in arms.ks(known, model)
    }
    supports |= {name: known.blocks.block(name, arms.K) for name in (BEST, WORST, UNIFORM)}
    games = {"": known.env}
    if known.world.unseen:
        games["unseen"] = known.task.environment(**dict(known.protocol.game) | dict(known.world.unseen))
    found: dict[str, Any] = {"cells": []}
    kept: dict[str, np.ndarray] = {}
    for model in known.models:
        name = f"{model}-k{min(arms.K, known.blocks.sizes[model])}"
        policies = Trained(folder, f"dqn-{name}", known, how.of(known))
        for game, env in games.items():
            own = policies.returns(supports[name], env)
            for other, support in supports.items():
                values = policies.returns(support, env)
                kept["/".join((f"dqn-{name}", other, *([game] if game else [])))] = values
                cell = {
                    "trained": f"dqn-{name}", "proposals": other, "game": game, "mean": float(values.mean()),
                    "ci95": list(statistics.interval(values, statistics.weighted_mean, seed=SEED)),
                }  # fmt: skip
                if other != name:
                    c = statistics.paired(values, own, seed=SEED)
                    cell |= {
                        "difference": c.difference,
                        "difference_ci95": list(c.difference_ci),
                        "p": c.p_value,
                    }
                found["cells"].append(cell)
    tested = [cell for cell in found["cells"] if "p" in cell]
    for cell, p in zip(tested, statistics.holm([c["p"] for c in tested]), strict=True):
        cell["holm"] = float(p)
    return found, kept


Part = Callable[[How, Known], Kept]
PARTS: dict[str, Part] = {
    "online": online,
    "offline": offline,
    "coverage": coverage,
    "sweeps": sweeps,
    "inference": inference,
    "projection": projection,
}


def identity(how: How, known: Known) -> dict[str, Any]:
    """What decides a part's numbers, but for the program."""
    world = dataclasses.asdict(known.world)
    numbers = {name: getattr(arms, name) for name in arms.NUMBERS} | {"ROWS": datasets.ROWS}
    of = runs.identity(
        known.world.task, how.protocol(known), how.of(known), numbers, known.blocks.table, known.models
    )
    return of | {"world": {k: v for k, v in world.items() if not callable(v)}}


def there(how: How, known: Known, part: str) -> bool:
    """Whether a part of this very study is finished."""
    return runs.there(how.out / known.world.task / part, identity(how, known))


def keep(how: How, known: Known, part: str) -> bool:
    """Runs a part, unless it is there; -> whether it ran."""
    if there(how, known, part):
        return False
    stem, here = how.out / known.world.task / part, identity(how, known)
    runs.keep(stem, here, PARTS[part](how, known))
    return True


def seconds(how: How, known: Known, part: str) -> float:
    """What a part will take here, roughly, without compiling; of inference, which only plays, nothing."""
    protocol, loro = how.protocol(known), list[str | Sentence](["loro"])
    chosen: dict[str, list[list[str | Sentence]]] = {
        "online": [arms.online(known), *([loro] * len(known.models))],
        "sweeps": [arms.sweeps(known)],
        "coverage": [arms.coverage(known)],
        "projection": [arms.projection(known)],
        "offline": [[*arms.cql(datasets.ROWS), *arms.cql_prior(known, datasets.ROWS, 1.0)]],
    }
    if part == "offline":
        protocol = _roomy(known).replace(fit_steps=known.world.fit_steps)
    total = 0.0
    for sentences in chosen.get(part, ()):
        e = experiment.prepare_experiment(
            known.task, protocol, sentences, how.of(known), SEED, answers=known.blocks.table
        )
        total += experiment.expected_seconds(e, [a for a in e.arms if a.phases])
    return total
