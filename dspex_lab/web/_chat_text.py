"""What a model or a person wrote, as HTML that a browser shows and never runs.

Markdown is read with its HTML switched off and without pictures: a picture would be asked of a stranger, who could learn by
its address what was said here. Links lead to web pages and mail only.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from dspex_lab.web._ask import plain, written

#: Characters up to which a text is read as Markdown; a longer one is shown as it is.
LONGEST = 100_000


def marked(text: str) -> str:
    """Return Markdown as HTML."""
    text = _clean(text)
    if len(text) > LONGEST:
        return f'<div class="plain">{html.escape(text)}</div>'
    return str(_READER.render(text))


def escaped(value: Any, most: int | None = None) -> str:
    """Return a value as escaped text: a text as it is, all else as JSON; cut to ``most`` characters."""
    text = value if isinstance(value, str) else written(plain(value), ensure_ascii=False, between=(", ", ": "))
    text = _clean(text)
    if most is not None and len(text) > most:
        text = f"{text[:most]}… ({len(text):,} characters)"
    return html.escape(text, quote=True)


def table(values: Mapping[str, Any], most: int | None = None) -> str:
    """Return fields and their values as a table."""
    rows = "".join(f"<tr><th>{escaped(name)}</th><td>{escaped(value, most)}</td></tr>" for name, value in values.items())
    return f'<table class="fields">{rows}</table>'


def _clean(text: str) -> str:
    """Return a text without what cannot be sent: halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _leads_out(address: str) -> bool:
    return address.lower().startswith(("https://", "http://", "mailto:"))


def _link(self: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: Any) -> str:
    if not _leads_out(str(tokens[at].attrGet("href"))):  # "[x]()": of no address at all nobody is asked whether it is valid
        return "<a>"
    tokens[at].attrSet("target", "_blank")
    tokens[at].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, at, options, env)


def _reader() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
    made.validateLink = _leads_out  # type: ignore[assignment, method-assign]
    made.add_render_rule("link_open", _link)
    return made


_READER = _reader()
