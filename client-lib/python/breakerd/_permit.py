"""Permits, and who holds which.

``with guard:`` is one object for all threads and tasks, so the exit must find the permit of its own entry. The exit that a
``with`` statement loads has it. A probe, which its holder may enter again under, and what was entered by hand are kept by
owner: the thread, the running task and the greenlet. An exit by hand that finds nothing of its own (a block entered in
one thread and left in another, as FastAPI's synchronous dependencies are) takes the oldest ordinary permit, since those
of one generation are alike; so entries and exits always come out even.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from . import _breakerd
from ._classify import Rules, causes, of_probe
from ._outcome import ABANDONED, CANCELLED, HUNG, IGNORED, SUCCESS, Outcome, failure

if TYPE_CHECKING:
    from ._lane import Lane

Owner = Tuple[Any, ...]

# Holds the stamps of its countings, so that an exception object that is raised again by a later call is counted again.
_MARK = "__breakerd_counted__"


def owner() -> Owner:
    """Who runs now."""
    thread = threading.get_ident()
    greenlets = sys.modules.get("greenlet")
    greenlet = None if greenlets is None else greenlets.getcurrent()
    if asyncio._get_running_loop() is None:
        return (thread, None, greenlet)
    return (thread, asyncio.current_task(), greenlet)


class Permit(_breakerd.Admission):
    """What an admitted call holds. It is settled once: the first word stands, a second is told of and changes nothing.
    Dropped without a word it is abandoned, which gives a probe back."""

    # What stays so while the base knows how the call goes: it was admitted by the board, and is told of as a success at most.
    _raw: Any = None
    _told: Optional[Outcome] = None
    _owner: Optional[Owner] = None
    _blocks = 0

    @classmethod
    def of(cls, lane: Lane, rules: Rules, raw: Any) -> Permit:
        """The permit of a call that a backend admitted."""
        permit = cls(lane, rules)
        permit._raw = raw
        return permit

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self._lane.name

    @property
    def is_probe(self) -> bool:
        """Whether this call is the one that decides if the breaker recovers."""
        return self._raw is not None and bool(self._raw.is_probe)

    @property
    def generation(self) -> int:
        """The breaker's generation at the moment of admission."""
        return self._generation if self._raw is None else int(self._raw.generation)

    @property
    def _settled(self) -> Optional[Outcome]:
        return SUCCESS if self._succeeded else self._told

    def _succeed_by_hand(self) -> None:
        self._settle_by_hand(SUCCESS)

    def fail(self, kind: str = "failure", *, detail: str = "", retry_after: Union[float, str, None] = None) -> None:
        """It failed by the provider's fault. ``kind`` is a short word (``http-503``, ``empty-answer``), ``detail`` a
        status and an error code, ``retry_after`` the provider's wish in seconds or as its header says it."""
        self._settle_by_hand(failure(kind, detail, retry_after))

    def ignore(self) -> None:
        """It says nothing of the provider: the caller's own fault."""
        self._settle_by_hand(IGNORED)

    def settle(self, outcome: Outcome) -> None:
        """Settles by an outcome made elsewhere."""
        self._settle_by_hand(outcome)

    def observe(self, response: Any) -> Any:
        """Judges a response by its status and returns it. One that is no success settles the permit at once; after a
        success the block may still fail."""
        outcome = self._rules.of_response(response, self.is_probe)
        if outcome.word != "success":
            self._settle_by_hand(outcome)
        return response

    def _settle_by_hand(self, outcome: Outcome) -> None:
        if self._settled is not None:
            self._lane.once.warn(
                "settled twice", "%s: a permit was settled as %s and again as %s; the first stands",
                self.name, self._settled.word, outcome.word,
            )
            return
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if self._settled is None:
            if outcome.kind and self.is_probe:
                outcome = of_probe(outcome)
            self._told = outcome
            self._claimed().settle(outcome.word, outcome.kind, outcome.detail, outcome.retry_after)

    def _claimed(self) -> Any:
        """The raw permit."""
        if self._raw is None:
            from . import _native  # it imports this module's neighbours

            self._raw = _native.backend().own(self._claim())
        return self._raw

    def _leave(self, error: Optional[BaseException], timed: bool) -> None:
        """The block ends whose exit this is."""
        if error is not None:
            self._settle_exception(error, timed)
        else:
            self._settle(SUCCESS)

    def _settle_result(self, result: Any) -> None:
        """Settles by what the call returned."""
        self._settle(self._rules.of_result(result, self.is_probe))

    def _settle_exception(self, error: BaseException, timed: bool = False, waited: Optional[float] = None) -> None:
        """Settles by an exception, which is marked if it counts as a failure of this breaker. ``timed`` says that the
        call could be cancelled; ``waited`` for how many seconds, where that is not since its admission."""
        if self._settled is not None:
            return
        outcome = self._rules.of_exception(error, self.is_probe)
        if outcome is CANCELLED:
            self._settle_cancelled(error, timed, waited)
        elif outcome.word != "failure":
            self._settle(outcome)
        elif _counted_since(error, self.name, self._stamp):
            self._settle(IGNORED)
        else:
            _mark(error, self.name)
            self._settle(outcome)

    def _settle_cancelled(self, error: BaseException, timed: bool, waited: Optional[float]) -> None:
        """A cancelled call that waited for longer than the policy's ``hung_after`` is a failure."""
        if not timed or _at_a_yield(error) or _counted_since(error, self.name, self._stamp):
            self._settle(ABANDONED)
        elif self._claimed().cancel(waited):
            self._told = HUNG
            _mark(error, self.name)
        else:
            self._told = ABANDONED

    def _first_item(self) -> None:
        """A stream's first item has come. It settles a probe: a stream may live for hours, and the provider answers."""
        if self.is_probe:
            self._settle(SUCCESS)
        elif self._raw is not None:  # the board admits only where nothing is slow
            self._raw.answer()

    def __repr__(self) -> str:
        word = "out" if self._settled is None else self._settled.word
        return f"<breakerd.Permit {self.name} generation {self.generation}{' probe' if self.is_probe else ''}, {word}>"


