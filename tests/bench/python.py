"""What a guarded call costs in Python, beside its peers and floors.

The first line that it writes names what it can measure; for each of these ids that it reads it writes nanoseconds. The
harness asks (``python.rs``), so that the rounds are the same as everywhere else.

A figure is the median of windows of about a millisecond each, less what an empty loop takes. No collector runs meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from typing import Any, Awaitable, Callable, Dict

import aiobreaker
import breakerd
import breakerd_floor
import circuitbreaker
import interlock
import purgatory
import pybreaker

WINDOWS = 21
WINDOW_NS = 1_000_000

Window = Callable[[int], int]
"""Makes so many calls and tells how many nanoseconds that took."""


def nothing() -> None:
    """The guarded function."""


async def nothing_async() -> None:
    """The same, awaited."""


def window(statement: str, **names: Any) -> Window:
    """A loop around a statement, as ``timeit`` makes one."""
    return _made("def", statement, names)


def window_async(statement: str, **names: Any) -> Window:
    """The same on an event loop that stays."""
    measured: Callable[[int], Awaitable[int]] = _made("async def", statement, names)
    return lambda times: LOOP.run_until_complete(measured(times))


def _made(kind: str, statement: str, names: Dict[str, Any]) -> Any:
    source = f"""{kind} measured(times, {", ".join(f"{name}={name}" for name in names)}):
    began = clock()
    for _ in range(times):
        {statement}
    return clock() - began
"""
    scope = {"clock": time.perf_counter_ns, **names}
    exec(source, scope)
    return scope["measured"]


def per_call(call: Window) -> float:
    times = 100
    while call(times) < WINDOW_NS:
        times *= 2
    empty = statistics.median(EMPTY(times) for _ in range(WINDOWS))
    return (statistics.median(call(times) for _ in range(WINDOWS)) - empty) / times


LOOP = asyncio.new_event_loop()
EMPTY = window("pass")


def two_steps() -> Dict[str, Window]:
    """A permit and its success. The peers have no two steps: their shortest way to call an empty function."""
    ours, floor = breakerd.breaker("openai"), breakerd_floor.Floor()
    circuit = circuitbreaker.CircuitBreaker(name="two-steps")
    return {
        "py_allow_success": window("permit = b.admit(); permit.success()", b=ours),
        "floor.py_allow_success": window("if b.allow(): b.success()", b=floor),
        "pybreaker.py_allow_success": window("call(f)", call=pybreaker.CircuitBreaker().call, f=nothing),
        "aiobreaker.py_allow_success": window("call(f)", call=aiobreaker.CircuitBreaker().call, f=nothing),
        "purgatory.py_allow_success": window(
            "with b: pass", b=purgatory.SyncCircuitBreakerFactory().get_breaker("two-steps")
        ),
        "circuitbreaker.py_allow_success": window("f()", f=circuit(nothing)),
    }


def blocks() -> Dict[str, Window]:
    return {
        "py_with": window("with b: pass", b=breakerd.breaker("openai")),
        "floor.py_with": window("with b: pass", b=breakerd_floor.Floor()),
        "circuitbreaker.py_with": window("with b: pass", b=circuitbreaker.CircuitBreaker(name="with")),
        "pybreaker.py_with": window("with calling(): pass", calling=pybreaker.CircuitBreaker().calling),
        "purgatory.py_with": window("with b: pass", b=purgatory.SyncCircuitBreakerFactory().get_breaker("with")),
        "interlock-cb.py_with": window("with b: pass", b=interlock.CircuitBreaker(name="with")),
    }


def decorators() -> Dict[str, Window]:
    return {
        "py_decorator": window("f()", f=breakerd.breaker("openai")(nothing)),
        "floor.py_decorator": window("f()", f=breakerd_floor.Floor()(nothing)),
        "circuitbreaker.py_decorator": window("f()", f=circuitbreaker.CircuitBreaker(name="decorator")(nothing)),
        "purgatory.py_decorator": window("f()", f=purgatory.SyncCircuitBreakerFactory()("decorator")(nothing)),
        "pybreaker.py_decorator": window("f()", f=pybreaker.CircuitBreaker()(nothing)),
        "interlock-cb.py_decorator": window("f()", f=interlock.CircuitBreaker(name="decorator")(nothing)),
    }


def async_blocks() -> Dict[str, Window]:
    """Around an awaited coroutine; aiobreaker and circuitbreaker by their decorators, having no such block."""
    factory = purgatory.AsyncCircuitBreakerFactory()
    theirs = LOOP.run_until_complete(factory.get_breaker("async-with"))
    circuit = circuitbreaker.CircuitBreaker(name="async-with")
    block = "\n        ".join(("async with b:", "    await f()"))
    return {
        "py_async_with": window_async(block, b=breakerd.breaker("openai"), f=nothing_async),
        "floor.py_async_with": window_async("await f()", f=nothing_async),
        "aiobreaker.py_async_with": window_async("await f()", f=aiobreaker.CircuitBreaker()(nothing_async)),
        "purgatory.py_async_with": window_async(block, b=theirs, f=nothing_async),
        "circuitbreaker.py_async_with": window_async("await f()", f=circuit(nothing_async)),
        "interlock-cb.py_async_with": window_async(block, b=interlock.CircuitBreaker(name="async"), f=nothing_async),
    }


def main() -> None:
    windows = {**two_steps(), **blocks(), **decorators(), **async_blocks()}
    assert breakerd.health().daemon is not None, "the figures are of a worker that has a daemon"
    gc.disable()
    print(*windows, flush=True)
    for line in sys.stdin:
        print(per_call(windows[line.strip()]), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
