"""The same histories through other libraries: equal where the rule is the same, and each difference named.

The tables stand in MIGRATION.md, and this is what checks them. A history is a row of words:

- ``F`` a call that fails, ``S`` one that succeeds, ``L`` one that succeeds late, ``X`` one whose error is excluded;
- ``1`` a call begins and stays out, ``1f`` it fails, ``1s`` it succeeds;
- ``.`` the cooldown passes.

A verdict is ``+`` for an admitted call and ``-`` for a rejected one.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import circuitbreaker
import interlock
import purgatory
import pybreaker
import pytest
from world import TREE

import breakerd

MIGRATION = TREE / "client-lib" / "python" / "MIGRATION.md"
COOLDOWN_S = 0.5
SLOW_S = 0.1
THRESHOLD = 3
RUN, RATE, SLOW = "a run of three", "half of the last four", "half of the last four, slow"


class Failed(Exception):
    """By the provider's fault."""


class Excluded(Exception):
    """By the caller's own."""


class Refused(Exception):
    """The library's own rejection, whatever it is called there."""


class Late(Exception):
    """The machine was slower than the cooldown or the bound of slowness: the run shows nothing."""


Act = Callable[[], Any]


class Peer:
    """One breaker of one library."""

    rejections: Tuple[Type[BaseException], ...]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None: ...

    async def call(self, act: Act) -> None:
        """One guarded call."""
        raise NotImplementedError

    async def pass_cooldown(self) -> None:
        raise NotImplementedError

    async def be_slow(self) -> None:
        """Longer than the bound of slowness."""
        raise NotImplementedError


class Breakerd(Peer):
    rejections = (breakerd.Rejected,)
    counts = itertools.count()

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
        half = breakerd.AtLeast(0.5, of_calls=4)
        policy = breakerd.Policy(
            consecutive_failures=THRESHOLD if rule == RUN else False,
            failure_rate=half if rule == RATE else False,
            slow_rate=half if rule == SLOW else False, slow_after=SLOW_S if rule == SLOW else None,
            cooldown=COOLDOWN_S, cooldown_factor=1, cooldown_jitter=0,
        )
        name = f"{'slow' if rule == SLOW else 'history'}-{next(self.counts)}"
        self.guard = breakerd.breaker(name, policy=policy, classify=self._classify)
        self._opened: Optional[float] = None

    async def call(self, act: Act) -> None:
        was_open = self.guard.state == "open"
        if was_open and self._opened is not None and time.monotonic() - self._opened > COOLDOWN_S / 2:
            raise Late
        began, self._slow = time.monotonic(), False
        try:
            async with self.guard:
                await act()
        finally:
            if not was_open and self.guard.state == "open":
                self._opened = time.monotonic()
            if not self._slow and time.monotonic() - began > SLOW_S / 2 and self.guard.name.startswith("slow"):
                raise Late

    async def pass_cooldown(self) -> None:
        self._opened = None
        while self.guard.observe().retry_after != 0.0:
            await asyncio.sleep(0.005)

    async def be_slow(self) -> None:
        self._slow = True
        end = time.monotonic() + 1.1 * SLOW_S
        while time.monotonic() < end:
            await asyncio.sleep(0.005)

    @staticmethod
    def _classify(subject: Any) -> Any:
        return breakerd.IGNORED if isinstance(subject, Excluded) else None


class Pybreaker(Peer):
    rejections = (pybreaker.CircuitBreakerError,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=THRESHOLD, reset_timeout=60, exclude=[Excluded], throw_new_error_on_trip=False
        )

    async def call(self, act: Act) -> None:
        def run() -> None:
            coroutine = act()
            try:
                coroutine.send(None)
            except StopIteration:
                return
            coroutine.close()
            raise NotImplementedError("it holds a lock for as long as a call is out")

        self.breaker.call(run)

    async def pass_cooldown(self) -> None:
        storage = self.breaker._state_storage
        assert storage.opened_at is not None
        storage.opened_at -= datetime.timedelta(hours=1)


