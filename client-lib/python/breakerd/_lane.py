"""One breaker of this process: asks, and hands out permits.

A lane knows no socket. Who answers is the backend of the moment: the daemon's client (``_native``) or a fake
(``_fake``).
"""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, Optional

from . import _backend, _breakerd
from ._classify import Rules
from ._outcome import SUCCESS
from ._permit import Held, Permit, owner
from ._policy import Policy
from ._warn import Once


class Lane(_breakerd.Lane):
    """What all guards of one name share: the policy declared first, the permits that blocks hold, what was told."""

    __slots__ = ("__weakref__", "held", "name", "native", "once", "policy")

    def __init__(self, name: str, policy: Optional[Policy]) -> None:
        self.name = name
        self.policy = policy
        self.held = Held(self.handle_probes)
        self.once = Once()
        self.native: Any = None
        """The backend's own object for this breaker, made at the first call."""

    def auth_errors(self) -> Optional[str]:
        """What 401 and 403 count as, by the policy in force."""
        return _backend.current().auth_errors(self)

    def admit(self, rules: Rules) -> Permit:
        """A permit, or ``Rejected``. Waits for a daemon at most 5 ms; the first attach of a process 250 ms."""
        permit = self.admit_closed(rules, False)
        return permit or Permit.of(self, rules, _granted(self, _backend.current().admit(self)))

    async def admit_async(self, rules: Rules) -> Permit:
        """The same, awaited on the running loop, at most 250 ms."""
        permit = self.admit_closed(rules, True)
        return permit or Permit.of(self, rules, _granted(self, await _backend.current().admit_async(self)))

    def enter(self, rules: Rules) -> Permit:
        """A block is entered. The holder of the probe shares it."""
        who = owner()
        permit = self.held.probe_of(who) or self.admit(rules)
        self.held.put(permit, who)
        return permit

    async def enter_async(self, rules: Rules, block: Optional[Permit] = None) -> Permit:
        """The same, awaited on the running loop. ``block`` is the exit that was loaded for it."""
        who = owner()
        permit = self.held.probe_of(who) or await self.admit_async(rules)
        self.held.put(permit, who)
        if block is not None:
            block._enter(permit)
        return permit

    def leave(self, error: Optional[BaseException], permit: Optional[Permit] = None, timed: bool = False) -> None:
        """A block is left. A shared probe is settled by its first failure, else by the outermost block's end. ``timed``
        says that the block could be cancelled."""
        permit = self.held.take(permit)
        if permit is None or permit._settled is not None:
            return
        inner = permit._blocks > 0
        if error is not None:
            if not inner or permit._rules.of_exception(error, permit.is_probe).word == "failure":
                permit._settle_exception(error, timed)
        elif not inner:
            permit._settle(SUCCESS)


def _granted(lane: Lane, answer: Any) -> Any:
    if type(answer) is not tuple:
        return answer
    from . import Rejected  # it stands there, so that a pickle names a public place

    state, reason, retry_after, why = answer
    raise Rejected(lane.name, state, reason, retry_after, why)


_lanes: Dict[str, Lane] = {}
_lanes_lock = threading.Lock()


def lane(name: str, policy: Optional[Policy]) -> Lane:
    """The lane of this name. The first policy stands; another is warned of."""
    with _lanes_lock:
        found = _lanes.get(name)
        if found is None:
            found = _lanes[name] = Lane(name, policy)
            return found
        if found.policy is None and found.native is None:
            found.policy = policy
    if policy is not None and policy != found.policy:
        found.once.warn(
            "policy", "%s: a second policy is declared in code; the first stands: %r", name, found.policy or "none"
        )
    return found


def _after_fork() -> None:
    global _lanes_lock
    _lanes_lock = threading.Lock()
    for found in _lanes.values():
        found.held.after_fork()


os.register_at_fork(after_in_child=_after_fork)
