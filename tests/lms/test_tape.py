"""A tape plays back exactly what was recorded, by the request, in any order; what it lacks is asked for or said."""

from __future__ import annotations

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tape_helpers import recorded, request

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms.tape._engine import taped, taped_embedder
from dspex_lab.lms.tape._tape import Tape, TapeError, TapeMiss
from dspex_lab.resilience import Retry
from dspex_lab.testing import ScriptedEngine

# --- whole answers --------------------------------------------------------------------------------------------------


def test_what_was_recorded_is_played_back_without_an_engine(either: Path) -> None:
    engine = ScriptedEngine(["one", "two"])
    with Tape(either, "record") as tape:
        answers = [taped(engine, tape).complete(request(text)) for text in ("a", "b")]
    assert (tape.recorded, engine.calls) == (2, 2)
    with Tape(either, "replay") as tape:
        player = taped(None, tape, asynchronous=False)
        assert [player.complete(request(text)) for text in ("b", "a")] == answers[::-1]  # another order
        assert (tape.replayed, len(tape)) == (2, 2)


def test_an_answer_keeps_all_it_had(path: Path) -> None:
    from dspy.lm15 import DataPart, Message, Response, TextPart, ThinkingPart, ToolCallPart, Usage

    parts = [
        ThinkingPart("hm"),
        TextPart("yes \ud83d\u2028"),
        ToolCallPart("1", "f", {"z": [1.5], "a": None}),
        DataPart({"a": 1}),
    ]
    whole = Response(
        id="r1",
        model="real",
        message=Message.assistant(parts),
        finish_reason="tool_call",
        usage=Usage(10, 20, reasoning_tokens=5),
        provider_data={"service_tier": "flex"},
    )

    class Engine:
        def complete(self, request: Any) -> Any:
            return whole

    with Tape(path, "record") as tape:
        taped(Engine(), tape).complete(request())
    with Tape(path, "replay") as tape:
        again = taped(None, tape).complete(request())
    assert again == whole
    assert list(again.tool_calls[0].input) == ["z", "a"]  # DSPy writes them out in their order


def test_a_call_is_found_by_all_that_is_asked_and_nothing_else(path: Path) -> None:
    from dspy.lm15 import FunctionTool, Message, Request

    recorded(path, "one", "a")
    others = [
        request("b"),
        request("a", model="test/other"),
        request("a", temperature=0.5),
        Request(model="test/model", messages=(Message.user("a"),), tools=(FunctionTool(name="f", parameters={}),)),
        Request(model="test/model", messages=(Message.user("a"),), system="be kind"),
    ]
    with Tape(path, "replay") as tape:
        for other in others:
            with pytest.raises(TapeMiss):
                taped(None, tape).complete(other)
        assert taped(None, tape).complete(request("a")).text == "one"


def test_several_answers_to_one_request_come_in_their_order_then_the_last_again(path: Path) -> None:
    recorded(path, ["one", "two"], "a", "a")
    with Tape(path, "replay") as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "two"]
        tape.rewind()
        assert taped(None, tape).complete(request("a")).text == "one"


def test_an_exact_tape_has_no_answer_more(path: Path) -> None:
    recorded(path, ["one", "two"], "a", "a")
    with Tape(path, "replay", exact=True) as tape:
        player: Any = taped(None, tape)
        asked = player.asked(request("a"))
        for _ in range(2):
            assert tape.has(asked)
            player.complete(request("a"))
        assert not tape.has(asked)
        with pytest.raises(TapeMiss, match="recorded 2 times, and this is one more"):
            player.complete(request("a"))


def test_rollouts_are_kept_apart(path: Path) -> None:
    engine = ScriptedEngine(["one", "two"])
    with Tape(path, "record") as tape:
        for rollout in (1, 2):
            taped(engine, tape, rollout=rollout).complete(request("a"))
    with Tape(path, "replay") as tape:
        assert [taped(None, tape, rollout=r).complete(request("a")).text for r in (2, 1, 2)] == ["two", "one", "two"]
        with pytest.raises(TapeMiss, match=r"rollout_id is [12] on the tape and None here"):
            taped(None, tape).complete(request("a"))


def test_many_threads_find_each_its_own(path: Path) -> None:
    engine = ScriptedEngine(lambda prompt: f"answer to {prompt.text}")
    texts = [f"question {i % 40}" for i in range(160)]
    with Tape(path, "record") as tape, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda text: taped(engine, tape).complete(request(text)), texts))
    assert tape.recorded == 160
    with Tape(path, "replay") as tape, ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda text: taped(None, tape).complete(request(text)), texts[::-1]))
    assert again == made[::-1]
    assert tape.replayed == 160


