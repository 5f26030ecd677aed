"""Classification: from what a call did to what it says of the provider.

The worker's own part. The program's own function comes first, then what is known of single SDKs (``_sdk``), then what an
exception or a response carries: a status, a response, a class of a telling name. No library is imported for it.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Optional, Tuple

from . import _sdk
from ._outcome import ABANDONED, CANCELLED, IGNORED, SUCCESS, Classify, Outcome, failure
from ._retry_after import of_carrier
from ._status import code_of, root, status_of
from ._warn import Once

_CAUSES_MAX = 8
_TOO_MANY = 429
_LIMITED_KINDS = ("http-429", "rate-limited")

# The caller's bugs: they say nothing of a provider, and a person should hear of them.
_BUGS = (TypeError, AttributeError, NameError, LookupError, AssertionError, ImportError)
_CONTROL = (StopIteration, StopAsyncIteration)
# Names, since a class of this name is a time-out in every SDK, and importing an SDK to compare would cost its import.
_TIMEOUTS = frozenset(
    "TimeoutError Timeout TimeoutException APITimeoutError ReadTimeout ConnectTimeout WriteTimeout PoolTimeout "
    "ServerTimeoutError DeadlineExceeded ReadTimeoutError ConnectTimeoutError".split()
)
_CONNECTIONS = frozenset(
    "ConnectionError APIConnectionError ConnectError ReadError WriteError NetworkError RemoteProtocolError ProxyError "
    "ClientConnectionError ClientPayloadError ChunkedEncodingError ServerDisconnectedError EndpointConnectionError "
    "ProtocolError IncompleteRead gaierror herror ServiceUnavailable".split()
)
_TLS = frozenset("SSLError CertificateError ClientSSLError".split())
# Whose responses are judged by their status when a guarded function returns one.
_RESPONSE_MODULES = frozenset(
    "httpx httpx2 requests aiohttp urllib3 http niquests curl_cffi openai anthropic".split()
)


class Rules:
    """How one guard classifies: the program's own function first, the defaults for what it leaves open."""

    __slots__ = ("_auth_errors", "_breaker", "_classify", "_once")

    def __init__(
        self, breaker: str, classify: Optional[Classify], auth_errors: Callable[[], Optional[str]], once: Once
    ) -> None:
        self._breaker = breaker
        self._classify = classify
        self._auth_errors = auth_errors
        self._once = once

    def of_result(self, result: Any, is_probe: bool = False) -> Outcome:
        """What a returned value says; a response of a known type is judged by its status, all else is a success."""
        own = self._own(result, is_probe)
        if own is not None:
            return own
        if root(type(result)) in _RESPONSE_MODULES:
            return self._of_response(result)
        return SUCCESS

    def is_plain(self, result: type) -> bool:
        """Whether every result of this type is a success, whatever it holds."""
        return self._classify is None and root(result) not in _RESPONSE_MODULES

    def of_response(self, response: Any, is_probe: bool = False) -> Outcome:
        """What a response says, whatever its type, so long as it has a status."""
        return self._own(response, is_probe) or self._of_response(response)

    def of_exception(self, error: BaseException, is_probe: bool = False) -> Outcome:
        """What an exception says. ``CANCELLED`` is not yet decided: it depends on how long the call was out."""
        own = self._own(error, is_probe)
        if own is not None:
            return own
        nested = getattr(error, "exceptions", None)
        if isinstance(nested, tuple) and nested and all(isinstance(one, BaseException) for one in nested):
            return self._of_group(nested)
        if isinstance(error, Exception):
            return self._of_error(error)
        if _is_cancel(error) or isinstance(error, GeneratorExit):
            return CANCELLED
        # gevent's time-out is no Exception, and a time-out all the same.
        if type(error).__name__ == "Timeout" and root(type(error)) == "gevent":
            return failure("timeout", "gevent.Timeout")
        return ABANDONED

    def _own(self, subject: Any, is_probe: bool) -> Optional[Outcome]:
        """What the program's own function says."""
        if self._classify is None:
            return None
        try:
            outcome = self._classify(subject)
        except Exception as error:
            self._once.warn("classify", "%s: classify raised %r; the defaults decide", self._breaker, error)
            return None
        if isinstance(outcome, Outcome):
            return self._of_probe(outcome, subject) if is_probe else outcome
        if outcome is not None:
            self._once.warn(
                "classify", "%s: classify returned %r; it may be a breakerd.Outcome or None",
                self._breaker, type(outcome),
            )
        return None

    def _of_probe(self, outcome: Outcome, subject: Any) -> Outcome:
        """A provider that still answers 429 has not recovered, whatever else the call counts as."""
        outcome = of_probe(outcome)
        if outcome.word == "failure" or _status_meant(subject) != _TOO_MANY:
            return outcome
        return self._of_status(_TOO_MANY, subject, code_of(subject))

    def _of_group(self, nested: Tuple[BaseException, ...]) -> Outcome:
        outcomes = [self.of_exception(one) for one in nested]
        for word in ("failure", "ignored", "abandoned"):
            for outcome in outcomes:
                if outcome.word == word:
                    return outcome
        return SUCCESS

    def _of_error(self, error: Exception) -> Outcome:
        if _is_cancel(error):
            return CANCELLED
        if isinstance(error, _CONTROL) or _is_rejection(error):
            return IGNORED
        reading = _sdk.read(error)
        if isinstance(reading, Outcome):
            return reading
        status = reading or status_of(error)
        if status is not None and status >= 400:
            return self._of_status(status, error, code_of(error))
        names = {base.__name__ for base in type(error).__mro__}
        name = type(error).__name__
        if names & _TIMEOUTS:
            return failure("timeout", name)
        if names & _TLS:
            return failure("tls", name)
        if names & _CONNECTIONS:
            return failure("tls" if _is_of_tls(error) else "connect", name)
        if isinstance(error, _BUGS):
            self._once.warn(
                f"bug {name}",
                "%s: a guarded call raised %s, which is taken for the caller's own bug and not counted; "
                "classify= decides otherwise", self._breaker, name,
            )
            return IGNORED
        return failure(name)

    def _of_response(self, response: Any) -> Outcome:
        status = status_of(response)
        if status is None or status < 400:
            return SUCCESS
        return self._of_status(status, response, "")

    def _of_status(self, status: int, carrier: Any, code: str) -> Outcome:
        if status in (401, 403) and self._auth_errors() != "failure":
            self._once.warn(
                "auth",
                "%s: the provider answered %d, which is not counted, since one caller's bad key must not shut a "
                'provider for all; where one key serves all, say auth_errors="failure"', self._breaker, status,
            )
            return IGNORED
        if status in (401, 403, 408, _TOO_MANY) or status >= 500:
            detail = f"{status} {code}" if code else ""
            return failure(f"http-{status}", detail, of_carrier(carrier))
        return IGNORED


