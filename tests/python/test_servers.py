"""The process models of the servers that people run: reload, preload, recycling, threads, greenlets."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any, Callable, Dict

import pytest
from world import APPS, EXAMPLES, Daemon, Server, script, states, until

FASTAPI = "test_multiworker_fastapi:app"


def gunicorn(*arguments: str) -> tuple:
    """A gunicorn command."""
    return (script("gunicorn"), "--bind", "127.0.0.1:{port}", "--graceful-timeout", "2", *arguments)


def trip(server: Server) -> str:
    """Makes one worker trip; which."""
    answer = server.call("POST", "/fail?times=3")
    assert answer["providers"][0]["circuit_breaker"] == {"state": "open", "failure_count": 3}
    return str(answer["worker_id"])


def agree(server: Server, tripper: str, failures: int, workers: int) -> Dict[str, Any]:
    """Every worker is open, and only the one that failed has failures."""
    seen = states(server.by_worker(workers))
    assert seen == {worker: ("open", failures if worker == tripper else 0) for worker in seen}
    return seen


def test_uvicorn_reload(daemon: Daemon, serve: Callable[..., Server], place: pathlib.Path) -> None:
    for name in ("test_multiworker_fastapi.py", "provider_401.py"):
        shutil.copy(EXAMPLES / name, place / name)
    server = serve(
        script("uvicorn"), FASTAPI, "--host", "127.0.0.1", "--port", "{port}", "--reload", "--reload-dir", str(place),
        cwd=place,
    )
    first = str(server.call("POST", "/trigger-failure/openai")["worker_id"])
    agree(server, first, 5, 1)
    with open(place / "test_multiworker_fastapi.py", "a") as source:
        source.write("\n# changed\n")

    def reloaded() -> Any:
        try:
            answer = server.get("/status")
        except OSError:
            return None
        return None if answer["worker_id"] == first else answer

    second = until(reloaded, 60)
    assert states({second["worker_id"]: second}) == {second["worker_id"]: ("open", 0)}
    until(lambda: len(daemon.workers()) == 1)


@pytest.mark.parametrize("preload", [False, True])
def test_gunicorn_with_uvicorns_worker(daemon: Daemon, serve: Callable[..., Server], preload: bool) -> None:
    options = ["--preload"] if preload else []
    server = serve(*gunicorn("-k", "uvicorn_worker.UvicornWorker", "--workers", "2", *options, FASTAPI))
    server.by_worker(2)
    tripper = str(server.call("POST", "/trigger-failure/openai")["worker_id"])
    agree(server, tripper, 5, 2)
    server.call("POST", "/reset/openai")
    assert set(states(server.by_worker(2)).values()) == {("closed", 0)}


@pytest.mark.parametrize(
    "options",
    [
        ("-k", "sync"),
        ("-k", "sync", "--preload"),
        ("-k", "gthread", "--threads", "4"),
        ("-k", "gthread", "--threads", "4", "--preload"),
        ("-k", "gevent"),
        ("-k", "gevent", "--preload"),
    ],
    ids=" ".join,
)
def test_gunicorn_with_its_own_workers(daemon: Daemon, serve: Callable[..., Server], options: tuple) -> None:
    server = serve(*gunicorn("--workers", "3", *options, "wsgi:app"), cwd=APPS)
    server.by_worker(3)
    tripper = trip(server)
    agree(server, tripper, 3, 3)
    assert server.get("/call")["rejected"] == "open"
    # Under --preload the arbiter has looked before it forked, and is a worker itself.
    assert len(daemon.workers()) == 3 + ("--preload" in options)


def test_gunicorn_recycles_its_workers(daemon: Daemon, serve: Callable[..., Server]) -> None:
    server = serve(*gunicorn("-k", "sync", "--workers", "2", "--max-requests", "5", "wsgi:app"), cwd=APPS)
    first = set(server.by_worker(2))
    trip(server)

    def all_new() -> bool:
        try:
            answer = server.get("/call")
        except ConnectionError:
            return False  # it was taken by a worker that was just leaving
        assert answer["rejected"] == "open", "a new worker is open from its first call"
        seen.add(str(answer["worker_id"]))
        return len(seen - first) >= 4

    seen: set = set()
    until(all_new, 60)
    until(lambda: len(daemon.workers()) == 2)
