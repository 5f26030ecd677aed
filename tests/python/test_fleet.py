"""The scenario on two hosts: two daemons, one Redis, two workers beside each."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tempfile
from typing import Iterator, List, NamedTuple

import pytest
from test_scenario import UVICORN, check
from world import EXAMPLES, Daemon, Redis, Server, beside, states, until


class Fleet(NamedTuple):
    """What is started once: the workers take seconds, and no test ends one."""

    redis: Redis
    hosts: List[Daemon]
    services: List[Server]


@pytest.fixture(scope="module")
def started() -> Iterator[Fleet]:
    """Two daemons that are joined by a Redis, and two workers beside each."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    with tempfile.TemporaryDirectory(prefix="bk-") as directory, contextlib.ExitStack() as stack:
        place = pathlib.Path(directory)
        redis = Redis(place)
        stack.callback(redis.kill)
        extra = f'[fleet]\nredis = "{redis.url}"\nname = "demo"\n'
        fleet = Fleet(redis, [], [])
        for name in ("web-1", "web-2"):
            fleet.hosts.append(Daemon(place / name, extra=extra).start())
            stack.callback(fleet.hosts[-1].stop)
        for daemon in fleet.hosts:
            command = [*UVICORN, "--workers", "2"]
            fleet.services.append(Server.on_a_free_port(command, place, EXAMPLES, **beside(daemon)))
            stack.callback(fleet.services[-1].stop)
        for service in fleet.services:
            service.ready()
        yield fleet


@pytest.fixture
def fleet(started: Fleet) -> Fleet:
    """The fleet, joined and closed at the test's beginning."""
    until(lambda: all(daemon.cli("workers")["daemon"]["link"] == "joined" for daemon in started.hosts))
    started.services[0].call("POST", "/reset/openai")
    until(lambda: all(is_closed(service) for service in started.services))
    return started


def is_closed(service: Server) -> bool:
    return set(states(service.by_worker(2)).values()) == {("closed", 0)}


def test_the_checker_over_two_hosts(fleet: Fleet) -> None:
    first, second = fleet.services
    done = check("--url", first.url, "--url", second.url, "--workers", "4", "--wait", "2s")
    assert done.returncode == 0, done.stdout
    assert "[ok] Redis pub/sub works: 2 hosts" in done.stdout
    assert first.get("/status")["sync_enabled"] is True
    assert first.get("/status")["health"].endswith('joined "demo"')
    assert 2 <= len(fleet.redis.clients()) <= 4, "the daemons' connections, and none from the workers"


def test_without_redis_the_workers_of_a_host_agree_and_with_it_again_the_hosts(fleet: Fleet) -> None:
    first, second = fleet.services
    fleet.redis.kill()
    until(lambda: fleet.hosts[0].cli("workers")["daemon"]["link"] == "detached")
    done = check("--url", first.url, "--workers", "2", "--keep")
    assert done.returncode == 0, done.stdout
    assert is_closed(second)
    fleet.redis.start()

    def agree() -> bool:
        return {state for state, _ in states(second.by_worker(2)).values()} == {"open"}

    until(agree, 15)
    assert {state for state, _ in states(first.by_worker(2)).values()} == {"open"}
