"""The variable board's Python half: rows, pushes, a person's changes, pictures; on a real space."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dspex_lab.widgets as room
from dspex_lab.events import Bus
from dspex_lab.variables import Author, Space
from dspex_lab.widgets import VariableBoard, _board_text, board_picture
from dspex_lab.widgets._board_rows import POINTS, Rows, control_of, place_of, point_of, value_from

VIEW = "application/vnd.jupyter.widget-view+json"
EVIL = "<img src=x onerror=alert(1)>"
KEY = "sk-proj-" + "a1B2c3D4" * 6


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def space(bus: Bus) -> Space:
    made = Space(emit=bus.emit)
    made.float("t", 0.0, 1.5, default=0.5)
    made.choice("style", ["brief", None, 3], default=None)
    made.bool("on", default=True)
    made.text("words", f"Say {EVIL}\nagain")
    made.int("k", 1, 1000, default=10, log=True)
    made.derive("twice", "t * 2")
    made.float("any", default=1.0)
    made.demos("shown", [{"question": "q", "answer": "a"}])
    made.tensor("vector", (2,), low=0, high=1)
    made.int("rests", 0, 5, when="t > 1")
    return made


@pytest.fixture
def board(space: Space, bus: Bus) -> Iterator[VariableBoard]:
    made = VariableBoard(space, bus=bus, person="ada")
    yield made
    made.close()


def say(board: VariableBoard, **content: Any) -> dict[str, Any]:
    board._message(None, content, None)
    return dict(board.answered)


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "kind"),
    [
        ({"kind": "float", "low": 0, "high": 1, "step": None, "log": False}, "slider"),
        ({"kind": "int", "low": 0, "high": 9, "step": 1, "log": False}, "slider"),
        ({"kind": "float", "low": 0, "high": None}, "number"),
        ({"kind": "float", "low": 1, "high": 1}, "number"),
        ({"kind": "bool"}, "toggle"),
        ({"kind": "choice", "options": ["a"]}, "select"),
        ({"kind": "module", "options": ["Predict"]}, "select"),
        ({"kind": "choice", "options": list(range(300))}, "none"),
        ({"kind": "text"}, "none"),
        ({"kind": "new kind of somebody's"}, "none"),
    ],
)
def test_a_control_fits_its_domain(domain: dict[str, Any], kind: str) -> None:
    assert control_of(domain)["type"] == kind


def test_what_a_control_shows_is_what_it_gives_back(space: Space) -> None:
    for name in ("t", "style", "on", "k", "any"):
        variable = space[name]
        domain, value = variable.domain.describe(), variable.domain.to_json(variable.value)
        assert value_from(domain, place_of(domain, value)) == value, name
    style = space["style"].domain.describe()
    assert [place_of(style, option) for option in ("brief", None, 3, "gone")] == [0, 1, 2, None]
    assert place_of({"kind": "choice", "options": [True, 1]}, 1) == 1, "1 and True are two"


@pytest.mark.parametrize(
    ("domain", "place"),
    [
        ({"kind": "choice", "options": ["a"]}, 1),
        ({"kind": "choice", "options": ["a"]}, -1),
        ({"kind": "choice", "options": ["a"]}, True),
        ({"kind": "choice", "options": ["a"]}, "a"),
        ({"kind": "bool"}, 1),
        ({"kind": "float", "low": 0, "high": 1}, float("nan")),
        ({"kind": "float", "low": 0, "high": 1}, "1"),
        ({"kind": "float", "low": 0, "high": 1}, True),
        ({"kind": "text"}, "x"),
        ({"kind": "float"}, None),
        ({"kind": "float"}, {"a": 1}),
    ],
)
def test_what_no_control_gives_is_refused(domain: dict[str, Any], place: Any) -> None:
    with pytest.raises(ValueError, match=r"no option number|cannot be set to"):
        value_from(domain, place)


def test_a_row_says_all_that_is_known(space: Space) -> None:
    space.commit({"t": 0.75}, author=Author("optimizer", "gepa-1", f"clearer {KEY}", 0.91234))
    lease = space.lease("t", owner="tune-2")
    rows, head = Rows(space).snapshot()
    row = rows["t"]
    assert list(rows) == ["t", "style", "on", "words", "k", "twice", "any", "shown", "vector", "rests"]
    assert head == {"space": "default", "said": f"version {space.version} · 10 variables"}
    assert (row["text"], row["place"], row["score"], row["leased"]) == ("0.75", 0.75, "0.9123", "tune-2")
    assert row["by"].startswith("optimizer gepa-1: clearer")
    assert KEY not in json.dumps(rows)
    assert row["range"] == "float 0 … 1.5"
    assert row["spark"] == "2.0,17.0 94.0,3.0"
    assert rows["twice"]["derived"] == "t * 2"
    assert rows["twice"]["control"] == {"type": "none"}
    assert not rows["rests"]["counts"]
    assert rows["words"]["text"] == f"Say {EVIL} again"
    assert rows["words"]["full"] == f"Say {EVIL}\nagain"
    assert rows["shown"]["text"] == "1 item"
    assert (rows["vector"]["text"], rows["vector"]["full"]) == ("tensor 2", "")
    assert json.loads(rows["shown"]["full"])[0]["question"] == "q"
    lease.release()


def test_some_variables_in_the_order_asked_for_and_no_more_than_fit(space: Space) -> None:
    rows, head = Rows(space, ["on", "t", "gone"]).snapshot()
    assert list(rows) == ["on", "t"]
    assert head["said"].endswith("2 variables")
    rows, head = Rows(space, most=3).snapshot()
    assert list(rows) == ["t", "style", "on"]
    assert head["said"].endswith("10 variables, 3 shown")


def test_the_past_of_many_variables_is_read_at_once() -> None:
    space = Space()
    for n in range(60):
        space.int(f"v{n}", 0, 99, default=0)
    for n in range(1, 4):
        space.commit({f"v{m}": n for m in range(60)})
    rows = Rows(space)
    assert list(rows._past["v59"]) == [0.0, 1.0, 2.0, 3.0]
    for n in range(POINTS * 2):
        rows.take(space.commit({"v0": n % 99 + 1}))
    assert len(rows._past["v0"]) == POINTS


def test_points_are_numbers_places_and_switches(space: Space) -> None:
    style = space["style"].domain.describe()
    assert [point_of(style, v) for v in ("brief", None, 3)] == [0.0, 1.0, 2.0]
    assert point_of({"kind": "bool"}, True) == 1.0
    assert point_of({"kind": "text"}, "x") is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.1 + 0.2, "0.3"),
        (7, "7"),
        (True, "True"),
        (None, "None"),
        ("", "(empty)"),
        ("a\nb", "a b"),
        ("x" * 100, "x" * 79 + "…"),
        ([], "none"),
        ([1, 2], "2 items"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_values_are_said_in_a_line(value: Any, said: str) -> None:
    assert _board_text.value_text(value) == said


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ({"kind": "float", "low": None, "high": 2.5, "step": 0.5, "log": False}, "float −∞ … 2.5, step 0.5"),
        ({"kind": "int", "low": 1, "high": None, "step": 1, "log": True}, "int 1 … ∞, log"),
        ({"kind": "choice", "options": [1, 2]}, "choice of 2"),
        ({"kind": "text", "candidates": ["a"], "longest": 9}, "text, 1 candidate"),
        ({"kind": "demos", "candidates": [[], []]}, "demos, 2 candidates"),
        ({"kind": "tensor", "shape": [2, 3]}, "tensor 2 × 3"),
        ({"kind": "bool"}, "bool"),
    ],
)
def test_ranges_are_said_in_a_line(domain: dict[str, Any], said: str) -> None:
    assert _board_text.range_text(domain) == said


def test_long_values_are_cut_where_they_unfold() -> None:
    assert _board_text.whole_text("x" * 5_000).endswith("…[1,000 more characters]")
    assert _board_text.whole_text(0.5) == "0.5"
    assert _board_text.whole_text([]) == ""


def test_a_flat_past_is_a_line_in_the_middle() -> None:
    assert _board_text.spark([1.0]) == ""
    assert _board_text.spark([2.0, 2.0]) == "2.0,10.0 94.0,10.0"


def test_leases_say_who_has_it_and_who_waits() -> None:
    said = _board_text.lease_text
    assert [said(None, []), said("a", []), said("a", ["b", "c"]), said(None, ["b"])] == [
        "",
        "a",
        "a, then b, c",
        "nobody, then b",
    ]


# --- the widget -----------------------------------------------------------------------------------------------------


def test_a_person_changes_a_value(board: VariableBoard, space: Space) -> None:
    answered = say(board, type="set", name="t", value=0.75)
    assert answered == {"n": 1, "name": "t", "error": ""}
    record = space.history("t")[0]
    assert (record.value, record.who, record.author, record.why) == (0.75, "person", "ada", "set on the board")
    assert board.rows["t"]["text"] == "0.75"
    assert board.rows["twice"]["text"] == "1.5"
    say(board, type="set", name="style", value=2)
    say(board, type="set", name="on", value=False)
    say(board, type="set", name="k", value=32)
    assert (space["style"].value, space["on"].value, space["k"].value) == (3, False, 32)


def test_a_refused_change_is_answered_in_words_and_nothing_changed(board: VariableBoard, space: Space) -> None:
    space.constrain("t < 1", name="small")
    answered = say(board, type="set", name="t", value=1.25)
    assert "small" in answered["error"]
    assert space["t"].value == 0.5
    assert board.rows["t"]["place"] == 0.5
    assert "9" in say(board, type="set", name="t", value=9)["error"]
    assert "no option number 7" in say(board, type="set", name="style", value=7)["error"]
    with space.lease("t", owner="gepa-1"):
        assert "gepa-1" in say(board, type="set", name="t", value=0.25)["error"]
    assert say(board, type="set", name="t", value=0.25) == {"n": 5, "name": "t", "error": ""}


def test_a_person_pins_and_unpins(board: VariableBoard, space: Space) -> None:
    say(board, type="pin", name="t", value=True)
    assert space["t"].pinned
    assert board.rows["t"]["pinned"]
    assert "pinned" in say(board, type="set", name="t", value=0.25)["error"]
    say(board, type="pin", name="t", value=False)
    assert not space["t"].pinned


@pytest.mark.parametrize(
    "content",
    [
        None,
        "set",
        {},
        {"type": "set"},
        {"type": "set", "name": "gone", "value": 1},
        {"type": "set", "name": ["t"], "value": 1},
        {"type": "drop", "name": "t"},
        {"type": ["set"], "name": "t", "value": 1},
        {"type": "_set", "name": "t", "value": 1},
    ],
)
def test_what_is_no_change_is_not_looked_at(board: VariableBoard, space: Space, content: Any) -> None:
    before = space.version
    board._message(None, content, None)
    assert (space.version, board.answered["n"]) == (before, 0)


def test_hostile_values_are_refused_in_words(board: VariableBoard, space: Space) -> None:
    for value in (None, "x", [1], {"a": 1}, True, float("inf"), 10**400):
        assert say(board, type="set", name="t", value=value)["error"]
    assert say(board, type="set", name="twice", value=1)["error"]
    assert say(board, type="set", name="words", value="x")["error"]
    assert space["t"].value == 0.5


def test_commits_and_leases_of_others_are_pushed(board: VariableBoard, space: Space) -> None:
    pushed = threading.Event()
    board.observe(lambda _: pushed.set(), "rows")
    space.commit({"t": 0.75}, author=Author("job", "tune-1"))
    assert pushed.wait(30)
    board.flush()
    assert board.rows["t"]["by"] == "job tune-1"
    lease = space.lease("t", owner="gepa-1")
    board.flush()
    assert board.rows["t"]["leased"] == "gepa-1"
    lease.release()
    board.flush()
    assert board.rows["t"]["leased"] == ""
    space.drop("any")
    board.flush()
    assert "any" not in board.rows
    space.bool("fresh")
    board.flush()
    assert "fresh" in board.rows


def test_a_thousand_commits_are_few_pushes_and_the_last_one_is_seen(board: VariableBoard, space: Space) -> None:
    board.INTERVAL = 3600
    board.flush()
    seen: list[str] = []
    board.observe(lambda change: seen.append(change["new"]["k"]["text"]), "rows")
    for n in range(1_000):
        space.commit({"k": n % 999 + 1})
    assert len(seen) <= 1
    board.flush()
    assert seen[-1] == board.rows["k"]["text"] == "1"
    assert len(seen) <= 2


def test_what_is_planned_is_pushed_by_itself(board: VariableBoard, space: Space) -> None:
    board.INTERVAL = 0.01
    space.commit({"k": 20})
    pushed = threading.Event()
    board.observe(lambda _: pushed.set(), "rows")
    space.commit({"k": 30})
    assert pushed.wait(30)


def test_a_closed_board_follows_no_more_and_keeps_its_picture(space: Space, bus: Bus) -> None:
    board = VariableBoard(space, bus=bus)
    assert not bus.watched, "runs need not tell of their moments for it"
    assert len(bus._all) == 1
    told: list[str] = []
    board.on_close(lambda: told.append("closed"))
    space.commit({"t": 0.75})
    board.close()
    board.close()
    assert told == ["closed"]
    space.commit({"t": 0.25})
    say(board, type="set", name="t", value=1.0)
    assert board.rows["t"]["text"] == "0.75"
    assert space["t"].value == 0.25
    assert "0.75" in board._repr_html_()
    assert bus._all == ()


def test_pictures_are_text_alone(board: VariableBoard, space: Space) -> None:
    space.commit({"t": 0.75}, author=Author(why=EVIL))
    space.pin("k")
    html = board.to_html()
    assert "<img" not in html
    assert "<script" not in html
    assert "&lt;img" in html
    assert "does not count now" in html
    assert "= t * 2" in html
    assert "<polyline" in html
    text = repr(board)
    assert "t = 0.75  [float 0 … 1.5]" in text
    assert "pinned" in text
    assert html == board_picture(space)._repr_html_()
    assert repr(board_picture(space)) == text
    assert "There are no variables yet" in board_picture(Space())._repr_html_()


def test_the_mime_bundle_has_the_picture_beside_the_widget(board: VariableBoard) -> None:
    bundle = board._repr_mimebundle_()
    assert bundle is not None
    data = bundle[0]
    assert VIEW in data
    assert data["text/html"] == board.to_html()
    assert data["text/plain"] == repr(board)


def test_the_room_gives_the_board_when_it_is_asked_for() -> None:
    assert room.VariableBoard is VariableBoard
    assert {"VariableBoard", "board_picture", "show_board"} <= set(dir(room))


def test_notes_stand_by_their_variables_and_plain_ones_may_be_anything() -> None:
    space = Space()
    space.int("k", 0, 9, note=f"how many {EVIL}")
    space.derive("twice", "k * 2")
    shown = board_picture(space)
    assert "how many" in repr(shown)
    assert "how many &lt;img" in shown._repr_html_()
    assert Rows(space).snapshot()[0]["twice"]["range"] == "any value"
