"""A model behind a server: what is asked of it, what is made of its answers, and what when it misbehaves."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from unruly import Body, Reply, Unruly, says

from loro_jax.errors import UserError
from loro_jax.language.backend import Completion, Decoding, Query
from loro_jax.language.http import Http, cut
from loro_jax.language.server import KEYS, Server, retry_after, short_name
from loro_jax.tasks.actions import Words

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("tenacity", reason="tenacity is not installed")

USUAL = Decoding()
QUERY = Query("Push.\n", "Leans left.", "", 7)
GOOD = says("So left. Action: left", {"prompt_tokens": 11, "completion_tokens": 5})
SECRET = "sk-very-secret-key"


@dataclasses.dataclass
class Case:
    """A server, a model of it, and how long was slept between tries, in seconds."""

    server: Unruly
    http: Http
    slept: list[float]

    def ask(self, *queries: Query) -> list[Completion]:
        return self.http.complete(queries or [QUERY])

    def refused(self) -> str:
        """Asks in vain; -> the line that says why."""
        with pytest.raises(UserError) as caught:
            self.ask()
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def in_turn(*replies: Reply) -> Callable[[int, Body], Reply]:
    """One reply after the other, the last one for ever."""
    return lambda number, body: replies[min(number, len(replies) - 1)]


@contextlib.contextmanager
def case(
    *replies: Reply, decoding: Decoding = USUAL, parallel: int = 2, tries: int = 3, **settings: object
) -> Iterator[Case]:
    with serving(Unruly(in_turn(*replies)), decoding, parallel, tries=tries, **settings) as made:
        yield made


@contextlib.contextmanager
def serving(
    server: Unruly, decoding: Decoding = USUAL, parallel: int = 2, **settings: object
) -> Iterator[Case]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with (
        server.serve() as url,
        Http(Server(url, **settings), "known", decoding, parallel=parallel, sleep=sleep) as model,  # type: ignore[arg-type]
    ):
        yield Case(server, model, slept)


def test_the_request_and_its_answer() -> None:
    with case(GOOD, decoding=Decoding(max_tokens=40), extra='{"top_k": 0}') as c:
        assert c.ask() == [Completion("So left. Action: left", 11, 5, False)]
        assert c.server.bodies == [
            {
                "model": "known",
                "messages": [{"role": "user", "content": "Push.\nLeans left."}],
                "temperature": 0.9,
                "top_p": 0.6,
                "max_tokens": 40,
                "seed": 7,
                "top_k": 0,
            }
        ]
        assert "authorization" not in c.server.headers[0] and c.slept == []
        assert set(c.http.versions) == {"server", "httpx"} and "Python" in c.http.versions["server"]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        5,
        {},
        {"prompt_tokens": None, "completion_tokens": "many"},
        {"prompt_tokens": True, "completion_tokens": 10**400},
        {"prompt_tokens": -1, "completion_tokens": 2.5},
    ],
)
def test_tokens_that_are_not_counted_are_none(usage: object) -> None:
    with case(dataclasses.replace(says("Action: left", usage))) as c:
        assert c.ask() == [Completion("Action: left", 0, 0, False)]


def test_several_are_in_flight_and_come_back_in_order() -> None:
    together, lock, now, most = threading.Barrier(3, timeout=60), threading.Lock(), [0], [0]

    def reply(number: int, body: Body) -> Reply:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()  # breaks unless three are here at once
        with lock:
            now[0] -= 1
        return says(f"Action: {body['seed']}")

    with serving(Unruly(reply), parallel=3) as c:
        answers = c.ask(*(Query("", "Which?", "", seed) for seed in range(9)))
    assert [a.text for a in answers] == [f"Action: {seed}" for seed in range(9)]
    assert most == [3]


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS[1], "general")
    with case(GOOD) as c:
        c.ask()
        assert c.server.headers[0]["authorization"] == "Bearer general"
    monkeypatch.setenv(KEYS[0], "own\n")
    with case(GOOD) as c:
        c.ask()
        assert c.server.headers[0]["authorization"] == "Bearer own"
    monkeypatch.setenv(KEYS[0], f"{SECRET}\x07é")
    with pytest.raises(UserError, match=KEYS[0]) as caught, case(GOOD):
        pass
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(status: int) -> None:
    with case(Reply(status=status), Reply(b"<html>", status=status), GOOD) as c:
        assert c.ask()[0].text == "So left. Action: left"
        assert len(c.server.bodies) == 3
        first, second = c.slept
        assert 0.5 <= first <= 1.0 <= second <= 1.5


def test_a_server_that_stays_broken_is_given_up() -> None:
    with case(Reply({"error": {"message": "out of\nmemory"}}, status=500)) as c:
        assert "status 500: out of memory" in c.refused() and len(c.server.bodies) == 3


def test_retry_after_is_kept_to() -> None:
    with case(Reply(status=429, headers=(("Retry-After", "7"),)), GOOD) as c:
        assert c.ask()[0].text == "So left. Action: left" and c.slept == [7.0]
    with case(Reply(status=429, headers=(("Retry-After", "86400"),)), GOOD) as c:
        assert "86400 s" in c.refused() and c.slept == []


@pytest.mark.parametrize(
    ("header", "seconds"), [("", 0), ("1.5", 1.5), ("-3", 0), ("nan", 0), ("inf", 0), ("soon", 0)]
)
def test_retry_after_in_seconds(header: str, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    hour = datetime.timedelta(hours=1)
    now = datetime.datetime.now(datetime.UTC)
    assert 0 < retry_after(email.utils.format_datetime(now + hour, usegmt=True)) <= 3600
    assert retry_after(email.utils.format_datetime(now - hour, usegmt=True)) == 0


@pytest.mark.parametrize(
    ("reply", "says_"),
    [
        (Reply({"error": "no"}, status=401), f"wants an API key (status 401); set {KEYS[0]}"),
        (Reply(status=404), "no model 'known' or no chat there (status 404); it lists known, other"),
        (
            Reply({"error": {"message": "too\nlong"}}, status=400),
            "refuses the request (status 400: too long)",
        ),
        (Reply({"detail": [{"msg": "x" * 999}]}, status=422), "xxx..."),
        (Reply(b"", status=302, headers=(("Location", "/else"),)), "refuses the request (status 302)"),
        (Reply(b"<html>hello</html>"), "no JSON object"),
        (Reply([1]), "no JSON object"),
        (Reply({"error": {"message": "overloaded"}}), "reports an error: overloaded"),
        (Reply({"id": "x"}), "no text at choices[0].message.content"),
        (Reply({"choices": []}), "no text at choices"),
        (Reply({"choices": [{"text": "left"}]}), "no text at choices"),
        (Reply({"choices": [{"message": "left"}]}), "no text at choices"),
        (says(5), "no text at choices"),
        (says(["left"]), "no text at choices"),
        (says([{"type": "text", "text": 5}]), "no text at choices"),
        (Reply(b"[" * 100_000), "no JSON object"),
    ],
)
def test_what_cannot_get_better_is_one_line_at_once(reply: Reply, says_: str) -> None:
    with case(reply) as c:
        line = c.refused()
        assert says_ in line and len(line) < 350
        assert len(c.server.bodies) == 1 and c.slept == []
        c.server.reply = in_turn(GOOD)
        assert c.ask()[0].text == "So left. Action: left"  # the connection is of use afterwards


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_no_error_shows_the_key(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS[0], SECRET)
    with case(Reply({"error": {"message": f"Bad key {SECRET}!"}}, status=status)) as c:
        line = c.refused()
    assert SECRET not in line
    assert "refuses the API key" in line if status in (401, 403) else f"status {status}" in line


def test_a_server_that_hangs_is_given_up() -> None:
    with case(Reply(hangs=True), timeout=1.0, tries=2) as c:
        assert "no answer within 1 s; tried 2 times" in c.refused()
        assert len(c.server.bodies) == 2 and len(c.slept) == 1


def test_a_dropped_connection_is_made_again() -> None:
    with case(Reply(drops=True), GOOD) as c:
        assert c.ask()[0].text == "So left. Action: left"
    with case(Reply(drops=True)) as c:
        assert "cannot be reached" in c.refused() and len(c.server.bodies) == 3


def test_a_server_that_is_away_is_known_at_once() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(UserError, match=r"cannot be reached .* tried 4 times"):
            Http(Server(url, tries=4), "m", Decoding(), parallel=1, sleep=sleep)
    assert len(slept) == 3


@pytest.mark.parametrize("models", [Reply(status=404), Reply(b"hi"), Reply([]), Reply({"data": [1, {}]})])
def test_a_server_need_not_list_its_models(models: Reply) -> None:
    server = Unruly(in_turn(GOOD))
    server.models = models
    with serving(server) as c:
        assert c.ask()[0].text == "So left. Action: left"


def test_a_key_that_is_refused_is_known_at_once() -> None:
    server = Unruly(in_turn(GOOD))
    server.models = Reply(status=401)
    with pytest.raises(UserError, match="wants an API key"), serving(server):
        pass


def test_one_failure_abandons_the_others() -> None:
    def reply(number: int, body: Body) -> Reply:
        return Reply(status=404) if body["seed"] == 3 else Reply(hangs=True)

    with serving(Unruly(reply), parallel=8) as c, pytest.raises(UserError, match="no model"):
        c.ask(*(Query("", "Which?", "", seed) for seed in range(6)))


def test_ctrl_c_abandons_what_is_in_flight() -> None:
    # A shell starts background jobs with the signal ignored, also those that run these tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def reply(number: int, body: Body) -> Reply:
        os.kill(os.getpid(), signal.SIGINT)
        return Reply(hangs=True)

    try:
        with serving(Unruly(reply)) as c:
            with pytest.raises(KeyboardInterrupt):
                c.ask()
            c.server.reply = in_turn(GOOD)
            assert c.ask()[0].text == "So left. Action: left"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_long_answer() -> None:
    long = "Wörter 🙂 " * 1111 + "\nAction: left"
    with case(says(long)) as c:
        assert len(long) > 10_000 and c.ask()[0].text == long


def test_half_a_character_is_replaced() -> None:
    """Also in the turn that sends it back, which could not be written otherwise."""
    with case(says("\ud83dIt\ude00 leans \ud83d\ude00\x00\u2028\x85"), says("le\ud83dft")) as c:
        whole = "\ufffdIt\ufffd leans \U0001f600\x00\u2028\x85"
        (answer,) = c.ask()
        assert answer.asked and answer.text == f"{whole.rstrip()}\nAction: le\ufffdft"
        assert c.server.bodies[1]["messages"][1]["content"] == whole
    with case(says("It leans \ud83d"), says(" left"), prefill=True) as c:
        assert c.ask()[0].text == "It leans \ufffd\nAction: left"


def test_half_a_character_in_the_list_of_models() -> None:
    server = Unruly(in_turn(Reply(status=404)))
    server.models = Reply({"data": [{"id": "two\nlines"}, {"id": "\ud83d"}]})
    with serving(server) as c:
        assert "it lists two lines, " in c.refused()


def test_an_answer_in_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Action: right?"}]},
        {"type": "text", "text": "So left. "},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "Action: left\ud83d"},
    ]
    with case(says(parts)) as c:
        assert c.ask() == [Completion("So left. Action: left\ufffd", 0, 0, False)]


@pytest.mark.parametrize(
    ("content", "beside"),
    [
        ("", {"reasoning_content": "Okay.\nAction: left"}),
        (None, {"reasoning": " Okay.\nAction: left "}),
        (" \n", {"reasoning_content": None, "reasoning": "Okay.\nAction: left"}),
        ([{"type": "thinking", "thinking": "Okay.\nAction: left"}], {}),
        ([], {"reasoning_content": [{"type": "text", "text": "Okay.\nAction: left"}]}),
    ],
)
def test_reasoning_is_no_answer_but_goes_along(content: object, beside: dict[str, object]) -> None:
    with case(says(content, **beside)) as c:
        (answer,) = c.ask()
        assert answer.text.strip() == "" and answer.reasoning == "Okay.\nAction: left"
        assert len(c.server.bodies) == 2  # it was asked for the action


def test_reasoning_beside_an_answer_is_left_out() -> None:
    with case(says("Action: left", reasoning_content="Or right?")) as c:
        assert c.ask() == [Completion("Action: left", 0, 0, False)]
    with case(says("", reasoning={"text": "left"}), says("left")) as c:
        assert c.ask() == [Completion("Action: left", 0, 0, True)]


def test_an_empty_second_turn_adds_nothing() -> None:
    with case(says("It leans."), says("")) as c:
        assert c.ask() == [Completion("It leans.", 0, 0, True)]


def test_the_first_words_are_asked_for() -> None:
    with case(says("The pole leans. Action: left")) as c:
        (answer,) = c.ask(dataclasses.replace(QUERY, start="The pole"))
        assert answer.text == "The pole leans. Action: left"
        assert c.server.bodies[0]["messages"] == [
            {"role": "user", "content": "Push.\nLeans left.\n\nBegin your answer with: The pole"}
        ]


@pytest.mark.parametrize("said", [" leans. Action: left", "The pole leans. Action: left"])
def test_the_first_words_are_given(said: str) -> None:
    with case(says(said), prefill=True) as c:
        (answer,) = c.ask(dataclasses.replace(QUERY, start="The pole"))
        assert answer.text == "The pole leans. Action: left"
        body = c.server.bodies[0]
        assert body["messages"][1:] == [{"role": "assistant", "content": "The pole"}]
        assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
        assert "stop" not in body


@pytest.mark.parametrize(
    ("said", "text"), [("left", "Action: left"), ("\nAction: left\nsince", "Action: left")]
)
def test_a_mark_that_is_asked_for_may_be_left_out(said: str, text: str) -> None:
    with case(says(said)) as c:
        assert c.ask(dataclasses.replace(QUERY, start="Action:")) == [Completion(text, 0, 0, False)]


def test_a_mark_that_is_given() -> None:
    with case(says(" left\nsince it leans"), prefill=True) as c:
        assert c.ask(dataclasses.replace(QUERY, start="Action:"))[0].text == "Action: left"
        assert c.server.bodies[0]["max_tokens"] == 6 and c.server.bodies[0]["stop"] == ["\n"]


def test_the_action_is_asked_for_in_a_second_turn() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    for said, text in (("left.", "It leans left.\nBest: left."), ("Best: 2", "It leans left.\nBest: 2")):
        with case(says("It leans left.\n", usage), says(said, usage)) as c:
            assert c.ask(dataclasses.replace(QUERY, mark="Best:")) == [Completion(text, 20, 6, True)]
            user, answer, ask = c.server.bodies[1]["messages"]
            assert (user["role"], answer["role"], ask["role"]) == ("user", "assistant", "user")
            assert answer["content"] == "It leans left.\n" and '"Best:"' in ask["content"]
            assert c.server.bodies[1]["max_tokens"] == 12 and c.server.bodies[1]["seed"] == 7


def test_an_answer_that_is_cut_off_at_the_mark_is_continued() -> None:
    with case(says("It leans. Action:"), says(" left"), prefill=True) as c:
        (answer,) = c.ask()
        assert answer.text == "It leans.\nAction: left" and answer.asked
        assert c.server.bodies[1]["messages"][1:] == [{"role": "assistant", "content": "It leans.\nAction:"}]


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_answer_is_no_turn(nothing: str | None) -> None:
    with case(says(nothing), says("left")) as c:
        assert c.ask() == [Completion("Action: left", 0, 0, True)]
        (message,) = c.server.bodies[1]["messages"]
        assert message["content"].startswith("Push.\nLeans left.\n\n")


def test_nothing_is_asked_for_without_ask() -> None:
    with case(says("It leans."), decoding=Decoding(ask=False)) as c:
        assert c.ask() == [Completion("It leans.", 0, 0, False)] and len(c.server.bodies) == 1


def test_a_grammar_is_refused() -> None:
    with case(GOOD) as c, pytest.raises(UserError, match="--grammar"):
        c.ask(dataclasses.replace(QUERY, reader=Words(("left", "right"))))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("So. Action: left\nor not", "So. Action: left"),
        ("Action:\n\nAction: left\nAction: right", "Action:\n\nAction: left"),
        ("Action: \n left\nx", "Action: \n left"),
        ("Action:", "Action:"),
        ("none\nat all\n", "none\nat all\n"),
    ],
)
def test_an_answer_ends_with_the_line_of_its_mark(text: str, kept: str) -> None:
    assert cut(text, "Action:") == kept


def test_a_mark_that_is_repeated_for_ever_is_read_in_a_moment() -> None:
    long = "Action:\n" * 100_000  # which took minutes when each mark was tried for itself
    began = time.monotonic()
    assert cut(long, "Action:") == long
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("settings", "says_"),
    [
        (Server("127.0.0.1:8080"), "--url"),
        (Server("ftp://host/v1"), "--url"),
        (Server("http:///v1"), "--url"),
        (Server("http://host:99999/v1"), "--url"),
        (Server(f"http://me:{SECRET}@host/v1"), "credentials"),
        (Server(f"http://host/v1?key={SECRET}"), "credentials"),
        (Server(timeout=0), "--timeout"),
        (Server(timeout=float("nan")), "--timeout"),
        (Server(tries=0), "--tries"),
        (Server(extra="{"), "--extra: not JSON"),
        (Server(extra="[]"), "--extra must be a JSON object"),
        (Server(extra='{"seed": 1, "n": 2}'), "--extra must not set n, seed"),
        (Server(extra='{"stop": "\\ud83d"}'), "--extra must hold finite numbers, and characters"),
        (Server(extra='{"min_p": NaN}'), "--extra must hold finite numbers"),
        (Server(extra='{"min_p": 1e999}'), "--extra must hold finite numbers"),
        (Server(extra='{"a": ' + "[" * 100_000), "--extra: not JSON"),
        (Server("http://host/\udcff"), "--url holds bytes that are not UTF-8"),
    ],
)
def test_bad_settings(settings: Server, says_: str) -> None:
    with pytest.raises(UserError, match=says_) as caught:
        Http(settings, "m", Decoding(), parallel=1)
    assert SECRET not in str(caught.value)


def test_a_model_has_a_name() -> None:
    with pytest.raises(UserError, match="--model"):
        Http(Server(), " ", Decoding(), parallel=1)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(UserError, match="pip install httpx tenacity"):
        Http(Server(), "m", Decoding(), parallel=1)


def test_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS[0], SECRET)
    one = Server("https://models.example:8443/v1", extra='{"top_k": 0}').identity("Qwen/Qwen2.5-7B-Instruct")
    assert one["name"] == "qwen2.5-7b-instruct" and one["served_as"] == "Qwen/Qwen2.5-7B-Instruct"
    assert one["host"] == "models.example" and one["extra"] == {"top_k": 0}
    assert SECRET not in str(one)
    moved = Server("https://models.example:9000/", extra='{"top_k":0}', tries=1, timeout=5)
    assert moved.identity("Qwen/Qwen2.5-7B-Instruct") == one
    assert Server().identity("m") != Server(prefill=True).identity("m")


@pytest.mark.parametrize(
    ("model", "name"),
    [("llama3.2:3b", "llama3.2-3b"), ("a/B c/", "b-c"), ("..", "model"), ("gpt_x", "gpt_x")],
)
def test_names_for_folders(model: str, name: str) -> None:
    assert short_name(model) == name
