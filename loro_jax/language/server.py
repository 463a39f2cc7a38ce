"""An OpenAI-compatible server as settings, and as a connection that tries again where that may help."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import email.utils
import json
import math
import os
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import tyro

from loro_jax.errors import UserError

KEYS = ("LORO_JAX_API_KEY", "OPENAI_API_KEY")
AGAIN = (408, 409, 425, 429)  # statuses worth another try, like those from 500 on
LONGEST_WAIT = 600.0
"""Seconds; a server that wants to be left alone for longer ends the collection, which can be resumed."""
MISSING = "asking a server needs two small libraries: pip install httpx tenacity"

Sleep = Callable[[float], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Server:
    """Which server to ask, and how."""

    url: str = "http://127.0.0.1:8080/v1"
    """of an OpenAI-compatible server, up to and without /chat/completions; an API key is read from
    LORO_JAX_API_KEY or else OPENAI_API_KEY"""
    prefill: bool = False
    """give the answer's first words as the beginning of the assistant's turn (vLLM, SGLang, llama-server)
    instead of asking for them"""
    extra: Annotated[str, tyro.conf.arg(metavar="JSON")] = "{}"
    """further fields of every request, as a JSON object; servers of llama.cpp apply top-k, min-p or a penalty
    on repetition unless told {"top_k": 0, "min_p": 0, "repeat_penalty": 1}, and llama-server applies the
    temperature last unless told {"samplers": ["temperature", "top_p"]}"""
    timeout: float = 120.0
    """seconds for one answer"""
    tries: int = 6
    """requests for one answer, where the server is away or busy"""

    def check(self) -> None:
        """A `UserError` where a setting cannot mean anything; the URL is not repeated, it may hold a key."""
        try:
            url = urllib.parse.urlsplit(self.url)
            named = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            raise UserError("--url is none; write for instance http://127.0.0.1:8080/v1") from None
        wrong = {
            "--url holds bytes that are not UTF-8 text": not is_text(self.url),
            "--url must begin with http:// or https:// and name a server": not named,
            f"--url must hold no credentials or parameters; put the key into {KEYS[0]}": (
                "@" in url.netloc or bool(url.query) or bool(url.fragment)
            ),
            "--timeout must be above 0": not (self.timeout > 0 and math.isfinite(self.timeout)),
            "--tries must be at least 1": self.tries < 1,
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise UserError(message)
        self.fields()

    def fields(self) -> dict[str, Any]:
        """`extra`, read; a `UserError` if it is no JSON object or sets what is set here."""
        try:
            fields = json.loads(self.extra)
        except (ValueError, RecursionError) as error:
            raise UserError(f"--extra: not JSON ({error})") from None
        if not isinstance(fields, dict):
            raise UserError("--extra must be a JSON object, like '{\"top_k\": 0}'")
        if own := sorted({"model", "messages", "seed", "stream", "n"} & fields.keys()):
            raise UserError(f"--extra must not set {', '.join(own)}")
        try:  # JSON as Python reads it can name numbers and characters that no request can carry
            sendable = is_text(json.dumps(fields, ensure_ascii=False, allow_nan=False))
        except ValueError:
            sendable = False
        if not sendable:
            raise UserError("--extra must hold finite numbers, and characters that UTF-8 has")
        return fields

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).hostname or ""

    def identity(self, model: str) -> dict[str, Any]:
        """What the card says about the model: what decides its answers, as far as it is known on this side.

        Port and path are left out, since a server that is started again may change them.
        """
        fields = self.fields()
        return {
            "name": short_name(model),
            "served_as": model,
            "backend": "http",
            "host": self.host,
            "first_words": "continued as the assistant's turn"
            if self.prefill
            else "asked for in the message",
        } | ({"extra": fields} if fields else {})


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8, unlike arguments that were other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short_name(model: str) -> str:
    """A model's name as part of a folder's: `Qwen/Qwen2.5-7B-Instruct` -> `qwen2.5-7b-instruct`."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-.") or "model"


