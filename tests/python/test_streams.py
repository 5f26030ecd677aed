"""Streams, hangs and cancelling, with the real ``openai`` package against a provider on loopback."""

from __future__ import annotations

import asyncio
import time
from typing import Any, AsyncIterator, Callable, Iterator, List

import openai
import pytest
from provider import Provider, completions, openai_error
from world import Daemon, until

import breakerd

HUNG_AFTER_MS = 50


@pytest.fixture
def llm() -> Iterator[Provider]:
    one = Provider()
    yield one
    one.stop()


def guard(name: str = "llm", **policy: Any) -> breakerd.Guard:
    return breakerd.breaker(name, policy=breakerd.Policy(**policy))


def quick_to_hang(name: str = "llm") -> breakerd.Guard:
    return guard(name, hung_after=f"{HUNG_AFTER_MS}ms")


def client(llm: Provider) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=llm.url, api_key="sk-none", max_retries=0, timeout=30)


async def chunks(llm: Provider) -> AsyncIterator[str]:
    """What a service does with a streamed answer."""
    async with client(llm) as ai:
        stream = await ai.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""


def outcomes(fake: breakerd.Fake, name: str = "llm") -> List[str]:
    return [f"{one.word} {one.kind}".strip() for one in fake.outcomes(name)]


async def wait_out(milliseconds: int) -> None:
    """Until so much time has passed by the clock that breakerd reads, whatever the machine's load."""
    end = time.monotonic() + milliseconds / 1000
    while time.monotonic() < end:
        await asyncio.sleep(0.005)


