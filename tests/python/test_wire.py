"""The protocol from Python with nothing but `socket` and `struct`, written from proto/WIRE.md alone.

The tables of that page are the schema: what they do not say, this client does not know.
"""

import itertools
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "proto" / "WIRE.md").read_text()
INTEGERS = {"u16": "<H", "u32": "<I", "u64": "<Q", "mono": "<Q", "f64": "<d"}
SECOND = 1_000_000_000


class Schema:
    """The tables of WIRE.md: structs, enums, kinds and their bounds."""

    def __init__(self, page):
        self.structs, self.enums, self.kinds, self.most = {}, {}, {}, {}
        heading, head = "", []
        for line in page.splitlines():
            if line.startswith("#"):
                heading, head = line.lstrip("#").strip(), []
            elif line.startswith("|") and not line.startswith("|---"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if head:
                    self.row(heading, head, cells)
                else:
                    head = cells
                    if head[:2] == ["field", "type"]:  # a message may have no fields
                        self.structs.setdefault(heading, [])
            elif not line.strip():
                head = []

    def row(self, heading, head, cells):
        plain = [cell.replace("`", "") for cell in cells]
        if head[:3] == ["message", "kind", "most"]:
            self.kinds[plain[0]] = int(plain[1])
            self.most[plain[0]] = int(plain[2])
        elif head[:2] == ["field", "type"]:
            self.structs[heading].append((plain[0], plain[1]))
        elif head[:2] == ["number", "variant"]:
            variants = self.enums.setdefault(heading, [])
            assert int(plain[0]) == len(variants)
            variants.append((plain[1], self.variant_fields(head[2], cells[2])))

    @staticmethod
    def variant_fields(column, cell):
        if column != "fields" or cell.startswith("none"):
            return []
        named = re.findall(r"`(\w+): ([\w<>]+)`", cell)
        return named or [("value", re.fullmatch(r"an? `(\w+)`", cell)[1])]

    def encode(self, kind, value):
        if kind in INTEGERS:
            return struct.pack(INTEGERS[kind], value)
        if kind == "bool":
            return bytes([bool(value)])
        if kind == "string":
            text = value.encode()
            return struct.pack("<Q", len(text)) + text
        if kind.startswith("option<"):
            return b"\0" if value is None else b"\1" + self.encode(kind[7:-1], value)
        if kind.startswith("list<"):
            return struct.pack("<Q", len(value)) + b"".join(self.encode(kind[5:-1], item) for item in value)
        if kind in self.enums:
            names = [name for name, _ in self.enums[kind]]
            number = names.index(value["is"])
            fields = self.enums[kind][number][1]
            return struct.pack("<I", number) + b"".join(self.encode(of, value[name]) for name, of in fields)
        return b"".join(self.encode(of, value[name]) for name, of in self.structs[kind])

    def decode(self, kind, body, at=0):
        """The value and where it ends."""
        if kind in INTEGERS:
            return struct.unpack_from(INTEGERS[kind], body, at)[0], at + struct.calcsize(INTEGERS[kind])
        if kind == "bool":
            assert body[at] in (0, 1)
            return body[at] == 1, at + 1
        if kind == "string":
            (count,) = struct.unpack_from("<Q", body, at)
            assert at + 8 + count <= len(body)
            return body[at + 8 : at + 8 + count].decode(), at + 8 + count
        if kind.startswith("option<"):
            assert body[at] in (0, 1)
            return (None, at + 1) if body[at] == 0 else self.decode(kind[7:-1], body, at + 1)
        if kind.startswith("list<"):
            (count,) = struct.unpack_from("<Q", body, at)
            items, at = [], at + 8
            for _ in range(count):
                item, at = self.decode(kind[5:-1], body, at)
                items.append(item)
            return items, at
        if kind in self.enums:
            (number,) = struct.unpack_from("<I", body, at)
            name, fields = self.enums[kind][number]
            return self.fields({"is": name}, fields, body, at + 4)
        return self.fields({}, self.structs[kind], body, at)

    def fields(self, value, fields, body, at):
        for name, of in fields:
            value[name], at = self.decode(of, body, at)
        return value, at

    def frame(self, message, **fields):
        body = self.encode(message, fields)
        assert len(body) <= self.most[message]
        return struct.pack("<IHH", len(body), self.kinds[message], 0) + body

    def unframe(self, frame):
        length, number, zero = struct.unpack_from("<IHH", frame)
        assert zero == 0 and len(frame) == 8 + length
        message = {number: name for name, number in self.kinds.items()}[number]
        assert length <= self.most[message]
        value, end = self.decode(message, frame, 8)
        assert end == len(frame), f"{message}: bytes are left"
        return message, value


WIRE = Schema(PAGE)


class Worker:
    """One connection."""

    nonces = itertools.count(1)

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.counts = {
            "successes": 0, "slow": 0, "failures": 0,
            "untold": {"generation": 0, "failures": 0, "run": 0},
        }
        self.requests = itertools.count(1)
        self.send(
            "Hello", version_min=1, version_max=1, features=0, pid=os.getpid(), nonce=next(self.nonces),
            alone_ms=0, alone_calls=0, service="python",
        )
        self.welcome = self.expect("Welcome")

    def send(self, message, **fields):
        self.socket.sendall(WIRE.frame(message, **fields))

    def bytes(self, count):
        read = b""
        while len(read) < count:
            more = self.socket.recv(count - len(read))
            assert more, "the daemon ended the connection"
            read += more
        return read

    def read(self):
        header = self.bytes(8)
        (length,) = struct.unpack_from("<I", header)
        return WIRE.unframe(header + self.bytes(length))

    def expect(self, message):
        got, value = self.read()
        assert got == message, (got, value)
        return value

    def ask(self, message, answer, **fields):
        request = next(self.requests)
        self.send(message, request=request, **fields)
        value = self.expect(answer)
        assert value["request"] == request
        return value

    def register(self, name):
        return self.ask("Register", "Registered", name=name, policy=None)["lane"]

    def query(self, lane):
        deadline = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 5 * SECOND
        return self.ask("Query", "Answer", lane=lane, deadline=deadline, counts=self.counts)["verdict"]

    def report(self, lane, verdict, outcome):
        if outcome["is"] == "Success":
            self.counts["successes"] += 1
        elif outcome["is"] == "Failure":
            self.counts["failures"] += 1
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.send(
            "Report", lane=lane, generation=verdict["generation"], permit=verdict.get("permit", 0), at=now,
            outcome=outcome, counts=self.counts,
        )

    def observe(self, lane):
        return self.ask("Observe", "Observed", lane=lane)

    def close(self):
        self.socket.close()


def failure(kind="http-401"):
    return {"is": "Failure", "value": {"kind": kind, "detail": "", "retry_after_ms": None}}


def binary():
    told = os.environ.get("BREAKERD_BIN")
    path = pathlib.Path(told) if told else ROOT / "target" / "debug" / "breakerd"
    assert path.is_file(), f"{path} is missing; build it first: cargo build -p breakerd"
    return path


@pytest.fixture
def daemon(tmp_path):
    """The workers' socket of a daemon that trips at three failures and cools down for 100 ms."""
    path = tmp_path / "b.sock"
    config = tmp_path / "breakerd.toml"
    config.write_text(
        f'[listen]\nsocket = "{path}"\ncontrol = "{tmp_path}/c.sock"\n[state]\ndir = "{tmp_path}"\n'
        "[breaker.default]\ntrip.consecutive_failures = 3\n"
        'cooldown = { first = "100ms", factor = 1.0, max = "100ms", jitter = 0.0 }\n'
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BREAKERD_")}
    command = [str(binary()), "serve", "--config", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=plain)
    try:
        until("the daemon accepts connections", lambda: accepts(process, path))
        yield path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def accepts(process, path):
    assert process.poll() is None, "the daemon ended at its start"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def until(what, find):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        select.select([], [], [], 0.002)
    pytest.fail(f"waited in vain until {what}")


def golden():
    frames, title = {}, None
    for line in (ROOT / "proto" / "tests" / "golden.txt").read_text().splitlines():
        if line.startswith("  "):
            frames[title] += bytes.fromhex(line)
        elif line and not line.startswith("#"):
            title = line
            frames[title] = b""
    return frames


@pytest.mark.parametrize("title", golden())
def test_every_golden_frame_is_what_the_page_says(title):
    frame = golden()[title]
    message, value = WIRE.unframe(frame)
    assert title.endswith(f"({message} = {WIRE.kinds[message]})")
    assert WIRE.frame(message, **value) == frame


def test_a_trip_is_seen_by_everybody_and_a_probe_recovers(daemon):
    workers = [Worker(daemon) for _ in range(4)]
    lanes = [worker.register("openai") for worker in workers]
    first = workers[0]
    verdicts = [first.query(lanes[0]) for _ in range(5)]
    assert [verdict["is"] for verdict in verdicts] == ["Admit"] * 5
    for verdict in verdicts:
        first.report(lanes[0], verdict, failure())
    seen = [worker.observe(lane) for worker, lane in zip(workers, lanes)]
    assert [one["view"]["state"]["is"] for one in seen] == ["Open"] * 4
    assert [one["failures"] for one in seen] == [5, 0, 0, 0]
    assert seen[3]["view"]["why"] == "3 consecutive failures, last http-401"

    until("the cooldown is over", lambda: first.observe(lanes[0])["view"]["retry_after_ms"] == 0)
    verdicts = [worker.query(lane) for worker, lane in zip(workers, lanes)]
    assert sorted(verdict["is"] for verdict in verdicts) == ["Probe", "Reject", "Reject", "Reject"]
    assert {verdict["reason"]["is"] for verdict in verdicts if verdict["is"] == "Reject"} == {"Probing"}
    at = [verdict["is"] for verdict in verdicts].index("Probe")
    workers[at].report(lanes[at], verdicts[at], {"is": "Success", "slow": False})
    workers[at].observe(lanes[at])
    assert [worker.observe(lane)["view"]["state"]["is"] for worker, lane in zip(workers, lanes)] == ["Closed"] * 4


def test_the_table_in_pages(daemon):
    worker = Worker(daemon)
    names = [f"breaker-{number:02}" for number in range(40)]
    for name in names:
        worker.register(name)
    read, after, more = [], "", True
    while more:
        page = worker.ask("List", "Page", after=after)
        read += [row["name"] for row in page["rows"]]
        after, more = read[-1], page["more"]
    assert read == names


def test_a_refusal_and_an_unknown_kind_leave_the_connection(daemon):
    worker = Worker(daemon)
    worker.send("Register", request=1, name="a b", policy=None)
    refused = worker.expect("Refused")
    assert (refused["request"], refused["code"]["is"]) == (1, "BadName")
    worker.socket.sendall(struct.pack("<IHH", 3, 9999, 0) + b"abc")
    refused = worker.expect("Refused")
    assert (refused["request"], refused["code"]["is"]) == (0, "Protocol")
    assert "9999" in refused["sentence"]
    worker.register("openai")


def test_a_watcher_is_told_of_a_change(daemon):
    watcher, worker = Worker(daemon), Worker(daemon)
    watcher.ask("Watch", "Watching")
    lane = worker.register("openai")
    for _ in range(3):
        worker.report(lane, worker.query(lane), failure("connect"))
    changed = watcher.expect("Changed")
    assert (changed["name"], changed["what"], changed["from"]["is"]) == ("openai", "trip", "Closed")
    assert changed["view"]["state"]["is"] == "Open"


def test_garbage_gets_a_sentence_and_the_end(daemon):
    worker, other = Worker(daemon), Worker(daemon)
    worker.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    bye = worker.expect("Bye")
    assert bye["code"]["is"] == "Protocol"
    assert worker.socket.recv(1) == b""
    other.register("openai")