def api_key() -> str:
    """The API key from the environment, or an empty string; a `UserError` if no header can hold it."""
    for name in KEYS:
        if key := os.environ.get(name, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UserError(f"{name} holds characters that an API key cannot have")
            return key
    return ""


class _AgainError(Exception):
    """A request that may succeed later; `after` is the server's own wish, in seconds."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Connection:
    """Requests to a server; `room` of them at once. Every failure is a `UserError` of one line."""

    def __init__(self, server: Server, room: int, sleep: Sleep) -> None:
        """`sleep` waits between tries. Refuses settings that mean nothing; asks nothing yet."""
        try:
            import httpx
            import tenacity
        except ImportError:
            raise UserError(MISSING) from None
        server.check()
        self.server, self._key, self._httpx = server, api_key(), httpx
        self.software, self._listed = "", list[str]()
        backoff = tenacity.wait_exponential(multiplier=0.5, max=30.0) + tenacity.wait_random(0.0, 0.5)

        def wait(state: Any) -> float:
            return max(state.outcome.exception().after, backoff(state))

        self._retrying = tenacity.AsyncRetrying(
            sleep=sleep,
            stop=tenacity.stop_after_attempt(server.tries),
            retry=tenacity.retry_if_exception_type(_AgainError),
            wait=wait,
            reraise=True,
        )
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=room),
            timeout=None,  # httpx's would hold for each piece of an answer, asyncio's holds for all of it
            trust_env=server.host not in ("127.0.0.1", "localhost", "::1"),  # no proxy leads to this machine
        )

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def versions(self) -> dict[str, Any]:
        """What the server says of itself in its header `Server`, and the library on this side."""
        return {"server": self.software, "httpx": self._httpx.__version__}

    async def look(self) -> None:
        """Reaches the server, and notes which models it lists; not every server has a list."""
        response = await self._request("GET", "models", None)
        entries: Any = None
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            entries = response.json().get("data")
        if isinstance(entries, list):
            self._listed = [str(e["id"]) for e in entries if isinstance(e, dict) and "id" in e]

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers a chat request with."""
        where = self.server.url
        response = await self._request("POST", "chat/completions", body)
        status = response.status_code
        if status == 404:
            known = f"; it lists {self._one_line(', '.join(self._listed[:5]))}" if self._listed else ""
            raise UserError(
                f"{where}: no model '{body['model']}' or no chat there (status 404){known};"
                " see --model and --url"
            )
        if not 200 <= status < 300:
            raise UserError(f"{where}: refuses the request (status {status}{self._reason(response)})")
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise UserError(f"{where}: its answer is no JSON object; is this an OpenAI-compatible server?")
        if "choices" not in answer and (reason := self._reason(response)):
            raise UserError(f"{where}: reports an error{reason}")
        return answer

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The server's response, after as many tries as it takes."""
        try:
            return await self._retrying(self._once, method, path, body)
        except _AgainError as error:
            n = self.server.tries
            tried = f"tried {n} times" if n > 1 else "tried once"
            raise UserError(
                f"{self.server.url}: {error}; {tried} (see --url, --timeout and --tries)"
            ) from None

    async def _once(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        where = self.server.url
        try:
            async with asyncio.timeout(self.server.timeout):
                response = await self._client.request(method, f"{where.rstrip('/')}/{path}", json=body)
        except TimeoutError:
            raise _AgainError(f"no answer within {self.server.timeout:g} s") from None
        except self._httpx.RequestError as error:
            said = self._one_line(str(error)) or type(error).__name__
            raise _AgainError(f"the server cannot be reached ({said})") from None
        status = response.status_code
        if status in (401, 403):  # the server's own words are left out: they may repeat a part of the key
            what = "refuses the API key" if self._key else "wants an API key"
            raise UserError(f"{where}: {what} (status {status}); set {KEYS[0]}")
        if status in AGAIN or status >= 500:
            after = retry_after(response.headers.get("retry-after", ""))
            if after > LONGEST_WAIT:
                raise UserError(f"{where}: asks to come again in {after:.0f} s; run the same command then")
            raise _AgainError(
                f"the server is busy or broken (status {status}{self._reason(response)})", after
            )
        self.software = response.headers.get("server", self.software)
        return response

    def _reason(self, response: Any) -> str:
        """What the server says is wrong, as `: REASON`, or nothing."""
        try:
            said = response.json()
            error = said.get("error") or said.get("detail") or said.get("message") or ""
            reason = error.get("message", "") if isinstance(error, dict) else error
        except (ValueError, AttributeError, RecursionError):
            reason = response.text
        line = self._one_line(str(reason))
        return f": {line}" if line else ""

    def _one_line(self, text: str) -> str:
        """At most 200 characters in one line, without the key."""
        line = " ".join((text.replace(self._key, "***") if self._key else text).split())
        return line if len(line) <= 200 else f"{line[:197]}..."


def retry_after(header: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 if it cannot be read."""
    with contextlib.suppress(ValueError):
        seconds = float(header)
        return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    with contextlib.suppress(ValueError, TypeError):
        date = email.utils.parsedate_to_datetime(header)
        return max((date - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    return 0.0
