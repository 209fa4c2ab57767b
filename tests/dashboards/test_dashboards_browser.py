"""The served page in a real browser: what is read there, and that the browser asks nobody else."""

from __future__ import annotations

from browser_helpers import Seen
from guarded import EVIL

from dspex_lab import dashboards


def test_a_person_sees_runs_charts_and_detail_and_nobody_else_is_asked(lab, browser, asked, eventually) -> None:
    lab.run("quiet run", error=EVIL, error_step="triage", status="failed")
    with dashboards.serve(lab, refresh=0.05) as served:
        page = Seen(served.url, browser, asked, eventually)
        page.reads("quiet run")
        page.draws(3)
        lab.run(f"later run {EVIL}")
        page.reads(f"later run {EVIL}")
        page.press(".tabulator-row", "quiet run")
        page.reads("Calls of language models (1)")
        page.draws(4)
        assert "Where is my <card>?" in page.text
        page.leave()
