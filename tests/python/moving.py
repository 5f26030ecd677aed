"""What the tests of MIGRATION.md share: its tables, and guards in every state that a row needs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import subprocess
import sys
import warnings
from typing import Any, Callable, Dict, List, Tuple

import pytest
from world import TREE, Daemon, until

import breakerd

MIGRATION = TREE / "client-lib" / "python" / "MIGRATION.md"
LIBRARIES = ("pybreaker", "circuitbreaker", "purgatory", "interlock-cb", "FlexiAI")

Key = Tuple[str, str]
ROWS: Dict[Key, Callable[..., None]] = {}


class Failed(Exception):
    """By the provider's fault."""


def row(library: str, theirs: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test of one row, by the first cell's beginning."""

    def keep(test: Callable[..., None]) -> Callable[..., None]:
        ROWS[library, theirs] = test
        return test

    return keep


def rows_of(library: str) -> Any:
    """The test that runs every row of one library; its file gives it a name that pytest finds."""

    @pytest.mark.parametrize("theirs", [theirs for of, theirs in ROWS if of == library])
    def test_a_row(theirs: str, request: pytest.FixtureRequest) -> None:
        test = ROWS[library, theirs]
        wants = {name: request.getfixturevalue(name) for name in inspect.signature(test).parameters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # theirs
            test(**wants)

    return test_a_row


def tables() -> List[Tuple[str, str, str]]:
    """Every row: the library, what it calls it, what it is here."""
    found = []
    for library in LIBRARIES:
        section = MIGRATION.read_text().partition(f"\n## {library}\n")[2].partition("\n## ")[0]
        for line in section.splitlines()[3:]:
            if line.startswith("| "):
                theirs, ours, _ = (cell.strip() for cell in line[1:-1].split(" | "))
                found.append((library, theirs, ours))
    return found


_names = (f"moved-{count}" for count in itertools.count())


def guard(classify: Any = None, **policy: Any) -> breakerd.Guard:
    """A guard of its own that nothing else knows, and that trips at three."""
    return breakerd.breaker(next(_names), classify=classify, policy=breakerd.Policy(**{"consecutive_failures": 3, **policy}))


def call(one: breakerd.Guard, error: Any = None) -> None:
    with one:
        if error is not None:
            raise error


def fail(one: Any, times: int = 1, error: Any = None) -> None:
    """Guarded calls that fail, each with its own error."""
    for _ in range(times):
        thrown = Failed() if error is None else error
        with pytest.raises(type(thrown)):
            call(one, thrown)


def trip(one: breakerd.Guard) -> breakerd.Guard:
    fail(one, 3)
    assert one.state == "open"
    return one


def half_open(**policy: Any) -> breakerd.Guard:
    """One whose cooldown is over."""
    one = trip(guard(**{"cooldown": "20ms", "cooldown_factor": 1, "cooldown_jitter": 0, **policy}))
    until(lambda: one.observe().retry_after == 0.0)
    return one


def is_rejected(one: breakerd.Guard) -> bool:
    with contextlib.suppress(breakerd.Rejected):
        one.admit().success()
        return False
    return True


def changes_are_told() -> None:
    guarded = guard()
    with breakerd.fake() as fake:
        watch = breakerd.watch()

        async def listen() -> Any:
            async for change in watch:
                return change

        async def main() -> Any:
            listening = asyncio.ensure_future(listen())
            await asyncio.sleep(0)
            fake.set(guarded.name, "open")
            return await asyncio.wait_for(listening, 10)

        change = asyncio.run(main())
        assert (change.name, change.was, change.state) == (guarded.name, "closed", "open")


def in_another_process(daemon: Daemon, name: str, act: str = "None") -> str:
    """What another worker of the host sees of a breaker, after it has done this."""
    program = f"import breakerd\n{act}\nprint(breakerd.breaker({name!r}).state)"
    env = {"BREAKERD_SOCKET": daemon.socket, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()
