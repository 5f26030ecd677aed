"""MIGRATION.md's table for pybreaker, with the real package."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, List

import pybreaker
import pytest
import redis as redis_client
from moving import Failed, call, changes_are_told, fail, guard, half_open, in_another_process, is_rejected, row, rows_of, trip
from world import Daemon, Redis, until

import breakerd


def py(**options: Any) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(fail_max=3, throw_new_error_on_trip=False, **options)


def py_fail(breaker: pybreaker.CircuitBreaker, times: int, error: Exception = Failed()) -> None:
    def throw() -> None:
        raise error

    for _ in range(times):
        with pytest.raises(type(error)):
            breaker.call(throw)


@row("pybreaker", "`fail_max=5`")
def _() -> None:
    theirs, ours = pybreaker.CircuitBreaker(fail_max=5, throw_new_error_on_trip=False), guard(consecutive_failures=5)
    py_fail(theirs, 4)
    fail(ours, 4)
    assert theirs.current_state == ours.state == "closed"
    py_fail(theirs, 1)
    fail(ours, 1)
    assert theirs.current_state == ours.state == "open"
    loud = pybreaker.CircuitBreaker(fail_max=1)
    with pytest.raises(pybreaker.CircuitBreakerError):
        loud.call(lambda: 1 / 0)


@row("pybreaker", "`reset_timeout=60`")
def _() -> None:
    theirs = py(reset_timeout=60)
    ours = guard(cooldown="60s", cooldown_factor=1, cooldown_jitter=0)
    py_fail(theirs, 3)
    trip(ours)
    with pytest.raises(pybreaker.CircuitBreakerError, match="still open"):
        theirs.call(lambda: 1)
    seen = ours.observe().retry_after
    assert seen is not None and 30 < seen <= 60
    by_default = trip(guard()).observe().retry_after
    assert by_default is not None and 1 < by_default <= 16.5


@row("pybreaker", "`success_threshold=2`")
def _() -> None:
    theirs = py(reset_timeout=0, success_threshold=2)
    py_fail(theirs, 3)
    ours = half_open(probe_successes=2)
    theirs.call(lambda: 1)
    call(ours)
    assert theirs.current_state == ours.state == "half-open"
    theirs.call(lambda: 1)
    call(ours)
    assert theirs.current_state == ours.state == "closed"


@row("pybreaker", "`exclude=[ValueError]`")
def _() -> None:
    for exclude in (ValueError, lambda error: isinstance(error, ValueError)):
        theirs = py(exclude=[exclude])
        py_fail(theirs, 2)
        py_fail(theirs, 1, ValueError())
        assert theirs.fail_counter == 0, "a success"

    def ignored(subject: Any) -> Any:
        return breakerd.IGNORED if isinstance(subject, ValueError) else None

    def success(subject: Any) -> Any:
        return breakerd.SUCCESS if isinstance(subject, ValueError) else None

    for classify, failures in ((ignored, 2), (success, 0)):
        ours = guard(classify)
        fail(ours, 2)
        fail(ours, 1, ValueError())
        assert ours.failures == failures


@row("pybreaker", "`CircuitBreakerError`")
def _() -> None:
    theirs, ours = py(), trip(guard())
    py_fail(theirs, 3)
    with pytest.raises(pybreaker.CircuitBreakerError):
        theirs.call(lambda: 1)
    with pytest.raises(breakerd.Rejected) as caught:
        call(ours)
    assert caught.value.retry_after is not None and "Retry-After" in caught.value.http_headers()


@row("pybreaker", "`@breaker`")
def _() -> None:
    theirs, ours = py(), guard()

    def double(x: int) -> int:
        return 2 * x

    assert theirs(double)(2) == theirs.call(double, 2) == ours(double)(2) == 4

    def overlap(guarded: Callable[[Callable[[], bool]], bool]) -> bool:
        """Whether two threads get into the guarded call at once."""
        both, inside = threading.Barrier(2), []

        def meet() -> bool:
            try:
                both.wait(0.3)
                return True
            except threading.BrokenBarrierError:
                return False

        threads = [threading.Thread(target=lambda: inside.append(guarded(meet))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        return all(inside)

    assert overlap(lambda act: ours(act)())
    assert not overlap(lambda act: theirs.call(act))


@row("pybreaker", "`call_async` (Tornado)")
def _() -> None:
    with pytest.raises(ImportError, match="tornado"):
        py()(lambda: 1, __pybreaker_call_async=True)
    ours = guard()

    @ours
    async def ask() -> int:
        async with ours:
            return 1

    assert asyncio.run(ask()) == 1


@row("pybreaker", "`CircuitBreakerListener`")
def _() -> None:
    told: List[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old: Any, new: Any) -> None:
            told.append(f"{old.name} -> {new.name}")

    py_fail(py(listeners=[Listener()]), 3)
    assert told == ["closed -> open"]
    changes_are_told()


@row("pybreaker", "`CircuitRedisStorage`")
def _(redis: Redis, make_daemon: Callable[..., Daemon]) -> None:
    closed, store = pybreaker.STATE_CLOSED, redis_client.Redis(port=redis.port)
    one, other = (py(state_storage=pybreaker.CircuitRedisStorage(closed, store, namespace="x")) for _ in "ab")
    py_fail(one, 3)
    assert other.current_state == "open"
    before = redis.gets()
    with pytest.raises(pybreaker.CircuitBreakerError):
        other.call(lambda: 1)
    assert redis.gets() > before, "each call asks Redis"
    daemon = make_daemon(extra=f'[fleet]\nredis = "{redis.url}"\nname = "demo"\n')
    until(lambda: daemon.cli("workers")["daemon"]["link"] == "joined")
    ours = trip(guard())
    before = redis.gets()
    assert is_rejected(ours) and redis.gets() == before
    assert in_another_process(daemon, ours.name) == "open"


@row("pybreaker", "`current_state`")
def _() -> None:
    theirs, ours = py(), guard()
    py_fail(theirs, 2)
    fail(ours, 2)
    assert (theirs.current_state, theirs.fail_counter) == (ours.state, ours.failures) == ("closed", 2)


@row("pybreaker", "`close()`")
def _(daemon: Daemon) -> None:
    theirs, ours = py(), trip(guard())
    py_fail(theirs, 3)
    theirs.close()
    ours.reset(because="migrated")
    assert theirs.current_state == ours.state == "closed"
    assert daemon.cli("status")["breakers"][0]["why"] == "migrated"


@row("pybreaker", "`open()`")
def _(daemon: Daemon) -> None:
    theirs, ours = py(), guard()
    theirs.open()
    call(ours)
    daemon.cli("force", "open", ours.name, "--for", "10m", "--because", "maintenance")
    assert theirs.current_state == ours.state == "open"
    with pytest.raises(breakerd.Rejected) as caught:
        call(ours)
    assert caught.value.reason == "forced" and caught.value.retry_after is not None
    assert "maintenance" in ours.observe().why


test_a_row = rows_of("pybreaker")
