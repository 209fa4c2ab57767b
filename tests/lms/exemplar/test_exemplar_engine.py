"""The offline engine through DSPy: every adapter, sync, async, streamed, cached, pickled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal

import cloudpickle
import dspy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from library_desks import CODES, TEST, TRAIN

from dspex_lab.lms import AsyncExemplarEngine, ExemplarEngine, make_lm
from dspex_lab.lms.exemplar._engine import answer, token_count

ADAPTERS = [
    dspy.ChatAdapter(use_json_adapter_fallback=False),
    dspy.JSONAdapter(),
    dspy.XMLAdapter(use_json_adapter_fallback=False),
]


class Desk(dspy.Signature):
    """Send the question to its desk."""

    message: str = dspy.InputField()
    desk: Literal["K4", "Z9", "W1"] = dspy.OutputField()


def examples(rows: list[tuple[str, str]]) -> list[dspy.Example]:
    return [dspy.Example(message=text, desk=CODES[topic]).with_inputs("message") for text, topic in rows]


def accuracy(program: Any) -> float:
    return sum(program(message=e.message).desk == e.desk for e in examples(TEST)) / len(TEST)


@pytest.fixture(autouse=True)
def offline() -> Iterator[dspy.LM]:
    lm = make_lm("offline", cache=False)
    with dspy.context(lm=lm):
        yield lm


class Person(pydantic.BaseModel):
    name: str
    emails: list[str]


class Everything(dspy.Signature):
    """Read the letter. angry: furious, outrage"""

    letter: str = dspy.InputField()
    reasoning: str = dspy.OutputField()
    kind: Literal["complaint", "praise"] = dspy.OutputField()
    refund: bool = dspy.OutputField(desc="whether a refund is asked for")
    amount: float = dspy.OutputField()
    stars: int = dspy.OutputField(desc="from 1 to 5")
    confidence: float = dspy.OutputField()
    emails: list[str] = dspy.OutputField()
    numbers: list[int] = dspy.OutputField()
    topics: list[Literal["delivery", "price", "staff"]] = dspy.OutputField()
    sender: Person = dspy.OutputField()
    people: list[Person] = dspy.OutputField()
    phone: str | None = dspy.OutputField()
    extra: dict[str, str] = dspy.OutputField()
    summary: str = dspy.OutputField()


LETTER = (
    "This is a complaint. The delivery was late and the staff of Mrs Anna Berg was rude. I am furious & want a refund of $30 "
    "for <order> 55. Write to ann@x.org."
)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_every_type_of_field_is_answered_in_the_form_of_the_adapter(adapter: Any) -> None:
    with dspy.context(adapter=adapter):
        found = dspy.Predict(Everything)(letter=LETTER)
    assert found.kind == "complaint"
    assert found.refund is True
    assert found.amount == 30.0
    assert found.stars == 3
    assert 0.0 <= found.confidence <= 1.0
    assert found.emails == ["ann@x.org"]
    assert found.topics == ["delivery", "staff"]
    assert found.sender == Person(name="Mrs Anna Berg", emails=["ann@x.org"])
    assert found.people == [found.sender]
    assert found.phone is None
    assert found.extra == {}
    assert found.summary in LETTER
    assert "'complaint'" in found.reasoning


class Mood(pydantic.BaseModel):
    tone: Literal["calm", "angry"]
    sure: bool
    words: int | None


@pytest.mark.parametrize("adapter", ADAPTERS[:2], ids=lambda a: type(a).__name__)
def test_members_of_an_object_follow_the_rules_of_fields(adapter: Any) -> None:
    class Read(dspy.Signature):
        """angry: furious, outrage"""

        letter: str = dspy.InputField()
        mood: Mood = dspy.OutputField()

    program = dspy.Predict(Read)
    with dspy.context(adapter=adapter):
        assert program(letter="I am furious, 3 times").mood == Mood(tone="angry", sure=False, words=3)
        program.demos = [dspy.Example(letter="please find my 4 keys", mood=Mood(tone="calm", sure=True, words=4))]
        assert program(letter="please find my 4 keys").mood == Mood(tone="calm", sure=True, words=4)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_demonstrations_make_it_better(adapter: Any) -> None:
    program = dspy.Predict(Desk)
    with dspy.context(adapter=adapter):
        before = accuracy(program)
        program.demos = examples(TRAIN)
        assert accuracy(program) >= max(0.8, before + 0.2)


def test_shuffled_demonstrations_do_not() -> None:
    found = []
    for seed in range(4):
        labels = [topic for _, topic in TRAIN]
        random.Random(seed).shuffle(labels)
        program = dspy.Predict(Desk)
        program.demos = examples([(t, y) for (t, _), y in zip(TRAIN, labels, strict=True)])
        found.append(accuracy(program))
    assert sum(found) / len(found) < 0.5


def test_better_instructions_make_it_better() -> None:
    told = Desk.with_instructions("K4: borrow, books, loan, renew\nZ9: room, seminar\nW1: printer, scan, copy, wifi, computer")
    assert accuracy(dspy.Predict(told)) >= 0.8


def test_a_few_shot_optimizer_climbs() -> None:
    compiled = dspy.BootstrapFewShot(
        metric=lambda e, p, trace=None: e.desk == p.desk, max_bootstrapped_demos=2, max_labeled_demos=16
    ).compile(dspy.Predict(Desk), trainset=examples(TRAIN))
    assert accuracy(compiled) >= 0.7


def test_demonstrations_of_some_fields_count_for_those() -> None:
    program = dspy.Predict("title, message -> desk: Literal['K4', 'Z9', 'W1'], urgent: bool")
    program.demos = [*examples(TRAIN), dspy.Example(message="room for an emergency", urgent=True)]
    assert program(title="hello", message="I want to reserve a seminar room").desk == "Z9"
    assert program(title="hello", message="an emergency in a room").urgent is True


def test_numbers_follow_alike_demonstrations() -> None:
    program = dspy.Predict("message -> minutes: int")
    program.demos = [
        dspy.Example(message="the train to Bergen is delayed", minutes=90),
        dspy.Example(message="a cup of coffee please", minutes=5),
    ]
    assert program(message="a train to Bergen, delayed again").minutes > program(message="some coffee, one cup").minutes


def test_words_follow_demonstrations() -> None:
    program = dspy.Predict("message -> answer")
    program.demos = [dspy.Example(message="Where are the toilets?", answer="Down the stairs.")]
    assert program(message="where are the toilets please").answer == "Down the stairs."
    assert program(message="My cat sleeps.").answer == "My cat sleeps."


def test_words_that_repeat_in_demonstrations_are_labels() -> None:
    program = dspy.Predict("message -> desk")
    program.demos = examples(TRAIN)
    assert program(message="which room can we reserve?").desk == "Z9"


def test_spans_follow_demonstrations() -> None:
    program = dspy.Predict("message -> place: str, count: int")
    program.demos = [
        dspy.Example(message="move 4 boxes to K-12", place="K-12", count=4),
        dspy.Example(message="bring 9 lamps to L-31", place="L-31", count=9),
    ]
    found = program(message="take 7 chairs to M-25 now")
    assert (found.place, found.count) == ("M-25", 7)


def test_lists_follow_demonstrations() -> None:
    program = dspy.Predict("message -> tags: list[str]")
    program.demos = [
        dspy.Example(message="the seminar room is cold", tags=["room", "heating"]),
        dspy.Example(message="the reading room is cold", tags=["room", "heating"]),
        dspy.Example(message="the printer is out of ink", tags=["machine"]),
    ]
    assert set(program(message="this seminar room is very cold").tags) <= {"room", "heating"}


def test_graded_instructions_set_numbers_beside_demonstrations() -> None:
    signature = dspy.Signature("message -> urgency: float", "0: thanks, praise. 1: stolen, fraud")
    program = dspy.Predict(signature)
    program.demos = [dspy.Example(message="nice day", urgency=0.4)]
    assert program(message="stolen bag").urgency == pytest.approx(0.7, abs=0.05)


def test_numbers_come_from_grades_from_the_text_or_not_at_all() -> None:
    graded = dspy.Predict(dspy.Signature("message -> urgency: float", "0: thanks, praise. 1: stolen, fraud"))
    assert graded(message="my bag was stolen").urgency == 1.0
    assert dspy.Predict("message -> count: int")(message="no digits at all").count == 0
    assert dspy.Predict("message -> count: int")(message="there were 17 of them").count == 17


def test_sums_are_worked_out() -> None:
    assert dspy.Predict("question -> answer")(question="What is 12*(3+4)?").answer == "84"


def test_a_demonstration_of_another_type_is_left_out() -> None:
    program = dspy.Predict("message -> tags: list[str], ok: bool")
    program.demos = [dspy.Example(message="hello world", tags="not a list", ok="maybe")]
    found = program(message="hello world")
    assert found.tags == ["hello", "world"]
    assert found.ok is False


def test_reasoning_says_which_demonstration_was_nearest() -> None:
    program = dspy.ChainOfThought(Desk)
    program.predict.demos = examples(TRAIN)
    found = program(message="renew my three books please")
    assert "three books" in found.reasoning
    assert "likeness" in found.reasoning
    assert "'K4'" in found.reasoning


def test_reasoning_says_when_there_is_nothing_to_go_by() -> None:
    found = dspy.ChainOfThought(Desk)(message="qqq")
    assert "nothing in the prompt speaks for another" in found.reasoning


def test_nothing_but_the_prompt_decides(offline: dspy.LM) -> None:
    program = dspy.Predict(Desk)
    first = program(message="the printer is broken").desk
    program.demos = examples(TRAIN)
    program(message="the printer is broken")
    program.demos = []
    assert program(message="the printer is broken").desk == first


def test_async_and_sync_agree() -> None:
    program = dspy.Predict(Desk)
    program.demos = examples(TRAIN)
    message = TEST[0][0]
    assert asyncio.run(program.acall(message=message)).desk == program(message=message).desk


def test_it_streams_the_same_answer_in_pieces() -> None:
    program = dspy.streamify(
        dspy.Predict("letter -> summary"),
        is_async_program=True,
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="summary")],
    )

    async def collect() -> tuple[list[str], Any]:
        pieces, final = [], None
        async for item in program(letter="The delivery came much too late for the party. Bye."):
            if isinstance(item, dspy.streaming.StreamResponse):
                pieces.append(item.chunk)
            else:
                final = item
        return pieces, final

    pieces, final = asyncio.run(collect())
    assert len(pieces) > 1
    assert "".join(pieces).strip() == final.summary


def test_a_sync_stream_holds_the_whole_answer() -> None:
    from dspy.lm15 import Message, Request

    request = Request(model="offline/exemplar", messages=(Message.user("These are four words"),))
    pieces = [e.delta.text for e in ExemplarEngine().stream(request) if e.type == "delta"]
    assert len(pieces) == 4
    assert "".join(pieces) == "These are four words"


def test_usage_is_counted_in_quarters_of_characters(offline: dspy.LM) -> None:
    assert [token_count(t) for t in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    dspy.Predict(Desk)(message="hello")
    entry = offline.history[-1]
    characters = sum(len(m["content"]) for m in entry["messages"])
    assert entry["usage"]["prompt_tokens"] == -(-characters // 4)
    assert entry["usage"]["completion_tokens"] == -(-len(entry["outputs"][0]) // 4)
    assert entry["response"].finish_reason == "stop"


def test_dspy_caches_it_where_asked_to() -> None:
    assert not make_lm("offline").cache
    lm = make_lm("offline", cache=True)
    with dspy.context(lm=lm):
        for _ in range(2):
            dspy.Predict(Desk)(message="is this answered twice by the engine?")
    assert lm.history[0]["usage"]
    assert lm.history[1]["usage"] == {}


def test_a_pickled_program_answers_the_same() -> None:
    program = dspy.Predict(Desk)
    program.demos = examples(TRAIN)
    program.set_lm(make_lm("offline", cache=False))
    again = cloudpickle.loads(cloudpickle.dumps(program))
    for example in examples(TEST)[:4]:
        assert again(message=example.message).desk == program(message=example.message).desk


@pytest.mark.parametrize("engine", [ExemplarEngine(0.25), AsyncExemplarEngine(0.25)])
def test_engines_are_saved_and_made_again(engine: Any) -> None:
    again = type(engine).load_state(engine.dump_state())
    assert again.latency == 0.25
    assert again.simulated


def test_latency_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("dspex_lab.lms.exemplar._engine.time", SimpleNamespace(sleep=waited.append))
    lm = make_lm("offline", latency=0.5, cache=False)
    assert lm("hello there") == ["hello there"]
    assert waited == [0.5]
    assert asyncio.run(make_lm("offline", latency=0.001, cache=False).acall("hello there")) == ["hello there"]


def test_engines_close() -> None:
    ExemplarEngine().close()
    asyncio.run(AsyncExemplarEngine().aclose())


def test_a_request_with_a_system_message_in_parts_is_read() -> None:
    from dspy.lm15 import Message, Request, TextPart

    request = Request(model="offline/exemplar", system=(TextPart("Say it. "),), messages=(Message.user("again please"),))
    assert ExemplarEngine().complete(request).usage.input_tokens == token_count("Say it. again please")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_prompt_however_damaged_is_an_error(data: st.DataObject) -> None:
    adapter = data.draw(st.sampled_from(ADAPTERS))
    demos = [{"letter": LETTER, "kind": "praise", "stars": 4, "emails": ["a@b.co"], "reasoning": "so"}] * 2
    messages = adapter.format(Everything, demos, {"letter": data.draw(st.text(max_size=200))})
    turns = []
    for message in messages:
        text = message["content"]
        start = data.draw(st.integers(0, len(text)))
        kept = text[:start] + data.draw(st.text(max_size=5)) + text[start + data.draw(st.sampled_from([0, 0, 1, 30])) :]
        turns.append((message["role"], kept))
    assert isinstance(answer(turns[0][1], turns[1:]), str)


def test_an_agent_gets_well_formed_answers() -> None:
    def look_up(query: str) -> str:
        """Look something up."""
        return "nothing"

    found = dspy.ReAct("question -> answer", tools=[look_up], max_iters=2)(question="How many people live in Oslo?")
    assert isinstance(found.answer, str)
