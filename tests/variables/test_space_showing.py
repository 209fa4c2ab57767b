"""How spaces, variables and histories are shown: short, escaped, and without secrets."""

from __future__ import annotations

import pytest

from dspex_lab.variables import Author, Space


@pytest.fixture
def space() -> Space:
    made = Space("demo", clock=lambda: 1_700_000_000.0)
    made.float("t", 0, 2, default=0.5, step=0.1, note="warmth")
    made.float("rate", 1e-5, 1, log=True, default=0.1)
    made.int("free", low=3)
    made.choice("m", ["plain", "tools"])
    made.int("k", 1, 5, when="m == 'tools'")
    made.derive("double", "t * 2")
    made.text("x", "<script>alert(1)</script>\n\x1b[31m sk-abcdefghijklmnop1234567890", candidates=["a", "b"])
    made.demos("d", [{"q": 1}])
    made.tensor("w", (2, 3))
    made.tensor("one", ())
    made.constrain("t < 1")
    return made


def test_a_space_shows_as_a_table(space: Space) -> None:
    space.pin("t")
    with space.lease("rate", owner="<b>GEPA</b>"):
        text, page = repr(space), space._repr_html_()
    lines = text.splitlines()
    assert lines[0] == "Space demo: 10 variables, 1 constraint, version 10"
    assert lines[1].split() == ["variable", "value", "may", "be", "version"]
    assert "float 0.0 … 2.0, step 0.1" in lines[2]
    assert lines[2].endswith("pinned; warmth")
    assert "log" in lines[3]
    assert "leased to <b>GEPA</b>" in lines[3]
    assert "int 3 … ∞" in lines[4]
    assert "choice: plain, tools" in lines[5]
    assert "when m == 'tools'; does not count now" in lines[6]
    assert "= t * 2" in lines[7]
    assert "text, 2 candidates" in lines[8]
    assert "1 demonstration" in lines[9]
    assert "tensor of float32, 2 × 3" in lines[10]
    assert "one number" in lines[11]
    for shown in (text, page):
        assert "sk-abcdefghijklmnop" not in shown
        assert "\x1b" not in shown
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;GEPA" in page
    assert "mathjax_ignore" in page


def test_what_a_derived_variable_may_be_is_said_in_words() -> None:
    made = Space()
    made.int("k", 0, 9)
    made.derive("twice", "k * 2")
    assert "any value" in repr(made)
    assert "plain" not in repr(made) + repr(made["twice"])


def test_a_variable_shows_its_value_and_what_it_may_be(space: Space) -> None:
    assert repr(space["t"]) == "<Variable t = 0.5 (float 0.0 … 2.0, step 0.1; version 1)>"
    assert "= t * 2" in repr(space["double"])
    assert "warmth" in space["t"]._repr_html_()
    assert "<script>" not in space["x"]._repr_html_()
    assert (space["t"].space, space["t"].name) == (space, "t")


def test_a_history_shows_who_and_why(space: Space) -> None:
    space.commit({"t": 0.7}, author=Author("optimizer", "<i>tune</i>", "trial 7", 0.8123456))
    history = space["t"].history()
    assert "optimizer <i>tune</i>" in repr(history)
    assert "0.8123" in repr(history)
    assert "&lt;i&gt;tune&lt;/i&gt;" in history._repr_html_()
    assert repr(space.history("t", 1)).startswith("1 value\n")
    assert repr(space.history("t", 0)) == "0 values"


def test_many_rows_are_cut_and_counted() -> None:
    space = Space()
    assert repr(space) == "Space default: 0 variables, version 0"
    for index in range(120):
        space.int(f"v{index}", 0, 9)
    assert repr(space).splitlines()[-1] == "and 20 more"
    assert "and 20 more" in space._repr_html_()
    assert len(max(repr(space).splitlines(), key=len)) < 300
