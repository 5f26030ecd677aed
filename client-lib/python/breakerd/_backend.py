"""Who answers: the daemon's client, or a fake that a test has put in its place."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Protocol, Tuple

from . import _breakerd

if TYPE_CHECKING:
    from ._lane import Lane


class LastFailure(NamedTuple):
    """This worker's last failure."""

    kind: str
    """``http-503``, ``timeout``, a class name."""
    detail: str
    """A status and an error code, or nothing."""
    at: datetime.datetime
    """When, in UTC."""

    @classmethod
    def ago(cls, kind: str, detail: str, seconds: float) -> LastFailure:
        """A failure of so many seconds ago."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return cls(kind, detail, now - datetime.timedelta(seconds=seconds))


class Sight(NamedTuple):
    """What this worker sees of a breaker, all at one moment."""

    state: str
    """``closed``, ``open`` or ``half-open``."""
    failures: int
    """This worker's failures: while closed, the run that it is in; from a trip until the breaker closes again, that run
    and every later failure of its calls in flight."""
    last_failure: Optional[LastFailure]
    """This worker's last failure, if it had one."""
    retry_after: Optional[float]
    """Seconds until a call is worth trying; 0 while closed, ``None`` under a force without end."""
    why: str
    """Why it is so and who made it so, for people."""


class Watcher(Protocol):
    """Tells of changes to whoever can wait for a descriptor. ``socket`` is the descriptor and whether it waits for room to
    write, ``wait`` the seconds to wait for it at most; both are to be asked for again after every call."""

    @property
    def is_watching(self) -> bool: ...

    @property
    def away(self) -> Optional[str]: ...

    @property
    def socket(self) -> Optional[Tuple[int, bool]]: ...

    @property
    def wait(self) -> Optional[float]: ...

    def receive(self) -> List[Any]: ...


class Backend(Protocol):
    """Answers for all breakers. A rejection is a tuple of state, reason, seconds or ``None``, and why."""

    def admit(self, lane: Lane) -> Any: ...

    async def admit_async(self, lane: Lane) -> Any: ...

    def observe(self, lane: Lane) -> Sight: ...

    async def observe_async(self, lane: Lane) -> Sight: ...

    def reset(self, lane: Lane, because: str) -> None: ...

    async def reset_async(self, lane: Lane, because: str) -> None: ...

    def auth_errors(self, lane: Lane) -> Optional[str]: ...

    def watcher(self) -> Watcher: ...


_stack: List[Backend] = []


def current() -> Backend:
    """The backend of the moment. The daemon's client is made at the first call, never at import."""
    if _stack:
        return _stack[-1]
    from . import _native

    return _native.backend()


def push(backend: Backend) -> None:
    """Puts a backend over the others."""
    _stack.append(backend)
    _breakerd.handle_faked(True)


def pop(backend: Backend) -> None:
    """Takes it away again, wherever it stands by now."""
    _stack.remove(backend)
    _breakerd.handle_faked(bool(_stack))
