"""Checkpoints: what was done is not done again, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_helpers import C, Work, again

import dspex_lab as dx
from dspex_lab.pipelines import each, loop, parallel

# --- what is done again, and what is not -----------------------------------------------------------------------------------


def test_a_second_run_goes_on_where_the_first_failed_and_a_complete_one_is_forgotten(lab: dx.Lab, work: Work) -> None:
    def a(x: int) -> int:
        work("a")
        return x + 1

    def b(a: int) -> int:
        work("b")
        return a * 10

    whole = dx.pipeline("p", a=a, b=b)
    work.broken = {"b"}
    assert lab.run(whole, x=1, options=C).status == "partial"
    kept = lab.checkpoints()
    assert (kept["name"][0], kept["steps"][0]) == ("c", 1)
    result = again(lab, work, whole, x=1)
    assert result.outputs == {"a": 2, "b": 20}
    assert result.status == "complete"
    assert work.ran == ["b"]
    assert result.steps["a"].implementation == "checkpoint"
    assert lab.checkpoints().empty
    events = lab.sql("SELECT name, step FROM events WHERE starts_with(name, 'checkpoint')")
    assert list(events.itertuples(index=False, name=None)) == [("checkpoint.load", "a")]
    assert again(lab, work, whole, x=1).status == "complete"
    assert work.ran == ["a", "b"], "after a complete run it begins anew"


def test_without_the_option_nothing_is_kept(lab: dx.Lab) -> None:
    lab.run(dx.pipeline("p", a=lambda x: 1 / x), x=0)
    assert lab.checkpoints().empty


def test_a_mended_step_and_what_follows_from_it_is_done_again_and_nothing_else(lab: dx.Lab, work: Work) -> None:
    def a(x: int) -> int:
        work("a")
        return x

    def side(x: int) -> int:
        work("side")
        return x

    def b(a: int) -> int:
        work("b")
        return a

    def c(b: int, side: int) -> int:
        work("c")
        return b

    def end(c: int) -> int:
        work("end")
        return c

    work.broken = {"end"}
    lab.run(dx.pipeline("p", a=a, side=side, b=b, c=c, end=end), x=1, options=C)

    def mended(a: int) -> int:
        work("b")
        return a + 100

    result = again(lab, work, dx.pipeline("p", a=a, side=side, b=mended, c=c, end=end), x=1)
    assert work.ran == ["b", "c", "end"]
    assert result["end"] == 101


def test_a_mended_step_that_gives_the_same_costs_only_itself(lab: dx.Lab, work: Work) -> None:
    def b(a: int) -> int:
        work("b")
        return a

    def end(b: int) -> int:
        work("end")
        return b

    work.broken = {"end"}
    lab.run(dx.pipeline("p", a=lambda x: x, b=b, end=end), x=1, options=C)
    again(lab, work, dx.pipeline("p", a=lambda x: x * 1, b=b, end=end), x=1)
    assert work.ran == ["end"], "its value is what the next step sees"


def test_other_inputs_are_other_work(lab: dx.Lab, work: Work) -> None:
    def a(x: Any) -> Any:
        work("a")
        return 1

    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=a, end=end)
    for value, other in ((1, 2), (1, True), (1, 1.0), ("1", 1), ([1], (1,)), ({"a": 1}, {"a": 2})):
        work.broken = {"end"}
        lab.run(whole, {"x": value}, options=C)
        again(lab, work, whole, x=other)
        assert work.ran == ["a", "end"], (value, other)


def test_a_step_that_changes_its_inputs_is_found_again(lab: dx.Lab, work: Work) -> None:
    def a(xs: list[int]) -> int:
        work("a")
        xs.append(99)
        return len(xs)

    def end(a: int) -> int:
        work("end")
        return a

    work.broken = {"end"}
    whole = dx.pipeline("p", a=a, end=end)
    lab.run(whole, xs=[1], options=C)
    again(lab, work, whole, xs=[1])
    assert work.ran == ["end"]


def test_steps_in_others_and_each_item_are_kept_apart(lab: dx.Lab, work: Work) -> None:
    def square(n: int) -> int:
        work(f"square {n}")
        return n * n

    def first(x: int) -> int:
        work("first")
        return x

    def last(first: int) -> int:
        work("last")
        return first

    inner = dx.pipeline("inner", first=first, last=last)
    whole = dx.pipeline("p", squares=each("ns", square, item="n"), inner=inner, both=parallel(u=lambda x: work("u")))
    work.broken = {"square 3", "last"}
    lab.run(whole, ns=[1, 2, 3, 4], x=5, options=C)
    kept = lab.store.checkpoint("c")
    assert set(kept) == {"squares.item[0]", "squares.item[1]", "squares.item[3]", "inner.first", "both.u", "both"}
    result = again(lab, work, whole, ns=[1, 2, 3, 4], x=5)
    assert sorted(work.ran) == ["last", "square 3"]
    assert result["squares"] == [1, 4, 9, 16]
    assert result["last"] == 5


def test_items_that_moved_are_done_again(lab: dx.Lab, work: Work) -> None:
    def square(n: int) -> int:
        work(f"square {n}")
        return n * n

    whole = dx.pipeline("p", squares=each("ns", square, item="n", concurrency=1))
    work.broken = {"square 3"}
    lab.run(whole, ns=[1, 2, 3], options=C)
    assert again(lab, work, whole, ns=[1, 3, 2])["squares"] == [1, 9, 4]
    assert work.ran == ["square 3", "square 2"]


def test_rounds_of_a_loop_and_branches_go_on(lab: dx.Lab, work: Work) -> None:
    def more(n: int) -> dict[str, int]:
        work(f"more {n}")
        return {"n": n + 1}

    whole = dx.pipeline("p", up=loop(more, until="n >= 4", limit=9))
    work.broken = {"more 2"}
    lab.run(whole, n=0, options=C)
    result = again(lab, work, whole, n=0)
    assert result["n"] == 4
    assert work.ran == ["more 2", "more 3"]


def test_a_partial_or_fallen_back_step_is_done_again(lab: dx.Lab, work: Work) -> None:
    def weak(x: int) -> int:
        work("weak")
        return x

    def end(weak: int) -> int:
        work("end")
        return weak

    whole = dx.pipeline("p", weak=dx.step(weak, on_error="fallback", fallback=-1), end=end)
    work.broken = {"weak", "end"}
    lab.run(whole, x=1, options=C)
    assert lab.checkpoints().empty
    assert again(lab, work, whole, x=1)["end"] == 1


def test_a_retried_step_is_kept_and_its_cache_is_not_asked_first(lab: dx.Lab, work: Work) -> None:
    tries: list[int] = []

    def shaky(x: int) -> int:
        tries.append(x)
        if len(tries) == 1:
            raise ValueError("once")
        return x

    def end(shaky: int) -> int:
        work("end")
        return shaky

    work.broken = {"end"}
    whole = dx.pipeline("p", shaky=dx.step(shaky, retries=1, idempotent=True, cache=True), end=end)
    lab.run(whole, x=1, options=C)
    assert again(lab, work, whole, x=1).status == "complete"
    assert len(tries) == 2


# --- how it is run ---------------------------------------------------------------------------------------------------------


def test_siblings_save_at_the_same_time(lab: dx.Lab, work: Work) -> None:
    barrier = threading.Barrier(12, timeout=60)

    def of(number: int) -> Callable[[int], int]:
        def sibling(x: int) -> int:
            barrier.wait()
            return x + number

        return sibling

    def end(s0: int) -> int:
        work("end")
        return s0

    whole = dx.pipeline("p", **{f"s{i}": of(i) for i in range(12)}, end=end)
    work.broken = {"end"}
    lab.run(whole, x=1, options=C)
    assert lab.checkpoints()["steps"][0] == 12
    barrier.abort()
    result = again(lab, work, whole, x=1)
    assert [result[f"s{i}"] for i in range(12)] == list(range(1, 13))


def test_two_runs_at_once_cannot_have_the_same_name(lab: dx.Lab) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(x: int) -> int:
        inside.set()
        assert go.wait(60)
        return x

    whole = dx.pipeline("p", slow=slow)
    results: list[dx.Result] = []
    thread = threading.Thread(target=lambda: results.append(lab.run(whole, x=1, options=C)))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(dx.ConfigurationError, match="A run that is under way uses the checkpoint 'c'"):
        lab.run(dx.pipeline("q", a=lambda x: x), x=1, options=C)
    with pytest.raises(dx.ConfigurationError, match="under way uses the checkpoint 'c'"):
        lab.store.put_checkpoint("c", "s", "k", "{}") or lab.forget_checkpoint("c")
    assert lab.run(dx.pipeline("q", a=lambda x: x), x=1, options=dx.RunOptions(checkpoint="d")).status == "complete"
    go.set()
    thread.join()
    assert results[0].status == "complete"
    assert lab.run(whole, x=1, options=C).status == "complete", "it is free again"
    started = lab.sql("SELECT count(*) AS n FROM events WHERE name = 'run.start'")["n"][0]
    assert started == 3, "the one that was refused never began"


def test_another_labs_checkpoint_of_that_name_is_its_own() -> None:
    with dx.Lab(":memory:") as one, dx.Lab(":memory:") as other:
        nested = dx.pipeline("p", a=lambda x: other.run(dx.pipeline("q", b=lambda y: y), y=x, options=C)["b"])
        assert one.run(nested, x=3, options=C)["a"] == 3


def test_two_labs_of_one_file_share_its_checkpoints(tmp_path: Path) -> None:
    with dx.Lab(tmp_path / "lab.duckdb") as one, dx.Lab(tmp_path / "lab.duckdb") as other:
        refused = dx.pipeline("p", a=lambda x: other.run(dx.pipeline("q", b=lambda y: y), y=x, options=C)["b"])
        result = one.run(refused, x=3, options=C)
        assert "under way uses the checkpoint 'c'" in str(result.error)
        assert other.checkpoints().empty
        one.run(dx.pipeline("p", a=lambda x: x, b=lambda a: 1 / 0), x=1, options=C)
        assert list(other.checkpoints()["name"]) == ["c"]


def test_what_cannot_be_written_is_said_and_the_run_goes_on(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(lab.store, "put_checkpoint", full)
    result = lab.run(dx.pipeline("p", a=lambda x: x), x=1, options=C)
    assert result.status == "complete"
    told = lab.sql("SELECT data::VARCHAR AS data FROM events WHERE name = 'checkpoint.skip'")["data"]
    assert "could not be written: OSError: no space left" in told[0]


def test_a_shelf_that_cannot_be_read_leaves_the_name_free(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise dx.StoreError("it is broken", path=None)

    whole = dx.pipeline("p", a=lambda x: x)
    with monkeypatch.context() as patched:
        patched.setattr(lab.store, "checkpoint", broken)
        with pytest.raises(dx.StoreError, match="it is broken"):
            lab.run(whole, x=1, options=C)
    assert lab.run(whole, x=1, options=C).status == "complete"


def test_a_cancelled_run_keeps_what_is_done_and_frees_the_name(lab: dx.Lab, work: Work) -> None:
    reached = asyncio.Event()
    waits = True

    async def a(x: int) -> int:
        work("a")
        return x

    async def slow(a: int) -> int:
        work("slow")
        reached.set()
        if waits:
            await asyncio.sleep(600)
        return a

    async def main() -> None:
        task = asyncio.ensure_future(lab.arun(whole, x=1, options=C))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    whole = dx.pipeline("p", a=a, slow=slow)
    asyncio.run(main())
    waits = False
    reached = asyncio.Event()
    assert again(lab, work, whole, x=1).status == "complete"
    assert work.ran == ["slow"]


def test_a_streamed_run_tells_of_what_was_kept(lab: dx.Lab, work: Work) -> None:
    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=lambda x: x + 1, end=end)
    work.broken = {"end"}
    lab.run(whole, x=1, options=C)
    work.broken.clear()
    with lab.stream(whole, x=1, options=C) as events:
        fields = {(e.step, e.value) for e in events if e.kind == "field"}
    assert fields == {("a", 2), ("end", 2)}
    assert events.result.status == "complete"


@pytest.mark.parametrize("name", ["", "  ", 3])
def test_what_is_no_name_is_refused_before_anything_runs(lab: dx.Lab, work: Work, name: Any) -> None:
    with pytest.raises(dx.ConfigurationError, match="is no name"):
        lab.run(dx.pipeline("p", a=lambda x: work("a")), x=1, options=dx.RunOptions(checkpoint=name))
    assert not work.ran


def test_a_map_refuses_it_and_says_how_it_goes_on(lab: dx.Lab) -> None:
    with pytest.raises(dx.ConfigurationError, match="A map needs no checkpoint"):
        lab.map(dx.pipeline("p", a=lambda x: x), [{"x": 1}], options=C, progress=False)


def test_checkpoints_are_listed_and_forgotten(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", a=lambda x: x, end=lambda a: 1 / 0)
    for name in ("one", "two"):
        lab.run(whole, x="é" * 10, options=dx.RunOptions(checkpoint=name))
    listed = lab.checkpoints()
    assert list(listed.columns) == ["name", "steps", "bytes", "newest"]
    assert list(listed["name"]) == ["two", "one"]
    assert listed["bytes"][0] == len(lab.store.checkpoint("one")["a"][1].encode())
    lab.forget_checkpoint("two")
    assert list(lab.checkpoints()["name"]) == ["one"]
    with pytest.raises(dx.ConfigurationError, match=r"Nothing is kept under the checkpoint 'on'\. Did you mean 'one'"):
        lab.forget_checkpoint("on")
