"""The command: bad input is one line and exit status 2, and nothing is written."""

from __future__ import annotations

import hashlib
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import pytest
from unruly import Reply, Unruly, says

from loro_jax import progress
from loro_jax.data import episodes as dataset
from loro_jax.errors import UserError, command
from loro_jax.language import collect, journal, llamacpp, models
from loro_jax.language.backend import Completion, Decoding, Query
from loro_jax.spaces import Discrete


@pytest.fixture
def gguf(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file that begins as a model does, and is none."""
    path = tmp_path / "Tiny.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command; -> the one line that it refused with."""
    assert command(lambda: collect.main(list(arguments))) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--task", "cartpol"],
            "no task is called 'cartpol'; there are: cartpole",
        ),
        (["--environment", "cartpol"], "no task is called 'cartpol'"),  # the flag's former name
        (["--task", "gymnax:Catch-bsuite"], "gymnax_catch_bsuite has no words: no language model can play"),
        (["--prompt", "plane"], "no prompt 'plane' for cartpole; there are: cot, direct, hint, plain"),
        (["--candidates", "1"], "--candidates must be from 2 to 64"),
        (["--prompt", "direct"], "prompt 'direct' does not fit --mode cot: it begins the answer"),
        (["--mode", "direct", "--prompt", "hint"], "prompt 'hint' does not fit --mode direct: it must end"),
        (["--episodes", "-3"], "--episodes must be at least 1"),
        (["--episodes", "0"], "--episodes must be at least 1"),
        (["--threads", "0"], "--threads"),
        (["--parallel", "65"], "--parallel"),
        (["--seed", "-1"], "--seed"),
        (["--temperature", "-0.1"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--top-p", "0"], "--top-p"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--retries", "-1"], "--retries"),
        (["--samples", "-1"], "--samples"),
        (["--seed", "4294967296"], "--seed must be from 0 to 2147483647"),
        (["--episodes", "99999999999"], "--episodes must be at most 100000, got 99999999999"),
        (["--threads", "4294967297"], "--threads must be at most 512"),
        (["--parallel", "4294967297"], "--parallel must be from 1 to 64"),
        (["--samples", "99999999999"], "--samples must be at most 1000000"),
        (["--retries", "99999999999"], "--retries must be at most 1000"),
        (["--context", "4294967360"], "--context must be at most 1048576"),
        (["--max-tokens", "4294967297"], "--max-tokens must be at most 1048576"),
        (["--prompt", "\udcff"], "--model, --prompt and --out must be UTF-8 text; rename the file"),
        (["--model", "\udcff.gguf"], "--model, --prompt and --out must be UTF-8 text"),
        (["--out", "out\udcff"], "--model, --prompt and --out must be UTF-8 text"),
    ],
)
def test_bad_settings(
    capsys: pytest.CaptureFixture[str], gguf: pathlib.Path, arguments: list[str], says: str
) -> None:
    out = gguf.parent / "out"
    assert says in refused(capsys, "--model", str(gguf), "--out", str(out), *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no-such-model", "no model file at 'no-such-model'"),
        ("smollm2-135m-instruct", "does not exist; put the file there"),
        ("hf:owner/repository", "write hf:owner/repository/file.gguf"),
        ("{text}", "not a GGUF file"),
    ],
)
def test_bad_models(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    model: str,
    says: str,
) -> None:
    monkeypatch.setenv("LORO_JAX_MODELS", str(tmp_path / "empty"))
    text = tmp_path / "model.gguf"
    text.write_text("not a model")
    out = tmp_path / "out"
    assert says in refused(capsys, "--model", model.format(text=text), "--out", str(out))
    assert not out.exists()


