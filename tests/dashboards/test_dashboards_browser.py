"""The served page in a real browser: what is read there, and that the browser asks nobody else."""

from __future__ import annotations

from urllib.parse import urlsplit

from dspex_lab import dashboards

EVIL = "<img src=x onerror=document.title='broken'>"
ALL_TEXT = """
const parts = [];
const walk = (node) => {
  if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent);
  if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
  if (!["STYLE", "SCRIPT"].includes(node.nodeName)) node.childNodes.forEach(walk);
};
walk(document.body);
return parts.join(" ");
"""
ALL_OF = """
const found = [];
const walk = (node) => {
  if (node.matches && node.matches(arguments[0])) found.push(node);
  if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
  node.childNodes.forEach(walk);
};
walk(document.body);
return found;
"""


def test_a_person_sees_runs_charts_and_detail_and_nobody_else_is_asked(lab, browser, asked, eventually) -> None:
    lab.run("quiet run", error=EVIL, error_step="triage", status="failed")
    with dashboards.serve(lab, refresh=0.05) as served:
        browser.get(served.url)
        eventually(lambda: "quiet run" in browser.execute_script(ALL_TEXT))
        eventually(lambda: len(browser.execute_script(ALL_OF, "canvas.marks, svg.marks")) == 3)

        lab.run(EVIL)
        eventually(lambda: EVIL in browser.execute_script(ALL_TEXT))
        row = eventually(lambda: [r for r in browser.execute_script(ALL_OF, ".tabulator-row") if "quiet run" in r.text])[0]
        row.click()
        eventually(lambda: "Calls of language models (1)" in browser.execute_script(ALL_TEXT))
        eventually(lambda: len(browser.execute_script(ALL_OF, "canvas.marks, svg.marks")) == 4)

        assert "Where is my <card>?" in browser.execute_script(ALL_TEXT)
        assert not browser.execute_script(ALL_OF, "img[src=x]")
        assert browser.title == "tickets.ipynb · dspex_lab"
        urls = asked(browser)
        assert any(url.startswith("ws://") for url in urls)
        assert {urlsplit(url).netloc for url in urls} == {f"127.0.0.1:{served.port}"}
        said = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert said == []
        browser.get("about:blank")
