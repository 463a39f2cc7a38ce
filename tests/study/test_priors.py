"""The study of priors over actions: blocks of answers, mixed datasets, and the whole of it, small."""

from __future__ import annotations

import gzip
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax import files
from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.language import journal, prompts, tables
from loro_jax.tasks import Task, load
from loro_jax.tasks.actions import among
from loro_jax.tasks.reference import preferences
from loro_jax.training.guidance import keyed
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge
from studies import blocks
from studies.blocks import BEST, UNIFORM, WORST, Block, N
from studies.models import MODELS, drawn
from studies.priors import arms, datasets, page, parts
from studies.priors.command import main
from studies.priors.worlds import named, opened

LAKE = "frozen_lake_nonslippery"


def of_chance(task: Task, right: float, n: int, seed: int = 0) -> Answers:
    """A table whose answers are a best action with this chance, else drawn, a tenth of them unreadable."""
    rng, actions = np.random.default_rng(seed), task.environment().action_space.n

    def policy(obs: np.ndarray) -> np.ndarray:
        best = preferences(task, obs).argmax(axis=1)
        said = rng.integers(actions, size=(len(obs), n))
        said = np.where(rng.random(said.shape) < right, best[:, None], said)
        return np.where(rng.random(said.shape) < 0.1, -1, said)

    return tables.from_policy(policy, task, named(task.name).prompt)


