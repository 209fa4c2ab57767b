"""The served page as a person sees it in a browser, behind all of its shadow roots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

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


class Seen:
    """A page in a browser, opened.

    Args:
        asked: gives the addresses that the browser asked.
        eventually: waits until something holds, and returns it.
    """

    def __init__(self, url: str, browser: Any, asked: Callable[[Any], set[str]], eventually: Callable[..., Any]) -> None:
        self.browser, self._asked, self._eventually = browser, asked, eventually
        self._host = urlsplit(url).netloc
        browser.get(url)

    @property
    def text(self) -> str:
        return str(self.browser.execute_script(ALL_TEXT))

    def all_of(self, selector: str) -> list[Any]:
        return list(self.browser.execute_script(ALL_OF, selector))

    def reads(self, part: str) -> None:
        """Wait until a text is there."""
        self._eventually(lambda: part in self.text)

    def press(self, selector: str, words: str) -> None:
        """Wait for an element with these words, and click it."""

        def pressed() -> bool:
            found = [each for each in self.all_of(selector) if words in each.text]
            if found:
                found[0].click()
            return bool(found)

        self._steadily(pressed)

    def draws(self, charts: int) -> None:
        """Wait until so many charts can be seen."""
        self._steadily(lambda: sum(c.size["width"] > 300 for c in self.all_of("canvas.marks, svg.marks")) == charts)

    def leave(self) -> None:
        """Nothing hostile was run, nobody else was asked, and nothing was complained of."""
        assert not self.all_of("img[src=x]")
        assert self.browser.title == "tickets.ipynb · dspex_lab"
        urls = self._asked(self.browser)
        assert any(url.startswith("ws://") for url in urls)
        assert {urlsplit(url).netloc for url in urls} == {self._host}
        assert [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        self.browser.get("about:blank")

    def _steadily(self, look: Callable[[], bool]) -> None:
        """Wait for ``look``; an element that the page has replaced meanwhile, or that another one covers, is not there yet."""
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        def looked() -> bool:
            try:
                return look()
            except (ElementClickInterceptedException, StaleElementReferenceException):
                return False

        self._eventually(looked)
