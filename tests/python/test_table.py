"""The table of what counts in the package's README, row by row, with the real libraries against a real socket."""

from __future__ import annotations

import asyncio
import pathlib
import socket
from typing import Any, Callable, Dict, Iterator, List, Tuple

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests
from provider import Provider, anthropic_error, anthropic_start, completions, openai_error
from world import TREE

import breakerd

README = TREE / "client-lib" / "python" / "README.md"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TIMEOUT_S = 0.2

Call = Callable[[str, float], Any]


# -- one call by each library: it returns or raises --


def by_httpx(url: str, timeout: float) -> Any:
    with httpx.Client(timeout=timeout) as client:
        return client.get(url)


def by_httpx_raising(url: str, timeout: float) -> Any:
    with httpx.Client(timeout=timeout) as client:
        return client.get(url).raise_for_status()


def by_requests(url: str, timeout: float) -> Any:
    return requests.get(url, timeout=timeout)


def by_requests_raising(url: str, timeout: float) -> Any:
    answer = requests.get(url, timeout=timeout)
    answer.raise_for_status()
    return answer


def by_aiohttp(url: str, timeout: float) -> Any:
    async def get() -> Any:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout)) as session, session.get(url) as answer:
            await answer.read()
            return answer

    return asyncio.run(get())


def by_aiohttp_raising(url: str, timeout: float) -> Any:
    async def get() -> Any:
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout), raise_for_status=True)
        async with session, session.get(url) as answer:
            return await answer.read()

    return asyncio.run(get())


def by_openai(url: str, timeout: float) -> Any:
    with openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0, timeout=timeout) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES)


def by_anthropic(url: str, timeout: float) -> Any:
    with anthropic.Anthropic(base_url=url, api_key="sk-none", max_retries=0, timeout=timeout) as client:
        return client.messages.create(model="m", max_tokens=5, messages=MESSAGES)


def by_openai_stream(url: str, timeout: float) -> Any:
    with openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0, timeout=timeout) as client:
        return list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))


def by_anthropic_stream(url: str, timeout: float) -> Any:
    with anthropic.Anthropic(base_url=url, api_key="sk-none", max_retries=0, timeout=timeout) as client:
        return list(client.messages.create(model="m", max_tokens=5, messages=MESSAGES, stream=True))


ALL: Tuple[Call, ...] = (
    by_httpx, by_httpx_raising, by_requests, by_requests_raising, by_aiohttp, by_aiohttp_raising, by_openai, by_anthropic,
)


# -- what each row provokes --


