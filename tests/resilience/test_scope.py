"""Who owns the retries of a path."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from dspex_lab.resilience import Retry, is_retrying, retry, retry_sync, retrying

AT_ONCE = Retry(attempts=3, wait=0.0, jitter=0.0)


def test_nobody_retries_where_nobody_says_so() -> None:
    assert not is_retrying()


def test_the_scope_is_the_block() -> None:
    with retrying():
        assert is_retrying()
        with retrying(False):
            assert not is_retrying()
        assert is_retrying()
    with pytest.raises(ValueError, match="x"), retrying():
        raise ValueError("x")
    assert not is_retrying()


def test_it_reaches_tasks_threads_and_copied_contexts() -> None:
    async def main() -> list[bool]:
        with retrying():
            seen: list[bool] = []
            raw = threading.Thread(target=contextvars.copy_context().run, args=(lambda: seen.append(is_retrying()),))
            raw.start()
            task = asyncio.create_task(asyncio.to_thread(is_retrying))
            answers = [await task, await asyncio.to_thread(is_retrying)]
            raw.join()
        return [*answers, *seen, is_retrying()]

    assert asyncio.run(main()) == [True, True, True, False]


def test_each_attempt_of_a_retry_is_in_it_and_nothing_else_is() -> None:
    seen: list[bool] = []

    def work(attempt: int) -> str:
        seen.append(is_retrying())
        if attempt < 3:
            raise OSError("x")
        return "done"

    async def awaited(attempt: int) -> str:
        return work(attempt)

    async def main() -> tuple[str, bool]:
        return await retry(awaited, AT_ONCE, told=lambda *_: seen.append(is_retrying())), is_retrying()

    assert retry_sync(work, AT_ONCE, told=lambda *_: seen.append(is_retrying())) == "done"
    assert not is_retrying()
    assert asyncio.run(main()) == ("done", False)
    assert seen == [True, False, True, False, True] * 2


def test_a_policy_of_one_attempt_owns_nothing() -> None:
    async def seen(attempt: int) -> bool:
        return is_retrying()

    once = Retry(attempts=1)
    assert retry_sync(lambda attempt: is_retrying(), once) is False
    assert asyncio.run(retry(seen, once)) is False
    with retrying():
        assert retry_sync(lambda attempt: is_retrying(), once) is True


def test_a_single_attempt_that_fails_is_raised_as_it_is() -> None:
    async def failing(attempt: int) -> None:
        raise OSError("x")

    def failing_sync(attempt: int) -> None:
        raise OSError("x")

    with pytest.raises(OSError, match="x"):
        asyncio.run(retry(failing, Retry(attempts=1)))
    with pytest.raises(OSError, match="x"):
        retry_sync(failing_sync, Retry(attempts=1))
    assert not is_retrying()


def test_a_coroutine_may_be_driven_from_another_context_than_it_began_in() -> None:
    class Pause:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def work(attempt: int) -> str:
        await Pause()
        return "done"

    coroutine = retry(work, AT_ONCE)
    contextvars.copy_context().run(coroutine.send, None)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == "done"


def test_a_wait_for_nothing_is_not_begun() -> None:
    asked: list[float] = []

    def failing(attempt: int) -> None:
        raise OSError(f"attempt {attempt}")

    with pytest.raises(OSError, match="attempt 2"):
        retry_sync(failing, Retry(attempts=5, wait=0.0, jitter=0.0), futile=lambda s: asked.append(s) or len(asked) > 1)
    assert asked == [0.0, 0.0]
