"""Policies in code: how they are spelt, what is refused, and that they reach the judge."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from world import Daemon, until

import breakerd
from breakerd import AtLeast, Policy

OFF = (None, None)


@pytest.mark.parametrize(
    ("given", "patch"),
    [
        (Policy(), {}),
        # in a row
        (Policy(consecutive_failures=3), {"consecutive_failures": 3}),
        (Policy(consecutive_failures=0), {"consecutive_failures": 0}),
        (Policy(consecutive_failures=False), {"consecutive_failures": 0}),
        # over the last calls: threshold, of how many, from how many on
        (Policy(failure_rate=AtLeast(0.5, of_calls=100)), {"failure_rate": ((0.5, 100, 100), None)}),
        (Policy(failure_rate=AtLeast(0.5, of_calls=100, min_calls=20)), {"failure_rate": ((0.5, 100, 20), None)}),
        (Policy(failure_count=AtLeast(5, of_calls=100)), {"failure_count": ((5.0, 100, 100), None)}),
        (Policy(slow_count=AtLeast(1, of_calls=1)), {"slow_count": ((1.0, 1, 1), None)}),
        # over a time: threshold, from how many calls on, milliseconds
        (Policy(failure_rate=AtLeast(0.5, of_calls=20, within="30s")), {"failure_rate": (None, (0.5, 20, 30_000))}),
        (Policy(failure_count=AtLeast(5, of_calls=20, within=1)), {"failure_count": (None, (5.0, 20, 1000))}),
        (Policy(slow_rate=AtLeast(1, of_calls=20, within="100ms")), {"slow_rate": (None, (1.0, 20, 100))}),
        # both, none
        (
            Policy(failure_rate=(AtLeast(0.1, of_calls=9, within="1s"), AtLeast(0.9, of_calls=5))),
            {"failure_rate": ((0.9, 5, 5), (0.1, 9, 1000))},
        ),
        (Policy(failure_rate=False, slow_rate=False), {"failure_rate": OFF, "slow_rate": OFF}),
        # what follows a trip
        (Policy(cooldown="1.5s", cooldown_max="2m"), {"cooldown_first_ms": 1500, "cooldown_max_ms": 120_000}),
        (Policy(cooldown_factor=2, cooldown_jitter=0), {"cooldown_factor": 2.0, "cooldown_jitter": 0.0}),
        (Policy(cooldown_forget="10m"), {"cooldown_forget_ms": 600_000}),
        (Policy(cooldown_forget=False), {"cooldown_forget_ms": 0}),
        (Policy(cooldown_forget=0), {"cooldown_forget_ms": 0}),
        (Policy(probe_permits=2, probe_successes=3), {"probe_permits": 2, "probe_successes": 3}),
        (Policy(probe_rate=AtLeast(0.5, of_probes=10)), {"probe_rate": (0.5, 10)}),
        (Policy(probe_rate=False), {"probe_rate": (1.0, 0)}),
        (Policy(probe_max=0.25, probe_period="10m"), {"probe_max_ms": 250, "probe_period_ms": 600_000}),
        # the clients' part
        (Policy(slow_after="1h"), {"slow_after_ms": 3_600_000}),
        (Policy(hung_after=datetime.timedelta(seconds=20)), {"hung_after_ms": 20_000}),
        (Policy(auth_errors="failure", on_quota="reject"), {"auth_errors": "failure", "on_quota": "reject"}),
        (Policy(mode="shadow", fallback="admit"), {"mode": "shadow", "fallback": "admit"}),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_what_a_policy_decides(given: Policy, patch: Any) -> None:
    assert given.to_patch() == patch
    guard = breakerd.breaker("openai", policy=given)
    assert guard.state == "closed", "and the judge takes it"


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("consecutive_failures", 1_000_001, "may be a whole number from 0 to 1000000"),
        ("consecutive_failures", -1, "may be a whole number from 0"),
        ("consecutive_failures", 2.5, "may be a whole number"),
        ("consecutive_failures", True, "may be a whole number"),
        ("failure_rate", AtLeast(50, of_calls=20), "failure_rate.at_least is 50; a rate is above 0 and at most 1"),
        ("failure_rate", AtLeast(0, of_calls=20), "a rate is above 0 and at most 1"),
        ("failure_rate", AtLeast(float("nan"), of_calls=20), "a rate is above 0 and at most 1"),
        ("failure_rate", AtLeast(0.5), "has no of_calls; write it as AtLeast"),
        ("failure_rate", AtLeast(0.5, within="30s"), "has no of_calls; write it as AtLeast"),
        ("failure_rate", AtLeast(0.5, of_calls=10_001), "failure_rate.of_calls is 10001; it may be a whole number from 1 to 10000"),
        ("failure_rate", AtLeast(0.5, of_calls=20, min_calls=21), "min_calls is 21; it may be a whole number from 1 to 20"),
        ("failure_rate", AtLeast(0.5, of_calls=20, within="30s", min_calls=3), "where of_calls is the minimum"),
        ("failure_rate", AtLeast(0.5, of_calls=20, within="99ms"), "failure_rate.within is '99ms'; it may be 100 ms to 24 h"),
        ("failure_rate", AtLeast(0.5, of_probes=20), "counts calls, not probes"),
        ("failure_rate", 0.5, "failure_rate is 0.5; write it as AtLeast"),
        ("failure_rate", True, "write it as AtLeast"),
        ("failure_rate", (AtLeast(0.5, of_calls=5), AtLeast(0.9, of_calls=9)), "two rules of one kind"),
        ("failure_count", AtLeast(0.5, of_calls=20), "failure_count.at_least is 0.5; it may be a whole number"),
        ("failure_count", AtLeast(30, of_calls=20), "needs 30 of 20 calls and would never trip; raise of_calls"),
        ("slow_count", AtLeast(2, of_calls=True), "slow_count.of_calls is True"),
        ("probe_rate", AtLeast(0.5), "has no of_probes"),
        ("probe_rate", AtLeast(0.5, of_calls=5), "counts probes, not calls"),
        ("probe_rate", AtLeast(0.5, of_probes=1001), "may be a whole number from 1 to 1000"),
        ("probe_rate", 0.5, "write it as AtLeast"),
        ("cooldown", "15", "a number with a unit"),
        ("cooldown", "15 parsecs", "a number with a unit"),
        ("cooldown", "25h", "1 ms to 24 h"),
        ("cooldown", 0, "1 ms to 24 h"),
        ("cooldown", True, "text with a unit"),
        ("cooldown_factor", 0.9, "1 to 100"),
        ("cooldown_jitter", 0.51, "0 to 0.5"),
        ("cooldown_forget", "25h", "0 ms to 24 h"),
        ("probe_permits", 0, "1 to 1000"),
        ("hung_after", 0, "1 ms to 24 h"),
        ("auth_errors", "count", "ignored, failure"),
        ("on_quota", "wait", "admit, reject"),
        ("mode", "sometimes", "on, shadow, off"),
        ("fallback", "open", "local, admit, reject"),
    ],
)
def test_a_policy_out_of_its_bounds_is_refused_at_construction(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        Policy(**{field: value})
    assert sentence in str(caught.value)


def test_the_daemons_own_probe_is_not_for_code_to_say() -> None:
    with pytest.raises(TypeError, match="probe_connect"):
        Policy(probe_connect="api.openai.com:443")  # type: ignore[call-arg]


def test_authentication_errors_count_as_the_policy_says(daemon: Daemon) -> None:
    class Unauthorized(Exception):
        status_code = 401

    def fail(guard: breakerd.Guard, times: int) -> None:
        for _ in range(times):
            with pytest.raises(Unauthorized), guard:
                raise Unauthorized

    silent = breakerd.breaker("silent")
    fail(silent, 3)
    assert (silent.state, silent.failures) == ("closed", 0)
    said = breakerd.breaker("said", policy=Policy(auth_errors="failure"))
    fail(said, 3)
    assert said.state == "open"
    short = breakerd.breaker("short", auth_errors="failure")
    fail(short, 3)
    assert short.state == "open"
    assert breakerd.breaker("short").last_failure.kind == "http-401"  # type: ignore[union-attr]


def test_authentication_errors_are_said_once() -> None:
    with pytest.raises(ValueError, match="auth_errors is 'failure' here and 'ignored' in the policy; say it once"):
        breakerd.breaker("openai", policy=Policy(auth_errors="ignored"), auth_errors="failure")
    breakerd.breaker("openai", policy=Policy(auth_errors="failure"), auth_errors="failure")


def test_a_breaker_that_never_trips_by_a_run(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai", policy=Policy(consecutive_failures=False, failure_rate=False))
    for _ in range(20):
        guard.admit().fail("http-503")
    assert (guard.state, guard.failures) == ("closed", 20)


def test_a_stream_is_slow_by_its_first_item(daemon: Daemon) -> None:
    def stream(guard: breakerd.Guard, waits: Any) -> None:
        @guard
        def items() -> Any:
            for wait in waits:
                end = time.monotonic() + wait
                until(lambda: time.monotonic() > end)
                yield wait

        list(items())

    slow = Policy(slow_after="100ms", slow_count=AtLeast(1, of_calls=1))
    quick, late = breakerd.breaker("quick", policy=slow), breakerd.breaker("late", policy=slow)
    stream(quick, (0, 0.15))
    stream(late, (0.15, 0))
    assert (quick.state, late.state) == ("closed", "open")
