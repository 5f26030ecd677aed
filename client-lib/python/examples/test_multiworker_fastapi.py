"""A FastAPI service whose workers share their circuit breakers.

    breakerd run -- uvicorn test_multiworker_fastapi:app --workers 4

Each worker is a process of its own. Three providers, asked in the order of their priority; the real ``openai`` package
against a small local server (``provider_401.py``), or the one that ``PROVIDER_URL`` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any, AsyncIterator, Dict, List, Optional

import openai
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from provider_401 import GOOD_KEY, Provider
from pydantic import BaseModel

import breakerd

STARTED = time.monotonic()
# In the order of their priority.
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-3-5-haiku", "vertexai": "gemini-2.0-flash"}
THRESHOLD = 3
CALLS = 5

# One key serves all users here, so a 401 means that nobody's call will work.
GUARDS = {
    name: breakerd.breaker(name, policy=breakerd.Policy(consecutive_failures=THRESHOLD), auth_errors="failure")
    for name in MODELS
}
good: openai.AsyncOpenAI
bad: openai.AsyncOpenAI


class Chat(BaseModel):
    """What ``POST /chat`` takes."""

    message: str
    provider: Optional[str] = None


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Starts the local provider, unless there is one, and shows every breaker."""
    global good, bad
    print(f"Worker {os.getpid()} starting up...", flush=True)
    async with contextlib.AsyncExitStack() as stack:
        url = os.environ.get("PROVIDER_URL")
        if url is None:
            server, url = await Provider().serve()
            stack.callback(server.close)
        # The package's own retries are off: a breaker should see each call, and a retry is another call.
        good = await stack.enter_async_context(openai.AsyncOpenAI(api_key=GOOD_KEY, base_url=url, max_retries=0))
        bad = await stack.enter_async_context(openai.AsyncOpenAI(api_key="sk-invalid", base_url=url, max_retries=0))
        table = "".join(
            f"  {name:<10} - State: {word(seen.state):<10} Failures: {seen.failures}\n"
            for name, seen in [(name, await guard.observe_async()) for name, guard in GUARDS.items()]
        )
        # One write, since the workers share an output.
        print(f"Worker {os.getpid()} ready: {await breakerd.health_async()}\n{table}", end="", flush=True)
        yield


app = FastAPI(title="Four workers, one breaker", lifespan=lifespan)


@app.get("/")
async def index() -> Dict[str, Any]:
    """The endpoints."""
    return {
        "worker_id": os.getpid(),
        "endpoints": {
            "GET /status": "every breaker as this worker sees it",
            "POST /trigger-failure/{provider}": f"{CALLS} calls that fail for real",
            "POST /reset/{provider}": "resets the breaker, everywhere",
            "POST /chat": "asks the first admitted provider",
            "GET /health": "is this worker alive",
        },
    }


@app.get("/health")
async def health() -> Dict[str, Any]:
    """Is this worker alive."""
    return {"status": "healthy", "worker_id": os.getpid(), "uptime": uptime()}


@app.get("/status")
async def status() -> Dict[str, Any]:
    """Every breaker as this worker sees it."""
    stand = await breakerd.health_async()
    return {
        "worker_id": str(os.getpid()),
        "providers": [await shown(name, priority) for priority, name in enumerate(GUARDS, 1)],
        "uptime": uptime(),
        "sync_enabled": stand.is_joined,
        "sync_backend": "breakerd",
        "health": str(stand),
    }


@app.post("/trigger-failure/{provider}")
async def trigger_failure(provider: str) -> Dict[str, Any]:
    """Five calls with an invalid key, in flight together. Those that come back after the trip are still this worker's
    failures, though they change the state no more."""
    guard = known(provider)
    permits: List[breakerd.Permit] = []
    with contextlib.suppress(breakerd.Rejected):
        for _ in range(CALLS):
            permits.append(await guard.admit_async())
    failed = sum(await asyncio.gather(*(call_with_invalid_key(provider, permit) for permit in permits)))
    seen = word((await guard.observe_async()).state)
    return {
        "worker_id": os.getpid(),
        "provider": provider,
        "failures_triggered": failed,
        "threshold": THRESHOLD,
        "circuit_breaker_state": seen,
        "message": f"{failed} of {CALLS} calls to {provider} failed in worker {os.getpid()}; its breaker is {seen}",
    }


async def call_with_invalid_key(provider: str, permit: breakerd.Permit) -> bool:
    """One call; true if it failed as it should."""
    try:
        await bad.chat.completions.create(model=MODELS[provider], messages=[{"role": "user", "content": "ping"}])
    except openai.APIStatusError as error:
        permit.fail(f"http-{error.status_code}", detail=f"{error.status_code} {error.code or ''}".strip())
        return True
    except openai.APIError as error:
        permit.fail("connect", detail=type(error).__name__)
        return True
    permit.success()
    return False


@app.post("/reset/{provider}")
async def reset(provider: str) -> Any:
    """Resets the breaker, everywhere."""
    guard = known(provider)
    try:
        await guard.reset_async(because=f"POST /reset/{provider}")
    except breakerd.Denied as no:
        raise HTTPException(403, str(no)) from no
    except breakerd.ResetRefused as no:
        raise HTTPException(503, str(no)) from no
    return {
        "worker_id": os.getpid(),
        "provider": provider,
        "circuit_breaker_state": word((await guard.observe_async()).state),
        "message": f"the breaker of {provider} was reset for every worker",
    }


@app.post("/chat")
async def chat(ask: Chat) -> Any:
    """Asks the first admitted provider; 503 with Retry-After when none is."""
    names = list(GUARDS) if ask.provider is None else [ask.provider]
    guards = [known(name) for name in names]
    try:
        async with breakerd.first_admitted(*guards) as permit:
            completion = await good.chat.completions.create(
                model=MODELS[permit.name], messages=[{"role": "user", "content": ask.message}]
            )
    except breakerd.Rejected as no:
        return JSONResponse({"detail": str(no), "worker_id": os.getpid()}, status_code=503, headers=no.http_headers())
    except openai.APIError as error:
        raise HTTPException(502, f"{type(error).__name__} from {permit.name}") from error
    return {
        "response": completion.choices[0].message.content,
        "provider_used": permit.name,
        "worker_id": os.getpid(),
        "circuit_breaker_state": {
            name: {"state": word(seen.state), "failure_count": seen.failures}
            for name, seen in [(name, await guard.observe_async()) for name, guard in GUARDS.items()]
        },
    }


def known(provider: str) -> breakerd.Guard:
    """The provider's guard, or 404 with the known ones named."""
    if provider not in GUARDS:
        raise HTTPException(404, f"unknown provider {provider!r}; known are {', '.join(GUARDS)}")
    return GUARDS[provider]


def word(state: str) -> str:
    """The state in the words of this service's API."""
    return state.replace("-", "_")


async def shown(name: str, priority: int) -> Dict[str, Any]:
    """One provider in ``/status``."""
    seen = await GUARDS[name].observe_async()
    return {
        "name": name,
        "model": MODELS[name],
        "priority": priority,
        "circuit_breaker": {
            "state": word(seen.state),
            "failure_count": seen.failures,
            "last_failure": seen.last_failure and seen.last_failure.at.isoformat(),
        },
    }


def uptime() -> float:
    """Seconds since this worker started."""
    return round(time.monotonic() - STARTED, 3)
