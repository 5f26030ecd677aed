"""Processes that are made from processes: what a child inherits settles nothing, and it makes its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from typing import Any, Callable, List, Tuple

import pytest
from world import Daemon, bounded, until

import breakerd


def in_child(act: Callable[[], bool]) -> bool:
    """What a forked child answers."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if act() else 1
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def trip(name: str, times: int) -> Tuple[int, str, int]:
    """What a worker process does: so many failures, then what it sees."""
    guard = breakerd.breaker(name)
    for _ in range(times):
        guard.admit().fail("http-503")
    return os.getpid(), guard.state, guard.failures


async def look(name: str) -> str:
    guard = breakerd.breaker(name)
    try:
        async with guard:
            return "admitted"
    except breakerd.Rejected as no:
        return no.state


def look_in_a_loop(name: str) -> str:
    return asyncio.run(look(name))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(daemon: Daemon, method: str) -> None:
    guard = breakerd.breaker("openai")
    guard.admit().success()  # the parent is connected before it forks
    context = multiprocessing.get_context(method)
    with context.Pool(1) as tripper, context.Pool(1) as other:
        pid, state, failures = tripper.apply(trip, ("openai", 3))
        assert (state, failures) == ("open", 3)
        assert pid != os.getpid()
        assert other.apply(trip, ("psp", 0))[1] == "closed"
        assert other.apply(look_in_a_loop, ("openai",)) == "open"
        assert (guard.state, guard.failures) == ("open", 0)
        assert len(daemon.workers()) == 3
    until(lambda: len(daemon.workers()) == 1)


def test_a_permit_held_over_a_fork_is_settled_by_the_parent_only(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")
    trip("openai", 3)
    until(lambda: guard.observe().retry_after == 0.0)
    with guard as probe:
        assert probe.is_probe

        def settle_in_child() -> bool:
            probe.fail("child")
            return guard.state == "half-open"

        assert in_child(settle_in_child)
        assert guard.state == "half-open"
    assert guard.state == "closed"


def test_a_block_entered_before_a_fork_is_left_by_both_and_counted_once(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")
    for _ in range(3):
        with pytest.raises(ConnectionError), guard:
            pid = os.fork()
            if pid == 0:
                try:
                    guard.__exit__(ConnectionError, ConnectionError(), None)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            assert guard.failures < 3
            raise ConnectionError
    assert (guard.state, guard.failures) == ("open", 3)


def test_a_child_of_a_process_with_a_loop(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        async with guard:
            pass

        def child() -> bool:
            # Synchronously, and then in a loop of its own.
            with guard:
                pass
            result: List[str] = []
            thread = threading.Thread(target=lambda: result.append(look_in_a_loop("openai")))
            thread.start()
            thread.join(10)
            return result == ["admitted"]

        assert in_child(child)
        async with guard:
            pass

    asyncio.run(main())
    assert guard.failures == 0


def test_a_fork_while_other_threads_are_at_work(daemon: Daemon) -> None:
    guard, stop = breakerd.breaker("openai"), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with guard:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()

    def child() -> bool:
        for _ in range(10):
            with guard:
                pass
        return guard.state == "closed"

    try:
        assert all(in_child(child) for _ in range(20))
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def test_no_thread_is_started(daemon: Daemon) -> None:
    def child() -> bool:
        guard = breakerd.breaker("openai")
        guard.admit().fail("x")

        async def main() -> None:
            async with guard:
                pass

        asyncio.run(main())
        return len(os.listdir("/proc/self/task")) == 1

    assert in_child(child)


def test_a_worker_that_is_killed_with_the_probe_gives_it_back(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")
    trip("openai", 3)
    until(lambda: guard.observe().retry_after == 0.0)
    read, write = os.pipe()
    life, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        permit: Any = breakerd.breaker("openai").admit()
        if os.fork() == 0:  # it has the socket open and never calls, until its grandparent lets it go
            os.close(held)
            os.read(life, 1)
            os._exit(0)
        os.write(write, b"p" if permit.is_probe else b"-")
        threading.Event().wait()
    assert os.read(read, 1) == b"p"
    with pytest.raises(breakerd.Rejected) as caught:
        guard.admit()
    assert caught.value.reason == "probing"

    def admitted() -> bool:
        try:
            permit = guard.admit()
        except breakerd.Rejected:
            return False
        permit.success()
        return permit.is_probe

    with bounded("the permit of a killed worker is back", 0.05):
        os.kill(pid, 9)
        until(admitted, 2)
    os.waitpid(pid, 0)
    os.close(held)
    assert guard.state == "closed"
