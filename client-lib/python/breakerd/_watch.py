"""Every change of every breaker, as an iterator: ``for`` in a thread of its own, ``async for`` on a loop."""

from __future__ import annotations

import asyncio
import collections
import datetime
import select
from typing import Any, Deque, Dict, NamedTuple, Optional, Union

from . import _backend
from ._warn import Once


class Change(NamedTuple):
    """One change of one breaker."""

    name: str
    """The breaker's name, with its service's prefix."""
    was: str
    """What it was: ``closed``, ``open`` or ``half-open``."""
    state: str
    """What it is."""
    what: str
    """What happened: ``trip``, ``reopen``, ``recover``, ``reset``, ``force``, ``release``, ``probe``, ``fleet``, ``extend``,
    ``idle``."""
    why: str
    """Why it is so: ``3 consecutive failures, last http-401``."""
    by: str
    """Who made it so: ``chat-api[4211]@web-1``."""
    retry_after: Optional[float]
    """Seconds until it lets a probe through; 0 while closed, ``None`` under a force without end."""
    forced: Optional[str]
    """``forced-open`` or ``forced-closed`` under an operator's override."""
    mode: str
    """``on``, or ``shadow`` where it would have acted and does not."""
    host_only: bool
    """Whether only this host holds it so."""
    generation: int
    """The daemon's count of the breaker's changes."""
    at: datetime.datetime
    """When, in UTC."""


class Lagged(NamedTuple):
    """Changes were missed. Whoever keeps a picture of the table must look again, at ``guard.state`` for example."""

    dropped: Optional[int]
    """How many, because they were read too slowly; ``None`` where the daemon was lost for a while and nobody knows."""


class Watch:
    """Made by :func:`watch`. One reader at a time; between two steps nothing is read, and a reader that stays away too
    long is told that it has ``Lagged``."""

    __slots__ = ("_came", "_once", "_reading", "_source")

    def __init__(self) -> None:
        self._source: Optional[_backend.Watcher] = None
        self._came: Deque[Union[Change, Lagged]] = collections.deque()
        self._once = Once()
        self._reading = False

    @property
    def is_watching(self) -> bool:
        """Whether a daemon tells of every change by now. Before the first step, and while there is no daemon, none does."""
        return self._source is not None and self._source.is_watching

    def close(self) -> None:
        """Ends the connection; another step would make it anew."""
        self._source = None
        self._came.clear()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Union[Change, Lagged]:
        """The next change, however long that takes. A signal interrupts it as any wait."""
        while True:
            found = self._take()
            if found is not None:
                return found
            self._wait()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Union[Change, Lagged]:
        """The next change, awaited on the running loop. It may be cancelled and asked again, and nothing is lost."""
        if self._reading:
            raise RuntimeError("this watch is read by another task; make one for each reader")
        self._reading = True
        try:
            while True:
                found = self._take()
                if found is not None:
                    return found
                await self._wait_async()
        finally:
            self._reading = False

    def _take(self) -> Optional[Union[Change, Lagged]]:
        if not self._came:
            self._came.extend(map(_told, self._receive()))
        return self._came.popleft() if self._came else None

    def _receive(self) -> Any:
        if self._source is None:
            self._source = _backend.current().watcher()
        came = self._source.receive()
        if self._source.away is not None:
            self._once.warn(f"away {self._source.away}", "no changes to watch: %s", self._source.away)
        return came

    def _wait(self) -> None:
        assert self._source is not None  # it was asked just now
        socket, wait = self._source.socket, self._source.wait
        poll = select.poll()
        if socket is not None:
            poll.register(socket[0], select.POLLIN | (select.POLLOUT if socket[1] else 0))
        poll.poll(None if wait is None else wait * 1000 + 1)

    async def _wait_async(self) -> None:
        assert self._source is not None  # it was asked just now
        socket, wait = self._source.socket, self._source.wait
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        timer = None if wait is None else loop.call_later(wait, wake)
        if socket is not None:
            loop.add_reader(socket[0], wake)
            if socket[1]:
                loop.add_writer(socket[0], wake)
        try:
            await ready
        finally:
            if timer is not None:
                timer.cancel()
            if socket is not None:
                loop.remove_reader(socket[0])
                if socket[1]:
                    loop.remove_writer(socket[0])


def _told(event: Union[Dict[str, Any], int, None]) -> Union[Change, Lagged]:
    if not isinstance(event, dict):
        return Lagged(event)
    ago = datetime.timedelta(seconds=event.pop("ago"))
    return Change(at=datetime.datetime.now(datetime.timezone.utc) - ago, **event)


def watch() -> Watch:
    """Every change of every breaker of this host, from the first step on: ``async for change in breakerd.watch()``, or
    ``for`` in a thread. Over a connection of its own, made again whenever it is lost."""
    return Watch()