async def given(permit: Permit) -> Permit:
    """What the entry of an asynchronous block awaits where the board has admitted already."""
    return permit


def _at_a_yield(error: BaseException) -> bool:
    """Whether an asynchronous generator was closed between two items: it waited for its reader, not for a provider."""
    if not isinstance(error, GeneratorExit):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and bool(trace.tb_frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR)


def _mark(error: BaseException, name: str) -> None:
    counted: Dict[str, int] = {**getattr(error, _MARK, {}), name: _breakerd.next_stamp()}
    try:
        setattr(error, _MARK, counted)
    except (AttributeError, TypeError):
        pass  # an exception class with slots can't be marked; the outer guard counts it again


def _counted_since(error: BaseException, name: str, stamp: int) -> bool:
    return any(getattr(one, _MARK, {}).get(name, 0) > stamp for one in causes(error))


class Held:
    """The permits of the blocks that are entered, of one breaker."""

    __slots__ = ("_by_owner", "_lock", "_probes", "_tell")

    def __init__(self, tell: Callable[[int], None]) -> None:
        """``tell`` hears how many of them are probes."""
        self._by_owner: Dict[Owner, List[Permit]] = {}
        self._probes = 0
        self._tell = tell
        # Reentrant, since a signal handler or a finaliser may enter a guard while its own thread is in here.
        self._lock = threading.RLock()

    def probe_of(self, who: Owner) -> Optional[Permit]:
        """The unsettled probe that this owner holds: only its holder may enter again under it."""
        for permit in self._by_owner.get(who, ()):
            if permit._settled is None and permit.is_probe:
                return permit
        return None

    def put(self, permit: Permit, who: Owner) -> None:
        """A block is entered."""
        with self._lock:
            permit._owner = who
            permit._blocks += 1
            self._by_owner.setdefault(who, []).append(permit)
            self._count(permit, 1)

    def take(self, permit: Optional[Permit] = None) -> Optional[Permit]:
        """A block is left: the permit of its entry, the innermost first. ``None`` if nothing is held."""
        with self._lock:
            who = owner() if permit is None else permit._owner or ()
            stack = self._by_owner.get(who)
            if stack is None:
                who, stack = self._oldest()
                if stack is None:
                    return None
                found = stack.pop(0)
            elif permit is None:
                found = stack.pop()
            else:
                found = permit
                if permit not in stack:
                    return None
                stack.remove(permit)
            if not stack:
                del self._by_owner[who]
            found._blocks -= 1
            self._count(found, -1)
            return found

    def _count(self, permit: Permit, by: int) -> None:
        if permit.is_probe:
            self._probes += by
            self._tell(self._probes)

    def _oldest(self) -> Tuple[Any, Optional[List[Permit]]]:
        found: Tuple[Any, Optional[List[Permit]]] = (None, None)
        best: Tuple[bool, int] = (True, sys.maxsize)
        for who, stack in self._by_owner.items():
            rank = (stack[0].is_probe, stack[0]._stamp)  # a probe only where nothing else is out
            if rank < best:
                best, found = rank, (who, stack)
        return found

    def __iter__(self) -> Iterator[Permit]:
        return (permit for stack in list(self._by_owner.values()) for permit in stack)

    def after_fork(self) -> None:
        """In a child: only the blocks that its one thread stands in will be left here, and they settle nothing."""
        self._lock = threading.RLock()
        who = owner()
        mine = self._by_owner.get(who)
        self._by_owner = {} if mine is None else {who: mine}
        self._probes = sum(permit.is_probe for permit in mine or ())
        self._tell(self._probes)
