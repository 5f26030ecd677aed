"""The scenario, real: four uvicorn workers of a FastAPI service, the `openai` package, a provider that answers 401."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import pytest
from world import EXAMPLES, Daemon, Server, beside, binary, bounded, script, states, until

UVICORN = (script("uvicorn"), "test_multiworker_fastapi:app", "--host", "127.0.0.1", "--port", "{port}")
REPEATS = int(os.environ.get("REPEATS", "5"))


NAMES = ("openai", "anthropic", "vertexai")


class Started(NamedTuple):
    """Four workers beside one daemon, and what each worker answered before anything was asked of it."""

    server: Server
    daemon: Daemon
    at_first: Dict[str, Any]


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    """What the tests share that leave workers, daemon and settings as they are: four workers take seconds to start."""
    with tempfile.TemporaryDirectory(prefix="bk-") as directory, contextlib.ExitStack() as stack:
        place = pathlib.Path(directory)
        daemon = Daemon(place).start()
        stack.callback(daemon.stop)
        server = Server.on_a_free_port([*UVICORN, "--workers", "4"], place, EXAMPLES, **beside(daemon))
        stack.callback(server.stop)
        yield Started(server.ready(), daemon, server.by_worker(4))


@pytest.fixture
def four(started: Started) -> Server:
    """The shared four, closed and without failures at the test's beginning."""
    server = started.server
    for name in NAMES:
        assert server.call("POST", f"/reset/{name}")["circuit_breaker_state"] == "closed"
    answers = server.by_worker(4)
    assert {seen for name in NAMES for seen in states(answers, name).values()} == {("closed", 0)}
    assert set(answers) == set(started.at_first), "the workers are those that were started"
    return server


