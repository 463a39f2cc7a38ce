"""A chat server on loopback that answers, or misbehaves, as it is told."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

Body = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Reply:
    """What is sent back; `hangs` until the server ends, or `drops` the connection, without a byte."""

    body: Any = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    hangs: bool = False
    drops: bool = False


def says(text: Any, usage: Any = None, **beside: Any) -> Reply:
    """A well-formed answer, with further fields `beside` its text."""
    spent = {} if usage is None else {"usage": usage}
    return Reply({"choices": [{"message": {"role": "assistant", "content": text} | beside}]} | spent)


class Unruly:
    """The server: `reply` makes a reply of the number of the chat request and its body."""

    def __init__(self, reply: Callable[[int, Body], Reply]) -> None:
        self.reply = reply
        self.models = Reply({"object": "list", "data": [{"id": "known"}, {"id": "other"}]})
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self._lock, self._ending = threading.Lock(), threading.Event()

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Serves on a free port; -> the base URL."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            self._ending.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(outer) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(outer.models if self.path == "/v1/models" else Reply(status=404))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/chat/completions":
                    return self._send(Reply(status=404))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                return self._send(outer.reply(number, body))

            def _send(self, reply: Reply) -> None:
                self.close_connection = reply.drops or reply.hangs
                if reply.hangs:
                    outer._ending.wait()
                if self.close_connection:
                    return
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(raw)))
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
