"""Values as a person reads them."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from dspex_lab.dashboards import _format as fmt


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00042, "0.4 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.00 s"),
        (1.4, "1.40 s"),
        (59.999, "1 min 00 s"),
        (123, "2 min 03 s"),
        (3720, "1 h 02 min"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("cost", "text"),
    [(None, "–"), (0, "$0"), (12.5, "$12.50"), (0.0123, "$0.0123"), (0.00052, "$0.00052"), (0.0000031, "$3.1e-06")],
)
def test_dollars(cost: float | None, text: str) -> None:
    assert fmt.dollars(cost) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (12345, "12,345"), (1_234_567, "1.23 M"), (pd.NA, "–")])
def test_count(number: int, text: str) -> None:
    assert fmt.count(number) == text


def test_times_of_the_store_are_shown_in_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert fmt.when(pd.Timestamp("2026-05-01 20:03:22")) == "2026-05-02 05:03:22"
        assert fmt.zone() == "JST"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert fmt.when(pd.NaT) == "–"


def test_a_status_is_not_told_by_colour_alone() -> None:
    assert [fmt.status(s) for s in ("complete", "failed", "odd", None)] == ["✓ complete", "✗ failed", "· odd", "–"]


def test_text_is_escaped_shortened_and_indented() -> None:
    assert fmt.escape("<img src=x onerror='a'>") == "&lt;img src=x onerror=&#x27;a&#x27;&gt;"
    assert fmt.escape(None) == ""
    assert fmt.first_line("one\ntwo") == "one"
    assert fmt.first_line("x" * 200) == "x" * 159 + "…"
    assert fmt.first_line(None) == ""
    assert fmt.pretty('{"a":"é"}') == '{\n  "a": "é"\n}'
    assert (fmt.pretty('"plain"'), fmt.pretty("not json"), fmt.pretty(None)) == ("plain", "not json", "")
    assert (fmt.numbered("m", 3), fmt.numbered("m", pd.NA), fmt.numbered(None, None)) == ("m [3]", "m", "–")
