"""Classification: from what a call did to what it says of the provider.

The worker's own part. What counts by default: connections, TLS, time-outs, and the statuses 408, 429 and 5xx fail;
other 4xx are the caller's own fault and no evidence; what cancels a call says nothing at all. SDKs are known by what
their exceptions carry (a status, a response, headers), so none of them is imported here.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
from typing import Any, Callable, Iterator, Mapping, Optional, Tuple, Union

from ._warn import Once

RETRY_AFTER_MAX_S = 3600.0
"""Longest wish of a provider that is passed on, in seconds; the daemon obeys no longer one."""

_KIND_CHARS_MAX = 48
_DETAIL_CHARS_MAX = 80
_CAUSES_MAX = 8

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
    "ClientConnectionError ServerDisconnectedError EndpointConnectionError ProtocolError gaierror herror "
    "ServiceUnavailable".split()
)
_TLS = frozenset("SSLError CertificateError ClientSSLError".split())
# Whose responses are judged by their status when a guarded function returns one.
_RESPONSE_MODULES = frozenset(
    "httpx httpx2 requests aiohttp urllib3 http niquests curl_cffi openai anthropic".split()
)
_GRPC_STATUS = {
    "CANCELLED": 499, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404, "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400, "ABORTED": 409,
    "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401, "UNKNOWN": 500,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What settles a permit. Made by :func:`failure` or taken from ``SUCCESS``, ``IGNORED``, ``ABANDONED``."""

    word: str
    """``success``, ``failure``, ``ignored`` (no evidence) or ``abandoned`` (dropped without a word)."""
    kind: str = ""
    """What failed: ``http-503``, ``timeout``, a class name. At most 48 characters."""
    detail: str = ""
    """A status and an error code, never a body, a prompt or a key. At most 80 characters."""
    retry_after: Optional[float] = None
    """The provider's own wish, in seconds from the failure."""


SUCCESS = Outcome("success")
IGNORED = Outcome("ignored")
ABANDONED = Outcome("abandoned")

Classify = Callable[[Any], Optional[Outcome]]


def failure(kind: str, detail: str = "", retry_after: Union[float, str, None] = None) -> Outcome:
    """A failure by the provider's fault. ``retry_after`` is in seconds, or the text of a ``Retry-After`` header."""
    wish = _seconds(retry_after)
    wish = None if wish is None else min(wish, RETRY_AFTER_MAX_S)
    return Outcome("failure", str(kind)[:_KIND_CHARS_MAX], str(detail)[:_DETAIL_CHARS_MAX], wish)


