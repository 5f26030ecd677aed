"""The package's types, as a program under ``mypy --strict`` sees them."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap

import pytest
from world import TREE

PROGRAM = """
    from typing import AsyncIterator, Iterator, Optional

    import breakerd

    guard = breakerd.breaker(
        "openai",
        policy=breakerd.Policy(
            consecutive_failures=False,
            failure_rate=(breakerd.AtLeast(0.5, of_calls=20, within="30s"), breakerd.AtLeast(0.5, of_calls=100)),
            slow_rate=False, probe_rate=breakerd.AtLeast(0.5, of_probes=10), cooldown_forget=False, auth_errors="failure",
        ),
        classify=lambda it: breakerd.IGNORED if isinstance(it, ValueError) else None,
    )

    @guard
    def plain(a: int) -> str: return str(a)

    @guard
    async def awaited(a: int) -> str: return str(a)

    @guard
    async def stream(a: int) -> AsyncIterator[str]: yield str(a)

    async def main() -> None:
        first: str = plain(1)
        second: str = await awaited(1)
        async for third in stream(1): first = third
        async with guard as permit: permit.fail("empty-answer", retry_after=2)
        async for change in breakerd.watch():
            if isinstance(change, breakerd.Lagged):
                missed: Optional[int] = change.dropped
            else:
                state: str = change.state
        wrong: int = await awaited(1)  # E
        breakerd.Policy(mode="sometimes")  # E
"""


def mypy(*args: str) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *args]
    return subprocess.run(command, cwd=TREE / "client-lib" / "python", capture_output=True, text=True, check=False).stdout


def test_the_package_holds() -> None:
    assert mypy("-p", "breakerd") == ""


def test_a_program_is_checked(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "program.py"
    text = textwrap.dedent(PROGRAM)
    file.write_text(text)
    wrong = [str(at) for at, line in enumerate(text.splitlines(), 1) if line.endswith("# E")]
    complaints = [line for line in mypy(str(file)).splitlines() if ": error:" in line]
    assert [line.split(":")[1] for line in complaints] == wrong, complaints


@pytest.fixture(autouse=True)
def fresh_client() -> None:
    """Nothing here connects."""
