"""A provider on loopback that does what the next test wants: a status, silence, half an answer, a stream."""

from __future__ import annotations

import json
import socketserver
import threading
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

Headers = Dict[str, str]
Write = Callable[[bytes], None]


class Provider:
    """Answers every request, whatever its path, as it was last told to."""

    def __init__(self) -> None:
        self.hits = 0
        self.over = threading.Event()
        self._answer: Callable[[Write], None] = lambda write: None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def status(self, code: int, headers: Optional[Headers] = None, body: Any = None) -> None:
        """A whole answer."""
        text = json.dumps({} if body is None else body).encode()
        head = _head(code, {"content-type": "application/json", "content-length": str(len(text)), **(headers or {})})
        self._answer = lambda write: write(head + text)

    def silent(self) -> None:
        """No answer, and the connection stays."""
        self._answer = lambda write: self.hang()

    def gone(self) -> None:
        """The connection is closed without an answer."""
        self._answer = lambda write: None

    def half(self) -> None:
        """The connection is closed in the middle of the body."""
        head = _head(200, {"content-type": "application/json", "content-length": "1000"})
        self._answer = lambda write: write(head + b'{"half": ')

    def stream(self, events: Iterable[Tuple[str, Any]], then: str = "end") -> None:
        """Server-sent events, and then: ``end``, ``cut`` (the connection is closed in the middle) or ``silent``."""
        chunks = [_chunk(_event(name, data)) for name, data in events]

        def answer(write: Write) -> None:
            write(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
            for chunk in chunks:
                write(chunk)
            if then == "silent":
                self.hang()
            elif then == "end":
                write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        self._answer = answer

    def serve(self, write: Write) -> None:
        """One request has come."""
        self.hits += 1
        self._answer(write)

    def hang(self) -> None:
        """Until the test is over."""
        self.over.wait(60)

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    provider: Provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


_TLS_HANDSHAKE = b"\x16"
"""The first byte of TLS (RFC 8446, 5.1), which this provider does not speak."""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        if self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:
            self.wfile.write(_head(400, {"content-length": "0"}))
            return
        length = 0
        while True:
            line = self.rfile.readline().strip().lower()
            if not line:
                break
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        self.server.provider.serve(self.wfile.write)  # type: ignore[attr-defined]


def _head(code: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {code} Whatever", "connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _event(name: str, data: Any) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# -- what the two SDKs expect --


def completion(text: str) -> Tuple[str, Any]:
    """One chunk of an openai chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return "", {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def completions(*texts: str) -> List[Tuple[str, Any]]:
    return [completion(text) for text in texts]


def openai_error(kind: str, code: Optional[str] = None) -> Tuple[str, Any]:
    """An error inside an openai stream."""
    return "", {"error": {"message": "no", "type": kind, "code": code, "param": None}}


def anthropic_start() -> Tuple[str, Any]:
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return "message_start", {"type": "message_start", "message": message}


def anthropic_error(kind: str) -> Tuple[str, Any]:
    """An error inside an anthropic stream."""
    return "error", {"type": "error", "error": {"type": kind, "message": "no"}}
