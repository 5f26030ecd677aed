"""MIGRATION.md's table for purgatory, with the real package."""

from __future__ import annotations

import asyncio
from typing import Any, List

import purgatory
import pytest
from moving import Failed, call, changes_are_told, fail, guard, in_another_process, is_rejected, row, rows_of, trip
from world import Daemon, Redis

import breakerd


def purgatory_of(**options: Any) -> Any:
    return purgatory.AsyncCircuitBreakerFactory(default_threshold=3, **options)


async def through(factory: Any, error: Any = None) -> None:
    async with await factory.get_breaker("x"):
        if error is not None:
            raise error


async def purgatory_fail(factory: Any, times: int, error: Any = None) -> None:
    for _ in range(times):
        thrown = error or Failed()
        with pytest.raises(type(thrown)):
            await through(factory, thrown)


async def purgatory_state(factory: Any) -> str:
    return (await factory.get_breaker("x")).context.state


@row("purgatory", "`default_threshold=5`")
def _() -> None:
    async def theirs() -> List[str]:
        factory, states = purgatory.AsyncCircuitBreakerFactory(default_threshold=5), []
        for times in (4, 1):
            await purgatory_fail(factory, times)
            states.append(await purgatory_state(factory))
        return states

    assert asyncio.run(theirs()) == ["closed", "opened"]
    ours = guard(consecutive_failures=5)
    fail(ours, 4)
    assert ours.state == "closed"
    fail(ours, 1)
    assert ours.state == "open"


@row("purgatory", "`default_ttl=30`")
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr(purgatory.domain.model.time, "time", lambda: now[0])

    async def theirs() -> None:
        factory = purgatory_of(default_ttl=30)
        await purgatory_fail(factory, 3)
        now[0] += 30
        with pytest.raises(purgatory.domain.model.OpenedState):
            await through(factory)
        now[0] += 1
        await through(factory)

    asyncio.run(theirs())
    seen = trip(guard(cooldown="30s", cooldown_factor=1, cooldown_jitter=0)).observe().retry_after
    assert seen is not None and 10 < seen <= 30


@row("purgatory", "`exclude=[(HTTPError, predicate)]`")
def _() -> None:
    async def theirs() -> str:
        factory = purgatory_of(exclude=[(ValueError, lambda error: error.args == ("404",))])
        await purgatory_fail(factory, 2)
        await purgatory_fail(factory, 1, ValueError("404"))
        await purgatory_fail(factory, 2)
        return await purgatory_state(factory)

    assert asyncio.run(theirs()) == "closed", "a success between"
    ours = guard(lambda subject: breakerd.IGNORED if isinstance(subject, ValueError) else None)
    fail(ours, 2)
    fail(ours, 1, ValueError("404"))
    assert ours.failures == 2


@row("purgatory", "`async with await factory.get_breaker")
def _() -> None:
    factory, ours = purgatory_of(), guard()

    @factory("x")
    async def theirs() -> int:
        return 1

    @ours
    async def by_decorator() -> int:
        return 1

    async def main() -> None:
        await through(factory)
        async with ours:
            pass
        assert await theirs() == await by_decorator() == 1
        with ours:
            pass

    asyncio.run(main())


@row("purgatory", "`add_listener(hook)`")
def _() -> None:
    told: List[str] = []

    async def theirs() -> None:
        factory = purgatory_of()
        factory.add_listener(lambda name, what, event: told.append(what))
        await purgatory_fail(factory, 3)

    asyncio.run(theirs())
    assert told.count("state_changed") == 1
    changes_are_told()


@row("purgatory", "`AsyncRedisUnitOfWork`")
def _(redis: Redis, daemon: Daemon) -> None:
    async def theirs() -> None:
        one, other = (purgatory_of(uow=purgatory.AsyncRedisUnitOfWork(redis.url)) for _ in "ab")
        for factory in (one, other):
            await factory.initialize()
        await purgatory_fail(one, 3)
        assert await purgatory_state(other) == "opened"
        before = redis.gets()
        with pytest.raises(purgatory.domain.model.OpenedState):
            await through(other)
        assert redis.gets() - before == 2, "it reads twice a call"

    asyncio.run(theirs())
    assert in_another_process(daemon, trip(guard()).name) == "open"


@row("purgatory", "`OpenedState`")
def _() -> None:
    async def theirs() -> None:
        factory = purgatory_of()
        await purgatory_fail(factory, 3)
        with pytest.raises(purgatory.domain.model.OpenedState):
            await through(factory)

    asyncio.run(theirs())
    assert is_rejected(trip(guard()))


test_a_row = rows_of("purgatory")
