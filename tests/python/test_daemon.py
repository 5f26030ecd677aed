"""One process with a real daemon: threads, tasks and loops, each settling its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
from typing import Any, Awaitable, Callable, List

import pytest
import uvloop
from world import Daemon, bounded, until

import breakerd


def fail(guard: breakerd.Guard, times: int) -> None:
    for _ in range(times):
        guard.admit().fail("http-503", detail="503 overloaded")


async def until_async(what: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """Waits for a condition on the running loop."""

    async def wait() -> None:
        while not await what():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), within_s)


async def half_open(guard: breakerd.Guard) -> None:
    """Waits until the cooldown is over."""

    async def is_over() -> bool:
        seen = await guard.observe_async()
        return seen.retry_after == 0.0 and seen.state != "closed"

    await until_async(is_over)


def is_half_open(guard: breakerd.Guard) -> bool:
    return guard.observe().retry_after == 0.0 and guard.state != "closed"


def test_a_trip_is_seen_with_its_reason(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")
    assert guard.observe() == breakerd.Sight("closed", 0, None, 0.0, guard.observe().why)
    fail(guard, 2)
    assert (guard.state, guard.failures) == ("closed", 2)
    guard.admit().success()
    assert guard.failures == 0
    fail(guard, 3)
    assert (guard.state, guard.failures) == ("open", 3)
    last = guard.last_failure
    assert last is not None and (last.kind, last.detail) == ("http-503", "503 overloaded")
    with pytest.raises(breakerd.Rejected) as caught, guard:
        pass
    no = caught.value
    assert (no.breaker, no.state, no.reason) == ("openai", "open", "open")
    assert no.retry_after is not None and 0 < no.retry_after <= 10
    assert "3 consecutive failures" in no.why and "3 consecutive failures" in str(no)
    assert str(breakerd.health()) == f"daemon {breakerd.health().daemon}, standalone"
    guard.reset(because="tested")
    assert (guard.state, guard.failures) == ("closed", 0)


def test_calls_in_flight_at_the_trip_are_this_workers_failures(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        permits = [await guard.admit_async() for _ in range(5)]
        for permit in permits:
            permit.fail("http-401")
        assert (guard.state, guard.failures) == ("open", 5)
        with pytest.raises(breakerd.Rejected):
            async with guard:
                pass

    asyncio.run(main())
    assert (guard.state, guard.failures) == ("open", 5)


def test_the_policy_in_code_reaches_the_daemon_and_its_configuration_wins(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(extra='[breaker."psp"]\ntrip.consecutive_failures = 2')
    policy = breakerd.Policy(consecutive_failures=4)
    by_code, by_config = breakerd.breaker("openai", policy=policy), breakerd.breaker("psp", policy=policy)
    fail(by_code, 3)
    assert by_code.state == "closed"
    fail(by_code, 1)
    assert by_code.state == "open"
    fail(by_config, 2)
    assert by_config.state == "open"


def test_one_connection_for_each_loop_and_one_for_the_threads(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two loops in two threads, each awaited on its own connection, all one worker."""
    monkeypatch.setenv("BREAKERD_BOARD", "off")  # with it a loop asks only what the board does not tell
    guard, barrier = breakerd.breaker("openai"), threading.Barrier(3)

    def loop() -> str:
        async def main() -> None:
            async def call() -> None:
                async with guard:
                    await asyncio.sleep(0)

            await asyncio.gather(*(call() for _ in range(50)))
            barrier.wait(10)
            barrier.wait(10)

        asyncio.run(main())
        return "done"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        loops = [pool.submit(loop) for _ in range(2)]
        guard.admit().success()
        barrier.wait(10)
        assert [worker["connections"] for worker in daemon.workers()] == [3]
        barrier.wait(10)
        assert [one.result(10) for one in loops] == ["done", "done"]


