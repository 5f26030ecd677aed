"""The first admitted of several breakers, as a block."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Optional, Tuple, Type, Union

from ._guard import Guard, breaker
from ._permit import Permit

if TYPE_CHECKING:
    from . import Rejected


class FirstAdmitted:
    """Made by :func:`first_admitted`; entered once."""

    __slots__ = ("_entered", "_guards")

    def __init__(self, guards: Tuple[Guard, ...]) -> None:
        self._guards = guards
        self._entered: Optional[Tuple[Guard, Permit]] = None

    def __enter__(self) -> Permit:
        """Raises the ``Rejected`` that is soonest worth another try, if none is admitted."""
        from . import Rejected  # it stands there, so that a pickle names a public place

        soonest: Optional[Rejected] = None
        for guard in self._guards:
            try:
                return self._take(guard, guard._lane.enter(guard._rules))
            except Rejected as no:
                soonest = _sooner(soonest, no)
        assert soonest is not None  # there is at least one guard
        raise soonest

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._leave(error, timed=False)

    async def __aenter__(self) -> Permit:
        """Raises the ``Rejected`` that is soonest worth another try, if none is admitted."""
        from . import Rejected  # it stands there, so that a pickle names a public place

        soonest: Optional[Rejected] = None
        for guard in self._guards:
            try:
                return self._take(guard, await guard._lane.enter_async(guard._rules))
            except Rejected as no:
                soonest = _sooner(soonest, no)
        assert soonest is not None  # there is at least one guard
        raise soonest

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._leave(error, timed=True)

    def _leave(self, error: Optional[BaseException], timed: bool) -> None:
        if self._entered is not None:
            guard, permit = self._entered
            self._entered = None
            guard._lane.leave(error, permit, timed)

    def _take(self, guard: Guard, permit: Permit) -> Permit:
        if self._entered is not None:
            guard._lane.held.take(permit)
            raise RuntimeError("a first_admitted(...) is entered once; make one for each block")
        self._entered = (guard, permit)
        return permit


def _sooner(one: Optional[Rejected], other: Rejected) -> Rejected:
    never = float("inf")
    if one is None:
        return other
    return min(one, other, key=lambda no: never if no.retry_after is None else no.retry_after)


def first_admitted(*names: Union[str, Guard]) -> FirstAdmitted:
    """The first of these breakers that admits, in their order: ``with`` or ``async with
    breakerd.first_admitted("openai", "anthropic") as permit``, then ``permit.name`` tells which.

    Guards may stand for names, with their own classification. Raises ``ValueError`` for no name at all.
    """
    if not names:
        raise ValueError("first_admitted needs at least one breaker")
    return FirstAdmitted(tuple(name if isinstance(name, Guard) else breaker(name) for name in names))
