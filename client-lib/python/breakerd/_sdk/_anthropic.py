"""anthropic: an error inside a stream is an ``APIStatusError`` with the 200 that the stream began with."""

from __future__ import annotations

from typing import Any, Mapping

from .._status import attribute, status_of
from . import Reading

# https://docs.anthropic.com/en/api/errors
_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def read(error: BaseException) -> Reading:
    """The status that the error's type stands for, where the one that it carries is a success."""
    status = status_of(error)
    if status is None or status >= 400:
        return None
    body: Any = attribute(error, "body")
    inner = body.get("error") if isinstance(body, Mapping) else None
    kind = inner.get("type") if isinstance(inner, Mapping) else None
    return _OF_TYPE.get(kind) if isinstance(kind, str) else None
