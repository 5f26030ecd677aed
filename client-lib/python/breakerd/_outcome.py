"""What a call was evidence of."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional, Union

from ._retry_after import seconds

_KIND_CHARS_MAX = 48
_DETAIL_CHARS_MAX = 80


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
CANCELLED = Outcome("abandoned", "cancelled")
"""Not yet decided: hung where the call was timed and waited for too long, else abandoned."""
HUNG = Outcome("failure", "hung")

Classify = Callable[[Any], Optional[Outcome]]


def failure(kind: str, detail: str = "", retry_after: Union[float, str, None] = None) -> Outcome:
    """A failure by the provider's fault. ``retry_after`` is in seconds, or the text of a ``Retry-After`` header; an hour
    is the most that is passed on."""
    return Outcome("failure", str(kind)[:_KIND_CHARS_MAX], str(detail)[:_DETAIL_CHARS_MAX], seconds(retry_after))
