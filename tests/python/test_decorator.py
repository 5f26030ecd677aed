"""The decorator: what it returns, what it binds to, when it settles."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, List

import pytest

import breakerd


def words(fake: breakerd.Fake, name: str = "openai") -> List[str]:
    return [outcome.word for outcome in fake.outcomes(name)]


def test_what_the_decorator_returns_is_of_the_same_kind_with_the_same_signature() -> None:
    guard = breakerd.breaker("openai")

    @guard
    def plain(a: int, *, b: str = "b") -> str:
        """Doc."""
        return b * a

    @guard
    async def coroutine(a: int) -> int:
        return a

    @guard
    def generator(a: int) -> Any:
        sent = yield a
        return sent

    @guard
    async def stream(a: int) -> Any:
        yield a
        yield a + 1

    assert str(inspect.signature(plain)) == "(a: 'int', *, b: 'str' = 'b') -> 'str'"
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(stream)
    with breakerd.fake() as fake:
        assert plain(2) == "bb"
        assert asyncio.run(coroutine(3)) == 3
        running = generator(4)
        assert next(running) == 4
        with pytest.raises(StopIteration) as stop:
            running.send("sent")
        assert stop.value.value == "sent"

        async def collect() -> List[int]:
            return [item async for item in stream(5)]

        assert asyncio.run(collect()) == [5, 6]
        assert words(fake) == ["success"] * 4


def test_it_binds_as_a_method() -> None:
    guard = breakerd.breaker("openai")

    class Service:
        @guard
        def method(self) -> Any:
            return self

        @guard
        @staticmethod
        def static(x: int) -> int:
            return x

        @guard
        @classmethod
        async def of_class(cls) -> Any:
            return cls

    with breakerd.fake():
        service = Service()
        assert service.method() is service
        assert service.static(1) == 1
        assert asyncio.run(service.of_class()) is Service


def test_it_refuses_what_is_no_function() -> None:
    with pytest.raises(TypeError, match="over a function"):
        breakerd.breaker("openai")(int)


def test_a_rejected_call_does_not_run() -> None:
    guard, ran = breakerd.breaker("openai"), []
    guarded = guard(lambda: ran.append(1))

    @guard
    async def coroutine() -> None:
        ran.append(2)

    @guard
    def generator() -> Any:
        ran.append(3)
        yield

    with breakerd.fake(openai="open"):
        with pytest.raises(breakerd.Rejected):
            guarded()
        with pytest.raises(breakerd.Rejected):
            asyncio.run(coroutine())
        waiting = generator()  # not asked for an item yet, so not rejected yet
        with pytest.raises(breakerd.Rejected):
            next(waiting)
        with pytest.raises(breakerd.Rejected), guard:
            ran.append(4)
    assert ran == []


def test_a_generator_holds_its_permit_to_the_end_and_a_probe_settles_at_its_first_item() -> None:
    guard = breakerd.breaker("openai")

    @guard
    def stream() -> Any:
        yield 1
        yield 2

    with breakerd.fake() as fake:
        running = stream()
        assert next(running) == 1
        assert words(fake) == []
        assert list(running) == [2]
        assert words(fake) == ["success"]
        fake.set("openai", "half-open")
        running = stream()
        assert next(running) == 1
        assert words(fake) == ["success", "success"]
        running.close()
        assert words(fake) == ["success", "success"]


def test_an_async_generator_too() -> None:
    guard = breakerd.breaker("openai")

    @guard
    async def stream() -> Any:
        yield 1
        raise ConnectionError

    async def take(count: int) -> None:
        running = stream()
        for _ in range(count):
            await running.__anext__()
        await running.aclose()

    with breakerd.fake() as fake:
        asyncio.run(take(1))
        assert words(fake) == ["abandoned"]
        with pytest.raises(ConnectionError):
            asyncio.run(take(2))
        assert words(fake) == ["abandoned", "failure"]
        fake.set("openai", "half-open")
        asyncio.run(take(1))
        assert words(fake) == ["abandoned", "failure", "success"]
