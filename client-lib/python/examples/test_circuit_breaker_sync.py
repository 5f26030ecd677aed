"""Checks that all workers of a service see the same breaker, and says what showed it.

    python test_circuit_breaker_sync.py --url http://127.0.0.1:8000 --workers 4 --wait 2s

Finds all workers over fresh connections, shows them closed, makes one of them trip, measures until all are open, shows
them again, resets. Exits with 1 and the table where any worker differs. Several ``--url`` are several hosts of a fleet.
Needs nothing but Python. (The original of this script looked at whichever workers happened to answer.)
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import re
import socket
import sys
import time
import urllib.parse
from typing import Any, Dict, List, Tuple

START_S = 10.0
ASKERS = 8

Status = Dict[str, Any]


class Differs(Exception):
    """What was found is not what must be."""


class Service:
    """The service under test, asked over a fresh connection each time."""

    def __init__(self, urls: List[str], workers: int, provider: str, find_s: float) -> None:
        self.urls = urls
        self.workers = workers
        self.provider = provider
        self.find_s = find_s
        self.asked = 0

    def call(self, method: str, url: str, path: str) -> Any:
        """One request over a connection of its own."""
        place = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port or 80, timeout=10)
        try:
            connection.request(method, path, headers={"connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise Differs(f"{url} does not answer: {error}; is the service running there?") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise Differs(f"{method} {url}{path} answered {answer.status}: {body[:300].decode(errors='replace')}")
        return json.loads(body)

    def wait_for_start(self) -> None:
        """Waits until every host accepts connections: a service that was started just now is not listening yet."""
        until = time.monotonic() + START_S
        for url in self.urls:
            place = urllib.parse.urlsplit(url)
            while True:
                try:
                    socket.create_connection((place.hostname or "127.0.0.1", place.port or 80), timeout=10).close()
                    break
                except OSError as error:
                    if time.monotonic() > until:
                        raise Differs(f"{url} does not answer: {error}; is the service running there?") from error
                    time.sleep(0.05)

    def sweep(self, pool: concurrent.futures.Executor) -> List[Status]:
        """Several answers of ``/status`` from every host."""
        asks = [url for url in self.urls for _ in range(ASKERS)]
        self.asked += len(asks)
        return list(pool.map(lambda url: {**self.call("GET", url, "/status"), "url": url}, asks))

    def all_workers(self) -> Dict[Tuple[str, str], Status]:
        """The latest answer of each worker, once all have been seen. Goes on until then."""
        seen: Dict[Tuple[str, str], Status] = {}
        until = time.monotonic() + self.find_s
        with concurrent.futures.ThreadPoolExecutor(ASKERS) as pool:
            while True:
                for status in self.sweep(pool):
                    seen[status["url"], str(status["worker_id"])] = status
                self.refuse_more(len(seen))
                if len(seen) == self.workers:
                    return seen
                if time.monotonic() > until:
                    raise Differs(f"after {self.asked} requests {len(seen)} workers were seen, not {self.workers}")

    def refuse_more(self, seen: int) -> None:
        """More workers than were said: some would not be looked at."""
        if seen > self.workers:
            raise Differs(f"{seen} workers answer, not {self.workers}; say --workers {seen}")

    def breaker(self, status: Status) -> Dict[str, Any]:
        """The provider's breaker in one worker's answer."""
        for provider in status["providers"]:
            if provider["name"] == self.provider:
                return provider["circuit_breaker"]
        raise Differs(f"worker {status['worker_id']} has no provider {self.provider}")


def table(workers: Dict[Tuple[str, str], Status]) -> str:
    """Every worker with its breakers."""
    lines = []
    for (_, worker), status in sorted(workers.items()):
        lines.append(f"Worker {worker}:")
        for provider in status["providers"]:
            one = provider["circuit_breaker"]
            lines.append(f"  {provider['name']:<10} - State: {one['state']:<10} Failures: {one['failure_count']}")
    return "\n".join(lines)


def until_all_open(service: Service, began: float, wait_s: float) -> Tuple[Dict[Tuple[str, str], Status], float, int]:
    """Asks until every worker has said ``open``; how long that took, and how many answers still said otherwise."""
    latest: Dict[Tuple[str, str], Status] = {}
    others = 0
    with concurrent.futures.ThreadPoolExecutor(ASKERS) as pool:
        while True:
            for status in service.sweep(pool):
                latest[status["url"], str(status["worker_id"])] = status
                others += service.breaker(status)["state"] != "open"
            service.refuse_more(len(latest))
            now = time.monotonic()
            opens = [service.breaker(status)["state"] == "open" for status in latest.values()]
            if len(opens) == service.workers and all(opens):
                return latest, now - began, others
            if now - began > wait_s:
                return latest, now - began, others


def causes(service: Service, workers: Dict[Tuple[str, str], Status]) -> str:
    """Each worker's state beside how it stands to its daemon, and what the difference most likely means."""
    stands = {worker: str(status.get("health", "unknown")) for (_, worker), status in workers.items()}
    lines = [
        f"  worker {worker}: {service.breaker(status)['state']:<10} {stands[worker]}"
        for (_, worker), status in sorted(workers.items())
    ]
    if any("no daemon" in stand or "local" in stand for stand in stands.values()):
        lines.append("likely: a worker has no daemon and judges by itself; start breakerd, or see `breakerd doctor`")
    elif len(set(stands.values())) > 1:
        lines.append("likely: the workers use different sockets (BREAKERD_SOCKET) or fleets ([fleet] name)")
    elif len(service.urls) > 1 and not any("joined" in stand for stand in stands.values()):
        lines.append("likely: the hosts are not joined through one Redis; see `breakerd status`")
    return "\n".join(lines)


