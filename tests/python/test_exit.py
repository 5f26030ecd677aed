"""How a program ends: quietly, whatever is still alive."""

from __future__ import annotations

import subprocess
import sys

from world import Daemon

# The link outlives its module: `builtins` is emptied after all others.
OUTLIVES = """
import asyncio, builtins
import breakerd, breakerd._aio

async def main():
    async with breakerd.breaker("openai"):
        pass
    return list(breakerd._aio._links.values())

builtins.kept = asyncio.run(main())
assert builtins.kept
"""


def test_a_loops_connection_that_outlives_its_module_says_nothing(daemon: Daemon) -> None:
    environment = {"BREAKERD_SOCKET": str(daemon.socket), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", OUTLIVES], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