async def cancel_once_waiting(llm: Provider, call: Any, milliseconds: int) -> None:
    """Cancels a call that the provider has got and leaves unanswered for so long, as an outer time-out does."""
    task = asyncio.ensure_future(call)
    hits = llm.hits
    while llm.hits == hits:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.005)
    await wait_out(milliseconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def drain(stream: AsyncIterator[str]) -> List[str]:
    return [text async for text in stream]


# -- streaming --


def test_a_stream_that_ends_is_a_success_at_its_end(llm: Provider) -> None:
    llm.stream(completions("a", "b", "c"))
    ask = guard()(chunks)
    with breakerd.fake() as fake:

        async def main() -> None:
            stream = ask(llm)
            assert await stream.__anext__() == "a"
            assert outcomes(fake) == []
            assert await drain(stream) == ["b", "c"]

        asyncio.run(main())
        assert outcomes(fake) == ["success"]


def test_a_stream_that_is_a_probe_decides_by_its_first_item(llm: Provider) -> None:
    llm.stream(completions("a"), then="silent")
    ask = guard()(chunks)
    with breakerd.fake(llm="half-open") as fake:

        async def main() -> None:
            stream = ask(llm)
            assert await stream.__anext__() == "a"
            assert outcomes(fake) == ["success"]
            await stream.aclose()

        asyncio.run(main())
        assert outcomes(fake) == ["success"]


def test_the_sdks_synchronous_stream_under_a_generator(llm: Provider) -> None:
    one = guard()

    @one
    def ask() -> Iterator[str]:
        with openai.OpenAI(base_url=llm.url, api_key="sk-none", max_retries=0) as ai:
            stream = ai.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            for chunk in stream:
                yield chunk.choices[0].delta.content or ""

    with breakerd.fake() as fake:
        llm.stream(completions("a", "b"))
        assert list(ask()) == ["a", "b"]
        llm.stream(completions("a"), then="cut")
        with pytest.raises(openai.APIConnectionError):
            list(ask())
        llm.stream(completions("a", "b"))
        early = ask()
        next(early)
        early.close()
        assert outcomes(fake) == ["success", "failure connect", "abandoned"]


# -- cut off --


def test_a_stream_that_is_cut_off_is_a_failure(llm: Provider) -> None:
    llm.stream(completions("a", "b"), then="cut")
    ask = guard()(chunks)
    with breakerd.fake() as fake:
        with pytest.raises(openai.APIConnectionError):
            asyncio.run(drain(ask(llm)))
        assert outcomes(fake) == ["failure connect"]


def test_an_error_inside_a_stream_counts_by_what_it_is(llm: Provider) -> None:
    ask = guard()(chunks)
    with breakerd.fake() as fake:
        for kind in ("server_error", "rate_limit_exceeded", "invalid_request_error"):
            llm.stream([*completions("a"), openai_error(kind)])
            with pytest.raises(openai.APIError):
                asyncio.run(drain(ask(llm)))
        assert outcomes(fake) == ["failure http-500", "failure http-429", "ignored"]


# -- hanging --


def test_a_provider_that_takes_every_call_and_answers_none_trips(llm: Provider, daemon: Daemon) -> None:
    """By an outer time-out alone: no error is ever raised inside the guard."""
    one = quick_to_hang()
    llm.silent()

    async def main() -> None:
        for _ in range(3):
            await cancel_once_waiting(llm, drain(one(chunks)(llm)), HUNG_AFTER_MS)
        with pytest.raises(breakerd.Rejected):
            await drain(one(chunks)(llm))

    asyncio.run(main())
    last = one.last_failure
    assert (one.state, one.failures) == ("open", 3)
    assert last is not None and last.kind == "hung"


def test_a_call_cancelled_in_time_is_no_evidence(llm: Provider, daemon: Daemon) -> None:
    one = guard(hung_after="1h")
    llm.silent()

    async def main() -> None:
        for _ in range(3):
            await cancel_once_waiting(llm, drain(one(chunks)(llm)), HUNG_AFTER_MS)

    asyncio.run(main())
    assert (one.state, one.failures) == ("closed", 0)


@pytest.mark.parametrize("shape", ["decorator", "block", "first admitted"])
def test_every_asynchronous_shape_tells_a_hang(llm: Provider, shape: str) -> None:
    one = quick_to_hang()
    llm.silent()

    @one
    async def decorated() -> List[str]:
        return await drain(chunks(llm))

    async def block() -> None:
        async with one:
            await drain(chunks(llm))

    async def first() -> None:
        async with breakerd.first_admitted(one, "other"):
            await drain(chunks(llm))

    call = {"decorator": decorated, "block": block, "first admitted": first}[shape]
    with breakerd.fake() as fake:
        asyncio.run(cancel_once_waiting(llm, call(), HUNG_AFTER_MS))
        assert outcomes(fake) == ["failure hung"]


def test_a_hang_is_counted_once_by_guards_within_each_other(llm: Provider) -> None:
    one = quick_to_hang()
    llm.silent()

    async def call() -> None:
        async with one, one:
            await drain(chunks(llm))

    with breakerd.fake() as fake:
        asyncio.run(cancel_once_waiting(llm, call(), HUNG_AFTER_MS))
        assert outcomes(fake) == ["failure hung", "abandoned"]


def test_a_probe_that_hangs_reopens(llm: Provider, make_daemon: Callable[..., Daemon]) -> None:
    make_daemon(cooldown="100ms", failures=1)
    one = quick_to_hang()
    llm.silent()

    async def probe() -> None:
        async with one as permit:
            assert permit.is_probe
            await drain(chunks(llm))

    one.admit().fail("http-503")
    until(lambda: one.observe().retry_after == 0.0)
    asyncio.run(cancel_once_waiting(llm, probe(), HUNG_AFTER_MS))
    assert one.state == "open"
    last = one.last_failure
    assert last is not None and last.kind == "hung"


def test_a_stream_that_falls_silent_hangs_however_well_it_began(llm: Provider) -> None:
    llm.stream(completions("a", "b"), then="silent")
    ask = quick_to_hang()(chunks)

    async def main() -> None:
        stream = ask(llm)
        assert [await stream.__anext__(), await stream.__anext__()] == ["a", "b"]
        third = asyncio.ensure_future(stream.__anext__())
        await wait_out(2 * HUNG_AFTER_MS)
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third

    with breakerd.fake() as fake:
        asyncio.run(main())
        assert outcomes(fake) == ["failure hung"]


def test_a_reader_that_takes_its_time_hangs_nobody(llm: Provider) -> None:
    """The stream is out for longer than ``hung_after``, and none of it was the provider's."""
    llm.stream(completions("a", "b", "c"))
    one = quick_to_hang()

    @one
    async def by_decorator() -> AsyncIterator[str]:
        async for text in chunks(llm):
            yield text

    async def by_block() -> AsyncIterator[str]:
        async with one:
            async for text in chunks(llm):
                yield text

    async def main(stream: AsyncIterator[str]) -> None:
        await stream.__anext__()
        await wait_out(2 * HUNG_AFTER_MS)
        await stream.aclose()  # type: ignore[attr-defined]

    with breakerd.fake() as fake:
        asyncio.run(main(by_decorator()))
        asyncio.run(main(by_block()))
        assert outcomes(fake) == ["abandoned", "abandoned"]


def test_a_coroutine_closed_while_it_waits_hangs_too(llm: Provider) -> None:
    """As a loop that is torn down does: ``GeneratorExit``, and no ``CancelledError``."""
    one = quick_to_hang()

    async def call() -> None:
        async with one:
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        coroutine = call()
        coroutine.send(None)
        await wait_out(HUNG_AFTER_MS)
        coroutine.close()

    with breakerd.fake() as fake:
        asyncio.run(main())
        assert outcomes(fake) == ["failure hung"]


def test_what_cannot_be_cancelled_is_not_timed() -> None:
    one = quick_to_hang()
    with breakerd.fake() as fake:
        for error in (KeyboardInterrupt(), asyncio.CancelledError()):
            with pytest.raises(type(error)), one:
                until(lambda began=time.monotonic(): time.monotonic() > began + HUNG_AFTER_MS / 1000)
                raise error
        assert outcomes(fake) == ["abandoned", "abandoned"]
