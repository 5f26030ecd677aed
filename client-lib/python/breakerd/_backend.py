"""Who answers: the daemon's client, or a fake that a test has put in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Protocol, Tuple

if TYPE_CHECKING:
    from ._lane import Lane


class Sight(NamedTuple):
    """What this worker sees of a breaker."""

    state: str
    failures: int
    last_failure: Optional[Tuple[str, str, float]]
    """Kind, detail, seconds ago."""
    retry_after: Optional[float]
    why: str


class Backend(Protocol):
    """Answers for all breakers. A rejection is a tuple of state, reason, seconds or ``None``, and why."""

    def admit(self, lane: Lane) -> Any: ...

    async def admit_async(self, lane: Lane) -> Any: ...

    def observe(self, lane: Lane) -> Sight: ...

    def reset(self, lane: Lane, because: str) -> None: ...

    async def reset_async(self, lane: Lane, because: str) -> None: ...


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


def pop(backend: Backend) -> None:
    """Takes it away again, wherever it stands by now."""
    _stack.remove(backend)