def test_a_known_name_is_a_known_file(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("LORO_JAX_MODELS", str(tmp_path))
    (tmp_path / models.KNOWN["smollm2-135m-instruct"].file).write_bytes(b"GGUF, but of another model")
    with pytest.raises(UserError, match="SHA-256 is not that of smollm2-135m-instruct"):
        models.find("smollm2-135m-instruct")


def test_a_file_is_named_after_itself(gguf: pathlib.Path) -> None:
    found = models.find(str(gguf))
    assert (found.name, found.sha256) == ("tiny", hashlib.sha256(gguf.read_bytes()).hexdigest())


def test_downloads_are_huggingface_hubs(monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path) -> None:
    asked: list[Any] = []

    class Hub:
        @staticmethod
        def hf_hub_download(repository: str, file: str) -> str:
            asked.append((repository, file))
            if file == "gone.gguf":
                raise OSError("404: not there\nmore lines")
            return str(gguf)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    assert models.find("hf:owner/repository/folder/file.gguf").path == gguf
    assert asked == [("owner/repository", "folder/file.gguf")]
    with pytest.raises(UserError, match=r"^hf:o/r/gone.gguf: could not be fetched \(404: not there\)$"):
        models.find("hf:o/r/gone.gguf")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'loro_jax\[llm\]'"):
        models.find("hf:o/r/file.gguf")


def test_the_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    out = gguf.parent / "out"
    assert "pip install 'loro_jax[llm]'" in refused(capsys, "--model", str(gguf), "--out", str(out))
    assert not out.exists()


def test_a_damaged_model_is_refused(capsys: pytest.CaptureFixture[str], gguf: pathlib.Path) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    out = gguf.parent / "out"
    assert "damaged, not a GGUF model" in refused(capsys, "--model", str(gguf), "--out", str(out))
    assert not out.exists()


def test_an_out_that_cannot_be_written(capsys: pytest.CaptureFixture[str], gguf: pathlib.Path) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    for out in (gguf, gguf / "below"):
        assert "cannot be written to; it is not a folder" in refused(
            capsys, "--model", str(gguf), "--out", str(out)
        )
    assert gguf.read_bytes() == b"GGUF" + bytes(100)


def test_the_package_imports_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(UserError, match="llm"):
        llamacpp.LlamaCpp(models.ModelFile("x", pathlib.Path("x"), ""), Decoding(), threads=1, parallel=1)


class Parrot:
    """Stands in for llama.cpp: always answers the same, and is interrupted at a given question."""

    versions: dict[str, str] = {"parrot": "1"}  # noqa: RUF012
    asked = 0
    interrupted_at = -1
    dumb_from = 10**9

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Parrot:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def complete(self, queries: Sequence[Query]) -> list[Completion]:
        Parrot.asked += 1
        if Parrot.asked == Parrot.interrupted_at:
            raise KeyboardInterrupt
        text = "Action: left" if Parrot.asked < Parrot.dumb_from else "..."
        return [Completion(text, 9, 3, False) for _ in queries]


def test_from_the_command_to_the_dataset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    """Interrupted with Ctrl-C, resumed, and then finished: one line each, and the right exit status."""
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    monkeypatch.setattr(Parrot, "interrupted_at", 6)
    out = gguf.parent / "out"
    arguments = ["--model", str(gguf), "--out", str(out), "--episodes", "3", "--prompt", "hint"]
    assert command(lambda: collect.main(arguments)) == 130
    printed = capsys.readouterr()
    assert "tiny plays cartpole: 3 episodes to go" in printed.out.replace("\n", " ")
    assert printed.err == "stopped after 9 steps; the same command goes on from there\n"

    assert command(lambda: collect.main(arguments)) == 0
    printed = capsys.readouterr()
    episodes = dataset.load(out, "cartpole", (4,), Discrete(2))
    assert not episodes.transitions.action.any() and len(episodes.episode_lengths) == 3
    assert f"mean return {episodes.returns.mean():.4g} (random policy" in printed.out
    card = episodes.card
    assert (card["name"], card["complete"]) == ("tiny-hint", True)
    assert card["model"] == {"name": "tiny", "file": "Tiny.gguf", "sha256": models.find(str(gguf)).sha256}
    assert card["prompt"]["name"] == "hint" and "{pole_angle}" in card["prompt"]["text"]
    assert card["decoding"]["temperature"] == 0.9 and card["decoding"]["top_p"] == 0.6
    assert card["versions"]["parrot"] == "1" and card["random_policy"]["mean"] > card["returns"]["mean"]

    asked = Parrot.asked
    assert command(lambda: collect.main(arguments)) == 0
    assert "the model was not asked" in capsys.readouterr().out.replace("\n", " ")
    assert Parrot.asked == asked
    for other, differs in (("--seed", "seed"), ("--temperature", "decoding")):
        said = refused(capsys, *arguments, other, "1")
        assert f"begun with another {differs}; choose another --out" in said
    assert "begun with another prompt" in refused(capsys, *arguments[:-1], "plain")
    assert dataset.digest(dataset.load(out, "cartpole", (4,), Discrete(2))) == dataset.digest(episodes)


def test_a_collection_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    """Without a terminal: while the model is loaded, while it is tried out, and while it plays."""
    monkeypatch.setattr(progress, "SECONDS", 0.02)

    class Slow(Parrot):
        def __init__(self, *_: Any, **__: Any) -> None:
            time.sleep(0.1)

        def complete(self, queries: Sequence[Query]) -> list[Completion]:
            time.sleep(0.1)
            return super().complete(queries)

    monkeypatch.setattr(llamacpp, "LlamaCpp", Slow)
    out = gguf.parent / "out"
    assert command(lambda: collect.main(["--model", str(gguf), "--out", str(out), "--episodes", "2"])) == 0
    printed = capsys.readouterr()
    for words in ("opening tiny: 1 s so far", "first answers: 1 s so far"):
        assert words in printed.err.splitlines()
    assert "0 of 2 episodes: waiting for the first answers" in printed.err
    assert re.search(
        r"0 of 2 episodes: 4 steps, mean return nan, \d+ tokens/s, time left unknown", printed.err
    )
    assert "so far" not in printed.out and " of 2 episodes" not in printed.out


def test_episodes_go_below_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, gguf: pathlib.Path
) -> None:
    """Not into an installed package, where the shipped ones may lie."""
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(lambda: collect.main(["--model", str(gguf), "--episodes", "1"])) == 0
    assert dataset.resolve("tiny-cot", "cartpole") == pathlib.Path("results/episodes/cartpole/tiny-cot")
    assert (tmp_path / "elsewhere/results/episodes/cartpole/tiny-cot/card.json").exists()


