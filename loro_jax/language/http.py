"""A language model behind an OpenAI-compatible server: llama-server, vLLM, Ollama, llama-cpp-python's own.

A question is a `POST {url}/chat/completions`; several are in flight at once. What a chat interface cannot
do as the model in this process does (`llamacpp.py`), it does so:

- `Query.start` cannot be given to the model portably. By default the message ends with a request to begin
  with these words, which the model may ignore. With `Server.prefill` they are sent as the beginning of the
  assistant's turn, with `continue_final_message`: vLLM, SGLang and llama-server go on from there, while
  others (llama-cpp-python's, OpenAI's) begin a new turn or refuse.
- An answer without the mark is asked for it in a second turn; with `prefill` it is given the mark and goes
  on from there, as in this process.
- An answer ends with the line of its mark by being cut there, after the server has written all of it.
- A grammar cannot be held to from the mark on, and words cannot be scored; both are refused.
- What a server keeps apart as reasoning is no part of the answer. Where the answer beside it is empty, since
  `max_tokens` ended it or the server took all of it for reasoning, it goes along as `Completion.reasoning`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import Any

from loro_jax.errors import UserError
from loro_jax.language.backend import Completion, Decoding, Query, whole
from loro_jax.language.server import Connection, Server, Sleep
from loro_jax.tasks.actions import after_mark

ASK = 'Write one more line: "{mark}" and one word or number, nothing else.'


class Http:
    """A server's model. Use it from one thread; `close` ends it (also used as a context manager)."""

    def __init__(
        self,
        server: Server,
        model: str,
        decoding: Decoding,
        *,
        parallel: int,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Asks the server what it serves, so that one that is away or refuses the key is known at once.

        `model` is the server's name for the model; `parallel` the number of answers in flight; `sleep`
        waits between tries. A `UserError` says what is wrong in one line.
        """
        if not model.strip():
            raise UserError("--model must name one of the server's models")
        self._server, self._model, self._decoding, self._parallel = server, model, decoding, parallel
        self._connection = Connection(server, parallel, sleep)
        self._cleanup = contextlib.ExitStack()
        self._runner = asyncio.Runner()
        self._cleanup.callback(self._runner.close)
        self._cleanup.callback(lambda: self._runner.run(self._connection.close()))
        try:
            self._runner.run(self._connection.look())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the object is of no use afterwards."""
        self._cleanup.close()

    @property
    def versions(self) -> dict[str, Any]:
        return self._connection.versions

    def complete(self, queries: Sequence[Query]) -> list[Completion]:
        """The answers, `parallel` in flight, in the order of the queries; Ctrl-C abandons them at once.

        A `UserError` when one of them cannot be had, or when a query wants a grammar.
        """
        if any(query.reader is not None for query in queries):
            raise UserError("--grammar needs the model in this process; leave it out when asking a server")
        return self._runner.run(self._complete(queries))

    def score(self, queries: Sequence[Query], words: Sequence[str]) -> list[list[float]]:
        """Refused: a server gives no probabilities of words of one's choice."""
        raise UserError("--score needs the model in this process: --backend llama.cpp")

    async def _complete(self, queries: Sequence[Query]) -> list[Completion]:
        room = asyncio.Semaphore(self._parallel)

        async def one(query: Query) -> Completion:
            async with room:
                return await self._answer(query)

        try:
            async with asyncio.TaskGroup() as group:  # which abandons the others when one fails
                tasks = [group.create_task(one(query)) for query in queries]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, query: Query) -> Completion:
        """One answer, with the second turn that it may need."""
        mark, prefill = query.mark or self._decoding.mark, self._server.prefill
        message, begun = query.head + query.tail, query.start if prefill else ""
        at_mark = query.start.endswith(mark)
        if query.start and not prefill:
            message += f"\n\nBegin your answer with: {query.start}"
        messages = [_says("user", message)]
        text, apart, prompt, drawn = await self._turn(messages, begun, query.seed, at_mark and prefill)
        if at_mark and not prefill and text.strip():
            text = behind_mark(text, mark)
        text = cut(text, mark)
        if after_mark(text, mark) or not self._decoding.ask or (at_mark and prefill):
            return Completion(text, prompt, drawn, False, apart)

        ask = ASK.format(mark=mark)
        if prefill:
            begun = text.rstrip().removesuffix(mark).rstrip()
            begun = f"{begun}\n{mark}".lstrip()
        elif text.strip():
            messages += [_says("assistant", text), _says("user", ask)]
        else:  # an empty turn is refused by some servers
            messages = [_says("user", f"{message}\n\n{ask}")]
        said, again, more_prompt, more_drawn = await self._turn(messages, begun, query.seed, True)
        if not prefill:  # a turn that says nothing adds nothing
            said = f"{text.rstrip()}\n{behind_mark(said, mark)}".lstrip() if said.strip() else text
        prompt, drawn = prompt + more_prompt, drawn + more_drawn
        return Completion(cut(said, mark), prompt, drawn, True, apart or again)

    async def _turn(
        self, messages: list[dict[str, str]], begun: str, seed: int, line: bool
    ) -> tuple[str, str, int, int]:
        """What the model says, from `begun` on; reasoning, if nothing is said; tokens of the prompt, drawn.

        `line`: it is to be no more than the line of the mark.
        """
        d = self._decoding
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "temperature": d.temperature,
            "top_p": d.top_p,
            "max_tokens": d.max_tokens,
            "seed": seed,
        }
        if line:  # a model that writes the mark itself needs room for it
            body |= {"max_tokens": d.mark_tokens * (1 if begun else 2), "stop": ["\n"]}
        if begun:
            body["messages"] = [*messages, _says("assistant", begun)]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        answer = await self._connection.chat(body | self._server.fields())
        try:
            message = answer["choices"][0]["message"]
            said = _text(message.get("content"))
        except (LookupError, TypeError, AttributeError, RecursionError):
            said = None
        if said is None:
            raise UserError(f"{self._server.url}: its answer holds no text at choices[0].message.content")
        usage = answer.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        # Some servers repeat the words that were given, others go on from there.
        text = said if begun and said.startswith(begun) else begun + said
        apart = "" if said.strip() else _reasoning(message)
        return text, apart, _count(counts, "prompt_tokens"), _count(counts, "completion_tokens")


