"""Policy in code: what a breaker's own program says of it.

It stands below every matching ``[breaker."..."]`` of the daemon's configuration and above ``[breaker.default]``.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any, Dict, Literal, Optional, Tuple, Union

Duration = Union[str, int, float, datetime.timedelta]
Mode = Literal["on", "shadow", "off"]
Fallback = Literal["local", "admit", "reject"]
AuthErrors = Literal["ignored", "failure"]
OnQuota = Literal["admit", "reject"]

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")
_DAY_MS = 86_400_000
_WITHIN_MS_MIN = 100
_COUNT_MAX = 1_000_000
_WINDOW_CALLS_MAX = 10_000
_PROBES_MAX = 1000


def duration_ms(value: Duration, what: str, least_ms: int = 1) -> int:
    """A duration in whole milliseconds: ``"15s"``, ``"250ms"``, ``"2m"``, a number of seconds or a ``timedelta``.

    Raises ``ValueError`` for anything else, and for what is below ``least_ms`` or above a day.
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
    if not least_ms <= ms <= _DAY_MS:
        raise ValueError(f"{what} is {value!r}; it may be {least_ms} ms to 24 h")
    return round(ms)


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """How much of what a rule needs: a part of the calls for a rate, their number for a count.

    ``AtLeast(0.5, of_calls=100)`` is half of the last 100 calls, judged once there were so many, or from ``min_calls``
    on; ``AtLeast(0.5, of_calls=20, within="30s")`` is half of the calls of the last 30 s, judged from 20 calls on;
    ``AtLeast(0.5, of_probes=10)``, for ``probe_rate``, is half of ten probes.
    """

    at_least: float
    """A part, above 0 and at most 1, or a whole number."""
    of_calls: Optional[int] = None
    """Over how many of the last calls, 1 to 10,000; with ``within`` the fewest calls that are judged."""
    within: Optional[Duration] = None
    """Over the calls of how long a time, 100 ms to a day."""
    min_calls: Optional[int] = None
    """From how many of the last ``of_calls`` on it is judged; all of them by default."""
    of_probes: Optional[int] = None
    """Over how many probes, 1 to 1000."""

    def over_calls(self, what: str) -> Tuple[float, int, int]:
        """The rule over the last calls: the threshold, of how many, from how many on."""
        of = self._of_calls(what, _WINDOW_CALLS_MAX)
        least = of if self.min_calls is None else _number(self.min_calls, f"{what}.min_calls", 1, of)
        return self._threshold(what, of), of, least

    def over_time(self, what: str) -> Tuple[float, int, int]:
        """The rule over a time: the threshold, from how many calls on, the time in milliseconds."""
        if self.min_calls is not None:
            raise ValueError(f"{what} has min_calls beside within, where of_calls is the minimum; leave min_calls out")
        within = duration_ms(self.within or 0, f"{what}.within", _WITHIN_MS_MIN)
        return self._threshold(what, _COUNT_MAX), self._of_calls(what, _COUNT_MAX), within

    def over_probes(self, what: str) -> Tuple[float, int]:
        """The rule over the probes of a half-open: the threshold and their number."""
        if self.of_calls is not None or self.within is not None or self.min_calls is not None:
            raise ValueError(f"{what} counts probes, not calls; write it as AtLeast(0.5, of_probes=10)")
        if self.of_probes is None:
            raise ValueError(f"{what} has no of_probes; write it as AtLeast(0.5, of_probes=10)")
        return _part(self.at_least, what), _number(self.of_probes, f"{what}.of_probes", 1, _PROBES_MAX)

    def _of_calls(self, what: str, most: int) -> int:
        if self.of_probes is not None:
            raise ValueError(f"{what} counts calls, not probes; write it as {_example(what)}")
        if self.of_calls is None:
            raise ValueError(f"{what} has no of_calls; write it as {_example(what)}")
        return _number(self.of_calls, f"{what}.of_calls", 1, most)

    def _threshold(self, what: str, of: int) -> float:
        if what.endswith("_rate"):
            return _part(self.at_least, what)
        count = _number(self.at_least, f"{what}.at_least", 1, _COUNT_MAX)
        if count > of:
            raise ValueError(f"{what} needs {count} of {of} calls and would never trip; raise of_calls")
        return float(count)