def test_answers_stand_in_the_order_in_which_they_were_asked_for(path: Path) -> None:
    first_may_end, second_ended = threading.Event(), threading.Event()

    class Engine:
        def __init__(self) -> None:
            self.first, self.second = ScriptedEngine("first"), ScriptedEngine("second")

        def complete(self, request: Any) -> Any:
            if first_may_end.is_set():
                return self.second.complete(request)
            first_may_end.set()
            assert second_ended.wait(30)
            return self.first.complete(request)

    with Tape(path, "record") as tape:
        player = taped(Engine(), tape)
        slow = threading.Thread(target=player.complete, args=(request("a"),))
        slow.start()
        assert first_may_end.wait(30)
        player.complete(request("a"))
        second_ended.set()
        slow.join(30)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()[1:]] == [2, 1]
    with Tape(path, "replay") as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(2)] == ["first", "second"]


# --- modes ----------------------------------------------------------------------------------------------------------


def test_once_records_where_there_is_no_tape_and_plays_back_where_there_is(path: Path) -> None:
    engine = ScriptedEngine("one")
    for mode, calls in (("record", 1), ("replay", 1)):
        with Tape(path) as tape:
            assert tape.mode == mode
            taped(engine, tape).complete(request())
        assert engine.calls == calls


def test_fill_asks_the_engine_for_what_is_missing_and_only_then(path: Path) -> None:
    recorded(path, "old", "a")
    engine, told = ScriptedEngine("new"), []
    with Tape(path, "fill", told=lambda *each: told.append(each)) as tape:
        player = taped(engine, tape)
        assert [player.complete(request(text)).text for text in ("a", "b", "b", "a")] == ["old", "new", "new", "old"]
        assert (engine.calls, tape.recorded, tape.replayed, tape.missed) == (1, 1, 3, 1)
    assert [(name, data["tape"], data["model"], data["line"]) for name, data in told] == [
        ("tape.miss", "demo.jsonl", "test/model", 2)
    ]
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("b")).text == "new"


def test_an_exact_tape_that_is_filled_grows_by_the_calls_it_lacks(path: Path) -> None:
    recorded(path, "one", "a")
    engine = ScriptedEngine(["two", "three"])
    with Tape(path, "fill", exact=True) as tape:
        assert [taped(engine, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "three"]
    with Tape(path, "replay", exact=True) as tape:
        assert [taped(None, tape).complete(request("a")).text for _ in range(3)] == ["one", "two", "three"]


def test_a_new_recording_replaces_what_it_asks_again_and_removes_nothing(path: Path) -> None:
    recorded(path, ["old a", "old a again", "old b"], "a", "a", "b")
    before = path.read_bytes()
    recorded(path, "new a", "a")
    assert path.read_bytes().startswith(before)
    with Tape(path, "replay") as tape:
        player = taped(None, tape)
        assert [player.complete(request(text)).text for text in ("a", "a", "b")] == ["new a", "new a", "old b"]
        assert len(tape) == 2


@pytest.mark.parametrize(("name", "mode"), [("none", "replay"), ("all", "record"), ("new_episodes", "fill")])
def test_the_names_of_vcrpy_are_understood(path: Path, name: str, mode: str) -> None:
    recorded(path, "one", "a")
    with Tape(path, name) as tape:
        assert tape.mode == mode
        assert repr(tape) == f"Tape('demo.jsonl', '{mode}', 1 calls)"


def test_a_mode_or_speed_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'replay'"):
        Tape(path, "reply")
    for speed in (0, -1, float("nan"), True, "fast"):
        with pytest.raises(ConfigurationError, match="speed"):
            Tape(path, speed=speed)  # type: ignore[arg-type]


# --- misses ---------------------------------------------------------------------------------------------------------


def test_a_miss_names_the_nearest_call_and_what_differs(path: Path) -> None:
    engine, told = ScriptedEngine("one"), []
    with Tape(path, "record") as tape:
        for text in ("Where is my card? It was sent two weeks ago.", "How do I top up?"):
            taped(engine, tape).complete(request(text, temperature=0.7, max_tokens=100))
    with Tape(path, "replay", told=lambda *each: told.append(each)) as tape, pytest.raises(TapeMiss) as caught:
        taped(None, tape).complete(request("Where is my card? It was sent two days ago.", temperature=0.0, max_tokens=100))
    assert str(caught.value) == (
        "This call of 'test/model' is not on demo.jsonl. The nearest of 2 recorded calls is line 2: config.temperature is 0.7 "
        "on the tape and 0.0 here; messages[0].parts[0].text is …'t was sent two weeks ago.' on the tape and "
        "…'t was sent two days ago.' here. Record it with mode='fill' and a key, or run what was recorded."
    )
    assert isinstance(caught.value, LMError)
    assert caught.value.engine == "test/model"
    ((name, data),) = told
    assert name == "tape.miss"
    assert (data["line"], len(data["differs"])) == (2, 2)
    json.dumps(data)


def test_a_miss_is_not_tried_again(path: Path) -> None:
    with Tape(path, "record"):
        pass
    with Tape(path, "replay") as tape, pytest.raises(TapeMiss, match="Nothing is recorded on it") as caught:
        taped(None, tape).complete(request())
    assert not Retry(attempts=3).covers(caught.value)


def test_another_model_and_more_differences_than_are_told(path: Path) -> None:
    recorded(path, "one", "a")
    with Tape(path, "replay") as tape:
        with pytest.raises(TapeMiss, match="line 2: model is 'test/model' on the tape and 'test/other' here"):
            taped(None, tape).complete(request("a", model="test/other"))
        with pytest.raises(TapeMiss, match=r"config\.seed is nothing on the tape and 3 here.*; and 1 more\."):
            taped(None, tape).complete(request("a", model="test/other", seed=3, top_p=0.5, temperature=1.0))


# --- workers, copies ------------------------------------------------------------------------------------------------


def test_what_a_worker_recorded_in_memory_comes_home(path: Path) -> None:
    with Tape(None, "record") as there:
        taped(ScriptedEngine(["one", "two"]), there).complete(request("a"))
        list(taped(ScriptedEngine("one two"), there).stream(request("b")))
    lines = json.loads(json.dumps(there.lines()))
    with Tape(path, "record") as home:
        home.extend(lines)
        for bad in ("{", "{}", '{"kind": "complete"}'):
            with pytest.raises(TapeError, match="Line 1"):
                home.extend([bad])
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request("a")).text == "one"
        assert len(list(taped(None, tape).stream(request("b")))) == 4
    assert repr(there) == "Tape(None, 'record', 0 calls)"


