"""No secret is on a tape, and what is masked is found all the same."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tape_helpers import request

from dspex_lab.lms.tape._engine import taped
from dspex_lab.lms.tape._entry import mask_pieces
from dspex_lab.lms.tape._match import fits
from dspex_lab.lms.tape._request import Asked, Masker, canonical, canonical_legacy, dumps, secrets_of
from dspex_lab.lms.tape._tape import Tape, TapeMiss
from dspex_lab.security import MASK
from dspex_lab.testing import ScriptedEngine

KEY = "sk-live0123456789abcdef"
PLAIN = "correct-horse-battery"  # a secret without the form of one


def test_secrets_are_in_no_byte_of_the_file_and_the_call_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspy.lm15 import AuthError

    monkeypatch.setenv("SHOP_TOKEN", PLAIN)
    asked = request(f"My key is {KEY}, my word {PLAIN}. Is that right?", user_id=KEY)
    engine = ScriptedEngine(
        f'Yes: {KEY}, {PLAIN}, {{"password": "hunter2222"}}', faults={2: AuthError(f"bad key {KEY} {PLAIN}")}
    )
    with Tape(path, "record") as tape:
        taped(engine, tape).complete(asked)
        with pytest.raises(AuthError):
            taped(engine, tape).complete(request(f"{KEY}?"))
    raw = path.read_bytes()
    for secret in (KEY, PLAIN, "hunter2222"):
        assert secret.encode() not in raw
    monkeypatch.delenv("SHOP_TOKEN")  # where it is replayed, nobody knows that word
    with Tape(path, "replay") as tape:
        player = taped(None, tape)
        assert player.complete(asked).text == f'Yes: {MASK}, {MASK}, {{"password": "{MASK}"}}'
        with pytest.raises(AuthError, match="bad key"):
            player.complete(request(f"{KEY}?"))
        with pytest.raises(TapeMiss) as caught:
            player.complete(request(f"My key is {KEY}, my word is another. Is that wrong?"))
        assert KEY not in str(caught.value)


def test_a_secret_that_a_stream_cut_in_two_is_masked_whole(path: Path) -> None:
    engine = ScriptedEngine(f"it is {KEY} I think", split=lambda text: [text[i : i + 5] for i in range(0, len(text), 5)])
    with Tape(path, "record") as tape:
        events = list(taped(engine, tape).stream(request()))
    assert "".join(e.delta.text for e in events if e.type == "delta") == f"it is {KEY} I think"
    raw = path.read_text()
    pieces = json.loads(raw.splitlines()[1])["answer"]
    texts = [event["delta"]["text"] for _, event in pieces if event["type"] == "delta"]
    assert "".join(texts) == f"it is {MASK} I think"
    assert len(texts) == len(events) - 2
    assert texts[:2] == ["it is", f" {MASK}"]
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request()).text == f"it is {MASK} I think"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([KEY, "password=hunter2222 ", MASK, "a", " ", "Bearer abcdefgh123 "]) | st.text(max_size=5), max_size=6
    ),
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
)
def test_however_a_text_is_cut_its_pieces_join_to_the_masked_text(parts: list[str], cuts: list[int]) -> None:
    whole, mask = "".join(parts), Masker()
    pieces, at = [], 0
    for length in cuts:
        pieces.append(whole[at : at + length])
        at += length
    pieces.append(whole[at:])
    events = [[0.0, {"type": "delta", "delta": {"type": "text", "part_index": 0, "text": piece}}] for piece in pieces]
    masked = mask_pieces(events, mask)
    assert len(masked) == len(events)
    assert "".join(event["delta"]["text"] for _, event in masked) == mask(whole)


def test_parts_of_an_answer_are_masked_each_by_itself_and_token_probabilities_with_them() -> None:
    def piece(kind: str, index: int, **more: Any) -> list[Any]:
        return [0.0, {"type": "delta", "delta": {"type": kind, "part_index": index, **more}}]

    half = len(KEY) // 2
    pieces = [
        [0.0, {"type": "start", "model": "m"}],
        piece("thinking", 0, text=KEY[:half]),
        piece("tool_call", 1, input='{"k": "' + KEY[:half], name="f"),
        piece("thinking", 0, text=KEY[half:]),
        piece("tool_call", 1, input=KEY[half:] + '"}'),
        piece("text", 2, text=KEY, logprobs=[{"token": KEY, "logprob": -0.1}]),
        piece("text", 3, text="fine", logprobs=[{"token": "fine", "logprob": -0.1}]),
    ]
    masked = mask_pieces(pieces, Masker())
    assert KEY[half:] not in dumps(masked)
    assert [event["delta"].get("text", event["delta"].get("input")) for _, event in masked[1:]] == [
        MASK, '{"k": "' + MASK, "", '"}', MASK, "fine"
    ]  # fmt: skip
    assert "logprobs" not in masked[5][1]["delta"]
    assert "logprobs" in masked[6][1]["delta"]
    assert pieces[1][1]["delta"]["text"] == KEY[:half]  # what the caller gets is left alone


def test_secrets_that_are_given_are_masked_in_all_their_spellings(path: Path) -> None:
    word = 'my-"odd"-wörd'
    with Tape(path, "record", secrets=[word, "short"]) as tape:
        taped(ScriptedEngine(f"short: {word}"), tape, secrets=[PLAIN]).complete(request(f"{word} {PLAIN}"))
    raw = path.read_text()
    assert "odd" not in raw
    assert PLAIN not in raw
    assert "short" in raw
    with Tape(path, "replay") as tape:
        assert taped(None, tape).complete(request(f"{word} {PLAIN}")).text == f"short: {MASK}"


def test_the_secrets_of_a_models_options_are_found() -> None:
    options = {"api_key": PLAIN, "extra_headers": {"X-Pass": "another one"}, "headers": None, "temperature": 1.0, "model": "m"}
    assert secrets_of(options) == (PLAIN, "another one")
    assert secrets_of({"api_key": "local"}) == ()


text = st.sampled_from([KEY, "password=", '"', "\\", "Bearer abcdefgh12", "\n", "{", ":", "1234567", "api_key: "]) | st.text(
    max_size=5
)
data = st.recursive(
    st.lists(text, max_size=4).map("".join) | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.lists(text, max_size=3).map("".join), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(data)
def test_masked_data_is_data_is_masked_no_further_and_is_left_alone_without_a_secret(value: Any) -> None:
    mask = Masker()
    masked = mask.data(value)
    assert mask.data(masked) == masked
    if mask(dumps(value)) == dumps(value):
        assert masked == value


def test_what_reaches_over_the_end_of_a_text_is_masked_value_by_value() -> None:
    odd = {"password=": -10, "key": [KEY, 3, None], "deep": {"password": "hunter2222", "x": 1}, "list": ["password=", KEY]}
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(Masker()(dumps({"password=": -10})))
    masked = Masker().data(odd)
    assert masked["key"] == [MASK, 3, None]
    assert masked["deep"] == {"password": MASK, "x": 1}
    assert masked["list"][1] == MASK
    assert KEY not in dumps(masked)


@pytest.mark.parametrize(
    ("recorded", "asked", "same"),
    [
        (f"a {MASK} b", "a xyz b", True),
        (f"a {MASK} b", "a b", False),
        (f"a {MASK} b", "a x y b", False),
        (f"{MASK}?", "Is it a secret?", False),
        (f"a {MASK} b", "a xyz c", False),
        (f"{MASK}", "", True),
        (f"{MASK}-{MASK}-c", "x-y-c", True),
        (f"a{MASK}b{MASK}c", "abc", True),
        (f"a{MASK}b{MASK}c", "ac", False),
        (f"a{MASK}a", "a", False),
        ("plain", "plain", True),
        ("plain", "other", False),
        ({"a": [1, MASK]}, {"a": [1, "x"]}, True),
        ({"a": [1, MASK]}, {"a": [2, "x"]}, False),
        ({"a": MASK}, {"b": "x"}, False),
        ([MASK], ["x", "y"], False),
        (1, True, False),
        (MASK, 3, False),
    ],
)
def test_a_mask_stands_for_any_text_and_for_nothing_else(recorded: Any, asked: Any, same: bool) -> None:
    assert fits(recorded, asked) is same


# --- what is not kept -------------------------------------------------------------------------------------------------


def test_files_of_this_machine_and_large_media_stand_there_by_their_digest(tmp_path: Path) -> None:
    from dspy.lm15 import ImagePart, Message, Request, TextPart

    picture = tmp_path / "secret_name.png"
    picture.write_bytes(b"\x89PNG" + bytes(5000))
    large = base64.b64encode(bytes(3000)).decode()

    def asked(*parts: Any) -> dict[str, Any]:
        return canonical(Request(model="m", messages=(Message.user([TextPart("look"), *parts]),)))

    by_path = asked(ImagePart(media_type="image/png", path=picture))
    assert "secret_name" not in dumps(by_path)
    assert by_path["messages"][0]["parts"][1]["data"].startswith("sha256:")
    picture.write_bytes(b"another")
    assert asked(ImagePart(media_type="image/png", path=picture)) != by_path
    inline = asked(ImagePart(media_type="image/png", data=large))
    assert large not in dumps(inline)
    assert inline == asked(ImagePart(media_type="image/png", data=large))
    assert "https://x/y.png" in dumps(asked(ImagePart(media_type="image/png", url="https://x/y.png")))


class Answer(pydantic.BaseModel):
    label: str


class Option(pydantic.BaseModel):
    effort: str = "low"


def test_what_litellm_gets_is_kept_without_addresses_and_keys_and_the_same_in_every_process() -> None:
    call = {
        "model": "a/b",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "A" * 2000}}]}],
        "api_key": PLAIN,
        "api_base": "http://10.0.0.1",
        "extra_headers": {"X": PLAIN},
        "rollout_id": 3,
        "response_format": Answer,
        "reasoning": Option(),
        "tools": ({"name": "f", "call": len},),
        "stop": None,
    }
    kept = canonical_legacy("chat", call)
    assert PLAIN not in dumps(kept)
    assert "10.0.0.1" not in dumps(kept)
    assert set(kept) == {"model", "messages", "response_format", "reasoning", "tools", "legacy"}
    assert kept["response_format"]["schema"]["properties"].keys() == {"label"}
    assert kept["reasoning"] == {"effort": "low"}
    assert kept["tools"] == [{"name": "f", "call": "<builtin_function_or_method>"}]
    assert kept["messages"][0]["content"][0]["image_url"]["url"].startswith("sha256:")
    assert canonical_legacy("responses", call) != kept
    assert canonical_legacy("chat", {"model": "a/b", "response_format": int})["response_format"] == {"class": "int"}


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert Asked.of({"a": 1, "b": 2}).digest == Asked.of({"b": 2, "a": 1}).digest
    assert Asked.of({"a": 1}, rollout=1).digest != Asked.of({"a": 1}, rollout=2).digest
    assert Asked.of({"a": KEY}).masked
    assert not Asked.of({"a": "x"}).masked
