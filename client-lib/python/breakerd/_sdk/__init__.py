"""What single SDKs say in ways of their own: a module for each, imported when the first error of that SDK is judged.

A module has ``read(error)``, which gives a status (the one that the SDK's provider means by the error), ``IGNORED``, or
``None`` for what is judged like any other library's error. No module imports its SDK: by the time there is an error of
it, it is there.
"""

from __future__ import annotations

import importlib
from typing import Optional, Union

from .._outcome import Outcome
from .._status import root

Reading = Union[int, Outcome, None]

_MODULES = {"openai": "_openai", "anthropic": "_anthropic", "grpc": "_grpc"}


def read(error: BaseException) -> Reading:
    """What the SDK that this error comes from means by it."""
    found: Optional[str] = None
    for base in type(error).__mro__:
        found = found or _MODULES.get(root(base))
    if found is None:
        return None
    reading: Reading = importlib.import_module(f"{__name__}.{found}").read(error)
    return reading
