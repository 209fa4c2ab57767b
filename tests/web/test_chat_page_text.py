"""What is shown in the chat cannot run, whoever wrote it."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from chat_helpers import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.web._chat_text import LONGEST, escaped, marked, table

TAGS = {
    *("p", "br", "a", "em", "strong", "s", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "div"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {
    ("a", "href"),
    ("a", "title"),
    ("a", "target"),
    ("a", "rel"),
    ("ol", "start"),
    ("code", "class"),
    ("div", "class"),
}
PIECES = [
    HOSTILE,
    "<svg onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&#58;alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "<javascript:alert(1)>",
    '[x](https://a.example "\' onclick=alert(1)")',
    "```<script>\n</script>\n```",
    "```html onload=alert(1)\nx\n```",
    "![x](https://evil.example/x.png)",
    "[x]: vbscript:alert(1)\n\n[x]",
    "[x]() ![x]()",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "| <b>a</b> |\n|---|\n| <i>b</i> |",
    "\x00<script\x00>",
    "\ud800",
    "<!-- --><style>*{display:none}</style>",
]


class Checked(HTMLParser):
    """Reads HTML, and remembers what is in it that should not be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.bad: list[object] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.bad.append(tag)
        for name, value in attrs:
            if (tag, name) == ("td", "style") or (tag, name) == ("th", "style"):
                if not (value or "").startswith("text-align:"):
                    self.bad.append((tag, name, value))
            elif (tag, name) not in ATTRIBUTES and not (tag == "table" and name == "class"):
                self.bad.append((tag, name, value))
            if name == "href":
                self.links.append(value or "")

    def handle_comment(self, data: str) -> None:
        self.bad.append(data)

    def handle_decl(self, decl: str) -> None:
        self.bad.append(decl)


@pytest.mark.parametrize("text", PIECES)
def test_what_is_hostile_is_shown_as_it_stands(text: str) -> None:
    for shown in (marked(text), f"<p>{escaped(text)}</p>", table({text: text, "list": [text]})):
        found = Checked(shown)
        assert found.bad == []
        assert {urlsplit(link).scheme for link in found.links} <= {"http", "https", "mailto"}
        shown.encode()


@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=30), st.sampled_from(list("<>[]()!`*|&\"'\n"))), max_size=12)
)
def test_no_mixture_gets_through(parts: list[str]) -> None:
    found = Checked(marked("".join(parts)))
    assert found.bad == []
    assert {urlsplit(link).scheme for link in found.links} <= {"http", "https", "mailto"}


def test_markdown_is_read() -> None:
    shown = marked("**now**\nthen [there](https://a.example/?q=1)\n\n| a |\n|---|\n| 1 |\n\n1. x")
    for part in ("<strong>now</strong><br>", 'rel="noopener noreferrer nofollow"', 'target="_blank"', "<td>1</td>", "<ol>"):
        assert part in shown.replace("<br />", "<br>")


def test_a_long_text_is_shown_as_it_is_and_a_long_value_is_cut() -> None:
    long = "**a** <b>" * LONGEST
    assert Checked(marked(long)).bad == []
    assert "<strong>" not in marked(long)
    assert escaped("x" * 50, 10) == "x" * 10 + "… (50 characters)"
    assert escaped({"a": ["<b>"]}) == "{&quot;a&quot;: [&quot;&lt;b&gt;&quot;]}"
