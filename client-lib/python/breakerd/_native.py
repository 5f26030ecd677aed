"""The daemon's client as a backend: over the running loop's connection where there is one, else over the process's."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

from . import _aio, _breakerd
from ._backend import LastFailure, Sight
from ._warn import logger

if TYPE_CHECKING:
    from ._lane import Lane

_REPEAT_S = 60.0
# By then a late answer has come, and is found without being asked for again.
_AGAIN_S = 0.02


class Health(NamedTuple):
    """How this process stands to its daemon."""

    sentence: str
    """For people: ``daemon 0.1.0, joined "demo"``; ``no daemon at /run/breakerd/breakerd.sock, local``."""
    daemon: Optional[str]
    """The daemon's release; ``None`` without one."""
    link: Optional[str]
    """``standalone``, ``joined`` or ``detached``; ``None`` without a daemon."""
    fleet: Optional[str]
    """The fleet's name, empty when standalone; ``None`` without a daemon."""
    socket: Optional[str]
    """Where it listens, or was looked for."""

    @property
    def is_joined(self) -> bool:
        """Whether a daemon judges and is joined to its fleet."""
        return self.link == "joined"

    def __str__(self) -> str:
        return self.sentence


class Native:
    """Answers by the daemon, else by the process's fallback."""

    def __init__(self) -> None:
        self.client = _breakerd.Client()
        self._told: Dict[str, float] = {}

    def admit(self, lane: Lane) -> Any:
        """May this worker call?"""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            answer = breaker.admit()
        else:
            link = _aio.link(self.client, loop)
            answer = link.now(link.connection.query(breaker))
        self._tell()
        return answer

    async def admit_async(self, lane: Lane) -> Any:
        """The same, awaited on the running loop. Under another kind of loop than asyncio's it waits 5 ms at most."""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            return self.admit(lane)
        link = _aio.link(self.client, loop)
        answer = await link.ask(link.connection.query(breaker))
        self._tell()
        return answer

    def own(self, raw: _breakerd.Permit) -> Any:
        """A permit of the board's, to be settled here: what does not fit a socket is the running loop's to write."""
        loop = _aio.running()
        return raw if loop is None else _aio.LoopPermit(_aio.link(self.client, loop), raw)

    def observe(self, lane: Lane) -> Sight:
        """What does this worker see?"""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            sight = breaker.observe()
        else:
            link = _aio.link(self.client, loop)
            sight = link.now(link.connection.observe(breaker), _aio.LOOK_WAIT_S)
        self._tell()
        return _sight(*sight)

    async def observe_async(self, lane: Lane) -> Sight:
        """The same, awaited on the running loop."""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            return self.observe(lane)
        link = _aio.link(self.client, loop)
        sight = await link.ask(link.connection.observe(breaker))
        self._tell()
        return _sight(*sight)

    def reset(self, lane: Lane, because: str) -> None:
        """Changes it to closed. Waits up to 250 ms, since the fleet may have to be asked."""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            answer = breaker.reset(because)
        else:
            link = _aio.link(self.client, loop)
            answer = link.now(link.connection.reset(breaker, because), _aio.ACT_WAIT_S)
        self._tell()
        _raise_refusal(*answer)

    async def reset_async(self, lane: Lane, because: str) -> None:
        """The same, awaited on the running loop."""
        breaker, loop = self._breaker(lane), _aio.running()
        if loop is None:
            return self.reset(lane, because)
        link = _aio.link(self.client, loop)
        answer = await link.ask(link.connection.reset(breaker, because))
        self._tell()
        _raise_refusal(*answer)

    def auth_errors(self, lane: Lane) -> Optional[str]:
        """What 401 and 403 count as, by the policy that the daemon last sent, else the one in code."""
        return self._breaker(lane).auth_errors

    def watcher(self) -> _breakerd.Watcher:
        """A connection of its own that is told of every change."""
        return _breakerd.Watcher(self.client)

    def health(self) -> Health:
        """How this process stands to its daemon, which is asked now."""
        return self._health()[0]

    async def health_async(self) -> Health:
        """The same. A daemon that is slow gets 250 ms, in which the loop goes on."""
        until = time.monotonic() + _aio.ACT_WAIT_S
        while True:
            health, silent = self._health()
            if not silent or time.monotonic() >= until:
                return health
            await asyncio.sleep(_AGAIN_S)

    def _health(self) -> Tuple[Health, bool]:
        told: Dict[str, Any] = self.client.health()
        self._tell()
        stand = Health(told["sentence"], told.get("daemon"), told.get("link"), told.get("fleet"), told["socket"])
        return stand, told["silent"]

    def _breaker(self, lane: Lane) -> _breakerd.Breaker:
        if lane.native is None:
            policy = None if lane.policy is None else lane.policy.to_patch()
            lane.native = self.client.breaker(lane.name, policy)
            lane.attach(lane.native)
        native: _breakerd.Breaker = lane.native
        return native

    def _tell(self) -> None:
        if self.client.has_warnings:
            now = time.monotonic()
            for sentence in self.client.warnings():
                # Each connection of the process tells of the same trouble.
                if now - self._told.get(sentence, -_REPEAT_S) >= _REPEAT_S:
                    self._told = {sentence: now}
                    logger.warning("%s", sentence)


def _sight(
    state: str, failures: int, last: Optional[Tuple[str, str, float]], retry_after: Optional[float], why: str
) -> Sight:
    return Sight(state, failures, last and LastFailure.ago(*last), retry_after, why)


def _raise_refusal(word: str, sentence: str) -> None:
    from . import Denied, NoAnswer, ResetRefused  # they stand there, so that a pickle names a public place

    if word != "done":
        raise {"denied": Denied, "no-answer": NoAnswer}.get(word, ResetRefused)(sentence)


_backend: Optional[Native] = None
_making = threading.Lock()


def backend() -> Native:
    """This process's client, made at its first use. It is safe to fork: a child makes connections of its own."""
    global _backend
    if _backend is None:
        with _making:
            if _backend is None:
                _backend = Native()
    return _backend
