"""A fake in the daemon's place, for tests of programs that use guards: no daemon, no socket, no time."""

from __future__ import annotations

import contextlib
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

from . import _backend
from ._backend import LastFailure, Sight
from ._outcome import ABANDONED, HUNG, Outcome
from ._policy import duration_ms

if TYPE_CHECKING:
    from ._lane import Lane

_RETRY_AFTER_S = 15.0
_HUNG_AFTER_S = 10.0
_STATES = ("closed", "open", "half-open")


class _FakePermit:
    __slots__ = ("_began", "_fake", "_hung_after", "_name", "_told", "generation", "is_probe")

    def __init__(self, fake: Fake, lane: Lane, generation: int, is_probe: bool) -> None:
        self._fake = fake
        self._name = lane.name
        self._told = False
        self._began = time.monotonic()
        self._hung_after = _hung_after(lane)
        self.generation = generation
        self.is_probe = is_probe

    def settle(self, word: str, kind: str, detail: str, retry_after: Optional[float]) -> None:
        self._told = True
        self._fake._tell(self, Outcome(word, kind, detail, retry_after))

    def cancel(self, waited: Optional[float]) -> bool:
        hung = (time.monotonic() - self._began if waited is None else waited) > self._hung_after
        outcome = HUNG if hung else ABANDONED
        self.settle(outcome.word, outcome.kind, "", None)
        return hung

    def answer(self) -> None:
        """It judges no slowness."""

    def __del__(self) -> None:
        if not self._told:
            self.settle("abandoned", "", "", None)


def _hung_after(lane: Lane) -> float:
    said = None if lane.policy is None else lane.policy.hung_after
    return _HUNG_AFTER_S if said is None else duration_ms(said, "hung_after") / 1000


class _FakeWatcher:
    """Tells of what the test sets. A socket wakes whoever waits, in whatever thread."""

    is_watching = True
    away: Optional[str] = None
    wait: Optional[float] = None

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._told: List[Dict[str, Any]] = []

    @property
    def socket(self) -> Tuple[int, bool]:
        return self._theirs.fileno(), False

    def tell(self, change: Dict[str, Any]) -> None:
        self._told.append(change)
        self._ours.send(b"x")

    def receive(self) -> List[Dict[str, Any]]:
        with contextlib.suppress(BlockingIOError):
            self._theirs.recv(4096)
        told, self._told = self._told, []
        return told

    def __del__(self) -> None:
        self._ours.close()
        self._theirs.close()


class Fake:
    """Breakers that are in the state that the test says, and stay there: ``fake.set("openai", "open")``.

    What guards report is kept in ``fake.outcomes("openai")``. ``half-open`` lets one probe through at a time.
    """

    def __init__(self, states: Dict[str, str]) -> None:
        self._states: Dict[str, str] = {}
        self._generations: Dict[str, int] = {}
        self._outcomes: Dict[str, List[Outcome]] = {}
        self._probes: Dict[str, int] = {}
        self._denied: Dict[str, str] = {}
        self._resets: List[Tuple[str, str]] = []
        self._watchers: weakref.WeakSet[_FakeWatcher] = weakref.WeakSet()
        for name, state in states.items():
            self.set(name, state)

    def set(self, name: str, state: str) -> None:
        """Puts a breaker into a state: ``closed``, ``open`` or ``half-open``."""
        word = state.replace("_", "-")
        if word not in _STATES:
            raise ValueError(f"the state of {name} is {state!r}; it may be one of {', '.join(_STATES)}")
        was, self._states[name] = self._states.get(name, "closed"), word
        self._generations[name] = self._generations.get(name, 0) + 1
        for watcher in list(self._watchers):
            watcher.tell(self._change(name, was, word))

    def deny(self, name: str, sentence: str = "this account may not reset") -> None:
        """Makes every reset of this breaker raise ``Denied``."""
        self._denied[name] = sentence

    def outcomes(self, name: str) -> List[Outcome]:
        """What guards have reported of this breaker, in order."""
        return list(self._outcomes.get(name, ()))

    @property
    def resets(self) -> List[Tuple[str, str]]:
        """Name and reason of every reset, in order."""
        return list(self._resets)

    # -- the backend's side --

    def admit(self, lane: Lane) -> Any:
        """The answer to a call."""
        name = lane.name
        state = self._states.get(name, "closed")
        generation = self._generations.get(name, 0)
        if state == "open":
            return (state, "open", _RETRY_AFTER_S, "")
        if state == "half-open":
            if self._probes.get(name, 0) > 0:
                return (state, "probing", 1.0, "")
            self._probes[name] = 1
        return _FakePermit(self, lane, generation, state == "half-open")

    async def admit_async(self, lane: Lane) -> Any:
        """The same, and it never waits."""
        return self.admit(lane)

    def observe(self, lane: Lane) -> Sight:
        """What is seen: the run of failures among what was reported."""
        failures = 0
        last: Optional[LastFailure] = None
        for outcome in self._outcomes.get(lane.name, ()):
            if outcome.word == "success":
                failures = 0
            elif outcome.word == "failure":
                failures += 1
                last = LastFailure.ago(outcome.kind, outcome.detail, 0.0)
        state = self._states.get(lane.name, "closed")
        return Sight(state, failures, last, _RETRY_AFTER_S if state == "open" else 0.0, "")

    async def observe_async(self, lane: Lane) -> Sight:
        """The same, and it never waits."""
        return self.observe(lane)

    def reset(self, lane: Lane, because: str) -> None:
        """Changes to closed, and forgets what was reported."""
        if lane.name in self._denied:
            from . import Denied  # it stands there, so that a pickle names a public place

            raise Denied(self._denied[lane.name])
        self._resets.append((lane.name, because))
        self.set(lane.name, "closed")
        self._outcomes.pop(lane.name, None)

    async def reset_async(self, lane: Lane, because: str) -> None:
        """The same, and it never waits."""
        self.reset(lane, because)

    def auth_errors(self, lane: Lane) -> Optional[str]:
        """What the policy in code says."""
        return None if lane.policy is None else lane.policy.auth_errors

    def watcher(self) -> _FakeWatcher:
        """Tells of every ``set`` and ``reset`` from here on."""
        watcher = _FakeWatcher()
        self._watchers.add(watcher)
        return watcher

    def _change(self, name: str, was: str, state: str) -> Dict[str, Any]:
        what = {"open": "trip", "half-open": "probe", "closed": "recover"}[state]
        retry_after = _RETRY_AFTER_S if state == "open" else 0.0
        return {
            "name": name, "was": was, "state": state, "what": what, "why": "", "by": "", "retry_after": retry_after,
            "forced": None, "mode": "on", "host_only": False, "generation": self._generations[name], "ago": 0.0,
        }

    def _tell(self, permit: _FakePermit, outcome: Outcome) -> None:
        if permit.is_probe:
            self._probes[permit._name] = 0
        self._outcomes.setdefault(permit._name, []).append(outcome)


@contextlib.contextmanager
def fake(states: Optional[Dict[str, str]] = None, /, **more: str) -> Iterator[Fake]:
    """Puts a fake in the daemon's place for the length of a block, for every thread and task of the process:
    ``with breakerd.fake(openai="open") as fake:``.

    Names that are no Python names go into a dict: ``fake({"chat/openai": "open"})``. Breakers that are not named are
    closed. Blocks nest; the innermost answers.
    """
    one = Fake({**(states or {}), **more})
    _backend.push(one)
    try:
        yield one
    finally:
        _backend.pop(one)