class Rules:
    """How one guard classifies: the program's own function first, the defaults for what it leaves open."""

    __slots__ = ("_auth_fails", "_breaker", "_classify", "_once")

    def __init__(self, breaker: str, classify: Optional[Classify], auth_errors: str, once: Once) -> None:
        if auth_errors not in ("ignored", "failure"):
            raise ValueError(f"auth_errors is {auth_errors!r}; it may be 'ignored' or 'failure'")
        self._breaker = breaker
        self._classify = classify
        self._auth_fails = auth_errors == "failure"
        self._once = once

    def of_result(self, result: Any) -> Outcome:
        """What a returned value says; a response of a known type is judged by its status, all else is a success."""
        own = self._own(result)
        if own is not None:
            return own
        if _root(type(result)) in _RESPONSE_MODULES:
            return self._of_response(result)
        return SUCCESS

    def of_response(self, response: Any) -> Outcome:
        """What a response says, whatever its type, so long as it has a status."""
        return self._own(response) or self._of_response(response)

    def of_exception(self, error: BaseException) -> Outcome:
        """What an exception says."""
        own = self._own(error)
        if own is not None:
            return own
        nested = getattr(error, "exceptions", None)
        if isinstance(nested, tuple) and nested and all(isinstance(one, BaseException) for one in nested):
            return self._of_group(nested)
        if not isinstance(error, Exception):
            # gevent's time-out is no Exception, and a time-out all the same.
            if type(error).__name__ == "Timeout" and _root(type(error)) == "gevent":
                return failure("timeout", "gevent.Timeout")
            return ABANDONED
        return self._of_error(error)

    def _own(self, subject: Any) -> Optional[Outcome]:
        if self._classify is None:
            return None
        try:
            outcome = self._classify(subject)
        except Exception as error:
            self._once.warn("classify", "%s: classify raised %r; the defaults decide", self._breaker, error)
            return None
        if outcome is None or isinstance(outcome, Outcome):
            return outcome
        self._once.warn(
            "classify", "%s: classify returned %r; it may be a breakerd.Outcome or None", self._breaker, type(outcome)
        )
        return None

    def _of_group(self, nested: Tuple[BaseException, ...]) -> Outcome:
        outcomes = [self.of_exception(one) for one in nested]
        for word in ("failure", "ignored", "abandoned"):
            for outcome in outcomes:
                if outcome.word == word:
                    return outcome
        return SUCCESS

    def _of_error(self, error: Exception) -> Outcome:
        if _is_cancel(error):
            return ABANDONED
        if isinstance(error, _CONTROL) or _is_rejection(error):
            return IGNORED
        status = _status(error)
        if status is not None and status >= 400:
            return self._of_status(status, error, _error_code(error))
        names = {base.__name__ for base in type(error).__mro__}
        name = type(error).__name__
        if names & _TIMEOUTS:
            return failure("timeout", name)
        if names & _TLS:
            return failure("tls", name)
        if names & _CONNECTIONS:
            return failure("connect", name)
        if isinstance(error, _BUGS):
            self._once.warn(
                f"bug {name}",
                "%s: a guarded call raised %s, which is taken for the caller's own bug and not counted; "
                "classify= decides otherwise", self._breaker, name,
            )
            return IGNORED
        return failure(name)

    def _of_response(self, response: Any) -> Outcome:
        status = _status(response)
        if status is None or status < 400:
            return SUCCESS
        return self._of_status(status, response, "")

    def _of_status(self, status: int, carrier: Any, code: str) -> Outcome:
        if status in (401, 403) and not self._auth_fails:
            self._once.warn(
                "auth",
                "%s: the provider answered %d, which is not counted, since one caller's bad key must not shut a "
                'provider for all; where one key serves all, say auth_errors="failure"', self._breaker, status,
            )
            return IGNORED
        if status in (401, 403, 408, 429) or status >= 500:
            detail = f"{status} {code}" if code else ""
            return failure(f"http-{status}", detail, _retry_after(carrier))
        return IGNORED


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from, the nearest first, at most eight of them."""
    one: Optional[BaseException] = error
    for _ in range(_CAUSES_MAX):
        if one is None:
            return
        yield one
        one = one.__cause__


def _is_cancel(error: BaseException) -> bool:
    return any(base.__name__ in ("CancelledError", "Cancelled") for base in type(error).__mro__)


def _is_rejection(error: BaseException) -> bool:
    from . import Denied, Rejected  # they stand there, so that a pickle names a public place

    return isinstance(error, (Rejected, Denied))


def _root(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _attribute(subject: Any, name: str) -> Any:
    # An SDK's property may raise whatever it likes.
    try:
        return getattr(subject, name, None)
    except Exception:
        return None


def _status(subject: Any) -> Optional[int]:
    """The HTTP status that an exception or a response carries: as its own, or as its response's."""
    response = _attribute(subject, "response")
    if isinstance(response, Mapping):  # botocore's ClientError
        metadata = response.get("ResponseMetadata")
        found = metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
        return found if isinstance(found, int) else None
    for carrier in (subject, response):
        for name in ("status_code", "status", "http_status", "code"):
            value = _attribute(carrier, name)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= int(value) <= 599:
                return int(value)
            if name == "code" and callable(value) and _root(type(subject)) == "grpc":
                return _grpc_status(value)
    return None


def _grpc_status(code: Callable[[], Any]) -> Optional[int]:
    try:
        return _GRPC_STATUS.get(str(_attribute(code(), "name")))
    except Exception:
        return None


def _error_code(error: Exception) -> str:
    """The provider's own word for the error, such as ``invalid_api_key``, where it is one word and no sentence."""
    for name in ("code", "type"):
        value = _attribute(error, name)
        if isinstance(value, str) and value.isascii() and value.replace("_", "").replace("-", "").isalnum():
            return value
    response = _attribute(error, "response")
    if isinstance(response, Mapping):
        inner = response.get("Error")
        code = inner.get("Code") if isinstance(inner, Mapping) else None
        return code if isinstance(code, str) else ""
    return ""


def _retry_after(carrier: Any) -> Optional[float]:
    """The provider's wish in seconds, from ``retry-after-ms`` or ``Retry-After`` (RFC 9110: seconds or a date)."""
    headers = _attribute(carrier, "headers")
    if headers is None:
        headers = _attribute(_attribute(carrier, "response"), "headers")
    get = _attribute(headers, "get")
    if not callable(get):
        return None
    try:
        ms = get("retry-after-ms") or get("Retry-After-Ms") or get("grpc-retry-pushback-ms")
        if ms is not None:
            wish = _seconds(ms)
            return None if wish is None else wish / 1000
        return _seconds(get("retry-after") or get("Retry-After"))
    except Exception:
        return None


def _seconds(value: Union[float, str, None]) -> Optional[float]:
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            date = email.utils.parsedate_to_datetime(str(value))
        except (TypeError, ValueError):
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.timezone.utc)
        seconds = (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    if not seconds > 0:  # zero, below it, and NaN
        return None
    return seconds
