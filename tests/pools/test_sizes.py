"""Sizes and times as people write them."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.pools._sizes import bytes_of, seconds_of, timed, written


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("1.5 GiB", 1_610_612_736),
        (" 4 gb ", 4_000_000_000),
        ("600000000", 600_000_000),
        ("8kB", 8_000),
        ("2tib", 2**41),
        ("0.1 B", 0),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9007199254.740993 MB", 9_007_199_254_740_993),
    ],
)
def test_a_size_is_read_to_the_byte(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "5 parsecs", "-5MB", "1e9", "1,000", "١٢MB", "1.", ".5GB", "1 2 MB", "5" * 60, "1.5.5MB", "nan", "inf"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    for read in (bytes_of, seconds_of):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            read(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30 s", 30), ("5min", 300), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172_800)]
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@given(st.text(max_size=60))
def test_any_text_is_a_size_of_at_least_nothing_or_refused(text: str) -> None:
    for read in (bytes_of, seconds_of):
        with contextlib.suppress(ValueError):
            assert read(text) >= 0


@given(st.integers(0, 10**20), st.sampled_from(["", "kB", "MB", "GiB"]))
def test_whole_sizes_survive_being_written_with_a_unit(number: int, unit: str) -> None:
    factor = {"": 1, "kB": 10**3, "MB": 10**6, "GiB": 2**30}[unit]
    if len(str(number)) <= 20:
        assert bytes_of(f"{number} {unit}") == number * factor


@given(st.integers(0, 2**60))
def test_what_is_written_for_a_person_is_never_more_than_it_is_and_near_it(size: int) -> None:
    said = bytes_of(written(size).replace(",", ""))
    assert abs(said - size) <= max(size * 0.1, 500)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (88_000, "88 kB"),
        (1_990_000, "1.9 MB"),
        (8_000_000, "8 MB"),
        (384_000_000, "384 MB"),
        (4_000_000_000, "4 GB"),
        (4_290_000_000, "4.2 GB"),
    ],
)
def test_sizes_are_written_short(size: int, said: str) -> None:
    assert written(size) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min"), (7_300, "2 h"), (200_000, "2 d")])
def test_times_are_written_short(seconds: float, said: str) -> None:
    assert timed(seconds) == said
