"""When a provider wishes to be asked again, in each of the four forms that providers use.

``Retry-After`` in seconds and as a date (RFC 9110, 10.2.3); ``retry-after-ms`` (OpenAI, Azure); ``grpc-retry-pushback-ms``
(gRPC's A6, where a negative number means "not at all" and so names no time). Of several the latest deadline wins.
"""

from __future__ import annotations

import datetime
import email.utils
import math
from typing import Any, Callable, Iterable, Mapping, Optional, Union

from ._status import attribute

RETRY_AFTER_MAX_S = 3600.0
"""The longest wish that is passed on, in seconds; the daemon obeys no longer one."""

_IN_MS = ("retry-after-ms", "grpc-retry-pushback-ms")


def seconds(wish: Union[float, str, None]) -> Optional[float]:
    """A wish as seconds from now, an hour at most; ``None`` where it names no time to come."""
    if wish is None or isinstance(wish, bool):
        return None
    try:
        found = float(wish)
    except (TypeError, ValueError):
        found = _until(str(wish))
    return min(found, RETRY_AFTER_MAX_S) if found > 0 else None  # NaN is not above zero


def of_carrier(carrier: Any) -> Optional[float]:
    """The wish that an exception or a response carries in its headers, or a gRPC error in its trailing metadata."""
    found = [_of_headers(headers) for headers in _headers(carrier)]
    return max((wish for wish in found if wish is not None), default=None)


def _of_headers(get: Callable[[str], Any]) -> Optional[float]:
    wishes = [seconds(get("retry-after"))]
    for name in _IN_MS:
        ms = _number(get(name))
        wishes.append(None if ms is None else seconds(ms / 1000))
    return max((wish for wish in wishes if wish is not None), default=None)


def _headers(carrier: Any) -> Iterable[Callable[[str], Any]]:
    response = attribute(carrier, "response")
    if isinstance(response, Mapping):  # botocore's ClientError
        metadata = response.get("ResponseMetadata")
        inner = metadata.get("HTTPHeaders") if isinstance(metadata, Mapping) else None
        yield from _getter(inner)
        return
    yield from _getter(attribute(carrier, "headers"))
    yield from _getter(attribute(response, "headers"))
    trailing = attribute(carrier, "trailing_metadata")
    if callable(trailing):
        yield from _getter(_pairs(trailing))


def _getter(headers: Any) -> Iterable[Callable[[str], Any]]:
    get = attribute(headers, "get")
    if not callable(get):
        return

    def look(name: str) -> Any:
        # A plain dict knows nothing of case; a headers object may raise whatever it likes.
        try:
            return get(name) or get(name.title())
        except Exception:
            return None

    yield look


def _pairs(trailing: Callable[[], Any]) -> Any:
    try:
        return {str(key).lower(): value for key, value in trailing() or ()}
    except Exception:
        return None


def _number(value: Any) -> Optional[float]:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _until(date: str) -> float:
    try:
        then = email.utils.parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return math.nan
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.timezone.utc)
    return (then - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
