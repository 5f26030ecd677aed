"""The same histories through other libraries: equal where the rule is the same, and each difference named.

The table stands in MIGRATION.md, and this is what checks it. A history is a row of words:

- ``F`` a call that fails, ``S`` one that succeeds, ``X`` one whose error is excluded;
- ``1`` a call begins and stays out, ``1f`` it fails, ``1s`` it succeeds;
- ``.`` the cooldown passes.

A verdict is ``+`` for an admitted call and ``-`` for a rejected one. Every library trips at three failures, and by one
probe recovers.
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
THRESHOLD = 3


class Failed(Exception):
    """By the provider's fault."""


class Excluded(Exception):
    """By the caller's own."""


class Refused(Exception):
    """The library's own rejection, whatever it is called there."""


class Late(Exception):
    """The machine was slower than the cooldown: the run shows nothing."""


Act = Callable[[], Any]


class Peer:
    """One breaker of one library."""

    rejections: Tuple[Type[BaseException], ...]

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None: ...

    async def call(self, act: Act) -> None:
        """One guarded call."""
        raise NotImplementedError

    async def pass_cooldown(self) -> None:
        raise NotImplementedError


class Breakerd(Peer):
    rejections = (breakerd.Rejected,)
    names = (f"history-{count}" for count in itertools.count())

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        policy = breakerd.Policy(
            consecutive_failures=THRESHOLD, failure_rate=False,
            cooldown=COOLDOWN_S, cooldown_factor=1, cooldown_jitter=0,
        )
        self.guard = breakerd.breaker(next(self.names), policy=policy, classify=self._classify)
        self._opened: Optional[float] = None

    async def call(self, act: Act) -> None:
        was_open = self.guard.state == "open"
        if was_open and self._opened is not None and time.monotonic() - self._opened > COOLDOWN_S / 2:
            raise Late
        try:
            async with self.guard:
                await act()
        finally:
            if not was_open and self.guard.state == "open":
                self._opened = time.monotonic()

    async def pass_cooldown(self) -> None:
        self._opened = None
        while self.guard.observe().retry_after != 0.0:
            await asyncio.sleep(0.005)

    @staticmethod
    def _classify(subject: Any) -> Any:
        return breakerd.IGNORED if isinstance(subject, Excluded) else None


class Pybreaker(Peer):
    rejections = (pybreaker.CircuitBreakerError,)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        config = interlock.Config(
            failure_rate_threshold=1.0, minimum_number_of_calls=THRESHOLD, window_size=THRESHOLD,
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
        elif word in ("F", "S", "X"):
            verdicts.append(await whole(peer, {"F": Failed(), "X": Excluded()}.get(word)))
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


async def whole(peer: Peer, error: Optional[Exception]) -> str:
    async def act() -> None:
        if error is not None:
            raise error

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


def table() -> List[Dict[str, str]]:
    """The rows of MIGRATION.md."""
    text = MIGRATION.read_text().partition("| history | ")[2].partition("\n\n")[0]
    head, _, *rows = ("| history | " + text).splitlines()
    names = [cell.strip() for cell in head.split("|")[1:-1]]
    return [dict(zip(names, (cell.strip().strip("`") for cell in row.split("|")[1:-1]))) for row in rows]


@pytest.mark.parametrize("row", table(), ids=lambda row: row["history"])
@pytest.mark.parametrize("name", PEERS)
def test_a_history(name: str, row: Dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        try:
            verdicts = asyncio.run(play(PEERS[name](monkeypatch), row["history"]))
        except Late:
            continue
        assert verdicts == row[name]
        return
    pytest.fail("the machine is too slow for a cooldown of half a second")


def test_every_difference_is_explained_and_nothing_else_is() -> None:
    for row in table():
        differs = {row[name] for name in PEERS} - {"one at a time"} != {row["breakerd"]}
        assert differs == bool(row["why"]), row
