"""MIGRATION.md's table for interlock-cb, with the real package."""

from __future__ import annotations

from typing import Any, Callable, List

import interlock
import pytest
import redis as redis_client
from moving import call, changes_are_told, fail, guard, half_open, in_another_process, is_rejected, row, rows_of, trip
from world import Daemon, Redis, until

import breakerd
from breakerd import AtLeast, Policy


def il(**config: Any) -> interlock.CircuitBreaker:
    settings = {"minimum_number_of_calls": 3, "window_size": 3, "failure_rate_threshold": 1.0, **config}
    return interlock.CircuitBreaker(name="x", config=interlock.Config(**settings))


@row("interlock-cb", "`failure_rate_threshold=0.5")
def _() -> None:
    interlock.Config(failure_rate_threshold=0.5, window_size=100, minimum_number_of_calls=10)
    ours = Policy(failure_rate=AtLeast(0.5, of_calls=100, min_calls=10), consecutive_failures=False)
    assert ours.to_patch() == {"failure_rate": ((0.5, 100, 10), None), "consecutive_failures": 0}


@row("interlock-cb", "`window_type=TIME_BASED")
def _() -> None:
    interlock.Config(window_type=interlock.WindowType.TIME_BASED, window_size=30, minimum_number_of_calls=10)
    ours = Policy(failure_rate=AtLeast(0.5, of_calls=10, within="30s"))
    assert ours.to_patch() == {"failure_rate": (None, (0.5, 10, 30_000))}


@row("interlock-cb", "`slow_call_duration_threshold=2")
def _() -> None:
    interlock.Config(slow_call_duration_threshold=2, slow_call_rate_threshold=0.5)
    ours = Policy(slow_after="2s", slow_rate=AtLeast(0.5, of_calls=100, min_calls=10))
    assert ours.to_patch() == {"slow_after_ms": 2000, "slow_rate": ((0.5, 100, 10), None)}


@row("interlock-cb", "`wait_duration_in_open=60`")
def _() -> None:
    theirs, ours = il(wait_duration_in_open=60), guard(cooldown="60s", cooldown_jitter=0)
    for one in (theirs, ours):
        fail(one, 3)
    with pytest.raises(interlock.CircuitOpenError) as caught:
        call(theirs)  # type: ignore[arg-type]
    ours_left = ours.observe().retry_after
    for left in (caught.value.retry_after, ours_left):
        assert left is not None and 30 < left <= 60


@row("interlock-cb", "`wait_duration_backoff_multiplier=2")
def _() -> None:
    interlock.Config(wait_duration_backoff_multiplier=2, wait_duration_in_open=20, wait_duration_in_open_max=40)
    ours = half_open(cooldown_factor=100, cooldown_max="1h")
    fail(ours, 1)
    seen = ours.observe().retry_after
    assert ours.state == "open" and seen is not None and seen > 0.02, "longer than the first"


@row("interlock-cb", "`permitted_calls_in_half_open=10")
def _() -> None:
    interlock.Config(permitted_calls_in_half_open=10, max_concurrent_probes=1)
    ours = Policy(probe_rate=AtLeast(0.6, of_probes=10), probe_permits=1)
    assert ours.to_patch() == {"probe_rate": (0.6, 10), "probe_permits": 1}
    clock = [0.0]

    class Clock:
        def monotonic(self) -> float:
            return clock[0]

    def theirs(failures: int) -> str:
        config = interlock.Config(minimum_number_of_calls=3, window_size=3, permitted_calls_in_half_open=10)
        one = interlock.CircuitBreaker(name="x", config=config, clock=Clock())
        fail(one, 3)
        clock[0] += 60
        fail(one, failures)
        for _ in range(10 - failures):
            call(one)  # type: ignore[arg-type]
        return str(one.state.value)

    assert (theirs(4), theirs(5)) == ("closed", "open")


