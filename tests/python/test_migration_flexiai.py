"""MIGRATION.md's table for FlexiAI, this side only: it is not on PyPI, and what it does is known by its source."""

from __future__ import annotations

from moving import changes_are_told, fail, guard, half_open, in_another_process, is_rejected, row, rows_of, trip
from world import Daemon

import breakerd


@row("FlexiAI", "`failure_threshold: 5`")
def _(daemon: Daemon) -> None:
    ours = trip(guard())
    assert in_another_process(daemon, ours.name) == "open"
    name = guard().name
    failing = "breakerd.breaker({name!r}).admit().fail('http-503')".format(name=name)
    for _ in range(4):
        in_another_process(daemon, name, failing)
    assert in_another_process(daemon, name) == "open", "one failure in each of four workers is four in a row"


@row("FlexiAI", "`recovery_timeout: 60`")
def _() -> None:
    seen = trip(guard(cooldown="60s", cooldown_factor=1, cooldown_jitter=0)).observe().retry_after
    assert seen is not None and 30 < seen <= 60


@row("FlexiAI", "`expected_exception:")
def _() -> None:
    class APIError(Exception):
        pass

    class Subclass(APIError):
        pass

    by_name = guard(lambda it: breakerd.IGNORED if type(it).__name__ not in ("APIError", "Timeout") else None)
    fail(by_name, 1, APIError())
    fail(by_name, 1, Subclass())
    assert by_name.failures == 1
    by_default = guard()
    fail(by_default, 1, APIError())
    fail(by_default, 1, Subclass())
    assert by_default.failures == 2


@row("FlexiAI", "`half_open_max_calls: 1`")
def _() -> None:
    ours = half_open(probe_permits=1, probe_successes=1)
    probe = ours.admit()
    assert probe.is_probe and is_rejected(ours)
    probe.success()
    assert ours.state == "closed"


@row("FlexiAI", "`sync: {backend: redis}`")
def _(daemon: Daemon) -> None:
    ours = trip(guard())
    assert in_another_process(daemon, ours.name) == "open", "a late worker"


@row("FlexiAI", "`add_state_change_listener`")
def _() -> None:
    changes_are_told()


@row("FlexiAI", "`reset()`")
def _(daemon: Daemon) -> None:
    ours = trip(guard())
    in_another_process(daemon, ours.name, f"breakerd.breaker({ours.name!r}).reset(because='over')")
    assert ours.state == "closed"


@row("FlexiAI", "`state`")
def _() -> None:
    ours = half_open()
    seen = ours.observe()
    assert seen.retry_after == 0.0 and seen.failures == 3


@row("FlexiAI", "providers by priority")
def _() -> None:
    first, second = trip(guard()), guard()
    with breakerd.first_admitted(first, second) as permit:
        assert permit.name == second.name


test_a_row = rows_of("FlexiAI")
