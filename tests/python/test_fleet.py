"""The scenario on two hosts: two daemons, one Redis, two workers beside each."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
from typing import Callable, Iterator, List

import pytest
from test_scenario import UVICORN, check
from world import Daemon, Server, free_port, states, until

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


class Redis:
    """A real Redis of this test's own, without a file."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.start()

    def start(self) -> None:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": str(self.directory)}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: self.ask("PING") == "+PONG")

    def ask(self, command: str) -> str:
        """An inline command's answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as one:
                one.sendall(command.encode() + b"\r\nQUIT\r\n")
                answer = b""
                while chunk := one.recv(65536):
                    answer += chunk
                return answer.decode().removesuffix("+OK\r\n").strip()
        except OSError:
            return ""

    def clients(self) -> List[str]:
        """The connections, this question's own left out."""
        return [line for line in self.ask("CLIENT LIST").splitlines() if "addr=" in line and "cmd=client" not in line]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(place: pathlib.Path) -> Iterator[Redis]:
    one = Redis(place)
    yield one
    one.kill()


@pytest.fixture
def hosts(redis: Redis, place: pathlib.Path, make_daemon: Callable[..., Daemon]) -> List[Daemon]:
    """Two joined daemons."""
    made = []
    for name in ("web-1", "web-2"):
        fleet = f'[fleet]\nredis = "redis://127.0.0.1:{redis.port}"\nname = "demo"\n'
        made.append(make_daemon(place / name, extra=fleet))
    until(lambda: all(daemon.cli("workers")["daemon"]["link"] == "joined" for daemon in made))
    return made


@pytest.fixture
def services(hosts: List[Daemon], serve: Callable[..., Server]) -> List[Server]:
    """Two workers beside each."""
    return [serve(*UVICORN, "--workers", "2", BREAKERD_SOCKET=daemon.socket) for daemon in hosts]


def test_the_checker_over_two_hosts(services: List[Server], redis: Redis) -> None:
    first, second = services
    done = check("--url", first.url, "--url", second.url, "--workers", "4", "--wait", "2s")
    assert done.returncode == 0, done.stdout
    assert "[ok] Redis pub/sub works: 2 hosts" in done.stdout
    assert first.get("/status")["sync_enabled"] is True
    assert first.get("/status")["health"].endswith('joined "demo"')
    assert 2 <= len(redis.clients()) <= 4, "the daemons' connections, and none from the workers"


def test_without_redis_the_workers_of_a_host_agree_and_with_it_again_the_hosts(
    services: List[Server], hosts: List[Daemon], redis: Redis
) -> None:
    first, second = services
    redis.kill()
    until(lambda: hosts[0].cli("workers")["daemon"]["link"] == "detached")
    done = check("--url", first.url, "--workers", "2", "--keep")
    assert done.returncode == 0, done.stdout
    assert set(states(second.by_worker(2)).values()) == {("closed", 0)}
    redis.start()

    def agree() -> bool:
        return {state for state, _ in states(second.by_worker(2)).values()} == {"open"}

    until(agree, 15)
    assert {state for state, _ in states(first.by_worker(2)).values()} == {"open"}
