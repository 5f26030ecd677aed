"""grpc: its codes as statuses, as google.rpc.Code maps them."""

from __future__ import annotations

from .._outcome import CANCELLED
from .._status import attribute
from . import Reading

_OF_CODE = {
    "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404, "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429, "FAILED_PRECONDITION": 400, "ABORTED": 409,
    "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401, "UNKNOWN": 500,
}  # fmt: skip


def read(error: BaseException) -> Reading:
    """The status that an error's code stands for; its own caller's cancelling says nothing."""
    code = attribute(error, "code")
    try:
        name = str(attribute(code(), "name")) if callable(code) else ""
    except Exception:
        return None
    return CANCELLED if name == "CANCELLED" else _OF_CODE.get(name)
