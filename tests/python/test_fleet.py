"""The scenario on two hosts: two daemons, one Redis, two workers beside each."""

from __future__ import annotations

import pathlib
from typing import Callable, List

import pytest
from test_scenario import UVICORN, check
from world import Daemon, Redis, Server, free_port, states, until


@pytest.fixture
def hosts(redis: Redis, place: pathlib.Path, make_daemon: Callable[..., Daemon]) -> List[Daemon]:
    """Two joined daemons."""
    made = []
    for name in ("web-1", "web-2"):
        fleet = f'[fleet]\nredis = "{redis.url}"\nname = "demo"\n'
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
