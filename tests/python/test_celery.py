"""Celery's prefork pool: billiard forks the workers from a parent that has the guard already."""

from __future__ import annotations

import importlib
import pathlib
import sys
from typing import Any, Dict, Iterator, List

import pytest
from world import APPS, Daemon, Redis, Server, script, until

import breakerd


class Worker(Server):
    """A Celery worker; it serves no HTTP, and is up when it says so."""

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.log()}")
        return " ready." in self.log()


@pytest.fixture
def tasks(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tasks' module, with this test's Redis for broker and results."""
    monkeypatch.setenv("CELERY_REDIS", redis.url)
    monkeypatch.syspath_prepend(str(APPS))
    sys.modules.pop("tasks", None)
    return importlib.import_module("tasks")


@pytest.fixture
def pool(daemon: Daemon, tasks: Any, place: pathlib.Path) -> Iterator[Worker]:
    """A prefork worker with three processes."""
    command = [script("celery"), "-A", "tasks", "worker", "-P", "prefork", "-c", "3", "-l", "INFO", "-O", "fair"]
    worker = Worker([*command, "--without-gossip", "--without-mingle", "--without-heartbeat"], 0, place, APPS)
    yield worker.ready()
    worker.stop()


def from_all(task: Any, count: int) -> Dict[int, List[Any]]:
    """The answers of every process of the pool."""
    seen: Dict[int, List[Any]] = {}

    def all_met() -> bool:
        for result in [task.delay() for _ in range(2 * count)]:
            pid, *rest = result.get(timeout=20, interval=0.02)
            seen[pid] = rest
        return len(seen) >= count

    until(all_met, 60)
    return seen


def test_prefork(pool: Worker, tasks: Any, daemon: Daemon) -> None:
    assert {tuple(seen) for seen in from_all(tasks.look, 3).values()} == {("closed", 0)}
    assert isinstance(tasks.call.delay(True).get(timeout=20, interval=0.02), int)
    # Whichever processes they fall to, three failures of the host with no success between them trip.
    for _ in range(3):
        with pytest.raises(ConnectionError):
            tasks.call.delay(False).get(timeout=20, interval=0.02)
    seen = from_all(tasks.look, 3)
    assert {state for state, _ in seen.values()} == {"open"}
    assert sum(failures for _, failures in seen.values()) == 3
    assert {state for (state,) in from_all(tasks.look_in_a_loop, 3).values()} == {"open"}
    with pytest.raises(breakerd.Rejected) as caught:
        tasks.call.delay(True).get(timeout=20, interval=0.02)
    assert (caught.value.breaker, caught.value.state) == ("openai", "open")
