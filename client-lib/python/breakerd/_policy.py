"""Policy in code: what a breaker's own program says of it.

It stands below every matching ``[breaker."..."]`` of the daemon's configuration and above ``[breaker.default]``.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Dict, Literal, Optional, Tuple, Union

Duration = Union[str, int, float, datetime.timedelta]
Mode = Literal["on", "shadow", "off"]
Fallback = Literal["local", "admit", "reject"]

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")
_DAY_MS = 86_400_000


def duration_ms(value: Duration, what: str) -> int:
    """A duration in whole milliseconds: ``"15s"``, ``"250ms"``, ``"2m"``, a number of seconds or a ``timedelta``.

    Raises ``ValueError`` for anything else, and for what is below 1 ms or above a day.
    """
    if isinstance(value, datetime.timedelta):
        ms = value / datetime.timedelta(milliseconds=1)
    elif isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            rule = 'a duration is a number with a unit, as "250ms", "15s", "2m" or "1h"'
            raise ValueError(f"{what} is {value!r}; {rule}")
        ms = float(match[1]) * _UNITS_MS[match[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        ms = float(value) * 1000
    else:
        raise ValueError(f"{what} is {value!r}; a duration is text with a unit, a number of seconds or a timedelta")
    if not 1 <= ms <= _DAY_MS:
        raise ValueError(f"{what} is {value!r}; it may be 1 ms to 24 h")
    return round(ms)


@dataclasses.dataclass(frozen=True)
class Policy:
    """The rule from evidence to trip, and what follows a trip. What is ``None`` is decided elsewhere.

    Durations are text with a unit (``"15s"``), a number of seconds or a ``timedelta``. Values out of their bounds
    raise ``ValueError`` here, at construction.
    """

    consecutive_failures: Optional[int] = None
    """Failures in a row that trip, 1 to 1,000,000."""
    cooldown: Optional[Duration] = None
    """How long the first open lasts."""
    cooldown_factor: Optional[float] = None
    """By what each further cooldown grows, 1 to 100."""
    cooldown_max: Optional[Duration] = None
    """The longest cooldown."""
    cooldown_jitter: Optional[float] = None
    """The part of a cooldown that chance may add or take, 0 to 0.5."""
    probe_permits: Optional[int] = None
    """Probes out at a time, 1 to 1000."""
    probe_successes: Optional[int] = None
    """Successful probes that recover, 1 to 1000."""
    probe_max: Optional[Duration] = None
    """How long a worker may keep a probe."""
    slow_after: Optional[Duration] = None
    """What slower calls are called slow."""
    mode: Optional[Mode] = None
    """``on``, ``shadow`` (judges and rejects nobody) or ``off`` (admits everything, counts nothing)."""
    fallback: Optional[Fallback] = None
    """What a process does without a daemon: ``local`` (judges by itself), ``admit`` or ``reject``."""

    def __post_init__(self) -> None:
        self.to_patch()

    def to_patch(self) -> Dict[str, Union[int, float, str]]:
        """What it decides, by the wire's names: durations in milliseconds."""
        patch = {
            "consecutive_failures": _whole(self.consecutive_failures, "consecutive_failures", 1_000_000),
            "cooldown_first_ms": _ms(self.cooldown, "cooldown"),
            "cooldown_factor": _between(self.cooldown_factor, "cooldown_factor", 1.0, 100.0),
            "cooldown_max_ms": _ms(self.cooldown_max, "cooldown_max"),
            "cooldown_jitter": _between(self.cooldown_jitter, "cooldown_jitter", 0.0, 0.5),
            "probe_permits": _whole(self.probe_permits, "probe_permits", 1000),
            "probe_successes": _whole(self.probe_successes, "probe_successes", 1000),
            "probe_max_ms": _ms(self.probe_max, "probe_max"),
            "slow_after_ms": _ms(self.slow_after, "slow_after"),
            "mode": _word(self.mode, "mode", ("on", "shadow", "off")),
            "fallback": _word(self.fallback, "fallback", ("local", "admit", "reject")),
        }
        return {field: value for field, value in patch.items() if value is not None}


def _ms(value: Optional[Duration], what: str) -> Optional[int]:
    return None if value is None else duration_ms(value, what)


def _whole(value: Optional[int], what: str, most: int) -> Optional[int]:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most):
        raise ValueError(f"{what} is {value!r}; it may be a whole number from 1 to {most}")
    return value


def _between(value: Optional[float], what: str, least: float, most: float) -> Optional[float]:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} is {value!r}; it may be {least:g} to {most:g}")
    return float(value)


def _word(value: Optional[str], what: str, allowed: Tuple[str, ...]) -> Optional[str]:
    if value is not None and value not in allowed:
        raise ValueError(f"{what} is {value!r}; it may be one of {', '.join(allowed)}")
    return value
