"""asyncio: each loop's own connection, awaited on that loop.

Nothing here blocks but :meth:`LoopLink.now`, for synchronous code on a loop's thread: 5 ms at most for a call,
250 ms for a look or a reset, and then a daemon that was silent is not asked for a while. All of a loop's traffic goes
over its one connection, in order, so that what a task has reported is in what it sees next.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
import weakref
from typing import Any, Dict, List, Optional, Tuple

from . import _breakerd

SYNC_WAIT_S = 0.005
"""How long synchronous code waits for the daemon."""
ACT_WAIT_S = 0.25
"""How long a reset waits: it is no guarded call, and the fleet may have to be asked."""
LOOK_WAIT_S = 0.25
"""How long a look waits: it is no guarded call either, and what was seen before may be wrong by now."""
_FIRST_ATTACH_WAIT_S = 0.25

Step = Tuple[int, Any, float]


class LoopLink:
    """One loop's connection. Its methods run on the loop's thread."""

    __slots__ = ("__weakref__", "_loop", "_of", "_stood", "_waiting", "_watched", "_writes", "connection")

    def __init__(self, connection: _breakerd.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.connection = connection
        # Weak, since the loop is the key under which this link is kept.
        self._loop = weakref.ref(loop)
        self._waiting: Dict[int, asyncio.Future[Any]] = {}
        # A duplicate of the connection's descriptor: the connection may close its own at any call, and the number would
        # then mean another file to the loop.
        self._watched: Optional[int] = None
        self._of = 0
        self._writes = False
        self._stood = False

    async def ask(self, step: Step) -> Any:
        """The answer to a question that was put to ``connection`` just now."""
        number, answer, wait = step
        self.watch()
        if number == 0:
            return self._own(answer)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[number] = future
        timer = loop.call_later(wait, self._expire, number)
        try:
            return self._own(await future)
        finally:
            timer.cancel()
            if self._waiting.pop(number, None) is not None:
                self.connection.cancel(number)  # the task was cancelled; what it is granted goes back
                self.watch()

    def now(self, step: Step, wait: float = SYNC_WAIT_S) -> Any:
        """The same for synchronous code on the loop's thread, within so many seconds."""
        number, answer, _ = step
        until = time.monotonic() + (wait if self._stood else max(wait, _FIRST_ATTACH_WAIT_S))
        while number != 0 and answer is None:
            left = until - time.monotonic()
            socket = self.connection.socket
            if left <= 0 or not _wait(socket, left):
                answer = self.connection.expire(number)
                break
            for came, what in self.connection.receive():
                if came == number:
                    answer = what
                    number = 0
                else:
                    self._give(came, what)
        self.watch()
        return self._own(answer)

    def watch(self) -> None:
        """Watches what there is to watch by now. To be called after every call of the connection."""
        socket = self.connection.socket
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if self._watched is not None and (socket is None or socket[1] != self._of):
            loop.remove_reader(self._watched)
            if self._writes:
                loop.remove_writer(self._watched)
            os.close(self._watched)
            self._watched, self._writes = None, False
        if socket is None:
            return
        fd, self._of, writes = socket
        if self._watched is None:
            self._watched = os.dup(fd)
            loop.add_reader(self._watched, self._ready)
        if writes != self._writes:
            if writes:
                loop.add_writer(self._watched, self._ready)
            else:
                loop.remove_writer(self._watched)
            self._writes = writes

    def settled(self) -> None:
        """A permit of this connection was settled, by whatever thread; what did not fit the socket waits for room."""
        socket = self.connection.socket
        if socket is not None and not socket[2]:
            return
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.watch)

    def close(self) -> None:
        """The loop is over, or this is a child of the process that had it: the loop itself is left alone."""
        if self._watched is not None:
            os.close(self._watched)
            self._watched = None

    def __del__(self) -> None:
        if _idle is None:  # the interpreter ends and has emptied this module: what is open ends with the process
            return
        self.close()
        if len(_idle) < _IDLE_MAX:
            _idle.append(self.connection)

    def _ready(self) -> None:
        for number, answer in self.connection.receive():
            self._give(number, answer)
        self.watch()

    def _expire(self, number: int) -> None:
        answer = self.connection.expire(number)
        self._give(number, answer)
        self.watch()

    def _give(self, number: int, answer: Any) -> None:
        future = self._waiting.pop(number, None)
        # A cancelled asker's permit is dropped with the answer, which gives it back.
        if future is not None and not future.done():
            future.set_result(answer)

    def _own(self, answer: Any) -> Any:
        self._stood = True
        return LoopPermit(self, answer) if isinstance(answer, _breakerd.Permit) else answer


class LoopPermit:
    """A permit of a loop's connection."""

    __slots__ = ("_link", "_raw", "generation", "is_probe")

    def __init__(self, link: LoopLink, raw: _breakerd.Permit) -> None:
        self._link = link
        self._raw = raw
        self.generation = raw.generation
        self.is_probe = raw.is_probe

    def settle(self, word: str, kind: str, detail: str, retry_after: Optional[float]) -> None:
        """Tells how the call went."""
        self._raw.settle(word, kind, detail, retry_after)
        self._link.settled()

    def cancel(self, waited: Optional[float]) -> bool:
        """The call was cancelled. Whether it hung."""
        hung = self._raw.cancel(waited)
        self._link.settled()
        return hung

    def answer(self) -> None:
        """A stream's first item has come."""
        self._raw.answer()


def _wait(socket: Optional[Tuple[int, int, bool]], seconds: float) -> bool:
    if socket is None:
        return True  # the connection is gone, and receiving tells what that means for the question
    poll = select.poll()
    poll.register(socket[0], select.POLLIN | (select.POLLOUT if socket[2] else 0))
    return bool(poll.poll(max(1.0, seconds * 1000)))


_IDLE_MAX = 4
# Connections whose loop is over. The next loop takes one up, so that a program which runs a loop for each of its tasks
# neither connects each time nor, as a worker, begins its run of failures anew.
_idle: List[_breakerd.Connection] = []
_links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopLink] = weakref.WeakKeyDictionary()
_links_lock = threading.Lock()


def running() -> Optional[asyncio.AbstractEventLoop]:
    """The loop that runs on this thread."""
    return asyncio._get_running_loop()


def link(client: _breakerd.Client, loop: asyncio.AbstractEventLoop) -> LoopLink:
    """The loop's own connection, made at its first use."""
    found = _links.get(loop)
    if found is None:
        with _links_lock:
            for closed in [one for one in list(_links) if one.is_closed()]:
                del _links[closed]
            found = _links[loop] = LoopLink(_idle.pop() if _idle else _breakerd.Connection(client), loop)
    return found


def _after_fork() -> None:
    global _links, _links_lock
    _links_lock = threading.Lock()
    inherited: List[LoopLink] = list(_links.values())
    _links = weakref.WeakKeyDictionary()
    for one in inherited:
        one.close()
    inherited.clear()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)
