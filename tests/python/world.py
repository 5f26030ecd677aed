"""What the tests run: real daemons, real servers, and a way to wait for what they do."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TypeVar

T = TypeVar("T")

TREE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = TREE / "client-lib" / "python" / "examples"
APPS = pathlib.Path(__file__).resolve().parent / "apps"


def binary() -> str:
    """The daemon under test: ``BREAKERD_BIN``, else the newest that was built here."""
    named = os.environ.get("BREAKERD_BIN")
    if named:
        return named
    built = [TREE / "target" / profile / "breakerd" for profile in ("release", "debug")]
    there = sorted((path for path in built if path.exists()), key=lambda path: path.stat().st_mtime)
    if not there:
        raise RuntimeError("no breakerd is built; run `cargo build`, or name one in BREAKERD_BIN")
    return str(there[-1])


def until(what: Callable[[], Optional[T]], within_s: float = 10.0) -> T:
    """Waits for a condition, and fails where it does not come."""
    end = time.monotonic() + within_s
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"did not come within {within_s:g} s: {what.__qualname__}, last {found!r}")
        time.sleep(0.005)


@contextlib.contextmanager
def bounded(what: str, bound_s: float) -> Iterator[None]:
    """Prints how long it took, and fails at ten times the bound: a machine under load is slow, and no bug."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    print(f"{what}: {took * 1000:.1f} ms, of {bound_s * 1000:g} ms")
    assert took < 10 * bound_s, f"{what} took {took:.3f} s; it may take {bound_s:g} s"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Daemon:
    """A real daemon in a directory of its own."""

    def __init__(
        self, directory: pathlib.Path, *, cooldown: str = "10s", failures: int = 3, section: str = "breaker.default",
        extra: str = "",
    ) -> None:
        self.directory = directory
        self.socket = str(directory / "s.sock")
        self.control = str(directory / "c.sock")
        self.config = directory / "breakerd.toml"
        (directory / "state").mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'[listen]\nsocket = "{self.socket}"\ncontrol = "{self.control}"\n'
            f'[state]\ndir = "{directory / "state"}"\n[rights]\nreset = ["*"]\n'
            f"[{section}]\ntrip.consecutive_failures = {failures}\n"
            f'cooldown = {{ first = "{cooldown}", factor = 1.0, max = "2m", jitter = 0.0 }}\n{extra}\n'
        )
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> Daemon:
        log = open(self.directory / "daemon.log", "ab")
        self.process = subprocess.Popen(
            [binary(), "serve", "--config", str(self.config)], stdout=log, stderr=log, env=self._env()
        )
        log.close()
        until(self._answers)
        return self

    def cli(self, *args: str) -> Any:
        """A command's JSON."""
        where = ["--config", str(self.config), "--socket", self.socket, "--control", self.control]
        done = subprocess.run(
            [binary(), *where, "--json", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._env(), timeout=20, check=False,
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        return json.loads(done.stdout) if done.stdout.strip() else None

    def workers(self) -> List[Dict[str, Any]]:
        """The connected workers."""
        return self.cli("workers")["workers"]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.directory / "daemon.log").read_text())
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(self.socket)
                return True
        except OSError:
            return False

    def _env(self) -> Dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("BREAKERD_")}


def beside(daemon: Daemon) -> Dict[str, str]:
    """The environment of a server that belongs to one daemon, where no test's own environment is set up yet."""
    without = {name: "" for name in os.environ if name.startswith("BREAKERD_")}
    return {**without, "BREAKERD_SOCKET": daemon.socket}


class Server:
    """A command that serves HTTP on loopback, with its log."""

    def __init__(
        self, command: List[str], port: int, directory: pathlib.Path, cwd: pathlib.Path, **env: str
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = directory / f"server-{port}.log"
        settings = {**os.environ, "PYTHONUNBUFFERED": "1", "PATH": _path(), **env}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True,
                env={name: value for name, value in settings.items() if value},
            )

    @classmethod
    def on_a_free_port(cls, command: Sequence[str], directory: pathlib.Path, cwd: pathlib.Path, **env: str) -> Server:
        """``{port}`` in the command is a free port."""
        port = free_port()
        return cls([part.replace("{port}", str(port)) for part in command], port, directory, cwd, **env)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Any:
        """One request over a fresh connection; the answer's JSON, with its status under ``"http"``."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", "connection": "close"}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return {**json.load(answer), "http": answer.status}
        except urllib.error.HTTPError as error:
            return {**json.load(error), "http": error.code, "retry_after": error.headers.get("Retry-After")}

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
        try:
            self.get("/health")
            return True
        except OSError:
            return False

    def ready(self) -> Server:
        until(self.is_up, 60)
        return self

    def by_worker(self, count: int, path: str = "/status") -> Dict[str, Any]:
        """The answer of every worker, over as many fresh connections as it takes to meet them all."""
        seen: Dict[str, Any] = {}

        def all_met() -> bool:
            answer = self.get(path)
            seen[str(answer["worker_id"])] = answer
            return len(seen) >= count

        until(all_met, 30)
        assert len(seen) == count
        return seen

    def stop(self, sig: int = signal.SIGINT, within_s: float = 15.0) -> float:
        """Stops it as Ctrl+C does. How long that took, in seconds."""
        began = time.monotonic()
        if self.process.poll() is None:
            os.killpg(self.process.pid, sig)
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise AssertionError(f"did not stop within {within_s:g} s:\n{self.log()}") from None
        return time.monotonic() - began


class Redis:
    """A real Redis of this test's own, without a file."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": str(self.directory)}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: self.ask("PING") == "+PONG")

    def ask(self, command: str) -> str:
        """An inline command's answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as one:
                one.sendall(command.encode() + b"\r\nQUIT\r\n")
                answer = b""
                while chunk := one.recv(65536):
                    answer += chunk
                return answer.decode().removesuffix("+OK\r\n").strip()
        except OSError:
            return ""

    def clients(self) -> List[str]:
        """The connections, this question's own left out."""
        return [line for line in self.ask("CLIENT LIST").splitlines() if "addr=" in line and "cmd=client" not in line]

    def gets(self) -> int:
        """How often a key was read so far."""
        found = re.search(r"cmdstat_get:calls=(\d+)", self.ask("INFO commandstats"))
        return 0 if found is None else int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def states(answers: Dict[str, Any], provider: str = "openai") -> Dict[str, tuple]:
    """State and failures of one provider, by worker."""
    found = {}
    for worker, answer in answers.items():
        for one in answer["providers"]:
            if one["name"] == provider:
                found[worker] = (one["circuit_breaker"]["state"], one["circuit_breaker"]["failure_count"])
    return found


def script(name: str) -> str:
    """A program of this Python's own environment."""
    path = pathlib.Path(sys.executable).parent / name
    return str(path) if path.exists() else shutil.which(name) or name


def _path() -> str:
    return os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])
