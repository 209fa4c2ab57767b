"""The page on variables: what they are, how they moved, who changed them, how runs did with them; nothing in it is run."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from guarded import EVIL, KEY
from page_helpers import opened_at, there_and_back

from dspex_lab import dashboards
from dspex_lab.dashboards._pages import PAGES, VARIABLES
from dspex_lab.dashboards._variables import drawn, may_be
from dspex_lab.store import VariableTable
from dspex_lab.variables import Author, Space


@pytest.fixture
def space(lab: Any) -> Space:
    def told(record: Any) -> None:
        lab.store.write(record)

    return Space(journal=VariableTable(lab.store), emit=told)


opened = partial(opened_at, VARIABLES)


def test_without_variables_the_page_says_so(lab: Any) -> None:
    page = opened(lab)
    assert "There are no variables yet" in page.variables.view.object
    assert "Nothing was committed in this window" in page.variable_changes.view.object
    assert page.variables_time.chart.chart is None
    assert "Variables" in PAGES


def test_a_person_goes_to_the_page_and_back(lab: Any) -> None:
    there_and_back(VARIABLES, lab, "variables")


def test_variables_have_a_row_each_with_who_and_why(lab: Any, space: Space) -> None:
    space.float("t", 0.0, 1.5, default=0.5)
    space.choice("style", ["brief", EVIL])
    space.text("words", EVIL)
    space.demos("shown", [{"question": "q", "answer": "a"}])
    space.derive("twice", "t * 2")
    space.int("k", 0, 20, default=5, when="t > 1").pin()
    who = Author("optimizer", "gepa-1", f"clearer, {KEY}", 0.91)
    space.commit({"t": 0.75, "words": f"{EVIL} more"}, author=who)
    lease = space.lease("style", owner="tune-2")
    html = opened(lab).variables.view.object
    assert "<img" not in html
    assert KEY not in html
    for part in (
        "0.75",
        "float 0.0 … 1.5",
        "optimizer gepa-1",
        "0.91",
        "= t * 2",
        "when t &gt; 1",
        "pinned",
        "tune-2",
        "1 item",
    ):
        assert part in html, part
    lease.release()
    assert "tune-2" not in opened(lab).variables.view.object


def test_another_space_is_named(lab: Any) -> None:
    Space("other", journal=VariableTable(lab.store)).bool("on")
    assert "other: on" in opened(lab).variables.view.object


def test_numbers_are_drawn_between_their_own_ends(lab: Any, space: Space) -> None:
    t, k = space.float("t", 0.0, 1.5, default=0.5), space.int("k", 0, 100, default=10)
    space.text("words", "a")
    for value in (0.75, 1.5):
        t.set(value)
    page = opened(lab)
    frame = drawn(page._take().variables.over_time)
    assert list(frame[frame["variable"] == "t"]["share"]) == [0.0, 0.25, 1.0]
    assert list(frame[frame["variable"] == k.name]["share"]) == [0.5]
    chart = json.dumps(page.variables_time.chart.chart)
    assert "step-after" in chart
    assert chart.count('"variable"') > 3


def test_changes_and_runs_by_values_are_listed(lab: Any, space: Space) -> None:
    space.float("t", 0.0, 1.5, default=0.5)
    space["t"].set(0.75, why=f"why {EVIL}")
    lab.run("support", variables={"version": 2, "values": {"t": 0.75, "long": {"version": 1}, "demos": [1, 2]}})
    lab.run(
        "support", variables={"version": 2, "values": {"t": 0.75, "long": {"version": 1}, "demos": [1, 2]}}, status="failed"
    )
    lab.run("unbound", variables={"version": 2, "values": {}})
    html = opened(lab).variable_changes.view.object
    assert "<img" not in html
    before = html[html.index("Before") :]
    assert before.index("0.5") < before.index("0.75")
    assert "t = 0.75, long = as of version 1, demos = 2 items" in html
    assert "unbound" not in html
    assert html.count("<td") >= 16


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ({"kind": "float", "low": None, "high": 2}, "float -∞ … 2"),
        ({"kind": "choice", "options": [None, 1]}, "choice: None, 1"),
        ({"kind": "text"}, "text"),
    ],
)
def test_what_a_variable_may_be_is_said_in_a_line(domain: dict[str, Any], said: str) -> None:
    assert may_be(domain) == said


def test_the_detail_of_a_run_says_what_it_ran_with(lab: Any) -> None:
    ran_with = {"version": 2, "values": {"t": EVIL}}
    whole = lab.run("support", kind="map", variables=ran_with)
    row = lab.run("support", kind="row", parent_id=whole)
    plain = lab.run("plain")
    page = dashboards.build(lab)
    for run_id, shown in ((whole, True), (row, True), (plain, False)):
        page.choose(run_id)
        html = page.detail.view[0].object
        assert ("Variables it ran with" in html) is shown
        assert ("&lt;img" in html) is shown
        assert "<img" not in html
