"""How a Lab stands, and its account, as a cell shows them: whole, escaped, without secrets."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from guarded import EVIL, KEY, GuardedLab

from dspex_lab import dashboards
from dspex_lab.dashboards._sheet import LONGEST, Bar, Sheet, Table, words
from dspex_lab.dashboards._standing import policy_line
from dspex_lab.lms.budget import Estimate
from dspex_lab.resilience import BreakerSettings, BulkheadSettings, Finding, Hedge, Policy, Retry


def test_without_a_call_it_says_so(guarded: GuardedLab) -> None:
    found = dashboards.standing(guarded)
    assert "no provider was called yet" in repr(found)
    assert "no provider was called yet" in found._repr_html_()
    assert "degradation: normal; nothing is left out" in repr(found)
    assert "Last changes of state: none." in repr(found)


def test_it_looks_at_the_components(guarded: GuardedLab) -> None:
    guarded.health.add("store", lambda: Finding("degraded", "3 records were dropped"))
    text = repr(dashboards.standing(guarded))
    assert "✓ healthy" in text
    assert "◐ degraded" in text
    assert "3 records were dropped" in text


def test_a_target_shows_circuit_failures_places_wait_and_policy(guarded: GuardedLab) -> None:
    guarded.fail("acme/one", "the wire is cut")
    status = dashboards.standing(guarded).targets[0][0]
    text = repr(dashboards.standing(guarded))
    assert (status.state, status.failures, status.calls) == ("open", 5, 5)
    assert "✗ open since" in text
    assert "5/5" in text
    assert "ConnectionError: the wire is cut" in text
    assert "0/16" in text
    assert policy_line(guarded.gateway.guards.policy_of("acme/one")) in text
    guarded.gateway.guards.of("acme/one").breaker.open("no more")
    text = repr(dashboards.standing(guarded))
    assert "when closed by hand" in text
    assert text.count("circuit of acme/one") == 2, "both changes are listed"
    assert "5 of the last 5 calls failed: ConnectionError: the wire is cut" in text


def test_what_a_provider_says_is_escaped_redacted_and_without_control_characters(guarded: GuardedLab) -> None:
    guarded.fail(f"evil/{EVIL}", f"\x1b[2J{EVIL} \u202e{KEY}\nnew line")
    found = dashboards.standing(guarded)
    html, text = found._repr_html_(), repr(found)
    assert "<img" not in html
    assert "&lt;img src=x" in html
    assert KEY not in html + text
    assert "[redacted]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "mathjax_ignore" in html, "two sums of dollars are no formula"


def test_what_is_left_out_is_said(guarded: GuardedLab) -> None:
    guarded.gateway.degradation.pin("fewer_retries")
    found = dashboards.standing(guarded)
    assert found.load_line == "degradation: fewer_retries (set by hand); left out: hedging, second opinions, retries but one"
    guarded.gateway.degradation.pin("cached_only")
    assert "new calls (only caches answer)" in dashboards.standing(guarded).load_line


def test_changes_are_those_of_this_lab_the_newest_first_and_twenty(guarded: GuardedLab) -> None:
    for _ in range(13):
        guarded.gateway.guards.of("acme/one").breaker.open("by hand")
        guarded.gateway.guards.of("acme/one").breaker.close()
    changes = dashboards.standing(guarded).changes
    assert changes is not None
    assert len(changes) == 20
    assert list(changes["after"][:2]) == ["closed", "open"]


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        (Policy(None, None, None), "no retries, no breaker, no limit"),
        (Policy(Retry(attempts=1), None, BulkheadSettings(limit=4, adaptive=False)), "no retries, no breaker, 4 at once"),
        (
            Policy(
                Retry(attempts=2),
                BreakerSettings(window=30, unit="seconds", threshold=0.5, minimum=5, cool_down=3),
                None,
                Hedge("p95"),
                9.5,
                2,
            ),
            "2 attempts, opens at 50% of 30 s (from 5), for 3 s, no limit, hedge after p95, timeout 9.5 s, "
            "waits 2 s for a circuit",
        ),
        (Policy(None, None, BulkheadSettings(least=1, most=256)), "no retries, no breaker, 1–256 at once"),
        (Policy(Retry(attempts=3), None, None, Hedge(0.25)), "3 attempts, no breaker, no limit, hedge after 0.25 s"),
    ],
)
def test_a_policy_is_one_line(policy: Policy, line: str) -> None:
    assert policy_line(policy) == line


def test_a_target_without_breaker_and_places_says_so(guarded: GuardedLab) -> None:
    guarded.gateway.guards.use(Policy(None, None, None))
    guarded.gateway.guards.of("acme/one")
    assert "no breaker  0/0" in repr(dashboards.standing(guarded))


def test_an_account_has_limits_spending_models_and_runs(guarded: GuardedLab) -> None:
    guarded.ledger.budget = "$2, 1000 tokens, 10 calls"
    with guarded.ledger.reserve(Estimate("acme/one", 100, 20, 1.0)) as hold:
        held = repr(dashboards.account(guarded))
        hold.settle(cost=1.0)
    soon = time.time() + 1
    guarded.call(f"acme/{EVIL}", started=soon)
    guarded.call("free/one", cost=None, started=soon)
    guarded.call("off/line", cost=0.0, simulated=True, started=soon)
    found = dashboards.account(guarded)
    text, html = repr(found), found._repr_html_()
    assert "$1.00 held by calls under way" in held
    assert "Budget of this Lab: $2.00, 1,000 tokens, 10 calls" in text
    assert "[##########..........] 50%: $1.00 of $2.00" in text
    assert "10%: 1 of 10 calls" in text
    assert "no price known" in text
    assert "simulated" in text
    assert "<img" not in html
    assert 'width:50.0%;background:#3b7dd8"' in html


def test_an_account_without_limits_says_how_to_set_one_and_counts_refusals(guarded: GuardedLab) -> None:
    assert "no limit; %dspex budget" in repr(dashboards.account(guarded))
    guarded.ledger.budget = "0 calls"
    with pytest.raises(Exception, match="calls"):
        guarded.ledger.reserve(Estimate("acme/one", 100, 20, 1.0))
    assert "refused: 1 call that would have crossed a limit" in repr(dashboards.account(guarded))


def test_an_account_begins_with_this_lab(guarded: GuardedLab) -> None:
    guarded.call("old/one", started=time.time() - 10_000)
    guarded.call("new/one", started=time.time() + 1)
    text = repr(dashboards.account(guarded))
    assert "new/one" in text
    assert "old/one" not in text


def test_words_are_one_short_line() -> None:
    assert words("a\x00b\n\tc\u200fd") == "a b c d"
    assert len(words("x" * 10_000)) == LONGEST
    assert words(f"{'x ' * 95}{KEY}").endswith("…") or KEY not in words(f"{'x ' * 95}{KEY}")


def test_a_sheet_is_lines_tables_and_bars() -> None:
    sheet = Sheet(
        "Title", ["a <line>", Table("T", ("a", "b"), [("1", "22")]), Bar("85%", 0.85), Bar("over", 1.2), Table("E", ("a",), [])]
    )
    assert repr(sheet).splitlines() == [
        "Title",
        "a <line>",
        "T",
        "  a  b",
        "  1  22",
        "  [#################...] 85%",
        "  [####################] over",
    ]
    html = sheet._repr_html_()
    assert "a &lt;line&gt;" in html
    assert "#d9902f" in html, "near the limit"
    assert "#d64550" in html, "beyond it"


def test_it_needs_neither_panel_nor_altair() -> None:
    code = """
import sys
sys.modules["panel"] = sys.modules["altair"] = None
import dspex_lab as dx
from dspex_lab import dashboards
with dx.Lab(":memory:") as lab:
    print(repr(dashboards.standing(lab))[:6], repr(dashboards.account(lab))[:6])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Health Budget"