def of_probe(outcome: Outcome) -> Outcome:
    """What a probe is settled by: one that met a limit has failed."""
    if outcome.word == "failure" or outcome.kind not in _LIMITED_KINDS:
        return outcome
    return failure(outcome.kind, outcome.detail, outcome.retry_after)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from, the nearest first, at most eight of them."""
    one: Optional[BaseException] = error
    for _ in range(_CAUSES_MAX):
        if one is None:
            return
        yield one
        one = one.__cause__


def _status_meant(subject: Any) -> Optional[int]:
    reading = _sdk.read(subject) if isinstance(subject, BaseException) else None
    return reading if isinstance(reading, int) else status_of(subject)


def _is_of_tls(error: BaseException) -> bool:
    """httpx and what stands on it raise a connection's error while they handle the TLS error."""
    one: Optional[BaseException] = error
    for _ in range(_CAUSES_MAX):
        if one is None:
            return False
        if any(base.__name__ in _TLS for base in type(one).__mro__):
            return True
        one = one.__cause__ or one.__context__
    return False


def _is_cancel(error: BaseException) -> bool:
    return any(base.__name__ in ("CancelledError", "Cancelled") for base in type(error).__mro__)


def _is_rejection(error: BaseException) -> bool:
    from . import Denied, Rejected  # they stand there, so that a pickle names a public place

    return isinstance(error, (Rejected, Denied))