Never = Literal[False]
Rules = Union[AtLeast, Tuple[AtLeast, AtLeast], Never]

_Calls = Optional[Tuple[float, int, int]]
_Time = Optional[Tuple[float, int, int]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """The rule from evidence to trip, and what follows a trip. What is ``None`` is decided elsewhere.

    Durations are text with a unit (``"15s"``), a number of seconds or a ``timedelta``. Values out of their bounds
    raise ``ValueError`` here, at construction. Any of the rules trips.
    """

    consecutive_failures: Union[int, Never, None] = None
    """Failures in a row of one worker that trip, 1 to 1,000,000; 0 or ``False`` for never. Of the host's workers together
    it takes one more."""
    failure_rate: Optional[Rules] = None
    """The part of the calls that failed at which it trips: ``AtLeast(0.5, of_calls=20, within="30s")``, two of them for
    one over the last calls and one over a time, ``False`` for none."""
    failure_count: Optional[Rules] = None
    """The same by their number: ``AtLeast(5, of_calls=100)``."""
    slow_rate: Optional[Rules] = None
    """The part of the calls that were slower than ``slow_after`` at which it trips."""
    slow_count: Optional[Rules] = None
    """The same by their number."""
    cooldown: Optional[Duration] = None
    """How long the first open lasts."""
    cooldown_factor: Optional[float] = None
    """By what each further cooldown grows, 1 to 100."""
    cooldown_max: Optional[Duration] = None
    """The longest cooldown."""
    cooldown_jitter: Optional[float] = None
    """The part of a cooldown that chance may add or take, 0 to 0.5."""
    cooldown_forget: Union[Duration, Never, None] = None
    """How long after a recovery a trip goes on with the backoff where it was; 0 or ``False`` to begin anew each time."""
    probe_permits: Optional[int] = None
    """Probes out at a time, 1 to 1000."""
    probe_successes: Optional[int] = None
    """Successful probes that recover, 1 to 1000."""
    probe_rate: Union[AtLeast, Never, None] = None
    """In place of ``probe_successes``: ``AtLeast(0.5, of_probes=10)`` makes ten probes, and half of them must succeed.
    ``False`` for ``probe_successes``."""
    probe_max: Optional[Duration] = None
    """How long a worker may keep a probe."""
    probe_period: Optional[Duration] = None
    """How long half-open may last undecided before it reopens."""
    slow_after: Optional[Duration] = None
    """What slower calls are called slow. A stream is slow by its first item."""
    hung_after: Optional[Duration] = None
    """A cancelled call that waited for longer is a failure ``hung``."""
    auth_errors: Optional[AuthErrors] = None
    """What 401 and 403 count as: ``ignored``, or ``failure`` where one key serves all."""
    on_quota: Optional[OnQuota] = None
    """What becomes of a call on a name that the daemon has no room for: ``admit`` (unguarded) or ``reject``."""
    mode: Optional[Mode] = None
    """``on``, ``shadow`` (judges and rejects nobody) or ``off`` (admits everything, counts nothing)."""
    fallback: Optional[Fallback] = None
    """What a process does without a daemon: ``local`` (judges by itself), ``admit`` or ``reject``."""

    def __post_init__(self) -> None:
        self.to_patch()

    def to_patch(self) -> Dict[str, Any]:
        """What it decides, by the wire's names: durations in milliseconds, rules as tuples."""
        patch = {
            "consecutive_failures": _or_never(self.consecutive_failures, "consecutive_failures"),
            "failure_rate": _rules(self.failure_rate, "failure_rate"),
            "failure_count": _rules(self.failure_count, "failure_count"),
            "slow_rate": _rules(self.slow_rate, "slow_rate"),
            "slow_count": _rules(self.slow_count, "slow_count"),
            "cooldown_first_ms": _ms(self.cooldown, "cooldown"),
            "cooldown_factor": _between(self.cooldown_factor, "cooldown_factor", 1.0, 100.0),
            "cooldown_max_ms": _ms(self.cooldown_max, "cooldown_max"),
            "cooldown_jitter": _between(self.cooldown_jitter, "cooldown_jitter", 0.0, 0.5),
            "cooldown_forget_ms": _forget_ms(self.cooldown_forget, "cooldown_forget"),
            "probe_permits": _whole(self.probe_permits, "probe_permits", _PROBES_MAX),
            "probe_successes": _whole(self.probe_successes, "probe_successes", _PROBES_MAX),
            "probe_rate": _probe_rate(self.probe_rate),
            "probe_max_ms": _ms(self.probe_max, "probe_max"),
            "probe_period_ms": _ms(self.probe_period, "probe_period"),
            "slow_after_ms": _ms(self.slow_after, "slow_after"),
            "hung_after_ms": _ms(self.hung_after, "hung_after"),
            "auth_errors": _word(self.auth_errors, "auth_errors", ("ignored", "failure")),
            "on_quota": _word(self.on_quota, "on_quota", ("admit", "reject")),
            "mode": _word(self.mode, "mode", ("on", "shadow", "off")),
            "fallback": _word(self.fallback, "fallback", ("local", "admit", "reject")),
        }
        return {field: value for field, value in patch.items() if value is not None}


def _rules(value: Optional[Rules], what: str) -> Optional[Tuple[_Calls, _Time]]:
    """The rule over the last calls and the rule over a time."""
    if value is None:
        return None
    if value is False:
        return None, None
    calls: _Calls = None
    time: _Time = None
    for one in value if isinstance(value, (tuple, list)) else (value,):
        if not isinstance(one, AtLeast):
            raise ValueError(f"{what} is {value!r}; write it as {_example(what)}, or False for off")
        if one.within is None and calls is None:
            calls = one.over_calls(what)
        elif one.within is not None and time is None:
            time = one.over_time(what)
        else:
            raise ValueError(f"{what} has two rules of one kind; there may be one over the last calls and one over a time")
    return calls, time


def _probe_rate(value: Union[AtLeast, Never, None]) -> Optional[Tuple[float, int]]:
    if value is None:
        return None
    if value is False:
        return 1.0, 0
    if not isinstance(value, AtLeast):
        raise ValueError(f"probe_rate is {value!r}; write it as AtLeast(0.5, of_probes=10), or False for off")
    return value.over_probes("probe_rate")


def _example(what: str) -> str:
    return 'AtLeast(0.5, of_calls=20, within="30s")' if what.endswith("_rate") else "AtLeast(5, of_calls=100)"


def _ms(value: Optional[Duration], what: str) -> Optional[int]:
    return None if value is None else duration_ms(value, what)


def _forget_ms(value: Union[Duration, Never, None], what: str) -> Optional[int]:
    if value is None:
        return None
    return 0 if value is False else duration_ms(value, what, 0)


def _or_never(value: Union[int, Never, None], what: str) -> Optional[int]:
    if value is None:
        return None
    return 0 if value is False else _number(value, what, 0, _COUNT_MAX)


def _whole(value: Optional[int], what: str, most: int) -> Optional[int]:
    return None if value is None else _number(value, what, 1, most)


def _number(value: float, what: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} is {value!r}; it may be a whole number from {least} to {most}")
    return value


def _part(value: float, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{what}.at_least is {value!r}; a rate is above 0 and at most 1, as 0.5 for half")
    return float(value)


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
