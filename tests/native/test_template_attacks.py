"""What a hostile template, or any text at all, cannot do."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from template_helpers import error_of

from dspex_lab.errors import PipelineError
from dspex_lab.native import Template, _budget, _template


@dataclasses.dataclass
class Account:
    name: str
    wiped: bool = False

    def wipe(self) -> str:
        self.wiped = True
        return "gone"


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ x|attr('__class__') }}",
    "{{ [x]|map(attribute='__class__')|list }}",
    "{{ [x]|map('attr', '__class__')|list }}",
    "{{ [x, x]|sort(attribute='__class__') }}",
    "{{ [x, x]|groupby('__class__')|list }}",
    "{{ [x]|selectattr('__class__')|list }}",
    "{{ [x]|join(attribute='__class__') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0[__class__]}'.format(x) }}",
    "{{ '{a.__class__.__mro__}'.format(a=x) }}",
    "{{ '{0.__class__}'.format_map({'0': x}) }}",
    "{{ x.write.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ x.wipe.__func__ }}",
    "{{ x.wipe() }}",
    "{{ x.wipe }}",
    "{{ ''.join }}",
    "{{ ''.format }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ super() }}",
    "{% for i in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for i in [1] %}{{ loop._to_iterator(i) }}{% endfor %}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler.__init__ }}",
    "{{ joiner() }}",
    "{% set ns = namespace(a=1) %}",
    "{% set x.name = 1 %}",
    "{{ dict(a=1) }}",
    "{{ config }}",
    "{{ items.append(1) }}",
    "{{ items.clear() }}",
    "{{ map.pop('a') }}",
    "{{ map.update({'b': 1}) }}",
    "{{ ''.encode() }}",
    "{{ ''.maketrans('a', 'b') }}",
    "{{ ''.translate({}) }}",
    "{{ kind() }}",
    "{{ function() }}",
    "{{ kind.mro() }}",
    "{{ generator.gi_frame }}",
    "{{ error.__traceback__ }}",
    "{{ function|map('upper') }}{{ function.__code__ }}",
    "{% include 'other' %}",
    "{% import 'other' as o %}",
    "{% from 'other' import o %}",
    "{% extends 'other' %}",
    "{% block a %}{% endblock %}",
    "{% autoescape true %}{% endautoescape %}",
    "{{ items|random }}",
    "{{ 'a'|safe }}",
    "{{ items is callable }}",
    "{{ [-99999999]|map('#tick')|list }}",
    "{{ items|select('#made')|list }}",
    "{{ items|map(1)|list }}",
    "{{ b'x' % 1 }}",
    "{{ bytes % (1,) }}",
    "{{ bytes * 2 }}",
    "{{ items * 2 }}",
    "{{ x ** 2 }}",
    "{{ items|sum(start=[]) }}",
    "{{ '%(a)s %s'|format(1, a=2) }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_private_is_reached_and_nothing_is_changed(text: str) -> None:
    account, items, mapping = Account("a"), [1], {"a": 1}
    values = {
        "x": account,
        "items": items,
        "map": mapping,
        "kind": Account,
        "function": error_of,
        "generator": (i for i in [1]),
        "error": ValueError("x"),
        "bytes": b"%d",
    }
    error_of(text, values)
    assert (account.wiped, items, mapping) == (False, [1], {"a": 1})


BOMBS = {
    "repeat": "{{ 'a' * 10**9 }}",
    "repeat, folded": "{{ 'a' * 1000000000 }}",
    "repeat, the other way": "{{ 1000000000 * 'a' }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "powers of powers": "{{ 9 ** 999 ** 999 }}",
    "power in steps": "{% set x = 2 ** 1500 %}{% set x = x * x %}{% set x = x * x %}{{ x }}",
    "range": "{{ range(10**9)|list }}",
    "huge range": "{{ range(10**30)|list }}",
    "range backwards": "{% for i in range(0, -10**9, -1) %}x{% endfor %}",
    "loop": "{% for i in range(10**9) %}x{% endfor %}",
    "nested loops": "{% for i in range(9000) %}" * 3 + "{% endfor %}" * 3,
    "loops that skip": "{% for i in range(90000) %}{% for j in range(90000) if j < 0 %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for i in items recursive %}{{ loop(items) }}{% endfor %}",
    "wide recursive loop": "{% for i in range(99) recursive %}"
    "{% if loop.depth < 9 %}{{ loop(range(99)) }}{% endif %}{% endfor %}",
    "recursive macro": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "doubling macros": "{% macro m0() %}xx{% endmacro %}"
    + "".join(f"{{% macro m{i}() %}}{{{{ m{i - 1}() }}}}{{{{ m{i - 1}() }}}}{{% endmacro %}}" for i in range(1, 40))
    + "{{ m39() }}",
    "long text in a macro": "{% macro m() %}"
    + "z" * 50_000
    + "{% endmacro %}{% set q %}{% for i in range(99999) %}{{ m() }}{% endfor %}{% endset %}",
    "long text in a loop": "{% set q %}{% for i in range(99999) %}" + "z" * 50_000 + "{% endfor %}{% endset %}",
    "doubling by ~": "{% set x = 'aa' %}" + "{% set x = x ~ x %}" * 60,
    "doubling by +": "{% set x = 'aa' %}" + "{% set x = x + x %}" * 60,
    "doubling by block": "{% set x = 'aa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "doubling list": "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "doubling tuple as a key": "{% set x = (1,) %}" + "{% set x = (x, x) %}" * 60 + "{{ {x: 1} }}",
    "doubling dict": "{% set x = {'a': 1} %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x|tojson }}",
    "doubling by list +": "{% set x = [1] %}" + "{% set x = x + x %}" * 60,
    "doubling by join": "{% set x = 'aa' %}" + "{% set x = [x, x]|join %}" * 60,
    "doubling by format": "{% set x = 'aa' %}" + "{% set x = '%s%s' % (x, x) %}" * 60,
    "slices": "{{ [" + "big[1:]," * 4_000 + "] }}",
    "replace": "{{ big.replace('a', big) }}",
    "replace nothing": "{{ big.replace('', big) }}",
    "replace filter": "{{ big|replace('a', big) }}",
    "join method": "{{ big.join(big) }}",
    "join filter": "{{ big|join(big) }}",
    "indent by a text": "{{ lines|indent(big) }}",
    "format many": "{{ ('%s' * 30000)|format(big) }}",
    "format many by name": "{{ ('%(a)s' * 15000) % {'a': big} }}",
    "str.format many": "{{ ('{0}' * 30000).format(big) }}",
    "center": "{{ 'a'|center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "percent width": "{{ '%1000000000d' % 1 }}",
    "percent precision": "{{ '%.1000000000f' % 1 }}",
    "percent star": "{{ '%*d'|format(1000000000, 1) }}",
    "percent name": "{{ '%(a)1000000000d'|format(a=1) }}",
    "format width": "{{ '{:1000000000}'.format(1) }}",
    "format width inside": "{{ '{:{w}}'.format(1, w=10**9) }}",
    "batch": "{{ items|batch(10**9, 'x')|list }}",
    "slice": "{{ items|slice(10**9)|list }}",
    "round": "{{ 1|round(10**9, 'ceil') }}",
    "tojson indent": "{{ items|tojson(indent=10**9) }}",
    "indent": "{{ lines|indent(10**9) }}",
    "a value inside itself": "{{ cycle }}",
    "a value inside itself, as json": "{{ cycle|tojson }}",
    "deep value": "{{ deep }}",
    "deep value, as json": "{{ deep|tojson }}",
    "long output": "{% for i in range(9) %}{{ wide }}{% endfor %}",
    "too many words": "{{a}}" * 20_000,
    "digits": "{{ 1" + "0" * 5_000 + " }}",
    "parentheses": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "sums": "{{ " + "1+" * 20_000 + "1 }}",
    "ifs": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "fors": "{% for a in items %}" * 30 + "{% endfor %}" * 30,
    "openings": "{{ " * 20_000,
    "raws": "{% raw %}" * 5_000,
    "comments": "{#" * 50_000,
    "quotes": "{{ '" + "\\'" * 40_000,
    "spaces": " " * 90_000 + "{%",
    "newlines": "\n" * 90_000 + "{%-",
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_goes_off(name: str) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    big = "ab" * 100_000
    values = {"items": [1, 2], "big": big, "lines": "a\n" * 5_000, "cycle": cycle, "deep": deep, "wide": "x" * 600_000}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error_of(BOMBS[name], values)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 512 * 1024  # KiB


def test_what_is_slow_without_being_large_is_stopped_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_budget, "MAX_SECONDS", 0.0)
    assert "took over 0 seconds" in str(error_of("{{ 1 }}{{ 2 }}"))


def test_the_sizes_of_text_and_output_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    Template("x" * 100_000)
    with pytest.raises(PipelineError, match=r"has 100,001 characters, and may have 100,000\. Give long texts as values"):
        Template("x" * 100_001)
    monkeypatch.setattr(_template, "MAX_RENDERED", 10)
    assert Template("{{ a }}{{ a }}").render({"a": "12345"}) == "1234512345"
    assert "makes over 10 characters" in str(error_of("{{ a }}{{ a }}!", {"a": "12345"}))


def test_an_interrupt_is_no_error_of_the_template() -> None:
    class Interrupting:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Template("{{ x }}").render({"x": Interrupting()})


PIECES = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    " ",
    "\n",
    "a",
    "b",
    "x",
    ".",
    "|",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "'",
    '"',
    "1",
    "99999",
    "*",
    "**",
    "+",
    "~",
    "%",
    "for ",
    " in ",
    "endfor",
    "if ",
    "endif",
    "set ",
    "=",
    "endset",
    "macro m()",
    "endmacro",
    "m()",
    "upper",
    "join",
    "replace",
    "format",
    "map",
    "tojson",
    "range(9)",
    "is ",
    "not ",
    "loop",
    ".__class__",
    "__",
    "recursive",
    "raw",
    "endraw",
    "call ",
    "endcall",
    "self",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_renders_or_is_a_pipeline_error(pieces: str, text: str) -> None:
    for source in (pieces, "{{ " + pieces + " }}", "{% for a in x %}" + pieces + "{% endfor %}", text):
        with contextlib.suppress(PipelineError):
            assert isinstance(Template(source).render({"a": "v", "b": [1, "2"], "x": {"k": [3]}}), str)


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=3), st.integers(), max_size=3))
@settings(max_examples=60, deadline=None)
def test_values_come_out_as_they_are(text: str, mapping: dict[str, int]) -> None:
    assert Template("<{{ a }}|{{ m }}>").render({"a": text, "m": mapping}) == f"<{text}|{mapping}>"
