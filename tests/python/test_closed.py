"""While the daemon's board alone admits: calls cost no Python code of ours, and end as all others do."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import threading
import weakref
from typing import Any, Iterator, List

import pytest
from world import Daemon, until

import breakerd


@pytest.fixture
def guard(daemon: Daemon) -> breakerd.Guard:
    """A guard whose breaker the board shows closed."""
    one = breakerd.breaker("openai")
    until(lambda: on_board(one))
    return one


def on_board(guard: breakerd.Guard) -> bool:
    """Whether the board alone admits. While a failure is being told it does not."""
    with guard as permit:
        return permit._raw is None


def test_a_block_leaves_by_its_own_permit_whatever_comes_between(guard: breakerd.Guard) -> None:
    """Two blocks of one thread that do not nest: the first fails, and the second is no failure."""

    def block() -> Iterator[breakerd.Permit]:
        with guard as permit:
            yield permit

    first, second = block(), block()
    one, two = next(first), next(second)
    assert one is not two
    with pytest.raises(ConnectionError):
        first.throw(ConnectionError())
    assert ("failure" in repr(one), "out" in repr(two)) == (True, True)
    assert list(second) == []
    assert "success" in repr(two)


def test_a_permit_told_by_another_task_is_the_one_that_is_told(guard: breakerd.Guard) -> None:
    async def main() -> None:
        told, finish = asyncio.Event(), asyncio.Event()
        permits: List[breakerd.Permit] = []

        async def block(error: Any) -> None:
            async with guard as permit:
                permits.append(permit)
                await finish.wait()
                if error is not None:
                    raise error

        tasks = [asyncio.create_task(block(error)) for error in (None, ConnectionError("second"))]
        await asyncio.sleep(0)
        permits[0].fail("by-another-task")
        told.set()
        finish.set()
        assert [repr(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [
            "None", "ConnectionError('second')",
        ]
        assert ["failure" in repr(permit) for permit in permits] == [True, True]

    asyncio.run(main())
    assert guard.failures == 2


def test_the_name_of_a_block_keeps_its_permit_from_the_next(guard: breakerd.Guard) -> None:
    permits = []
    for _ in range(10):
        with guard as permit:
            permits.append(permit)
    assert len(set(map(id, permits))) == 10
    assert all("success" in repr(permit) for permit in permits)


def test_a_permit_says_it_once(guard: breakerd.Guard, caplog: pytest.LogCaptureFixture) -> None:
    with guard as permit:
        pass
    permit.fail("late")
    assert caplog.text.count("the first stands") == 1
    assert guard.failures == 0
    with guard as permit:
        permit.fail("empty-answer")
    assert guard.failures == 1


def test_entries_by_hand_and_by_a_stack(guard: breakerd.Guard) -> None:
    with contextlib.ExitStack() as stack:
        assert "out" in repr(stack.enter_context(guard))
    with pytest.raises(ConnectionError), contextlib.ExitStack() as stack:
        stack.enter_context(guard)
        raise ConnectionError
    assert guard.failures == 1
    assert hasattr(guard, "__exit__")  # an exit that is looked at and never called
    guard.__enter__()
    guard.__exit__(ConnectionError, ConnectionError(), None)
    assert guard.failures == 2

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            permit = await stack.enter_async_context(guard)
            permit.ignore()

    asyncio.run(main())
    assert guard.failures == 2


def test_an_exception_is_counted_once_and_again_by_a_later_call(guard: breakerd.Guard) -> None:
    error = ConnectionError()

    @guard
    def inner() -> None:
        raise error

    with pytest.raises(ConnectionError), guard:
        inner()
    assert guard.failures == 1
    with pytest.raises(ConnectionError):
        inner()
    assert guard.failures == 2


def test_a_dropped_permit_is_no_evidence(guard: breakerd.Guard) -> None:
    guard.admit()
    gc.collect()
    assert (guard.state, guard.failures) == ("closed", 0)


def test_results_are_judged(guard: breakerd.Guard) -> None:
    class Answer:
        status_code = 503

    Answer.__module__ = "httpx"

    @guard
    def call(result: Any) -> Any:
        return result

    for result, failures in ((None, 0), (Answer(), 1), (Answer(), 2)):
        call(result)
        assert guard.failures == failures, result

    @breakerd.breaker("openai", classify=lambda it: breakerd.failure("nothing") if it is None else None)
    def picky() -> None: ...

    picky()
    assert guard.state == "open"


def test_a_guarded_function_is_told_apart_from_no_function(guard: breakerd.Guard) -> None:
    assert plain(1) == 1
    assert plain.__code__ is plain.__call__.__code__  # type: ignore[attr-defined]
    assert plain.__wrapped__(2) == 2  # type: ignore[attr-defined]
    assert copy.deepcopy(plain) is plain
    assert pickle.loads(pickle.dumps(plain)) is plain
    with pytest.raises(AttributeError):
        plain.nothing  # type: ignore[attr-defined]  # noqa: B018


@breakerd.breaker("openai")
def plain(a: int) -> int:
    """At a module's top, for it pickles by its name."""
    return a


def test_guards_and_guarded_functions_that_nobody_has_are_collected(guard: breakerd.Guard) -> None:
    class Service:
        def __init__(self) -> None:
            self.guard = breakerd.breaker("openai", classify=self.classify)

            @self.guard
            def again(left: int) -> None:
                if left:
                    again(left - 1)

            self.again = again

        def classify(self, _: Any) -> None: ...

    service = Service()
    service.again(3)
    with service.guard:
        pass
    gone = [weakref.ref(one) for one in (service, service.guard, service.again)]
    del service
    gc.collect()
    assert [one() for one in gone] == [None] * 3


def test_a_probe_of_this_thread_is_entered_again_and_other_threads_are_not(guard: breakerd.Guard) -> None:
    """While a probe is out no call passes it by, though the board would admit: its holder shares it."""
    with breakerd.fake(openai="half-open") as fake, guard as probe:
        fake.set("openai", "closed")
        with guard as again:
            assert again is probe
        others: List[bool] = []

        def other() -> None:
            with guard as permit:
                others.append(permit is probe)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert others == [False]
    assert on_board(guard)
