"""How a program ends: quietly, whatever is still alive."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from world import Daemon

# What outlives its module: `builtins` is emptied after all others.
OUTLIVES = {
    "a loop's connection": """
        async def main():
            async with breakerd.breaker("openai"):
                pass
            return list(breakerd._aio._links.values())

        builtins.kept = asyncio.run(main())
        assert builtins.kept
    """,
    "a permit": """
        builtins.kept = breakerd.breaker("openai").admit()
    """,
    "a block that is never left": """
        builtins.kept = breakerd.breaker("openai")
        builtins.kept.__enter__()
    """,
    "a stream in the middle": """
        @breakerd.breaker("openai")
        def stream():
            yield 1
            yield 2

        builtins.kept = stream()
        assert next(builtins.kept) == 1
    """,
    "an asynchronous stream in the middle": """
        @breakerd.breaker("openai")
        async def stream():
            yield 1
            yield 2

        builtins.kept = stream()
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(builtins.kept.__anext__()) == 1
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    """,
    "a task that still waits for its call": """
        async def main():
            async def hang():
                async with breakerd.breaker("openai"):
                    await asyncio.sleep(3600)
            builtins.kept = asyncio.ensure_future(hang())
            await asyncio.sleep(0.01)

        asyncio.run(main())
    """,
    "a watch": """
        async def main():
            builtins.kept = breakerd.watch()
            waiting = asyncio.ensure_future(builtins.kept.__anext__())
            while not builtins.kept.is_watching:
                await asyncio.sleep(0.001)
            waiting.cancel()

        asyncio.run(main())
    """,
    "a thread that watches": """
        import threading
        watch = builtins.kept = breakerd.watch()
        threading.Thread(target=lambda: list(watch), daemon=True).start()
        while not watch.is_watching:
            pass
    """,
    "a fake's permit and its watch": """
        breakerd._backend.push(builtins.fake)
        builtins.kept = breakerd.breaker("openai").admit(), breakerd.watch()
        builtins.kept[1]._take()
    """,
}
HEAD = "import asyncio, builtins\nimport breakerd, breakerd._aio, breakerd._backend\nbuiltins.fake = breakerd.Fake({})\n"


@pytest.mark.parametrize("what", OUTLIVES)
def test_what_outlives_its_module_says_nothing(what: str, daemon: Daemon) -> None:

    program = HEAD + textwrap.dedent(OUTLIVES[what])
    environment = {"BREAKERD_SOCKET": str(daemon.socket), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
