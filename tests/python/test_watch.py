"""Every change of every breaker, as an iterator."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Any, Callable, List, Union

import pytest
import uvloop
from world import Daemon, until

import breakerd

Told = Union[breakerd.Change, breakerd.Lagged]


def told(change: Told) -> str:
    if isinstance(change, breakerd.Lagged):
        return f"lagged {change.dropped}"
    return f"{change.name} {change.was} -> {change.state}: {change.what}"


def fail(guard: breakerd.Guard, times: int) -> None:
    for _ in range(times):
        guard.admit().fail("http-503", detail="503 overloaded")


async def watching(watch: breakerd.Watch) -> "asyncio.Future[Told]":
    """The next change as a task, once the daemon tells of changes."""
    first = asyncio.ensure_future(watch.__anext__())
    while not watch.is_watching:
        assert not first.done(), first.result()
        await asyncio.sleep(0.005)
    return first


async def next_one(watch: breakerd.Watch) -> Told:
    return await asyncio.wait_for(watch.__anext__(), 20)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_trip_is_told_with_who_and_why(daemon: Daemon, make_loop: Callable[[], Any]) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        watch = breakerd.watch()
        assert not watch.is_watching
        first = await watching(watch)
        fail(guard, 3)
        change = await first
        assert isinstance(change, breakerd.Change)
        assert told(change) == "openai closed -> open: trip"
        assert (change.forced, change.mode, change.host_only) == (None, "on", True)
        assert change.why == "3 consecutive failures, last http-503" and f"[{os.getpid()}]@" in change.by
        assert change.retry_after is not None and 0 < change.retry_after <= 10
        await guard.reset_async(because="tested")
        assert told(await next_one(watch)) == "openai open -> closed: reset"
        daemon.cli("force", "open", "openai", "--until-released", "--because", "maintenance")
        forced = await next_one(watch)
        assert isinstance(forced, breakerd.Change)
        assert (forced.what, forced.forced, forced.retry_after) == ("force", "forced-open", None)
        assert "maintenance" in forced.why

    loop = make_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_thread_reads_it_with_for(daemon: Daemon) -> None:
    guard, watch, seen = breakerd.breaker("openai"), breakerd.watch(), []  # type: ignore[var-annotated]

    def read() -> None:
        for change in watch:
            seen.append(told(change))
            if len(seen) == 2:
                return

    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: watch.is_watching)
    fail(guard, 3)
    guard.reset(because="tested")
    thread.join(20)
    assert seen == ["openai closed -> open: trip", "openai open -> closed: reset"]


def test_a_signal_interrupts_it(daemon: Daemon) -> None:
    watch = breakerd.watch()

    def interrupt() -> None:
        until(lambda: watch.is_watching)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(watch)
    thread.join(20)


def test_a_wait_that_is_cancelled_loses_nothing(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        watch = breakerd.watch()
        (await watching(watch)).cancel()
        await asyncio.sleep(0)
        fail(guard, 3)
        assert told(await next_one(watch)) == "openai closed -> open: trip"

    asyncio.run(main())


def test_a_daemon_that_was_lost_is_found_again_and_what_was_missed_is_told(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> List[str]:
        watch = breakerd.watch()
        first = await watching(watch)
        daemon.kill()
        daemon.start()
        lagged = await asyncio.wait_for(first, 20)
        fail(guard, 3)
        return [told(lagged), told(await next_one(watch))]

    assert asyncio.run(main()) == ["lagged None", "openai closed -> open: trip"]


def test_without_a_daemon_it_waits_for_one_and_says_so_once(
    caplog: pytest.LogCaptureFixture, make_daemon: Callable[..., Daemon]
) -> None:
    caplog.set_level(logging.WARNING)
    guard = breakerd.breaker("openai")

    async def main() -> str:
        watch = breakerd.watch()
        first = asyncio.ensure_future(watch.__anext__())
        while "no changes to watch: no daemon at" not in caplog.text:
            await asyncio.sleep(0.005)
        make_daemon()
        while not watch.is_watching:
            await asyncio.sleep(0.005)
        fail(guard, 3)
        return told(await asyncio.wait_for(first, 20))

    assert asyncio.run(main()) == "openai closed -> open: trip"
    assert caplog.text.count("no changes to watch") == 1


def test_a_reader_that_falls_behind_is_told_how_many_it_missed(daemon: Daemon) -> None:
    """It reads nothing while more changes come than the daemon keeps for one peer."""
    guard = breakerd.breaker("openai")

    async def main() -> None:
        watch = breakerd.watch()
        (await watching(watch)).cancel()
        for _ in range(2000):
            fail(guard, 3)
            guard.reset(because="again")
        seen = 0
        while isinstance(change := await next_one(watch), breakerd.Change):
            seen += 1
        assert change.dropped is None or change.dropped > 0
        assert seen < 4000

    asyncio.run(main())


def test_one_reader_at_a_time(daemon: Daemon) -> None:
    async def main() -> None:
        watch = breakerd.watch()
        first = await watching(watch)
        with pytest.raises(RuntimeError, match="make one for each reader"):
            await watch.__anext__()
        first.cancel()

    asyncio.run(main())


def test_a_fake_tells_what_the_test_sets() -> None:
    guard = breakerd.breaker("openai")
    with breakerd.fake() as fake:
        watch = breakerd.watch()

        async def main() -> None:
            first = await watching(watch)
            fake.set("openai", "open")
            assert told(await first) == "openai closed -> open: trip"
            fake.set("openai", "half-open")
            guard.reset(because="tested")

        asyncio.run(main())
        assert [told(next(watch)) for _ in range(2)] == [
            "openai open -> half-open: probe", "openai half-open -> closed: recover",
        ]
        watch.close()
