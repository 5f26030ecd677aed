"""Celery tasks under a guard, over the Redis that ``CELERY_REDIS`` names."""

from __future__ import annotations

import asyncio
import os
from typing import Tuple

from celery import Celery

import breakerd

GUARD = breakerd.breaker("openai")

REDIS = os.environ["CELERY_REDIS"]
app = Celery("tasks", broker=REDIS, backend=REDIS)
app.conf.update(
    worker_prefetch_multiplier=1, worker_send_task_events=False, task_acks_late=True, result_extended=False,
    broker_connection_retry_on_startup=True,
)


@app.task(throws=(ConnectionError, breakerd.Rejected))
@GUARD
def call(works: bool) -> int:
    """One guarded call."""
    if not works:
        raise ConnectionError("no")
    return os.getpid()


@app.task
def look() -> Tuple[int, str, int]:
    """What this process sees."""
    seen = GUARD.observe()
    return os.getpid(), seen.state, seen.failures


@app.task
def look_in_a_loop() -> Tuple[int, str]:
    """What a loop in this process sees."""

    async def ask() -> str:
        try:
            async with GUARD:
                return "admitted"
        except breakerd.Rejected as no:
            return no.state

    return os.getpid(), asyncio.run(ask())
