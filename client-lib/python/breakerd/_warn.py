"""What people should know, told once a cause by the logger ``breakerd`` and never by an exception or a warning that a
program may have turned into one."""

from __future__ import annotations

import logging
from typing import Set

logger = logging.getLogger("breakerd")


class Once:
    """Tells each cause once."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: Set[str] = set()

    def warn(self, cause: str, message: str, *args: object) -> None:
        """Warns, unless this cause was told before."""
        if cause not in self._told:
            self._told.add(cause)
            logger.warning(message, *args)