def test_a_jax_without_a_cpu_plays_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    """As JAX_PLATFORMS=cuda leaves it."""

    def gone(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Unknown backend cpu. Available backends are ['cuda']")

    monkeypatch.setattr(jax, "local_devices", gone)
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    out = gguf.parent / "out"
    assert command(lambda: collect.main(["--model", str(gguf), "--out", str(out), "--episodes", "1"])) == 0
    assert (out / "card.json").exists()


def test_a_run_that_was_killed_before_its_last_save(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    """Every episode is recorded, the transcript not yet written: nothing is left to ask."""
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    out = gguf.parent / "out"
    arguments = ["--model", str(gguf), "--out", str(out), "--episodes", "1"]
    with monkeypatch.context() as patched:

        def killed(self: journal.Journal) -> None:
            raise KeyboardInterrupt

        patched.setattr(journal.Journal, "finish", killed)
        assert command(lambda: collect.main(arguments)) == 130
    asked = Parrot.asked
    assert command(lambda: collect.main(arguments)) == 0
    assert Parrot.asked == asked and (out / journal.TRANSCRIPT).exists()


def test_random_play_is_said_aloud(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    """A model that falls silent in the middle of a collection."""
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    monkeypatch.setattr(Parrot, "dumb_from", 4)
    out = gguf.parent / "out"
    arguments = ["--model", str(gguf), "--out", str(out), "--episodes", "2"]
    assert command(lambda: collect.main(arguments)) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("WARNING: ") and "% of the prior data's actions were drawn at random" in warning


def test_a_model_that_cannot_be_read_is_not_played(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, gguf: pathlib.Path
) -> None:
    monkeypatch.setattr(llamacpp, "LlamaCpp", Parrot)
    monkeypatch.setattr(Parrot, "asked", 0)
    monkeypatch.setattr(Parrot, "dumb_from", 0)
    out = gguf.parent / "out"
    arguments = ["--model", str(gguf), "--out", str(out), "--episodes", "2"]
    said = refused(capsys, *arguments)
    assert "none of the first 20 answers names an action; the first one is '...': see --prompt" in said
    assert "--allow-unreadable" in said and not out.exists()
    assert command(lambda: collect.main([*arguments, "--allow-unreadable"])) == 0
    assert "100 % of the prior data's actions were drawn at random" in capsys.readouterr().err
    assert dataset.load(out, "cartpole", (4,), Discrete(2)).card["answers"]["random_action_share"] == 1


@pytest.mark.parametrize(
    ("reply", "looks"),
    [
        (
            says("", reasoning_content="Okay, \x1b the\nuser \ud83d"),
            "empty beside a reasoning of its own, 'Okay,",
        ),
        (says(None, reasoning="Okay, " * 99), "empty beside a reasoning of its own, 'Okay, Okay"),
        (says("<think>Okay\n"), "the first one is '<think>Okay"),
        (says(""), "the first one is empty: see --prompt, --max-tokens and --model"),
    ],
)
def test_a_server_that_only_thinks_is_not_played(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, reply: Reply, looks: str
) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("tenacity", reason="tenacity is not installed")
    with Unruly(lambda number, body: reply).serve() as url:
        arguments = ["--backend", "http", "--url", url, "--model", "m", "--out", str(tmp_path / "out")]
        said = refused(capsys, *arguments)
    assert looks in said and len(said) < 500 and "\x1b" not in said
    assert ("enable_thinking" in said) == (reply != says(""))
    assert not (tmp_path / "out").exists()


def test_half_a_character_ends_no_collection(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("tenacity", reason="tenacity is not installed")
    reply, out = says("So left \ud83d. Action: left"), tmp_path / "out"
    with Unruly(lambda number, body: reply).serve() as url:
        arguments = ["--backend", "http", "--url", url, "--model", "m", "--out", str(out), "--episodes", "1"]
        assert command(lambda: collect.main(arguments)) == 0
    assert capsys.readouterr().err == ""
    _, steps = journal.read_transcript(out / journal.TRANSCRIPT)
    assert {a["answer"] for s in steps for a in s["attempts"]} == {"So left \ufffd. Action: left"}