def behind_mark(text: str, mark: str) -> str:
    """`text`, behind the mark if it says at once what should stand there."""
    return text.lstrip() if mark in text or after_mark(text, mark) else f"{mark} {text.lstrip()}"


def cut(text: str, mark: str) -> str:
    """`text` up to the end of the first line that says something behind a mark."""
    # Marks that nothing follows are passed over together: a model may repeat them without end.
    marks = re.finditer(rf"(?:{re.escape(mark)}\s*+)++([^\n]++)?", text)
    return next((text[: found.end()] for found in marks if found[1]), text)


def _says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _text(content: Any, kind: str = "text") -> str | None:
    """A message's text: a string, nothing, or the parts of this kind in a list; None if it is neither."""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [_text(part.get(kind)) for part in content if part.get("type") == kind]
        content = None if None in texts else "".join(text or "" for text in texts)
    elif content is None:
        content = ""
    return whole(content) if isinstance(content, str) else None


def _reasoning(message: dict[str, Any]) -> str:
    """What a message holds of reasoning, under one of the names that servers have for it."""
    found = (_text(message.get("reasoning_content")), _text(message.get("reasoning")))
    parts = message.get("content")
    apart = _text(parts, "thinking") if isinstance(parts, list) else ""
    return next((text.strip() for text in (*found, apart) if text and text.strip()), "")


def _count(counts: dict[str, Any], name: str) -> int:
    """A number of tokens; 0 if the server does not say, or says what no answer has."""
    count = counts.get(name)
    return count if type(count) is int and 0 <= count < 2**31 else 0
