"""A real model of 135 M parameters behind a real server: llama-cpp-python's own."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loro_jax.errors import UserError
from loro_jax.language import models
from loro_jax.language.backend import Decoding, Query
from loro_jax.language.http import Http
from loro_jax.language.llamacpp import LlamaCpp
from loro_jax.language.server import Server

pytestmark = [pytest.mark.llm, pytest.mark.slow]

NAME = "smollm2-135m-instruct"
EXTRA = ("uvicorn", "fastapi", "sse_starlette", "starlette_context", "pydantic_settings")
HEAD = "You are asked about colours and animals. Answer in a few words.\n\n"
TAILS = ("Name a colour.", "Name an animal that can fly.", "Which colour has grass?", "Name a fish.")


@pytest.fixture(scope="module")
def model() -> models.ModelFile:
    for needed in ("llama_cpp", "httpx", "tenacity"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        pytest.skip(f"llama-cpp-python[server] is not installed ({missing[0]} is missing)")
    try:
        return models.find(NAME)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(model: models.ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model.path), "--model_alias", "small"]
    command += ["--port", str(port), "--n_ctx", "512", "--n_threads", "1", "--n_threads_batch", "1"]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait(process, port, log)
        yield Server(f"http://127.0.0.1:{port}/v1", extra='{"top_k": 0, "min_p": 0, "repeat_penalty": 1}')
    finally:
        process.terminate()
        process.wait()


def wait(process: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
    """Until the server listens."""
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def queries(seed: int) -> list[Query]:
    return [Query(HEAD, tail, "", seed + i) for i, tail in enumerate(TAILS)]


def test_the_likeliest_answers_are_those_of_the_model_in_this_process(
    server: Server, model: models.ModelFile
) -> None:
    # Every token of these answers is likelier than the next best by half a nat or more, so that rounding,
    # which differs with how a prompt is cut into batches, does not decide.
    sure = (
        "Which planet is the largest?",
        "How many days are in a week?",
        "What is the chemical formula of water?",
    )
    asked = [Query("", question, "", 0) for question in sure]
    greedy = Decoding(temperature=0.0, max_tokens=8, ask=False)
    with Http(server, "small", greedy, parallel=2) as http:
        there = http.complete(asked)
    with LlamaCpp(model, greedy, threads=1, parallel=2, context=256) as llama:
        assert llama.complete(asked) == there


def test_seeds_decide_answers(server: Server) -> None:
    with Http(server, "small", Decoding(max_tokens=8, top_p=1.0, ask=False), parallel=2) as http:
        first, again, other = ([c.text for c in http.complete(queries(s))] for s in (1, 1, 1000))
    assert first == again != other


def test_every_answer_reaches_its_mark(server: Server) -> None:
    with Http(server, "small", Decoding(max_tokens=8), parallel=2) as http:
        begun = [dataclasses.replace(q, start="Action:") for q in queries(5)]
        for completion in http.complete(queries(5) + begun):
            assert "Action:" in completion.text
            assert completion.prompt_tokens > 20 and 0 < completion.answer_tokens <= 8 + 2 * 6


def test_what_the_server_refuses_is_one_line(server: Server) -> None:
    with Http(server, "small", Decoding(max_tokens=8), parallel=1) as http:
        with pytest.raises(UserError, match="context") as caught:
            http.complete([Query(HEAD, "word " * 800, "", 1)])
        assert "\n" not in str(caught.value)
        assert http.versions["server"] == "uvicorn"
        assert len(http.complete(queries(3)[:1])) == 1
