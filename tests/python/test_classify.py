"""The table of what counts, by the SDKs' real exceptions where they are installed and by their shape where not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import email.utils
import io
import json
import logging
import socket
import ssl
import sys
import urllib.error
from email.message import Message
from typing import Any, Optional

import gevent
import httpx
import openai
import pytest

import breakerd
from breakerd._classify import Rules
from breakerd._warn import Once

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1")


def rules(auth_errors: str = "ignored", classify: Any = None) -> Rules:
    return Rules("openai", classify, lambda: auth_errors, Once())


def of(error: BaseException, **options: Any) -> str:
    outcome = rules(**options).of_exception(error)
    return f"{outcome.word} {outcome.kind}".strip()


def response(status: int, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, request=REQUEST, headers=named)


def by_openai(status: int, code: Optional[str] = None) -> openai.APIStatusError:
    kinds = {400: openai.BadRequestError, 401: openai.AuthenticationError, 429: openai.RateLimitError}
    kind = kinds.get(status, openai.APIStatusError)
    return kind("no", response=response(status), body={"code": code})


class Botocore(Exception):
    def __init__(self, status: int, code: str, headers: Any = None) -> None:
        metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": metadata}


class Aiohttp(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        self.headers = {"Retry-After": "7"}


Aiohttp.__name__ = "ClientResponseError"


class Grpc(Exception):
    def __init__(self, name: str, trailing: Any = ()) -> None:
        self._name = name
        self._trailing = trailing

    def trailing_metadata(self) -> Any:
        return self._trailing

    def code(self) -> Any:
        return type("StatusCode", (), {"name": self._name})()


Grpc.__module__ = "grpc._channel"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # connections, TLS, time-outs
        (ConnectionRefusedError(), "failure connect"),
        (socket.gaierror(), "failure connect"),
        (ssl.SSLError(), "failure tls"),
        (TimeoutError(), "failure timeout"),
        (asyncio.TimeoutError(), "failure timeout"),
        (concurrent.futures.TimeoutError(), "failure timeout"),
        (gevent.Timeout(1), "failure timeout"),
        (httpx.ConnectError("no"), "failure connect"),
        (httpx.ReadTimeout("no"), "failure timeout"),
        (openai.APIConnectionError(request=REQUEST), "failure connect"),
        (openai.APITimeoutError(request=REQUEST), "failure timeout"),
        # statuses
        (by_openai(400), "ignored"),
        (by_openai(401), "ignored"),
        (by_openai(429), "failure http-429"),
        (by_openai(503), "failure http-503"),
        (httpx.HTTPStatusError("no", request=REQUEST, response=response(408)), "failure http-408"),
        (httpx.HTTPStatusError("no", request=REQUEST, response=response(404)), "ignored"),
        (httpx.HTTPStatusError("no", request=REQUEST, response=response(403)), "ignored"),
        (urllib.error.HTTPError("http://x", 500, "no", Message(), io.BytesIO()), "failure http-500"),
        (urllib.error.URLError("refused"), "failure URLError"),
        (Botocore(503, "SlowDown"), "failure http-503"),
        (Botocore(400, "ValidationException"), "ignored"),
        (Aiohttp(502), "failure http-502"),
        (Grpc("UNAVAILABLE"), "failure http-503"),
        (Grpc("INVALID_ARGUMENT"), "ignored"),
        (Grpc("CANCELLED"), "abandoned cancelled"),
        # cancelled
        (asyncio.CancelledError(), "abandoned cancelled"),
        (concurrent.futures.CancelledError(), "abandoned cancelled"),
        (GeneratorExit(), "abandoned cancelled"),
        (KeyboardInterrupt(), "abandoned"),
        (SystemExit(1), "abandoned"),
        # no evidence
        (breakerd.Rejected("psp", "open", "open", 1.0), "ignored"),
        (StopIteration(), "ignored"),
        (TypeError(), "ignored"),
        (AttributeError(), "ignored"),
        (NameError(), "ignored"),
        (KeyError(), "ignored"),
        (IndexError(), "ignored"),
        (AssertionError(), "ignored"),
        (ModuleNotFoundError(), "ignored"),
        # all else
        (ValueError(), "failure ValueError"),
        (json.JSONDecodeError("no", "", 0), "failure JSONDecodeError"),
        (OSError(), "failure OSError"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else value,
)
def test_exceptions(error: BaseException, expected: str) -> None:
    assert of(error) == expected


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions came with 3.11")
def test_a_group_is_as_bad_as_its_worst() -> None:
    group = BaseExceptionGroup  # noqa: F821
    assert of(group("", [KeyError(), ConnectionError()])) == "failure connect"
    assert of(group("", [asyncio.CancelledError(), KeyError()])) == "ignored"
    assert of(group("", [asyncio.CancelledError()])) == "abandoned cancelled"


def test_authentication_is_warned_of_once_and_counts_where_the_code_says_so(caplog: pytest.LogCaptureFixture) -> None:
    one = rules()
    for _ in range(3):
        assert one.of_exception(by_openai(401)).word == "ignored"
    assert caplog.text.count('auth_errors="failure"') == 1
    assert of(by_openai(401), auth_errors="failure") == "failure http-401"
    assert of(by_openai(403), auth_errors="failure") == "failure http-403"
    with pytest.raises(ValueError, match="auth_errors is 'count'; it may be one of ignored, failure"):
        breakerd.breaker("openai", auth_errors="count")  # type: ignore[arg-type]


def test_a_bug_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    one = rules()
    for _ in range(3):
        one.of_exception(KeyError())
    assert caplog.text.count("the caller's own bug") == 1


def test_the_detail_is_a_status_and_a_code() -> None:
    outcome = rules("failure").of_exception(by_openai(401, "invalid_api_key"))
    assert (outcome.kind, outcome.detail) == ("http-401", "401 invalid_api_key")
    secret = rules("failure").of_exception(by_openai(401, "your key sk-123 is wrong"))
    assert secret.detail == ""
    assert rules().of_exception(Botocore(503, "SlowDown")).detail == "503 SlowDown"


def in_a_minute() -> str:
    date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
    return email.utils.format_datetime(date, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # each form by itself
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "in a minute"}, 60.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"grpc_retry_pushback_ms": "2500"}, 2.5),
        # of several the latest deadline
        ({"retry_after_ms": "1500", "retry_after": "7"}, 7.0),
        ({"retry_after_ms": "9000", "retry_after": "7", "grpc_retry_pushback_ms": "8000"}, 9.0),
        ({"retry_after": "in a minute", "retry_after_ms": "1"}, 60.0),
        # an hour at most
        ({"retry_after": "99999999"}, 3600.0),
        ({"retry_after_ms": "1e300"}, 3600.0),
        ({"retry_after": "Fri, 31 Dec 2999 23:59:59 GMT"}, 3600.0),
        ({"retry_after": "inf"}, 3600.0),
        # no time to come
        ({"retry_after": "0"}, None),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        ({"grpc_retry_pushback_ms": "-1"}, None),
        ({"retry_after_ms": "soon", "retry_after": "7"}, 7.0),
        ({}, None),
    ],
)
def test_the_providers_wish(headers: Any, seconds: Optional[float]) -> None:
    dated = headers.get("retry_after") == "in a minute"
    told = {**headers, "retry_after": in_a_minute()} if dated else headers
    error = httpx.HTTPStatusError("no", request=REQUEST, response=response(429, **told))
    wish = rules().of_exception(error).retry_after
    if dated:
        assert wish is not None and 30 < wish <= 60, "by the clock of the moment"
    else:
        assert wish == seconds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Aiohttp(503), 7.0),
        (Botocore(503, "SlowDown", {"retry-after": "4"}), 4.0),
        (Grpc("UNAVAILABLE", [("grpc-retry-pushback-ms", "3000")]), 3.0),
        (Grpc("UNAVAILABLE", [("other", "1")]), None),
        (Grpc("UNAVAILABLE", None), None),
        (by_openai(429), None),
    ],
)
def test_where_each_library_keeps_the_wish(error: BaseException, seconds: Optional[float]) -> None:
    assert rules().of_exception(error).retry_after == seconds


@pytest.mark.parametrize(("word", "seconds"), [("7", 7.0), (7, 7.0), ("1e9", 3600.0), (0, None), (None, None)])
def test_a_wish_by_hand(word: Any, seconds: Optional[float]) -> None:
    assert breakerd.failure("x", retry_after=word).retry_after == seconds


# -- a probe that meets a limit --


@pytest.mark.parametrize(
    ("subject", "own"),
    [
        (by_openai(429), breakerd.IGNORED),
        (by_openai(429), breakerd.SUCCESS),
        (response(429), breakerd.IGNORED),
        (Grpc("RESOURCE_EXHAUSTED"), breakerd.IGNORED),
        (ValueError(), breakerd.Outcome("ignored", "rate-limited")),
        ("a quota of their own", breakerd.Outcome("ignored", "rate-limited")),
    ],
)
def test_a_limit_fails_a_probe_whatever_else_it_counts_as(subject: Any, own: breakerd.Outcome) -> None:
    one = rules(classify=lambda _: own)
    judge = one.of_exception if isinstance(subject, BaseException) else one.of_result
    assert judge(subject) == own
    assert judge(subject, is_probe=True).word == "failure"


@pytest.mark.parametrize("subject", [by_openai(404), ValueError(), response(503), "value"])
def test_what_is_no_limit_is_the_programs_to_judge_in_a_probe_too(subject: Any) -> None:
    one = rules(classify=lambda _: breakerd.IGNORED)
    judge = one.of_exception if isinstance(subject, BaseException) else one.of_result
    assert judge(subject, is_probe=True) == breakerd.IGNORED


def test_a_probe_that_meets_a_limit_fails_in_every_shape() -> None:
    guard = breakerd.breaker("openai", classify=lambda _: breakerd.IGNORED)

    @guard
    def raising() -> None:
        raise by_openai(429)

    @guard
    def returning() -> Any:
        return response(429)

    def observing() -> None:
        with guard as permit:
            permit.observe(response(429))

    def by_hand() -> None:
        guard.admit().settle(breakerd.Outcome("ignored", "rate-limited"))

    for call in (raising, returning, observing, by_hand):
        with breakerd.fake() as fake:
            for state in ("closed", "half-open"):
                fake.set("openai", state)
                with contextlib.suppress(openai.RateLimitError):
                    call()
            assert [outcome.word for outcome in fake.outcomes("openai")] == ["ignored", "failure"]


def test_results() -> None:
    one = rules()
    assert one.of_result(response(503)).kind == "http-503"
    assert one.of_result(response(404)).word == "ignored"
    assert one.of_result(response(200)) == breakerd.SUCCESS
    own = type("Order", (), {"status": 500})()
    assert one.of_result(own) == breakerd.SUCCESS, "a status of a type that is not known means whatever it means there"
    assert one.of_response(own).kind == "http-500"


def test_observe_settles_what_is_no_success_at_once() -> None:
    guard = breakerd.breaker("openai")

    async def main() -> None:
        async with guard as permit:
            assert permit.observe(response(200)).status_code == 200
        async with guard as permit:
            permit.observe(response(503, retry_after="3"))
        with pytest.raises(ValueError):
            async with guard as permit:
                permit.observe(response(200))
                raise ValueError("the body is no JSON")

    with breakerd.fake() as fake:
        asyncio.run(main())
    assert fake.outcomes("openai") == [
        breakerd.SUCCESS, breakerd.failure("http-503", retry_after=3), breakerd.failure("ValueError"),
    ]


def test_the_programs_own_function_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    def classify(result: Any) -> Any:
        if result == "empty":
            return breakerd.failure("empty-answer")
        if isinstance(result, ValueError):
            return breakerd.IGNORED
        if result == "broken":
            raise RuntimeError
        return "nonsense" if result == "nonsense" else None

    one = rules(classify=classify)
    assert one.of_result("empty").kind == "empty-answer"
    assert one.of_exception(ValueError()) == breakerd.IGNORED
    assert one.of_exception(ConnectionError()).kind == "connect"
    assert one.of_result("broken") == one.of_result("nonsense") == breakerd.SUCCESS
    assert caplog.text.count("classify") == 1
