"""A WSGI service with nothing but a guard: what gunicorn's synchronous workers run."""

from __future__ import annotations

import json
import os
import urllib.parse
from typing import Any, Callable, Dict, Iterable

import breakerd

GUARD = breakerd.breaker("openai")
# Connected before any fork under --preload.
PRELOADED = GUARD.state


def app(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/status``, ``/health``; ``/fail?times=3`` makes that many calls fail; ``/call`` makes one that works."""
    path = environ["PATH_INFO"]
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    answer: Dict[str, Any] = {"worker_id": str(os.getpid())}
    status = "200 OK"
    try:
        if path == "/fail":
            for _ in range(int(query["times"][0])):
                try:
                    with GUARD:
                        raise ConnectionError
                except ConnectionError:
                    pass
        elif path == "/call":
            with GUARD:
                pass
    except breakerd.Rejected as no:
        answer["rejected"] = no.state
        status = "503 Service Unavailable"
    seen = GUARD.observe()
    shown = {"state": seen.state, "failure_count": seen.failures}
    answer["providers"] = [{"name": "openai", "circuit_breaker": shown}]
    answer["threads"] = len(os.listdir("/proc/self/task"))
    start_response(status, [("content-type", "application/json")])
    return [json.dumps(answer).encode()]