class Row:
    """Makes calls and collects what each counted as."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.seen: Dict[str, List[str]] = {}

    def call(self, call: Call, url: str = "", timeout: float = 10, auth_errors: Any = None) -> None:
        self.run(call.__name__, lambda: call(url or self.provider.url, timeout), auth_errors)

    def raises(self, error: BaseException) -> None:
        def throw() -> None:
            raise error

        self.run(type(error).__name__, throw)

    def run(self, what: str, act: Callable[[], Any], auth_errors: Any = None) -> None:
        name = f"row-{auth_errors}"
        with breakerd.fake() as fake:
            try:
                breakerd.breaker(name, auth_errors=auth_errors)(act)()
            except BaseException:  # noqa: B902 (KeyboardInterrupt is one of the rows)
                pass
            outcome = fake.outcomes(name)[-1]
        self.seen.setdefault(f"{outcome.word} {outcome.kind}".strip(), []).append(what)


def returned(row: Row) -> None:
    row.provider.status(200)
    for call in ALL:
        row.call(call)
    row.run("a plain value", lambda: 7)


def statuses(*codes: int) -> Callable[[Row], None]:
    def provoke(row: Row) -> None:
        for code in codes:
            row.provider.status(code)
            for call in ALL:
                row.call(call)

    return provoke


def authentication(row: Row) -> None:
    for code in (401, 403):
        row.provider.status(code)
        for call in ALL:
            row.call(call)
            row.call(call, auth_errors="failure")


def nobody_listens(row: Row) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for call in ALL:
            row.call(call, f"http://127.0.0.1:{taken.getsockname()[1]}")


def closed_before(row: Row) -> None:
    row.provider.gone()
    for call in ALL:
        row.call(call)


def closed_within(row: Row) -> None:
    row.provider.half()
    for call in ALL:
        row.call(call)
    row.provider.stream(completions("a"), then="cut")
    row.call(by_openai_stream)
    row.provider.stream([anthropic_start()], then="cut")
    row.call(by_anthropic_stream)


def tls(row: Row) -> None:
    row.provider.status(200)
    for call in ALL:
        row.call(call, row.provider.url.replace("http:", "https:"))


def timed_out(row: Row) -> None:
    row.provider.silent()
    for call in ALL:
        row.call(call, timeout=TIMEOUT_S)


def openai_stream(kind: str) -> Callable[[Row], None]:
    def provoke(row: Row) -> None:
        row.provider.stream([*completions("a"), openai_error(kind)])
        row.call(by_openai_stream)

    return provoke


def openai_refuses(row: Row) -> None:
    for reason in ("length", "content_filter"):
        message = {"role": "assistant", "content": "{"}
        choice = {"index": 0, "finish_reason": reason, "message": message}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        row.provider.status(200, body=body)

        def parse(url: str, timeout: float) -> Any:
            import pydantic

            answer = pydantic.create_model("Answer", text=(str, ...))
            with openai.OpenAI(base_url=url, api_key="sk-none", max_retries=0, timeout=timeout) as client:
                return client.chat.completions.parse(model="m", messages=MESSAGES, response_format=answer)

        row.call(parse)


def anthropic_stream(kind: str) -> Callable[[Row], None]:
    def provoke(row: Row) -> None:
        row.provider.stream([anthropic_start(), anthropic_error(kind)])
        row.call(by_anthropic_stream)

    return provoke


def raised(*errors: Any) -> Callable[[Row], None]:
    def provoke(row: Row) -> None:
        for error in errors:
            row.raises(error)

    return provoke


def cancelled(row: Row) -> None:
    async def wait(hung_after: str) -> str:
        guard = breakerd.breaker(f"hang-{hung_after}", policy=breakerd.Policy(hung_after=hung_after))
        with breakerd.fake() as fake:

            async def hang() -> None:
                async with guard:
                    await asyncio.sleep(60)

            task = asyncio.ensure_future(hang())
            await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait([task])
            outcome = fake.outcomes(guard.name)[0]
            return f"{outcome.word} {outcome.kind}".strip()

    for hung_after in ("1h", "1ms"):
        row.seen.setdefault(asyncio.run(wait(hung_after)), []).append(f"hung after {hung_after}")
    row.raises(asyncio.CancelledError())
    row.raises(GeneratorExit())


class Unheard(Exception):
    """One that nobody knows."""


HTTP = ["failure http-408", "failure http-429", *(f"failure http-{code}" for code in (500, 502, 503, 504, 529))]
BUGS = (TypeError(), AttributeError(), NameError(), KeyError(), IndexError(), AssertionError(), ImportError())

# By the beginning of a row's first cell: what provokes it, and everything that it may count as.
ROWS: Dict[str, Tuple[Callable[[Row], None], List[str]]] = {
    "it returned": (returned, ["success"]),
    "a response or an error with status 408": (statuses(408, 429, 500, 502, 503, 504, 529), HTTP),
    "a response or an error with status 400": (statuses(400, 404, 409, 413, 422), ["ignored"]),
    "status 401 or 403": (authentication, ["ignored", "failure http-401", "failure http-403"]),
    "nobody listens": (nobody_listens, ["failure connect"]),
    "the connection is closed before": (closed_before, ["failure connect"]),
    "the connection is closed in the middle": (closed_within, ["failure connect"]),
    "TLS cannot be agreed": (tls, ["failure tls"]),
    "the library's own time-out": (timed_out, ["failure timeout"]),
    "openai: an error inside a stream, `server_error`": (openai_stream("server_error"), ["failure http-500"]),
    "openai: an error inside a stream, `rate_limit_exceeded`": (
        openai_stream("rate_limit_exceeded"), ["failure http-429"],
    ),
    "openai: an error inside a stream, `invalid_request_error`": (openai_stream("invalid_request_error"), ["ignored"]),
    "openai: an answer that its `parse`": (openai_refuses, ["ignored"]),
    "anthropic: an error inside a stream, `overloaded_error`": (
        anthropic_stream("overloaded_error"), ["failure http-529"],
    ),
    "anthropic: an error inside a stream, `rate_limit_error`": (
        anthropic_stream("rate_limit_error"), ["failure http-429"],
    ),
    "anthropic: an error inside a stream, `invalid_request_error`": (
        anthropic_stream("invalid_request_error"), ["ignored"],
    ),
    "`CancelledError`, `GeneratorExit`": (cancelled, ["abandoned", "failure hung"]),
    "`KeyboardInterrupt`, `SystemExit`": (raised(KeyboardInterrupt(), SystemExit()), ["abandoned"]),
    "`breakerd.Rejected`": (raised(breakerd.Rejected("other", "open", "open", 1.0)), ["ignored"]),
    "`TypeError`": (raised(*BUGS), ["ignored"]),
    "any other `Exception`": (raised(Unheard(), ValueError()), ["failure Unheard", "failure ValueError"]),
}


def table() -> List[Tuple[str, str]]:
    """The README's rows: what the call did, what it counts as."""
    text = README.read_text().partition("| what the call did | counts as |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return [(first, second) for first, second in cells]


@pytest.fixture
def provider() -> Iterator[Provider]:
    one = Provider()
    yield one
    one.stop()


def test_the_table_and_these_tests_have_the_same_rows() -> None:
    for did, _ in table():
        assert [key for key in ROWS if did.startswith(key)], f"no test for the row {did!r}"
    for key in ROWS:
        assert [did for did, _ in table() if did.startswith(key)], f"no row for the test {key!r}"


@pytest.mark.parametrize("key", ROWS)
def test_a_row(key: str, provider: Provider) -> None:
    provoke, expected = ROWS[key]
    row = Row(provider)
    provoke(row)
    assert sorted(row.seen) == sorted(expected), row.seen
    counts_as = next(second for did, second in table() if did.startswith(key))
    for outcome in expected:
        assert outcome.split()[0] in counts_as, f"{outcome} is not what the table says: {counts_as}"
    for kind in ("connect", "tls", "timeout", "hung", "http-500", "http-529", "http-401"):
        said = f"`{kind}`" in counts_as
        assert said == any(outcome.endswith(kind) for outcome in expected) or "and the status" in counts_as


def test_no_library_is_imported_for_it(tmp_path: pathlib.Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys, breakerd\n"
        "with breakerd.fake():\n"
        "    try:\n"
        "        with breakerd.breaker('x'): raise ConnectionError\n"
        "    except ConnectionError: pass\n"
        "print(sorted({'httpx', 'httpx2', 'requests', 'aiohttp', 'openai', 'anthropic', 'grpc'} & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('breakerd._sdk.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
