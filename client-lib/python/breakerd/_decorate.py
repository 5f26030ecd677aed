"""What ``@guard`` returns: of the same kind as what it guards, with the same signature."""

from __future__ import annotations

import functools
import inspect
import time
from typing import Any, AsyncGenerator, Callable, Generator, TypeVar

from . import _breakerd
from ._classify import Rules
from ._lane import Lane
from ._outcome import ABANDONED, SUCCESS
from ._permit import Permit, owner

F = TypeVar("F", bound=Callable[..., Any])


class Guarded(_breakerd.Guarded):
    """A guarded function, with the attributes of the one that it guards."""


def guarded(lane: Lane, rules: Rules, function: F) -> F:
    """The function, guarded. A ``staticmethod`` or ``classmethod`` stays one."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(guarded(lane, rules, function.__func__))
    if inspect.isclass(function) or not callable(function):
        raise TypeError(f"@guard stands over a function or a method, not over {function!r}")
    if inspect.isasyncgenfunction(function):
        wrapper: Callable[..., Any] = _async_generator(lane, rules, function)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(lane, rules, function)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(lane, rules, function)
    else:
        slowly = _function(lane, rules, function)
        wrapper = Guarded(lane, rules, function, slowly, rules.is_plain)
        # For who takes a callable object apart: Celery wants a Python function here.
        wrapper.__dict__["__call__"] = functools.wraps(function)(slowly)
    return functools.wraps(function)(wrapper)  # type: ignore[return-value]


def _function(lane: Lane, rules: Rules, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        permit = lane.held.probe_of(owner())
        if permit is not None:
            return _again(lane, permit, function, args, kwargs)
        permit = _hold_probe(lane, lane.admit(rules))
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            _end(lane, permit)._settle_exception(error)
            raise
        _end(lane, permit)._settle_result(result)
        return result

    return call


def _coroutine(lane: Lane, rules: Rules, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        permit = lane.admit_closed(rules, True)
        if permit is None:
            permit = lane.held.probe_of(owner())
            if permit is not None:
                return await _again_async(lane, permit, function, args, kwargs)
            permit = _hold_probe(lane, await lane.admit_async(rules))
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            _end(lane, permit)._settle_exception(error, timed=True)
            raise
        if rules.is_plain(type(result)):
            _end(lane, permit).success()
        else:
            _end(lane, permit)._settle_result(result)
        return result

    return call


def _generator(lane: Lane, rules: Rules, function: Callable[..., Any]) -> Callable[..., Any]:
    # The permit is held from the first item asked for to the end.
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        permit = lane.admit(rules)
        try:
            result = yield from _First(function(*args, **kwargs), permit)
        except BaseException as error:
            permit._settle_exception(error)
            raise
        permit._settle(SUCCESS)
        return result

    return call


class _First:
    """A generator that tells when its first item has come."""

    __slots__ = ("_came_first", "_generator", "_permit")

    def __init__(self, generator: Generator[Any, Any, Any], permit: Permit) -> None:
        self._generator = generator
        self._permit = permit
        self._came_first = False

    def __iter__(self) -> _First:
        return self

    def __next__(self) -> Any:
        return self._came(next(self._generator))

    def send(self, value: Any) -> Any:
        return self._came(self._generator.send(value))

    def throw(self, *error: Any) -> Any:
        return self._came(self._generator.throw(*error))

    def close(self) -> None:
        self._generator.close()

    def _came(self, item: Any) -> Any:
        if not self._came_first:
            self._came_first = True
            self._permit._first_item()
        return item


def _async_generator(lane: Lane, rules: Rules, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        permit = await lane.admit_async(rules)
        inner = function(*args, **kwargs)
        # A hang is one wait that is too long: a stream may go on for minutes, and its reader may take hours.
        asked = time.monotonic()
        try:
            item = await inner.__anext__()
            permit._first_item()
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    permit._settle(ABANDONED)
                    await inner.aclose()
                    raise
                except BaseException as error:
                    asked = time.monotonic()
                    item = await inner.athrow(error)
                else:
                    asked = time.monotonic()
                    item = await inner.asend(sent)
        except StopAsyncIteration:
            permit._settle(SUCCESS)
        except BaseException as error:
            permit._settle_exception(error, timed=True, waited=time.monotonic() - asked)
            raise

    return call


def _hold_probe(lane: Lane, permit: Permit) -> Permit:
    """Only a probe is kept where its holder finds it again; the frame itself keeps the others."""
    if permit.is_probe:
        lane.held.put(permit, owner())
    return permit


def _end(lane: Lane, permit: Permit) -> Permit:
    if permit.is_probe:
        lane.held.take(permit)
    return permit


def _again(lane: Lane, permit: Permit, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The probe's holder enters again: the outer call settles, unless this one fails."""
    lane.held.put(permit, owner())
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        lane.leave(error, permit)
        raise
    lane.leave(None, permit)
    return result


async def _again_async(lane: Lane, permit: Permit, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    lane.held.put(permit, owner())
    try:
        result = await function(*args, **kwargs)
    except BaseException as error:
        lane.leave(error, permit, timed=True)
        raise
    lane.leave(None, permit)
    return result
