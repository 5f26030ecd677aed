"""breakerd: a circuit breaker shared by every worker of a host and every host of a fleet.

``guard = breakerd.breaker("openai")`` at import time, then ``@guard``, ``with guard:``, ``async with guard as permit:``
or ``guard.admit()``. A refused call raises :class:`Rejected`. Trouble of our own never raises: without a daemon each
process judges by itself, the logger ``breakerd`` tells it once, and :func:`health` at any time.
"""

from __future__ import annotations

import math
import random
from typing import Any, Dict, Optional, Tuple, Type


class Rejected(Exception):
    """The call was not made: the breaker does not admit it. It pickles."""

    breaker: str
    """The breaker's name."""
    state: str
    """``open`` or ``half-open``; ``closed`` only with the reasons ``no-daemon`` and ``quota``."""
    reason: str
    """``open``, ``probing`` (its probes are out), ``forced``, ``no-answer``, ``no-daemon`` or ``quota``."""
    retry_after: Optional[float]
    """Seconds until another try is worth it, at least 1 in half-open; ``None`` only under a force without end."""
    why: str
    """Why the breaker is so and who made it so, for people; empty where nobody has told yet."""

    def __init__(self, breaker: str, state: str, reason: str, retry_after: Optional[float], why: str = "") -> None:
        super().__init__(breaker, state, reason, retry_after, why)
        self.breaker = breaker
        self.state = state
        self.reason = reason
        self.retry_after = retry_after
        self.why = why

    def http_headers(self) -> Dict[str, str]:
        """What a service's own 503 should carry: ``Retry-After`` in whole seconds, rounded up and spread by a tenth, so
        that those who were refused together don't come back together. Empty under a force without end."""
        if self.retry_after is None:
            return {}
        seconds = max(1, math.ceil(self.retry_after))
        return {"Retry-After": str(seconds + random.randint(0, math.ceil(seconds / 10)))}

    def __str__(self) -> str:
        sentence = f"{self.breaker} is {self.state}" + {
            "probing": ", and its probe is out",
            "forced": ", forced by an operator",
            "no-answer": ", and the daemon did not answer in time",
            "no-daemon": " as last seen, but there is no daemon and the fallback is reject",
            "quota": ", and the daemon's quota is full",
        }.get(self.reason, "")
        if self.why:
            sentence += f": {self.why}"
        if self.retry_after is None:
            return f"{sentence}; until it is released"
        return f"{sentence}; try again in {self.retry_after:.1f} s"

    def __reduce__(self) -> Tuple[Type[Rejected], Tuple[Any, ...]]:
        return (type(self), (self.breaker, self.state, self.reason, self.retry_after, self.why))


class ResetRefused(Exception):
    """A reset did not happen; the sentence says why."""


class Denied(ResetRefused):
    """This account lacks the right to reset; the sentence names the right, the setting and the account."""


class NoAnswer(ResetRefused):
    """The daemon did not answer in time, so whether it has reset is unknown."""


from . import _native  # noqa: E402 (the classes above stand first: what follows imports them)
from ._backend import LastFailure, Sight  # noqa: E402
from ._fake import Fake, fake  # noqa: E402
from ._first import FirstAdmitted, first_admitted  # noqa: E402
from ._guard import Guard, breaker  # noqa: E402
from ._native import Health  # noqa: E402
from ._outcome import ABANDONED, IGNORED, SUCCESS, Outcome, failure  # noqa: E402
from ._permit import Permit  # noqa: E402
from ._policy import AtLeast, Policy  # noqa: E402
from ._watch import Change, Lagged, Watch, watch  # noqa: E402

__all__ = [
    "ABANDONED",
    "IGNORED",
    "SUCCESS",
    "AtLeast",
    "Change",
    "Denied",
    "Fake",
    "FirstAdmitted",
    "Guard",
    "Health",
    "Lagged",
    "LastFailure",
    "NoAnswer",
    "Outcome",
    "Permit",
    "Policy",
    "Rejected",
    "ResetRefused",
    "Sight",
    "Watch",
    "breaker",
    "failure",
    "fake",
    "first_admitted",
    "health",
    "health_async",
    "watch",
]


def health() -> Health:
    """How this process stands to its daemon, which is asked now (5 ms at most, the first time 250 ms)."""
    return _native.backend().health()


async def health_async() -> Health:
    """The same for code on a loop, where a slow daemon gets 250 ms and nothing blocks for more than 5 ms."""
    return await _native.backend().health_async()