def check(service: Service, wait_s: float, keep: bool) -> None:
    """The whole check. Raises ``Differs``."""
    provider = service.provider
    service.wait_for_start()
    workers = service.all_workers()
    if any(service.breaker(status)["state"] != "closed" for status in workers.values()):
        print(f"{provider} is not closed everywhere; it is reset first.")
        service.call("POST", service.urls[0], f"/reset/{provider}")
        workers = all_closed(service, wait_s)
    print(f"Found {len(workers)} workers with {service.asked} requests.\n\n{table(workers)}\n")
    if any(service.breaker(status)["failure_count"] for status in workers.values()):
        raise Differs(f"{provider} is closed and a worker counts failures; POST /reset/{provider} first")

    tripped = service.call("POST", service.urls[0], f"/trigger-failure/{provider}")
    began = time.monotonic()
    tripper, failures = str(tripped["worker_id"]), tripped["failures_triggered"]
    print(f"{tripped['message']}.")
    service.asked = 0
    seen, took_s, others = until_all_open(service, began, wait_s)
    print(f"\n{table(seen)}\n")
    expected = {
        key: ("open", failures if key[1] == tripper and key[0] == service.urls[0] else 0) for key in workers
    }
    found = {key: (service.breaker(s)["state"], service.breaker(s)["failure_count"]) for key, s in seen.items()}
    if tripped["circuit_breaker_state"] != "open" or failures != 5:
        raise Differs(f"worker {tripper} says {tripped['circuit_breaker_state']} after {failures} failures, not 5")
    if found != expected:
        raise Differs(f"the workers differ after {took_s:.3f} s:\n{causes(service, seen)}")
    print(
        f"All {len(seen)} workers were seen open {took_s * 1000:.0f} ms after the trip was answered "
        f"({wait_s:g} s are allowed); {others} of {service.asked} answers said anything else.\n"
    )
    claims(service, seen, tripper, took_s, others)
    if not keep:
        service.call("POST", service.urls[-1], f"/reset/{provider}")
        closed = all_closed(service, wait_s)
        if any(service.breaker(status)["failure_count"] for status in closed.values()):
            raise Differs(f"a worker counts failures after the reset:\n{table(closed)}")
        print(f"\nAfter POST /reset/{provider} all {len(closed)} workers are closed with 0 failures.")


def all_closed(service: Service, wait_s: float) -> Dict[Tuple[str, str], Status]:
    """Every worker, once all are closed."""
    until = time.monotonic() + wait_s
    while True:
        workers = service.all_workers()
        if all(service.breaker(status)["state"] == "closed" for status in workers.values()):
            return workers
        if time.monotonic() > until:
            raise Differs(f"not closed {wait_s:g} s after the reset:\n{table(workers)}\n{causes(service, workers)}")


def claims(service: Service, seen: Dict[Tuple[str, str], Status], tripper: str, took_s: float, others: int) -> None:
    """The four claims, each with what showed it."""
    joined = [worker for (_, worker), status in seen.items() if status.get("sync_enabled")]
    hosts = len(service.urls)
    if len(joined) == len(seen) and hosts > 1:
        pubsub = f"{hosts} hosts, joined by nothing but Redis, were open within {took_s * 1000:.0f} ms"
    elif len(joined) == len(seen):
        pubsub = "every worker's daemon is joined; `redis-cli SUBSCRIBE '{bk1:NAME}ev'` shows the trip's one event"
    else:
        pubsub = None
    others_of = len(seen) - 1
    if pubsub is None:
        print("[--] Redis pub/sub: not shown, since no fleet is joined")
    else:
        print(f"[ok] Redis pub/sub works: {pubsub}")
    print(f"[ok] synchronisation works: worker {tripper} failed, the {others_of} others made no call and are open")
    print(f"[ok] all workers know: {len(seen)} of {len(seen)} answered open, {others} answers said anything else")
    print(f"[ok] a real multi-process environment: pids {', '.join(sorted(worker for _, worker in seen))}")


def seconds(text: str) -> float:
    """``2s``, ``500ms`` or a number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; say 2s or 500ms")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def main() -> int:
    """0 if all workers agree, 1 if any differs."""
    parser = argparse.ArgumentParser(description="Checks that all workers of a service see the same breaker.")
    parser.add_argument("--url", action="append", help="where the service is; again for each further host")
    parser.add_argument("--workers", type=int, default=4, help="how many there are, over all hosts")
    parser.add_argument("--wait", type=seconds, default=2.0, help="how long a trip may take to reach all, as 2s")
    parser.add_argument("--find", type=seconds, default=30.0, help="how long to look for all workers, as 30s")
    parser.add_argument("--provider", default="openai", help="whose breaker to trip")
    parser.add_argument("--keep", action="store_true", help="leave the breaker open")
    options = parser.parse_args()
    urls = [url.rstrip("/") for url in options.url or ["http://127.0.0.1:8000"]]
    try:
        check(Service(urls, options.workers, options.provider, options.find), options.wait, options.keep)
    except Differs as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
