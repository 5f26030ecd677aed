"""Fixtures: a fresh client for each test, a real daemon, a provider that counts what reaches it."""

from __future__ import annotations

import gc
import os
import pathlib
import shutil
import signal
import sys
import tempfile
from typing import Any, Callable, Iterator

import pytest
from world import EXAMPLES, Daemon, Redis, Server, free_port

from breakerd import _aio, _lane, _native


def pytest_collection_finish() -> None:
    """What the tests import lives to the end: a collection before each test need not look through all of it again."""
    gc.collect()
    gc.freeze()


# A shell's background job starts with SIGINT ignored, and what tests send would then reach nobody.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A short directory: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="bk-") as directory:
        yield pathlib.Path(directory)


@pytest.fixture(autouse=True)
def fresh_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, place: pathlib.Path) -> None:
    """This process's client as in a process that has just started, and nobody listening."""
    if request.module.__name__ == "test_wire":
        return  # it speaks by itself
    for name in [name for name in os.environ if name.startswith("BREAKERD_") and name != "BREAKERD_BIN"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BREAKERD_SOCKET", str(place / "s.sock"))
    monkeypatch.setattr(_native, "_backend", None)
    monkeypatch.setattr(_lane, "_lanes", {})
    _aio._links.clear()
    gc.collect()
    _aio._idle.clear()


@pytest.fixture
def make_daemon(place: pathlib.Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, and stops them in the end."""
    made = []

    def make(directory: pathlib.Path = place, **settings: Any) -> Daemon:
        made.append(Daemon(directory, **settings).start())
        return made[-1]

    yield make
    for daemon in made:
        daemon.stop()


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that trips at three failures and stays open for 10 s."""
    return make_daemon()


@pytest.fixture
def redis(place: pathlib.Path) -> Iterator[Redis]:
    """A real Redis of this test's own."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    one = Redis(place)
    yield one
    one.kill()


@pytest.fixture
def serve(place: pathlib.Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them in the end. ``{port}`` in the command is a free port."""
    made = []

    def start(*command: str, cwd: pathlib.Path = EXAMPLES, **env: str) -> Server:
        made.append(Server.on_a_free_port(command, place, cwd, **env))
        return made[-1].ready()

    yield start
    for server in made:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def provider(place: pathlib.Path) -> Iterator[Server]:
    """A provider of its own, which counts what reaches it."""
    port = free_port()
    server = Server([sys.executable, "provider_401.py", "--port", str(port)], port, place, EXAMPLES)
    server.is_up = lambda: _answers(server)  # type: ignore[method-assign]
    yield server.ready()
    server.stop()


def _answers(server: Server) -> bool:
    try:
        return server.get("/hits")["http"] == 200
    except OSError:
        return False
