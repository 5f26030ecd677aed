"""The API without any daemon: by a fake, and by the fallback of a process that is alone."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
from typing import Any, List

import pytest

import breakerd


def words(fake: breakerd.Fake, name: str = "openai") -> List[str]:
    return [outcome.word for outcome in fake.outcomes(name)]


# -- names and declarations --


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "is empty"), ("a b", "' ' at byte 1"), ("é", "'é' at byte 0"), ("x" * 129, "129 bytes"),
        ("a\n", "at byte 1"),
    ],
)
def test_a_name_that_breaks_the_rule_is_refused_with_the_rule(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match="a name is 1 to 128 bytes") as caught:
        breakerd.breaker(name)
    assert rule in str(caught.value)


def test_the_longest_name_is_taken() -> None:
    assert breakerd.breaker("x" * 128).name == "x" * 128


def test_the_first_policy_stands_and_another_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    first = breakerd.Policy(consecutive_failures=2)
    breakerd.breaker("openai", policy=first)
    breakerd.breaker("openai", policy=first)
    assert caplog.text == ""
    for _ in range(2):
        breakerd.breaker("openai", policy=breakerd.Policy(consecutive_failures=7))
    assert caplog.text.count("the first stands") == 1


def test_a_block_settles_by_how_it_ends() -> None:
    guard = breakerd.breaker("openai")
    with breakerd.fake() as fake:
        with guard:
            pass
        for error in (ConnectionError(), KeyboardInterrupt(), KeyError()):
            with pytest.raises(type(error)), guard:
                raise error
    assert words(fake) == ["success", "failure", "abandoned", "ignored"]


def test_a_permit_says_it_by_hand_and_once(caplog: pytest.LogCaptureFixture) -> None:
    guard = breakerd.breaker("openai")
    with breakerd.fake() as fake:
        with guard as permit:
            permit.fail("empty-answer", detail="200", retry_after="2")
        with pytest.raises(ConnectionError), guard as permit:
            permit.ignore()
            raise ConnectionError
        assert caplog.text == ""
        permit = guard.admit()
        permit.success()
        permit.fail()
    assert fake.outcomes("openai")[0] == breakerd.Outcome("failure", "empty-answer", "200", 2.0)
    assert words(fake) == ["failure", "ignored", "success"]
    assert caplog.text.count("the first stands") == 1


def test_a_permit_dropped_without_a_word_is_abandoned() -> None:
    guard = breakerd.breaker("openai")
    with breakerd.fake(openai="half-open") as fake:
        guard.admit()
        assert words(fake) == ["abandoned"]
        guard.admit().success()


def test_one_guard_for_all_tasks_each_leaves_by_its_own_permit() -> None:
    """A straggler from before the trip fails while the probe is out, and does not decide for it."""
    guard = breakerd.breaker("openai")

    async def main(fake: breakerd.Fake) -> None:
        entered, finish = asyncio.Event(), asyncio.Event()

        async def straggler() -> None:
            async with guard as permit:
                assert not permit.is_probe
                entered.set()
                await finish.wait()
                raise ConnectionError

        late = asyncio.create_task(straggler())
        await entered.wait()
        fake.set("openai", "half-open")
        async with guard as probe:
            assert probe.is_probe
            finish.set()
            with pytest.raises(ConnectionError):
                await late
            assert words(fake) == ["failure"]
            assert "out" in repr(probe)
        assert words(fake) == ["failure", "success"]

    with breakerd.fake() as fake:
        asyncio.run(main(fake))


def test_and_for_all_threads() -> None:
    guard = breakerd.breaker("openai")
    entered, finish = threading.Event(), threading.Event()

    def straggler() -> None:
        with pytest.raises(ConnectionError), guard:
            entered.set()
            finish.wait(10)
            raise ConnectionError

    with breakerd.fake() as fake:
        thread = threading.Thread(target=straggler)
        thread.start()
        assert entered.wait(10)
        fake.set("openai", "half-open")
        with guard as probe:
            assert probe.is_probe
            finish.set()
            thread.join(10)
            assert words(fake) == ["failure"]
        assert words(fake) == ["failure", "success"]


def test_a_block_entered_in_one_thread_and_left_in_another() -> None:
    """As FastAPI's synchronous dependencies are."""
    guard = breakerd.breaker("openai")
    with breakerd.fake() as fake:
        for _ in range(2):
            thread = threading.Thread(target=guard.__enter__)
            thread.start()
            thread.join()
        guard.__exit__(None, None, None)
        guard.__exit__(ConnectionError, ConnectionError(), None)
        guard.__exit__(None, None, None)  # nothing is held: nothing happens
    assert words(fake) == ["success", "failure"]


