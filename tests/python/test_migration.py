"""MIGRATION.md: that each of its rows has a test, and the way itself."""

from __future__ import annotations

from typing import Callable, List

import moving
import pybreaker
import pytest
import test_migration_circuitbreaker
import test_migration_flexiai
import test_migration_interlock
import test_migration_purgatory
import test_migration_pybreaker
from moving import ROWS, Failed, fail, is_rejected, tables
from world import Daemon, until

import breakerd

FILES = (
    test_migration_circuitbreaker, test_migration_flexiai, test_migration_interlock, test_migration_purgatory,
    test_migration_pybreaker,
)


def matches(library: str, theirs: str) -> List[moving.Key]:
    return [key for key in ROWS if key[0] == library and theirs.startswith(key[1])]


def test_every_row_has_one_test_and_every_test_one_row() -> None:
    rows = tables()
    assert {library for library, _, _ in rows} == set(moving.LIBRARIES) and len(FILES) == len(moving.LIBRARIES)
    for library, theirs, _ in rows:
        assert len(matches(library, theirs)) == 1, (library, theirs)
    for library, theirs in ROWS:
        assert len([one for one in rows if one[0] == library and one[1].startswith(theirs)]) == 1, (library, theirs)


def test_the_way(make_daemon: Callable[..., Daemon]) -> None:
    """In shadow, read what would have opened, on."""
    daemon = make_daemon(extra='mode = "shadow"')
    old = pybreaker.CircuitBreaker(fail_max=3, throw_new_error_on_trip=False)
    new = breakerd.breaker("psp")

    @new
    @old
    def ask() -> None:
        raise Failed

    for _ in range(3):
        with pytest.raises(Failed):
            ask()
    shown = daemon.cli("status")["breakers"][0]
    assert (shown["name"], shown["state"], shown["mode"]) == ("psp", "open", "shadow") and old.current_state == "open"
    daemon.stop()
    daemon.config.write_text(daemon.config.read_text().replace('mode = "shadow"', 'mode = "on"'))
    daemon.start()
    until(lambda: breakerd.health().daemon is not None)
    until(lambda: is_rejected(new))  # what was open in shadow is open