@row("interlock-cb", "`classifier=`")
def _() -> None:
    class NotValueErrors:
        def is_failure(self, *, result: object, exception: Any) -> bool:
            return exception is not None and not isinstance(exception, ValueError)

    theirs = interlock.CircuitBreaker(name="x", classifier=NotValueErrors())
    ours = guard(lambda subject: breakerd.IGNORED if isinstance(subject, ValueError) else None)
    for one in (theirs, ours):
        fail(one, 1, ValueError())
    assert theirs.snapshot().total_calls == 1, "it counts, as a success"
    assert ours.failures == 0


@row("interlock-cb", "`listener=`")
def _() -> None:
    told: List[str] = []

    class Listener(interlock.LoggingEventListener):
        def on_state_change(self, *, name: str, old: Any, new: Any) -> None:
            told.append(f"{old.value} -> {new.value}")

    config = interlock.Config(minimum_number_of_calls=3, window_size=3)
    fail(interlock.CircuitBreaker(name="x", config=config, listener=Listener()), 3)
    assert told == ["closed -> open"]
    changes_are_told()


@row("interlock-cb", "`metrics_only()`")
def _(make_daemon: Callable[..., Daemon]) -> None:
    theirs = il()
    theirs.metrics_only()
    fail(theirs, 3)
    assert theirs.snapshot().failed_calls == 3
    daemon = make_daemon(extra='mode = "shadow"')
    ours = guard()
    fail(ours, 3)
    call(ours)  # open in its books, and it rejects nobody
    call(theirs)  # type: ignore[arg-type]
    shown = daemon.cli("status")["breakers"][0]
    assert (shown["state"], shown["mode"]) == ("open", "shadow")


@row("interlock-cb", "`force_open()`")
def _(daemon: Daemon) -> None:
    theirs, ours = il(), guard()
    call(ours)
    theirs.force_open()
    daemon.cli("force", "open", ours.name, "--until-released", "--because", "maintenance")
    with pytest.raises(interlock.CircuitOpenError):
        call(theirs)  # type: ignore[arg-type]
    assert is_rejected(ours)
    theirs.disable()
    daemon.cli("force", "closed", ours.name, "--until-released", "--because", "no time for this")
    fail(theirs, 5)
    fail(ours, 5)
    assert ours.state == "closed"


@row("interlock-cb", "`Storage` (Redis)")
def _(redis: Redis, daemon: Daemon) -> None:
    from interlock.integrations.redis import RedisStorage

    storage = RedisStorage(redis_client.Redis(port=redis.port))
    config = interlock.Config(minimum_number_of_calls=3, window_size=3)
    one, other = (interlock.CircuitBreaker(name="x", config=config, storage=storage) for _ in "ab")
    try:
        fail(one, 2)
        fail(other, 2)
        assert one.state is other.state is interlock.State.CLOSED, "each counts its own"
        call(other)  # type: ignore[arg-type]
        fail(one, 1)
        until(lambda: is_open(other))
    finally:
        one.close()
        other.close()
    assert in_another_process(daemon, trip(guard()).name) == "open"


def is_open(theirs: interlock.CircuitBreaker) -> bool:
    """By a call, since the shared state is polled."""
    try:
        call(theirs)  # type: ignore[arg-type]
    except interlock.CircuitOpenError:
        return True
    return False


@row("interlock-cb", "`CircuitOpenError`")
def _() -> None:
    theirs, ours = il(), trip(guard())
    fail(theirs, 3)
    with pytest.raises(interlock.CircuitOpenError):
        call(theirs)  # type: ignore[arg-type]
    assert is_rejected(ours)


@row("interlock-cb", "`Registry`")
def _() -> None:
    assert interlock.Registry().get("x").name == breakerd.breaker("x").name == "x"
    one, other = breakerd.breaker("registry"), breakerd.breaker("registry")
    fail(one, 2)
    assert other.failures == 2


test_a_row = rows_of("interlock-cb")