def test_the_probes_holder_enters_again_and_nobody_else() -> None:
    guard = breakerd.breaker("openai")

    @guard
    def inner() -> str:
        return "in"

    @guard
    def outer() -> str:
        with pytest.raises(breakerd.Rejected):
            run_in_thread(inner)
        return inner()

    with breakerd.fake(openai="half-open") as fake:
        assert outer() == "in"
        assert words(fake) == ["success"]
        with pytest.raises(ConnectionError), guard, guard:
            raise ConnectionError
        assert words(fake) == ["success", "failure"]
        with guard:
            with pytest.raises(ConnectionError), guard:
                raise ConnectionError
        assert words(fake) == ["success", "failure", "failure"]


def run_in_thread(call: Any) -> Any:
    result: List[Any] = []

    def run() -> None:
        try:
            result.append((True, call()))
        except BaseException as error:
            result.append((False, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    done, value = result[0]
    if done:
        return value
    raise value


def test_an_exception_is_counted_once_for_a_breaker() -> None:
    openai, psp = breakerd.breaker("openai"), breakerd.breaker("psp")

    @openai
    def inner() -> None:
        raise ConnectionError

    @openai
    @psp
    def outer() -> None:
        try:
            inner()
        except ConnectionError as error:
            raise RuntimeError from error

    with breakerd.fake() as fake:
        with pytest.raises(RuntimeError):
            outer()
        assert words(fake, "openai") == ["failure", "ignored"]
        assert words(fake, "psp") == ["failure"]


def test_the_same_exception_object_raised_by_a_later_call_is_counted_again() -> None:
    guard, error = breakerd.breaker("openai"), ConnectionError()

    @guard
    def call() -> None:
        raise error

    with breakerd.fake() as fake:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                call()
        assert words(fake) == ["failure"] * 3


def test_first_admitted_takes_them_in_order() -> None:
    async def first() -> str:
        async with breakerd.first_admitted("openai", "anthropic") as permit:
            return permit.name

    with breakerd.fake() as fake:
        with breakerd.first_admitted("openai", "anthropic") as permit:
            assert permit.name == "openai"
        fake.set("openai", "open")
        assert asyncio.run(first()) == "anthropic"
        with pytest.raises(ConnectionError), breakerd.first_admitted("openai", "anthropic"):
            raise ConnectionError
        assert words(fake, "anthropic") == ["success", "failure"]
        fake.set("anthropic", "half-open")
        out = breakerd.breaker("anthropic").admit()
        with pytest.raises(breakerd.Rejected) as caught, breakerd.first_admitted("openai", "anthropic"):
            pass
        assert (caught.value.breaker, caught.value.reason) == ("anthropic", "probing")
        out.success()
    with pytest.raises(ValueError, match="at least one"):
        breakerd.first_admitted()


# -- rejections --


def test_a_rejection_pickles_and_has_headers() -> None:
    no = breakerd.Rejected("openai", "open", "open", 12.34, "3 consecutive failures")
    again = pickle.loads(pickle.dumps(no))
    assert (again.breaker, again.state, again.reason, again.retry_after, again.why) == (
        "openai", "open", "open", 12.34, "3 consecutive failures",
    )
    assert str(again) == "openai is open: 3 consecutive failures; try again in 12.3 s"
    seconds = {int(no.http_headers()["Retry-After"]) for _ in range(200)}
    assert seconds <= {13, 14, 15} and len(seconds) > 1
    assert breakerd.Rejected("openai", "open", "forced", None).http_headers() == {}
    assert breakerd.Rejected.__module__ == breakerd.Denied.__module__ == "breakerd"


def test_resets_go_through_the_fake() -> None:
    guard = breakerd.breaker("openai")
    with breakerd.fake(openai="open") as fake:
        guard.reset(because="tested")
        assert (guard.state, fake.resets) == ("closed", [("openai", "tested")])
        fake.deny("openai")
        with pytest.raises(breakerd.Denied):
            asyncio.run(guard.reset_async(because="tested"))


def test_the_fixture_is_found_by_pytest(breakerd_fake: breakerd.Fake) -> None:
    breakerd_fake.set("openai", "half_open")
    assert breakerd.breaker("openai").state == "half-open"
    with pytest.raises(ValueError, match="may be one of"):
        breakerd_fake.set("openai", "ajar")


# -- alone --


def test_the_whole_api_without_a_daemon_ever(caplog: pytest.LogCaptureFixture) -> None:
    guard = breakerd.breaker("openai", policy=breakerd.Policy(consecutive_failures=3, cooldown="10s"))
    caplog.set_level(logging.WARNING)
    assert guard.observe() == breakerd.Sight("closed", 0, None, 0.0, "")
    for _ in range(3):
        with pytest.raises(ConnectionError), guard:
            raise ConnectionError
    assert (guard.state, guard.failures) == ("open", 3)
    last = guard.last_failure
    assert last is not None and (last.kind, last.detail) == ("connect", "ConnectionError")
    with pytest.raises(breakerd.Rejected) as caught, guard:
        pass
    assert caught.value.state == "open"
    assert caught.value.retry_after is not None and 0 < caught.value.retry_after <= 11

    async def alone() -> None:
        with pytest.raises(breakerd.Rejected):
            async with guard:
                pass
        assert guard.state == "open"
        await guard.reset_async(because="tested")
        async with guard:
            pass

    asyncio.run(alone())
    assert (guard.state, guard.failures) == ("closed", 0)
    stand = breakerd.health()
    assert (stand.daemon, stand.link, stand.is_joined) == (None, None, False)
    assert str(stand).startswith("no daemon at ") and str(stand).endswith(", local")
    assert caplog.text.count("start it with `systemctl start breakerd`") == 1


@pytest.mark.parametrize(("fallback", "admits"), [("admit", True), ("reject", False)])
def test_other_fallbacks(fallback: str, admits: bool) -> None:
    policy = breakerd.Policy(consecutive_failures=1, fallback=fallback)  # type: ignore[arg-type]
    guard = breakerd.breaker("openai", policy=policy)
    if admits:
        for _ in range(3):
            with pytest.raises(ConnectionError), guard:
                raise ConnectionError
    else:
        with pytest.raises(breakerd.Rejected) as caught, guard:
            pass
        assert caught.value.reason == "no-daemon"


def run(program: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, timeout=60,
        env={"PATH": "/usr/bin:/bin", **env}, check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def test_importing_and_declaring_connects_to_nothing_and_starts_no_thread(place: Any) -> None:
    out = run(
        """
        import os, breakerd
        before = set(os.listdir("/proc/self/fd"))
        guard = breakerd.breaker("openai", policy=breakerd.Policy(cooldown="15s"))
        guarded = guard(lambda: 1)
        print(set(os.listdir("/proc/self/fd")) - before, len(os.listdir("/proc/self/task")))
        guarded()
        print(len(os.listdir("/proc/self/task")))
        """,
        BREAKERD_SOCKET=str(place / "s.sock"),
    )
    first, *rest = out.splitlines()
    assert first == "set() 1" and rest[-1] == "1"


def test_a_variable_that_cannot_be_understood_is_told_at_the_first_call() -> None:
    out = run(
        """
        import breakerd
        try:
            breakerd.breaker("openai").state
        except ValueError as error:
            print(error)
        """,
        BREAKERD_MODE="of",
    )
    assert out.strip() == 'BREAKERD_MODE is "of"; it may be `on`, `shadow` or `off`'


def test_off_admits_and_counts_nothing() -> None:
    out = run(
        """
        import breakerd
        guard = breakerd.breaker("openai", policy=breakerd.Policy(consecutive_failures=1))
        for _ in range(3):
            guard.admit().fail("x")
        print(guard.state, guard.failures, breakerd.health())
        """,
        BREAKERD_MODE="off",
    )
    assert out.strip() == "closed 0 off"
