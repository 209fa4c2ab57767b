"""The chat page in a real browser: a question, its answer as it is written, what stands behind it, and a thumb."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import dspy
from browser_helpers import ALL_OF, Seen
from chat_helpers import HOSTILE
from clocks import eventually

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.testing import Gate, scripted_lm
from dspex_lab.web import serve

ENTER = "\ue007"


def seen_now(browser: Any, selector: str, words: str = "", script: str = "") -> Any:
    """Wait for an element that can be seen, with these words, do something with it, and return it.

    One that the page has replaced meanwhile is not there yet.
    """
    from selenium.common.exceptions import StaleElementReferenceException

    def look() -> Any:
        try:
            found = [e for e in browser.execute_script(ALL_OF, selector) if e.is_displayed() and words in e.text]
            if found and script:
                browser.execute_script(script, found[-1])
            return found
        except StaleElementReferenceException:
            return []

    return eventually(look)[-1]


def press(browser: Any, selector: str, words: str = "") -> None:
    seen_now(browser, selector, words, "arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()")


def test_a_person_asks_reads_looks_behind_it_and_says_that_it_was_good(browser: Any, asked: Any) -> None:
    gate = Gate()
    lm = scripted_lm({"reply": f"It was **posted** on Monday and should be with you soon. {HOSTILE}"}, gate=gate)
    with Lab(":memory:") as lab:
        lab.use(lm)
        lab.pipelines["support"] = dx.pipeline("support", reply=dspy.Predict("message -> reply"))
        with serve(lab) as served:
            page = Seen(served.chat, browser, asked, eventually)
            seen_now(browser, "textarea").send_keys("Where is my card?" + ENTER)
            gate.open(10)
            page.reads("posted")
            assert "soon" not in page.text
            gate.open()
            press(browser, "summary")
            assert seen_now(browser, "td.how", "reply").is_displayed()
            assert [strong.text for strong in page.all_of("strong")] == ["posted"]
            assert "<iframe src=http://evil.example>" in page.text
            press(browser, "button", "Good")
            page.reads("✓ taken: good")
            rows = lab.sql("SELECT verdict, who, name, tags FROM feedback JOIN runs USING (run_id)")
            assert rows[["verdict", "who", "name"]].values.tolist() == [["good", "chat", "support"]]

            _a_window_that_is_closed_ends_its_run(lab, browser, served.chat)

            assert browser.title == "memory · chat · dspex_lab"
            assert not page.all_of("img, iframe, a[href^='javascript']")
            hosts = {urlsplit(url).netloc for url in asked(browser)}
            assert hosts == {urlsplit(served.chat).netloc}
            assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
            browser.get("about:blank")


def _a_window_that_is_closed_ends_its_run(lab: Lab, browser: Any, url: str) -> None:
    gate, first = Gate(), browser.current_window_handle
    lm = scripted_lm({"reply": "one two three"}, gate=gate)
    lab.use(lm)
    browser.switch_to.new_window("tab")
    browser.get(url)
    seen_now(browser, "textarea").send_keys("And now?" + ENTER)
    assert gate.reached(1, timeout=60)
    browser.close()
    browser.switch_to.window(first)
    eventually(lambda: sorted(lab.sql("SELECT status FROM runs").status) == ["cancelled", "complete"])
    gate.open(1)  # the engine's thread looks up at its next piece
    assert lm.engine.closed(1, timeout=60)
    assert lm.engine.streams.ended == 0