def kept(task: Task, folder: pathlib.Path) -> None:
    """Tables of two models, in the form that a survey leaves."""
    for tag, right, n in (("05b", 0.7, 16), ("15b", 0.9, 8)):
        table = of_chance(task, right, n)
        name = drawn(MODELS[tag], named(task.name).prompt)
        prompt = prompts.load(task, named(task.name).prompt)
        texts = [prompt.tail(table.coding.texts(d)) for d in table.digits.tolist()]
        model = {"name": MODELS[tag]}
        card = table.card | {"name": name, "model": model, "complete": True}
        scores = np.log(np.full((len(table.digits), 4), 0.25, np.float32)) if tag == "05b" else None
        written = Answers(table.coding, table.digits, table.actions, table.asked, card, scores)
        answers.save(written, texts, folder / task.name / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    where = tmp_path_factory.mktemp("tables")
    kept(load(LAKE), where)
    return where


def test_blocks_hold_what_each_table_says_about_every_text(folder: pathlib.Path) -> None:
    known = opened(named(LAKE), folder)
    table = known.blocks.table
    assert dict(known.blocks.sizes) == {"05b": 16, "05b p_dist": 16, "15b": 8, BEST: N, WORST: N, UNIFORM: N}
    assert table.samples == 6 * N and len(table.digits) == 11
    for tag in ("05b", "15b"):
        one = known.models[tag]
        every = [f.name for f in table.coding.fields]
        places = [every.index(f.name) for f in one.coding.fields]
        cells = dict(zip(map(tuple, table.digits[:, places].tolist()), known.blocks.said(tag), strict=True))
        for digits, said in zip(one.digits.tolist(), one.actions, strict=True):
            assert cells[tuple(digits)].tolist() == said.tolist()
    seen = np.eye(16)[[0, 4, 8]]
    rows = table.nearest(np.asarray(answers.digits_of(table.coding)(seen.astype(np.float32))))
    assert (known.blocks.wanted[rows] == preferences(known.task, seen)).all()
    best, worst = known.blocks.said(BEST), known.blocks.said(WORST)
    assert np.take_along_axis(known.blocks.wanted, best, axis=1).all()
    assert not np.take_along_axis(known.blocks.wanted, worst, axis=1).any()
    # Above the goal's left neighbour's hole: the adversary steps into one wherever there is one.
    cell = table.nearest(np.asarray(answers.digits_of(table.coding)(np.eye(16, dtype=np.float32)[[4]])))
    assert set(worst[cell[0]].tolist()) == {2}


def rows_of(known: object, block: Block, seeds: int) -> np.ndarray:
    """Slots of each action, (seeds, T, A)."""
    table = known.blocks.table  # type: ignore[attr-defined]
    world = World(known.env, object(), Interaction(1, 1, False), table.coding)  # type: ignore
    told = Knowledge(None, table.table())  # type: ignore[arg-type]
    keys = jax.random.split(jax.random.key(0), seeds)
    return np.asarray(jax.vmap(lambda key: block.rows(keyed(key), world, told))(keys))[:, : len(table.digits)]


def test_a_block_proposes_its_own_answers(folder: pathlib.Path) -> None:
    """The first k of a block, an unreadable one for an action that a seed drew; or k of them, none twice."""
    known = opened(named(LAKE), folder)
    for tag, k in (("05b", 4), ("15b", 8)):
        said = known.blocks.said(tag)[:, :k]
        for own in (False, True):
            found = rows_of(known, known.blocks.block(tag, k, own=own), 3)
            assert (found.sum(axis=2) == k).all()
            if own and k < known.blocks.sizes[tag]:
                continue
            for text, answered in enumerate(said):  # all eight of eight, whichever order they are drawn in
                read = np.bincount(answered[answered >= 0], minlength=4)
                assert (found[:, text] >= read).all()
                assert (found[:, text].sum(axis=1) - read.sum() == (answered < 0).sum()).all()


def test_the_mean_over_sets_by_hand() -> None:
    """Of 2 of 3 columns: the three products' mean."""
    found = blocks.without(np.array([[0.5, 0.2, 1.0]]), 2)
    assert found == pytest.approx((0.5 * 0.2 + 0.5 * 1.0 + 0.2 * 1.0) / 3)


@pytest.mark.parametrize("own", [False, True])
def test_coverage_is_what_seeds_see(folder: pathlib.Path, own: bool) -> None:
    """Over 2,000 seeds: P(a best action among the k) is the expectation that the page reports, within 4.5
    standard errors (1 in 100,000), which are 0 where nothing is drawn."""
    known = opened(named(LAKE), folder)
    for base, other, share in (
        ("05b", UNIFORM, 0.5),
        ("15b", WORST, 0.25),
        (BEST, WORST, 0.75),
        (BEST, UNIFORM, 1.0),
    ):
        block = known.blocks.block(base, 4, other=other, share=share, own=own)
        found = rows_of(known, block, 2000)
        among = (found * known.blocks.wanted > 0).any(axis=2) @ known.blocks.weights
        error = among.std() / 2000**0.5
        wanted = known.blocks.covered(base, 4, share, other, own)
        assert among.mean() == pytest.approx(wanted, abs=4.5 * error + 1e-9)


def test_draws_by_scores_are_as_likely_as_the_scores() -> None:
    """One text, three of four actions there: a chi-squared test at 1 in 10,000."""
    scores = np.log(np.tile([[0.5, 0.2, 0.2, 0.1]], (1000, 1)))
    legal = np.tile([[True, True, False, True]], (1000, 1))
    found = np.bincount(blocks.drawn(scores, legal, 8).ravel(), minlength=4)
    assert found[2] == 0 and found.sum() == 8000
    expected = np.array([5, 2, 0, 1]) / 8 * found.sum()
    assert ((found - expected)[[0, 1, 3]] ** 2 / expected[[0, 1, 3]]).sum() < 18.5


@pytest.mark.parametrize("name", [LAKE, "household", "overcooked_tomato"])
def test_datasets_are_whole_episodes_three_quarters_of_which_succeed(name: str) -> None:
    task, world = load(name), named(name)
    env = task.environment()
    data = datasets.mixed(task, env, world.success, "mixed")
    assert datasets.ROWS <= len(data.transitions.reward) <= datasets.ROWS + 8 * env.limit
    share = (data.returns >= world.success - 1e-6).mean()
    assert share == pytest.approx(datasets.SUCCEED, abs=0.01)
    ends = (data.transitions.terminated | data.transitions.truncated)[data.ends - 1]
    assert ends.all() and ends.sum() == (data.transitions.terminated | data.transitions.truncated).sum()
    inside = np.setdiff1d(np.arange(len(data.transitions.reward) - 1), data.ends - 1)
    assert (data.transitions.next_obs[inside] == data.transitions.obs[inside + 1]).all()
    if env.legal is not None:
        masks = np.asarray(jax.vmap(env.legal)(jnp.asarray(data.transitions.obs)))
        assert masks[np.arange(len(masks)), data.transitions.action].all()


def test_rows_that_are_needed_by_hand() -> None:
    """CQL earns 1 with all and 0.95 of it with 30 %; the prior 0.45 with 3 % and 1.45 with 10 %: half way to
    0.95 in logarithms."""

    def told(cql: list[float], prior: list[float], random: float = 0.0) -> dict[str, Any]:
        methods = arms.offline_names(["05b"], 1.0)
        named = zip(methods["cql"] + methods["05b"], cql + prior, strict=True)
        return parts.needed({name: np.full(4, x) for name, x in named}, methods, random)

    found = told([0.0, 0.0, 0.5, 0.95, 1.0], [0.0, 0.45, 1.45, 1.5, 1.5])
    assert found["cql"]["percent"] == pytest.approx(30)
    assert found["05b"]["percent"] == pytest.approx((3 * 10) ** 0.5) and found["05b"]["level"]
    assert found["05b"]["ci95"] == pytest.approx([(3 * 10) ** 0.5] * 2)
    assert found["05b"]["fewer"] == pytest.approx(1 - (3 * 10) ** 0.5 / 30)
    never = told([1.0] * 5, [0.9] * 5)
    assert never["05b"]["percent"] is None and never["05b"]["fewer"] is None
    assert never["cql"]["percent"] == pytest.approx(1)
    assert not told([1.0] * 5, [1.0] * 5, random=1.0)["cql"]["level"]  # no more than a random policy
    assert told([1.0] * 5, [0.9] * 5, random=-1.0)["05b"]["percent"] == pytest.approx(1)  # 1.9 of 2 is 0.95
    assert [page.percent(x) for x in (None, 1.0, 5.477)] == ["more than all", "1 % or less", "5.48 %"]


def test_where_a_prior_breaks_even_by_hand() -> None:
    """The largest coverage that loses with Holm's p below 0.05, and the smallest that gains so."""
    told = {
        "a": (0.2, -1.5, 0.01),
        "b": (0.6, -0.5, 0.04),
        "c": (0.7, -0.4, 0.06),
        "d": (0.8, 0.1, 0.9),
        "e": (0.9, 0.5, 0.01),
    }
    kept: dict[str, Any] = {
        "cells": {name: {"best_among": among} for name, (among, *_) in told.items()},
        "contrasts": [{"arm": name, "difference": x, "holm": p} for name, (_, x, p) in told.items()],
    }
    assert page.breaks_even(kept) == "0.60, 0.90"
    kept["contrasts"] = [{"arm": name, "difference": 1.0, "holm": 0.05} for name in told]
    assert page.breaks_even(kept) == "none, none" and page.breaks_even(None) == "-"


def test_data_that_is_among_proposals_is_counted(folder: pathlib.Path) -> None:
    """Of the reference's block the rows in which the data did as it would; of the uniform one by chance."""
    known = opened(named(LAKE), folder)
    data = datasets.mixed(known.task, known.env, 1.0, "mixed")
    wanted = preferences(known.task, np.asarray(data.transitions.obs, np.float64))
    did = wanted[np.arange(len(wanted)), data.transitions.action]
    several = wanted.sum(axis=1)  # of two best actions, four draws of the sixteen hold both but for 1 - ...
    exact = np.where(
        several == 1, did, did * (1 - 2 * blocks.without(np.repeat([[0.0, 1.0] * 8], 1, 0), 4)[0] / 2)
    )
    assert parts.among(known, BEST, data) == pytest.approx(exact.mean(), abs=1e-9)
    assert parts.among(known, UNIFORM, data) == pytest.approx(1 - 0.75**4)


def test_the_studys_rules_read_transcripts_again(tmp_path: pathlib.Path) -> None:
    """An answer that names nothing, or two phrases as often: the last phrase that there is."""
    task = load("overcooked_tomato")
    prompt = prompts.load(task, "recipe")
    table = tables.from_policy(
        lambda obs: preferences(task, obs).argmax(axis=1)[:, None].repeat(3, 1), task, "recipe"
    )
    said = ("get the tomato", "I would wait.", "go to the cutting board, or get the plate")
    coding, steps, actions = table.coding, [], np.full((len(table.digits), 3), -1, np.int32)
    for row, digits in enumerate(table.digits.tolist()):
        reader = among(task.words.reader, coding.legal(digits))  # type: ignore[union-attr]
        read = [reader.read(answer) for answer in said]
        actions[row] = [-1 if a is None else a for a in read]
        attempts = [
            {"answer": a, "action": r, "asked": False, "prompt_tokens": 1, "answer_tokens": 1}
            for a, r in zip(said, read, strict=True)
        ]
        steps.append({"round": 0, "place": row, "digits": digits, "state": coding.texts(digits), "first": 0,
                      "attempts": attempts, "seconds": 0.0})  # fmt: skip
    texts = [prompt.tail(coding.texts(d)) for d in table.digits.tolist()]
    kept = Answers(coding, table.digits, actions, table.asked, table.card)
    answers.save(kept, texts, tmp_path)
    with gzip.open(tmp_path / journal.TRANSCRIPT, "wt") as lines:
        lines.write("\n".join(json.dumps(line) for line in ({"kind": "survey"}, *steps)) + "\n")
    again = tables.reread(tmp_path, task)
    phrases = list(task.words.reader.phrases)  # type: ignore[union-attr]
    for row, digits in enumerate(kept.digits.tolist()):
        there = sorted(coding.legal(digits) or ())
        plate, board, tomato = (
            phrases.index(p) for p in ("get the plate", "go to the cutting board", "get the tomato")
        )
        both = [a for a in (plate, board) if a in there]
        assert again.actions[row].tolist() == [tomato if tomato in there else there[-1], there[-1], max(both)]
        assert kept.actions[row, 1] == -1
    assert tables.reread(tmp_path, task, released=False).actions.tolist() == kept.actions.tolist()
    with pytest.raises(UserError, match="frozen_lake's actions have none"):
        tables.ruled(load("frozen_lake"), True)


def test_what_there_is_not_is_one_line(tmp_path: pathlib.Path) -> None:
    for argv, says in (
        (["--worlds", "pong"], "the study has no world 'pong'"),
        (["--parts", "all"], "the study has no part 'all'"),
        (["--worlds", LAKE, "--tables", str(tmp_path)], "no model was asked with the prompt shots"),
        (["--page-only", "--out", str(tmp_path)], "nothing of the study is finished"),
    ):
        with pytest.raises(UserError, match=says):
            main(argv)


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_study_small(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part of one world; a second call finds all of it there; numbers follow from the kept arrays."""
    argv = ["--worlds", LAKE, "--seeds", "4", "--budget", "400", "--tables", str(folder)]
    argv += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main([*argv, "--dry-run"]) == 0 and not (tmp_path / "out").exists()
    assert main(argv) == 0
    assert capsys.readouterr().err.count(": done") == len(parts.PARTS)
    assert main(argv) == 0
    assert capsys.readouterr().err.count(": there") == len(parts.PARTS)
    found = {p: files.read_json(tmp_path / "out" / LAKE / f"{p}.json") for p in parts.PARTS}
    arrays = files.read_npz(tmp_path / "out" / LAKE / "online.npz")
    for name, told in found["online"]["arms"].items():
        assert arrays[name].shape == (4, len(found["online"]["env_steps"]))
        assert told["final"]["ci95"][0] <= told["final"]["iqm"] <= told["final"]["ci95"][1]
    gain = next(c for c in found["online"]["contrasts"] if c["arm"] == "dqn-05b-k4")
    means = parts.means(arrays)
    assert gain["difference"] == pytest.approx((means["dqn-05b-k4"] - means["pure_rl"]).mean())
    own = next(c for c in found["inference"]["cells"] if c["proposals"] == "05b-k4" and "05b" in c["trained"])
    assert (
        "p" not in own and 0 <= own["mean"] <= 1
    )  # compared with nothing: it is what others are compared with
    other = next(
        c for c in found["inference"]["cells"] if c["proposals"] == UNIFORM and "05b" in c["trained"]
    )
    assert other["difference"] == pytest.approx(other["mean"] - own["mean"]) and other["holm"] >= other["p"]
    assert [v["percent"] for v in found["offline"]["values"]["cql"]] == list(arms.PERCENT)
    told = (tmp_path / "out" / "README.md").read_text()
    for part in ("Online", "Offline", "Coverage", "Another model at inference", "Free answers and scores"):
        assert f"## {part}" in told
    assert "drawn by scores (p_dist)" in told
    # Of another budget: what is finished is not replaced, policies are not of it, nor is what was run.
    other = [*argv[:4], "--budget", "800", *argv[6:]]
    with pytest.raises(UserError, match=r"online.json is finished with other numbers \(settings\): name"):
        main([*other, "--dry-run"])
    other[other.index("--out") + 1] = str(tmp_path / "other")
    with pytest.raises(UserError, match="or of another run; run the part online first"):
        main([*other, "--parts", "inference"])
    with pytest.raises(UserError, match=r"online holds another configuration .*: remove it, or name another"):
        main([*other, "--parts", "online"])
    assert {p.name for p in (tmp_path / "out" / "figures").iterdir()} >= {
        "online.png",
        "offline.pdf",
        "sweeps.png",
    }
