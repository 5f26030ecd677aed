"""The fixture ``breakerd_fake``, which pytest finds by itself where this package is installed."""

from __future__ import annotations

from typing import Iterator

import pytest

from ._fake import Fake, fake


@pytest.fixture
def breakerd_fake() -> Iterator[Fake]:
    """A fake in the daemon's place for one test: ``breakerd_fake.set("openai", "open")``."""
    with fake() as one:
        yield one
