"""openai: errors that come inside a stream that began with 200, and answers that the SDK itself refuses."""

from __future__ import annotations

from .._outcome import IGNORED
from .._status import attribute, status_of
from . import Reading

# The provider answered, and the answer is no use to this caller: too short for its schema, or withheld.
_ANSWERED = frozenset(["LengthFinishReasonError", "ContentFilterFinishReasonError"])
# https://platform.openai.com/docs/guides/error-codes: what the body of an error calls itself, as a status.
_OF_WORD = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
}


def read(error: BaseException) -> Reading:
    """A status for an ``APIError`` without one, by its code, else by its type."""
    if type(error).__name__ in _ANSWERED:
        return IGNORED
    if status_of(error) is not None:
        return None
    return _OF_WORD.get(attribute(error, "code") or "") or _OF_WORD.get(attribute(error, "type") or "")
