"""The guard: one object for a breaker, as a decorator, a block, or two steps."""

from __future__ import annotations

import dataclasses
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Type, TypeVar

from . import _backend, _breakerd, _decorate
from ._backend import LastFailure, Sight
from ._classify import Rules
from ._lane import Lane, lane
from ._outcome import Classify
from ._permit import Permit
from ._policy import AuthErrors, Policy

F = TypeVar("F", bound=Callable[..., Any])

_NAME_BYTES_MAX = 128
_NAME_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-")


def _exit(
    guard: Guard, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
) -> None:
    guard._lane.leave(error)


async def _exit_async(
    guard: Guard, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
) -> None:
    guard._lane.leave(error, timed=True)


class Guard(_breakerd.Guard):
    """Guards calls to one dependency. Made by :func:`breakerd.breaker`, at import time, before a fork, without a
    daemon: it connects at the first call. One object for all threads and tasks."""

    __slots__ = ("__weakref__",)

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self._lane.name

    # -- as a decorator --

    def __call__(self, function: F) -> F:
        """Guards a function: ``def``, ``async def``, a generator or an async generator, or a method. What it returns
        is of the same kind and keeps the signature."""
        return _decorate.guarded(self._lane, self._rules, function)

    # -- as a block: the entries and `admit` are the base's --

    if TYPE_CHECKING:
        __exit__ = _exit
        __aexit__ = _exit_async
    else:
        __exit__ = _breakerd.Exit(_exit, False)
        __aexit__ = _breakerd.Exit(_exit_async, True)

    # -- in two steps --

    async def admit_async(self) -> Permit:
        """The same, awaited on the running loop."""
        return await self._lane.admit_async(self._rules)

    # -- to look at --

    def observe(self) -> Sight:
        """What this worker sees, all at one moment; the properties below are parts of it. A slow daemon gets 250 ms."""
        return _backend.current().observe(self._lane)

    async def observe_async(self) -> Sight:
        """The same, awaited on the running loop."""
        return await _backend.current().observe_async(self._lane)

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self.observe().state

    @property
    def failures(self) -> int:
        """This worker's failures: while closed, the run that it is in; from a trip until the breaker closes again,
        that run and every later failure of its calls in flight."""
        return self.observe().failures

    @property
    def last_failure(self) -> Optional[LastFailure]:
        """This worker's last failure, if it had one."""
        return self.observe().last_failure

    def reset(self, because: str) -> None:
        """Changes the breaker to closed, everywhere. Raises ``breakerd.Denied`` where the account lacks the right and
        ``breakerd.NoAnswer`` where the daemon does not answer; without a daemon it resets this process's own breaker.
        """
        _backend.current().reset(self._lane, because)

    async def reset_async(self, because: str) -> None:
        """The same, awaited on the running loop."""
        await _backend.current().reset_async(self._lane, because)

    def __repr__(self) -> str:
        return f"<breakerd.Guard {self.name}>"


def parse_name(name: str) -> str:
    """Checks a name: 1 to 128 bytes of ``A-Za-z0-9._:/@+-``. Raises ``ValueError`` with the rule."""
    rule = f"a name is 1 to {_NAME_BYTES_MAX} bytes of A-Z a-z 0-9 . _ : / @ + -"
    if not isinstance(name, str):
        raise TypeError(f"the breaker name is {name!r}; {rule}")
    if not name:
        raise ValueError(f"the breaker name is empty; {rule}")
    for at, char in enumerate(name):
        if char not in _NAME_ALPHABET:
            raise ValueError(f"the breaker name has {char!r} at byte {len(name[:at].encode())}; {rule}")
    if len(name) > _NAME_BYTES_MAX:
        raise ValueError(f"the breaker name has {len(name)} bytes; {rule}")
    return name


def breaker(
    name: str,
    *,
    policy: Optional[Policy] = None,
    classify: Optional[Classify] = None,
    auth_errors: Optional[AuthErrors] = None,
) -> Guard:
    """The guard of a breaker.

    :param name: 1 to 128 bytes of ``A-Za-z0-9._:/@+-``. One name, one fate: put into it what fails together, never
        user input.
    :param policy: stands below the daemon's configuration for this name and above its default.
    :param classify: gets what a call returned or raised and answers a ``breakerd.Outcome``, or ``None`` to leave it to
        the defaults.
    :param auth_errors: short for the policy's own field: ``"failure"`` where one key serves all; by default 401 and 403
        are ignored, since one tenant's bad key must not shut a provider for all.
    """
    found = lane(parse_name(name), _with_auth_errors(policy, auth_errors))
    return Guard(found, Rules(name, classify, found.auth_errors, found.once))


def _with_auth_errors(policy: Optional[Policy], auth_errors: Optional[AuthErrors]) -> Optional[Policy]:
    if auth_errors is None:
        return policy
    if policy is not None and policy.auth_errors not in (None, auth_errors):
        raise ValueError(f"auth_errors is {auth_errors!r} here and {policy.auth_errors!r} in the policy; say it once")
    return dataclasses.replace(policy or Policy(), auth_errors=auth_errors)
