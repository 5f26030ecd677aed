"""A small provider in place of the real ones: it speaks as much of OpenAI's API as the example needs, on loopback.

A request with the key ``sk-good`` gets an answer, any other key 401 and "invalid_api_key", as from the real one.
``python provider_401.py --port 9099`` runs it by itself, for a test that counts what reaches it: ``GET /hits``,
``POST /behave`` with ``{"status": 503}`` (0: by the key again) and ``{"delay_ms": 200}``.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import time
from typing import Any, Dict, Optional, Tuple

GOOD_KEY = "sk-good"
BODY_BYTES_MAX = 1_000_000


@dataclasses.dataclass
class Provider:
    """One server and what it has seen."""

    status: int = 0
    delay_ms: int = 0
    hits: int = 0
    out: int = 0
    most_out: int = 0

    async def serve(self, port: int = 0) -> Tuple[asyncio.Server, str]:
        """Listens on loopback; answers the server and the base URL for the ``openai`` package."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", port)
        host, port = server.sockets[0].getsockname()[:2]
        return server, f"http://{host}:{port}/v1"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                status, document = await self._answer(*request)
                body = json.dumps(document).encode()
                writer.write(
                    f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\n"
                    f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # the client went away, or is none
        finally:
            writer.close()

    async def _answer(self, line: str, headers: Dict[str, str], body: bytes) -> Tuple[int, Dict[str, Any]]:
        _, path, _ = line.split(" ", 2)
        if path == "/hits":
            return 200, {"hits": self.hits, "most_out": self.most_out}
        if path == "/behave":
            for field, value in json.loads(body).items():
                setattr(self, field, int(value))
            return 200, dataclasses.asdict(self)
        return await self._complete(headers.get("authorization", ""))

    async def _complete(self, authorization: str) -> Tuple[int, Dict[str, Any]]:
        self.hits += 1
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            await asyncio.sleep(self.delay_ms / 1000)
        finally:
            self.out -= 1
        status = self.status or (200 if authorization == f"Bearer {GOOD_KEY}" else 401)
        if status == 200:
            return 200, _completion("Hello! How can I help you today?")
        code = "invalid_api_key" if status == 401 else "provider_error"
        return status, {"error": {"message": "Incorrect API key provided.", "type": "error", "code": code}}


async def _read(reader: asyncio.StreamReader) -> Optional[Tuple[str, Dict[str, str], bytes]]:
    line = (await reader.readline()).decode("latin-1").strip()
    if not line:
        return None
    headers: Dict[str, str] = {}
    while header := (await reader.readline()).decode("latin-1").strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError("a body of that length is no request of ours")
    return line, headers, await reader.readexactly(length)


def _completion(text: str) -> Dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-local", "object": "chat.completion", "created": int(time.time()), "model": "local",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 8, "total_tokens": 9},
    }


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A provider that answers 401 to every key but one.")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    server, url = await Provider().serve(parser.parse_args().port)
    print(url, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except KeyboardInterrupt:
        pass