@pytest.fixture
def two(daemon: Daemon, serve: Callable[..., Server]) -> Server:
    """Two workers of one test's own, to be ended."""
    return serve(*UVICORN, "--workers", "2")


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the checker."""
    return subprocess.run(
        [sys.executable, "test_circuit_breaker_sync.py", *arguments], cwd=EXAMPLES, text=True, timeout=120,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )


def test_the_checker_prints_the_table_and_the_claims(four: Server) -> None:
    for _ in range(REPEATS):
        done = check("--url", four.url, "--workers", "4", "--wait", "2s")
        assert done.returncode == 0, done.stdout
        table = done.stdout.split("its breaker is open.")[1]
        rows = re.findall(r"Worker (\d+):\n  openai     - State: open       Failures: (\d)\n", table)
        assert sorted(failures for _, failures in rows) == ["0", "0", "0", "5"]
        assert len({worker for worker, _ in rows}) == 4
        assert "; 0 of " in table, "no answer after the trip said anything but open"
        for claim in ("synchronisation works", "all workers know", "a real multi-process environment"):
            assert f"[ok] {claim}: " in table
        assert "After POST /reset/openai all 4 workers are closed with 0 failures." in table


def test_the_shapes_of_the_original_app(four: Server, started: Started) -> None:
    status = next(iter(started.at_first.values()))
    assert list(status) == [
        "worker_id", "providers", "uptime", "sync_enabled", "sync_backend", "health", "http",
    ]
    assert isinstance(status["worker_id"], str)
    assert (status["sync_enabled"], status["sync_backend"]) == (False, "breakerd")
    assert re.fullmatch(r"daemon \d+\.\d+\.\d+, standalone", status["health"])
    assert [one["name"] for one in status["providers"]] == ["openai", "anthropic", "vertexai"]
    assert list(status["providers"][0]) == ["name", "model", "priority", "circuit_breaker"]
    assert status["providers"][0]["circuit_breaker"] == {"state": "closed", "failure_count": 0, "last_failure": None}

    tripped = four.call("POST", "/trigger-failure/openai")
    worker = tripped["worker_id"]
    assert isinstance(worker, int)
    assert {name: tripped[name] for name in tripped if name != "message"} == {
        "worker_id": worker, "provider": "openai", "failures_triggered": 5, "threshold": 3,
        "circuit_breaker_state": "open", "http": 200,
    }
    seen = states(four.by_worker(4))
    assert seen.pop(str(worker)) == ("open", 5)
    assert set(seen.values()) == {("open", 0)}
    last = four.by_worker(4)[str(worker)]["providers"][0]["circuit_breaker"]["last_failure"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", last)

    chat = four.call("POST", "/chat", {"message": "hello"})
    assert (chat["provider_used"], chat["http"]) == ("anthropic", 200)
    assert chat["circuit_breaker_state"]["openai"]["state"] == "open"
    refused = four.call("POST", "/chat", {"message": "hello", "provider": "openai"})
    assert refused["http"] == 503 and 1 <= int(refused["retry_after"]) <= 13
    unknown = four.call("POST", "/reset/opena")
    assert unknown["http"] == 404 and "openai, anthropic, vertexai" in unknown["detail"]

    reset = four.call("POST", "/reset/openai")
    assert (reset["provider"], reset["circuit_breaker_state"]) == ("openai", "closed")
    assert set(states(four.by_worker(4)).values()) == {("closed", 0)}
    assert four.get("/health")["status"] == "healthy"
    assert "POST /trigger-failure/{provider}" in four.get("/")["endpoints"]


def test_none_admitted_is_503_with_retry_after(four: Server) -> None:
    for name in NAMES:
        four.call("POST", f"/trigger-failure/{name}")
    refused = four.call("POST", "/chat", {"message": "hello"})
    assert refused["http"] == 503 and int(refused["retry_after"]) >= 1


def test_a_second_trigger_makes_no_call(four: Server) -> None:
    four.call("POST", "/trigger-failure/openai")
    again = four.call("POST", "/trigger-failure/openai")
    assert (again["failures_triggered"], again["circuit_breaker_state"]) == (0, "open")


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("jq") is None, reason="needs curl and jq")
def test_the_manual_way(four: Server) -> None:
    def shell(command: str) -> str:
        return subprocess.run(["sh", "-c", command], text=True, stdout=subprocess.PIPE, check=True, timeout=60).stdout

    for _ in range(4):
        shell(f"curl -sf {four.url}/status")
    shell(f"curl -sf -X POST {four.url}/trigger-failure/openai")
    for _ in range(10):
        worker, state = shell(
            f"curl -s {four.url}/status | jq '.worker_id, .providers[0].circuit_breaker.state'"
        ).split()
        assert state == '"open"' and re.fullmatch(r'"\d+"', worker)
    shell(f"curl -sf -X POST {four.url}/reset/openai")
    assert set(states(four.by_worker(4)).values()) == {("closed", 0)}


def test_each_worker_says_how_it_stands(four: Server, started: Started) -> None:
    for worker in four.by_worker(4):
        assert f"Worker {worker} starting up..." in four.log()
        stand = r"daemon \d+\.\d+\.\d+, standalone"
        ready = rf"Worker {worker} ready: {stand}\n  openai     - State: closed     Failures: 0\n"
        assert re.search(ready, four.log())
    assert len(started.daemon.workers()) == 4


def test_a_fifth_worker_started_after_the_trip_is_rejected_on_its_first_call(
    four: Server, started: Started, serve: Callable[..., Server], provider: Server
) -> None:
    four.call("POST", "/trigger-failure/openai")
    fifth = serve(*UVICORN, PROVIDER_URL=f"{provider.url}/v1", BREAKERD_SOCKET=started.daemon.socket)
    assert fifth.call("POST", "/chat", {"message": "hello", "provider": "openai"})["http"] == 503
    assert provider.get("/hits")["hits"] == 0
    assert list(states(fifth.by_worker(1)).values()) == [("open", 0)]
    assert re.search(r"ready: daemon .*\n  openai     - State: open ", fifth.log())


def test_after_the_cooldown_one_probe_reaches_the_provider_and_closes_it_for_all(
    make_daemon: Callable[..., Daemon], serve: Callable[..., Server], provider: Server
) -> None:
    make_daemon(cooldown="300ms", section='breaker."*"')
    four = serve(*UVICORN, "--workers", "4", PROVIDER_URL=f"{provider.url}/v1")
    four.by_worker(4)
    for _ in range(REPEATS):
        provider.call("POST", "/behave", {"delay_ms": 0, "status": 0})
        assert four.call("POST", "/trigger-failure/openai")["failures_triggered"] == 5
        before = provider.get("/hits")["hits"]
        provider.call("POST", "/behave", {"delay_ms": 300})
        answers = ask_until_admitted(four)
        assert provider.get("/hits")["hits"] - before == 1
        assert [answer["http"] for answer in answers].count(200) == 1
        assert all(int(answer["retry_after"]) >= 1 for answer in answers if answer["http"] == 503)
        assert set(states(four.by_worker(4)).values()) == {("closed", 0)}


def ask_until_admitted(server: Server) -> List[Dict[str, Any]]:
    """Sixteen at once, again and again, until the cooldown is over and one of them is let through."""
    message = {"message": "hello", "provider": "openai"}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:

        def admitted() -> List[Dict[str, Any]]:
            answers = [ask.result() for ask in [pool.submit(server.call, "POST", "/chat", message) for _ in range(16)]]
            return answers if any(answer["http"] != 503 for answer in answers) else []

        return until(admitted)


def test_ctrl_c_ends_it_within_a_second_without_a_traceback(two: Server, daemon: Daemon) -> None:
    two.by_worker(2)
    two.call("POST", "/trigger-failure/openai")
    assert two.stop(signal.SIGINT) < 10.0, "a second, and ten times that on a machine that is busy elsewhere"
    assert "Traceback" not in two.log()
    until(lambda: daemon.workers() == [])


def test_a_killed_worker_is_gone_at_once(two: Server, daemon: Daemon) -> None:
    worker = next(iter(two.by_worker(2)))
    os.kill(int(worker), signal.SIGKILL)
    until(lambda: all(f"[{worker}]" not in one["label"] for one in daemon.workers()), 2)


def test_the_checker_fails_with_the_table_where_workers_differ(serve: Callable[..., Server]) -> None:
    """Without a daemon each worker judges by itself, which is what must never be seen beside one."""
    two = serve(*UVICORN, "--workers", "2")
    done = check("--url", two.url, "--workers", "2", "--wait", "500ms")
    assert done.returncode == 1
    assert re.search(r"openai     - State: open       Failures: 5", done.stdout)
    assert re.search(r"openai     - State: closed     Failures: 0", done.stdout)
    assert "FAILED: the workers differ" in done.stdout
    assert "no daemon at" in done.stdout and "judges by itself" in done.stdout


def test_the_checker_does_not_stop_until_it_has_seen_all(four: Server) -> None:
    done = check("--url", four.url, "--workers", "5", "--find", "1s")
    assert done.returncode == 1
    # How many it meets in a second is the kernel's choice; what counts is that it does not take them for all.
    assert re.search(r"FAILED: after \d+ requests [1-4] workers were seen, not 5", done.stdout)


def test_run_makes_a_daemon_for_one_command(place: Any) -> None:
    """`breakerd run -- uvicorn …` in the example's folder, with its own `breakerd.toml`."""
    command = [binary(), "run", "--", *UVICORN, "--workers", "4"]
    server = Server.on_a_free_port(command, place, EXAMPLES, BREAKERD_SOCKET="")
    try:
        server.ready()
        done = check("--url", server.url)
        assert done.returncode == 0, done.stdout
    finally:
        with bounded("the end of `breakerd run`", 3):
            server.process.send_signal(signal.SIGINT)
            server.process.wait(30)
    assert "Traceback" not in server.log()