def test_uvloop(daemon: Daemon) -> None:
    """The loop that `uvicorn[standard]` brings."""
    guard = breakerd.breaker("openai")

    async def call() -> None:
        async with guard as permit:
            permit.fail("http-503")

    async def main() -> None:
        permits = await asyncio.gather(*(guard.admit_async() for _ in range(100)))
        for permit in permits:
            permit.success()
        for _ in range(3):
            await call()
        assert (await guard.observe_async()).state == guard.state == "open"
        until(lambda: any((daemon.directory / "state").iterdir()))
        daemon.kill()
        with pytest.raises(breakerd.Rejected):
            await call()
        daemon.start()

        async def is_back() -> bool:
            with pytest.raises(breakerd.Rejected):
                await call()
            return bool(daemon.workers())

        await until_async(is_back)

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_loop_for_each_task_is_one_worker_over_one_connection(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def task() -> None:
        async with guard as permit:
            permit.fail("http-503")

    for _ in range(3):
        asyncio.run(task())
    assert (guard.state, guard.failures) == ("open", 3)
    assert [worker["connections"] for worker in daemon.workers()] == [2], "one for the loops, one for this thread"


def test_half_open_lets_one_probe_through_whoever_asks(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")

    async def main() -> None:
        async def call(release: asyncio.Event) -> Any:
            try:
                async with guard as permit:
                    await release.wait()
                    return permit.is_probe
            except breakerd.Rejected as no:
                return no.reason

        for _ in range(3):
            fail(guard, 3)
            await half_open(guard)
            release = asyncio.Event()
            calls = [asyncio.create_task(call(release)) for _ in range(20)]
            while sum(task.done() for task in calls) < 19:
                await asyncio.sleep(0.005)
            assert [task.result() for task in calls if task.done()] == ["probing"] * 19
            assert guard.state == "half-open"
            release.set()
            assert True in await asyncio.gather(*calls)
            assert (guard.state, guard.failures) == ("closed", 0)

    asyncio.run(main())


def test_a_straggler_and_a_probe_in_one_loop(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")

    async def main() -> None:
        entered, finish = asyncio.Event(), asyncio.Event()

        async def straggler() -> None:
            async with guard as permit:
                assert not permit.is_probe
                entered.set()
                await finish.wait()
                raise ConnectionError

        late = asyncio.create_task(straggler())
        await entered.wait()
        fail(guard, 3)
        await half_open(guard)
        async with guard as probe:
            assert probe.is_probe
            finish.set()
            with pytest.raises(ConnectionError):
                await late
            assert guard.state == "half-open", "the straggler decides nothing"
        assert guard.state == "closed"

    asyncio.run(main())


def test_a_straggler_and_a_probe_in_two_threads(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")
    entered, finish = threading.Event(), threading.Event()

    def straggler() -> None:
        with guard:
            entered.set()
            finish.wait(10)
        # It succeeds, and recovers nothing by that.

    thread = threading.Thread(target=straggler)
    thread.start()
    assert entered.wait(10)
    fail(guard, 3)
    until(lambda: is_half_open(guard))
    with pytest.raises(ConnectionError), guard as probe:
        assert probe.is_probe
        finish.set()
        thread.join(10)
        assert guard.state == "half-open", "the straggler decides nothing"
        raise ConnectionError
    assert guard.state == "open"


def test_a_cancelled_task_gives_its_probe_back(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")

    async def main() -> None:
        fail(guard, 3)
        await half_open(guard)
        entered = asyncio.Event()

        async def hang() -> None:
            async with guard as permit:
                assert permit.is_probe
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hang())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with guard as permit:
            assert permit.is_probe

    asyncio.run(main())
    assert guard.state == "closed"


def test_a_task_cancelled_while_it_asks_leaves_no_permit_out(make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms")
    guard = breakerd.breaker("openai")

    async def main() -> None:
        fail(guard, 3)
        await half_open(guard)

        async def ask() -> None:
            async with guard:
                raise AssertionError("it was cancelled before it was admitted")

        task = asyncio.create_task(ask())
        await asyncio.sleep(0)  # it has asked and waits for its answer
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with guard as permit:
            assert permit.is_probe

    asyncio.run(main())


def test_nothing_blocks_a_loop_while_the_daemon_hangs(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKERD_BOARD", "off")  # with it a closed breaker needs no answer
    guard = breakerd.breaker("openai")

    async def main() -> None:
        async with guard:
            pass
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            turns = 0

            async def turn() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0.005)
                    turns += 1

            beside = asyncio.create_task(turn())
            with bounded("an awaited call whose daemon hangs", 0.25):
                async with guard as permit:  # closed when last seen, so admitted
                    assert permit.generation >= 0
            beside.cancel()
            assert turns > 2, "the loop goes on meanwhile"
            with bounded("the next one: a daemon that was silent is not asked again at once", 0.02):
                async with guard:
                    pass
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)

    asyncio.run(main())


def test_a_synchronous_call_waits_five_milliseconds_for_a_daemon_that_hangs(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKERD_BOARD", "off")
    guard = breakerd.breaker("openai")
    guard.admit().success()
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        with bounded("a synchronous call whose daemon hangs", 0.02):
            guard.admit().success()
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def test_a_killed_daemon_lets_nothing_through_and_the_next_one_knows(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def rejected() -> bool:
        try:
            async with guard:
                return False
        except breakerd.Rejected:
            return True

    fail(guard, 3)
    assert guard.state == "open"
    until(lambda: any((daemon.directory / "state").iterdir()))
    daemon.kill()
    assert asyncio.run(rejected())
    with pytest.raises(breakerd.Rejected), guard:
        pass
    assert guard.state == "open"
    assert breakerd.health().daemon is None
    daemon.start()
    until(lambda: breakerd.health().daemon is not None)
    assert guard.state == "open"
    assert asyncio.run(rejected())


def test_a_loop_finds_the_daemon_again(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        async with guard:
            pass
        daemon.kill()
        async with guard:
            pass
        daemon.start()

        async def is_back() -> bool:
            async with guard:
                return bool(daemon.workers())

        await until_async(is_back)
        assert daemon.workers()[0]["connections"] == 1

    asyncio.run(main())


def test_a_reset_needs_the_right(make_daemon: Callable[..., Daemon], place: Any) -> None:
    daemon = make_daemon()
    daemon.stop()
    daemon.config.write_text(daemon.config.read_text().replace('reset = ["*"]', "reset = []"))
    daemon.start()
    guard = breakerd.breaker("openai")
    fail(guard, 3)
    with pytest.raises(breakerd.Denied) as caught:
        guard.reset(because="tested")
    assert "reset" in str(caught.value)

    async def main() -> None:
        with pytest.raises(breakerd.Denied):
            await guard.reset_async(because="tested")

    asyncio.run(main())
    assert guard.state == "open"


def test_many_threads_share_one_connection(daemon: Daemon) -> None:
    guard, seen = breakerd.breaker("openai"), []  # type: ignore[var-annotated]

    def work() -> None:
        for _ in range(200):
            with guard:
                pass
        seen.append(guard.failures)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [0] * 8
    assert daemon.workers()[0]["connections"] == 1


def test_a_forced_breaker_says_so(daemon: Daemon) -> None:
    guard = breakerd.breaker("openai")
    guard.admit().success()
    daemon.cli("force", "open", "openai", "--until-released", "--because", "maintenance")
    reasons: List[Any] = []
    with pytest.raises(breakerd.Rejected) as caught, guard:
        pass
    reasons.append((caught.value.reason, caught.value.retry_after))
    assert reasons == [("forced", None)]
    assert caught.value.http_headers() == {}
    daemon.cli("release", "openai")
    with guard:
        pass