def test_a_copied_model_is_recorded_on_the_same_tape_and_none_travels(path: Path) -> None:
    with Tape(path, "record") as tape:
        player: Any = taped(ScriptedEngine("one"), tape)
        assert copy.deepcopy(player) is player
        assert copy.deepcopy(tape) is tape
        assert bool(tape)
        with pytest.raises(TypeError, match="stays in its process"):
            player.dump_state()
        assert player.simulated is True
        assert not hasattr(player, "complete_legacy")
        assert not hasattr(player, "nothing")
        assert repr(player) == "TapedEngine(ScriptedEngine, Tape('demo.jsonl', 'record', 0 calls))"
        player.close()


def test_who_uses_a_tape_hears_of_its_end_once(path: Path) -> None:
    heard: list[bool] = []
    with Tape(path, "record") as tape:
        tape.on_close(lambda: heard.append(tape.closed))
    tape.close()
    assert (heard, tape.closed) == ([False], True)


# --- embeddings -----------------------------------------------------------------------------------------------------


def test_vectors_are_played_back_to_the_last_bit(path: Path) -> None:
    import dspy

    def embed(texts: Any) -> Any:
        return np.random.default_rng(len(texts[0])).normal(size=(len(texts), 7)).astype(np.float32)

    with Tape(path, "record") as tape:
        made = taped_embedder(embed, tape, "test/embed")(["a", "bc"])
    with Tape(path, "replay", speed=1000.0) as tape:
        player = taped_embedder(None, tape, "test/embed")
        np.testing.assert_array_equal(player(["a", "bc"]), made)
        np.testing.assert_array_equal(dspy.Embedder(player, caching=False)(["a", "bc"]), made)
        with pytest.raises(TapeMiss, match="texts"):
            player(["other"])


def test_an_embedder_that_fails_does_so_again(path: Path) -> None:
    def embed(texts: Any) -> Any:
        raise ValueError("planned")

    with Tape(path, "record") as tape, pytest.raises(ValueError, match="planned"):
        taped_embedder(embed, tape, "test/embed")(["a"])
    with Tape(path, "replay") as tape, pytest.raises(ValueError, match="planned"):
        taped_embedder(None, tape, "test/embed")(["a"])