class Circuitbreaker(Peer):
    rejections = (circuitbreaker.CircuitBreakerError,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
        self.now = 0.0
        monkeypatch.setattr(circuitbreaker, "monotonic", lambda: self.now)
        one = circuitbreaker.CircuitBreaker(
            failure_threshold=THRESHOLD, recovery_timeout=60, expected_exception=Failed, name="x"
        )

        async def run(act: Act) -> None:
            await act()

        self.run = one(run)

    async def call(self, act: Act) -> None:
        await self.run(act)

    async def pass_cooldown(self) -> None:
        self.now += 3600


class Purgatory(Peer):
    rejections = (purgatory.domain.model.OpenedState,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
        self.now = 1e9
        monkeypatch.setattr(purgatory.domain.model.time, "time", lambda: self.now)
        self.factory = purgatory.AsyncCircuitBreakerFactory(
            default_threshold=THRESHOLD, default_ttl=60, exclude=[Excluded]
        )

    async def call(self, act: Act) -> None:
        async with await self.factory.get_breaker("x"):
            await act()

    async def pass_cooldown(self) -> None:
        self.now += 3600


class Interlock(Peer):
    """Three of the last three calls is three in a row."""

    rejections = (interlock.CircuitOpenError,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
        self.now = 0.0
        calls = THRESHOLD if rule == RUN else 4
        config = interlock.Config(
            failure_rate_threshold=0.5 if rule == RATE else 1.0, slow_call_rate_threshold=0.5 if rule == SLOW else 1.0,
            slow_call_duration_threshold=SLOW_S, minimum_number_of_calls=calls, window_size=calls,
            permitted_calls_in_half_open=1,
        )
        self.breaker = interlock.CircuitBreaker(name="x", config=config, clock=self, classifier=self)

    def monotonic(self) -> float:
        return self.now

    def is_failure(self, *, result: object, exception: Optional[Exception]) -> bool:
        return isinstance(exception, Failed)

    async def call(self, act: Act) -> None:
        await self.breaker.call_async(act)

    async def pass_cooldown(self) -> None:
        self.now += 3600

    async def be_slow(self) -> None:
        self.now += 1.1 * SLOW_S


PEERS: Dict[str, Type[Peer]] = {
    "breakerd": Breakerd, "pybreaker": Pybreaker, "circuitbreaker": Circuitbreaker, "purgatory": Purgatory,
    "interlock-cb": Interlock,
}


async def play(peer: Peer, history: str) -> str:
    """The verdicts. ``one at a time`` where the library cannot have two calls out."""
    verdicts: List[str] = []
    out: Dict[str, Tuple[asyncio.Task[None], asyncio.Future[None]]] = {}
    for word in history.split():
        if word == ".":
            await peer.pass_cooldown()
        elif word.isalpha():
            verdicts.append(await whole(peer, word))
        elif word.isdigit():
            task, end = begin(peer)
            try:
                verdicts.append(await admitted(task, end, peer))
            except NotImplementedError:
                return "one at a time"
            out[word] = task, end
        else:
            task, end = out.pop(word[:-1])
            end.set_exception(Failed()) if word[-1] == "f" else end.set_result(None)
            await asyncio.wait([task])
            task.exception()
    return "".join(verdicts)


async def whole(peer: Peer, word: str) -> str:
    async def act() -> None:
        if word == "L":
            await peer.be_slow()
        elif word != "S":
            raise {"F": Failed(), "X": Excluded()}[word]

    try:
        await peer.call(act)
    except peer.rejections:
        return "-"
    except (Failed, Excluded):
        pass
    return "+"


def begin(peer: Peer) -> Tuple[asyncio.Task[None], asyncio.Future[None]]:
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    began = asyncio.get_running_loop().create_future()
    end.began = began  # type: ignore[attr-defined]

    async def act() -> None:
        began.set_result(None)
        await end

    return asyncio.ensure_future(peer.call(act)), end


async def admitted(task: asyncio.Task[None], end: Any, peer: Peer) -> str:
    await asyncio.wait([task, end.began], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        return "+"
    error = task.exception()
    if isinstance(error, peer.rejections):
        return "-"
    assert error is not None
    raise error


def tables() -> List[Dict[str, str]]:
    """The rows of MIGRATION.md, each with the rule that it is played by."""
    found = []
    for rule in (RUN, RATE, SLOW):
        text = MIGRATION.read_text().partition(f"\n| {rule} | ")[2].partition("\n\n")[0]
        head, _, *rows = (f"| history | {text}").splitlines()
        names = [cell.strip() for cell in head.split("|")[1:-1]]
        for row in rows:
            cells = (cell.strip().strip("`") for cell in row.split("|")[1:-1])
            found.append({"rule": rule, **dict(zip(names, cells))})
    return found


CASES = [(name, row) for row in tables() for name in PEERS if name in row]


@pytest.mark.parametrize(("name", "row"), CASES, ids=[f"{name} {row['rule']}: {row['history']}" for name, row in CASES])
def test_a_history(name: str, row: Dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        try:
            verdicts = asyncio.run(play(PEERS[name](monkeypatch, row["rule"]), row["history"]))
        except Late:
            continue
        assert verdicts == row[name]
        return
    pytest.fail("the machine is too slow for a cooldown of half a second")


def test_every_difference_is_explained_and_nothing_else_is() -> None:
    for row in tables():
        differs = {row[name] for name in PEERS if name in row} - {"one at a time"} != {row["breakerd"]}
        assert differs == bool(row["why"]), row
