"""MIGRATION.md's table for circuitbreaker, with the real package."""

from __future__ import annotations

from typing import Any

import circuitbreaker
import pytest
from moving import Failed, call, fail, guard, half_open, is_rejected, row, rows_of, trip
from world import Daemon, until

import breakerd


def cb(**options: Any) -> circuitbreaker.CircuitBreaker:
    settings = {"failure_threshold": 3, "expected_exception": Failed, "name": "x", **options}
    return circuitbreaker.CircuitBreaker(**settings)


@row("circuitbreaker", "`failure_threshold=5`")
def _() -> None:
    theirs, ours = cb(failure_threshold=5), guard(consecutive_failures=5)
    for one in (theirs, ours):
        fail(one, 4)
        assert one.state == "closed"
        fail(one, 1)
        assert one.state == "open"


@row("circuitbreaker", "`recovery_timeout=30`")
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(circuitbreaker, "monotonic", lambda: now[0])
    theirs = cb(recovery_timeout=30)
    fail(theirs, 3)
    assert theirs.open_remaining == 30
    now[0] = 20
    fail(theirs, 1)  # a call from before the trip: `with` asks nothing
    assert theirs.open_remaining == 30, "it begins anew"
    ours = guard(cooldown="30s", cooldown_factor=1, cooldown_jitter=0)
    late = ours.admit()
    trip(ours)
    before = ours.observe().retry_after
    late.fail("late")
    after = ours.observe().retry_after
    assert before is not None and after is not None and after <= before <= 30


@row("circuitbreaker", "`expected_exception=Error`")
def _() -> None:
    theirs = cb()
    ours = guard(lambda subject: breakerd.IGNORED if isinstance(subject, ValueError) else None)
    for one in (theirs, ours):
        fail(one, 2)
        fail(one, 1, ValueError())
    assert (theirs.failure_count, ours.failures) == (0, 2)


@row("circuitbreaker", "`fallback_function=f`")
def _() -> None:
    theirs = cb(fallback_function=lambda: "cached")
    fail(theirs, 3)
    assert theirs(lambda: "fresh")() == "cached"
    ours = trip(guard())

    def ask() -> str:
        try:
            return ours(lambda: "fresh")()
        except breakerd.Rejected:
            return "cached"

    assert ask() == "cached"
    with breakerd.first_admitted(ours, "another") as permit:
        assert permit.name == "another"


@row("circuitbreaker", "`name=`")
def _() -> None:
    theirs = circuitbreaker.CircuitBreaker()

    @theirs
    def ask() -> None: ...

    assert theirs.name.endswith("ask")
    assert breakerd.breaker("openai")(ask).__name__ == "ask" and breakerd.breaker("openai").name == "openai"


@row("circuitbreaker", "`CircuitBreakerError`")
def _() -> None:
    theirs = cb()
    fail(theirs, 3)
    with pytest.raises(circuitbreaker.CircuitBreakerError):
        theirs(lambda: 1)()
    assert is_rejected(trip(guard()))


@row("circuitbreaker", "`open_remaining`")
def _() -> None:
    theirs, ours = cb(), guard()
    for one in (theirs, ours):
        fail(one, 3)
    assert theirs.open_remaining > 0
    with pytest.raises(breakerd.Rejected) as caught:
        call(ours)
    assert caught.value.retry_after is not None and caught.value.retry_after > 0
    assert theirs.failure_count == ours.failures == 3
    assert isinstance(theirs.last_failure, Failed)
    assert ours.last_failure is not None and ours.last_failure.kind == "Failed"


@row("circuitbreaker", "`CircuitBreakerMonitor.get_open()`")
def _(daemon: Daemon) -> None:
    theirs, ours = cb(name="monitored"), guard()
    theirs(lambda: 1)
    fail(theirs, 3)
    trip(ours)
    assert "monitored" in [one.name for one in circuitbreaker.CircuitBreakerMonitor.get_open()]
    assert [one["name"] for one in daemon.cli("status")["breakers"] if one["state"] == "open"] == [ours.name]


@row("circuitbreaker", "`reset()`")
def _() -> None:
    theirs, ours = cb(), trip(guard())
    fail(theirs, 3)
    theirs.reset()
    ours.reset(because="migrated")
    assert theirs.state == ours.state == "closed"


@row("circuitbreaker", "half-open lets everybody through")
def _() -> None:
    theirs = cb(recovery_timeout=0.001)
    fail(theirs, 3)
    until(lambda: theirs.state == "half_open")
    held = [theirs(generator) for generator in (lambda: (yield 1), lambda: (yield 2))]
    assert [next(one()) for one in held] == [1, 2]
    ours = half_open()
    probe = ours.admit()
    with pytest.raises(breakerd.Rejected) as caught:
        ours.admit()
    assert probe.is_probe and caught.value.reason == "probing"


test_a_row = rows_of("circuitbreaker")
