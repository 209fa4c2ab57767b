"""Templates: what they render, what their errors say, and what a hostile one cannot do."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import pickle
import resource
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dspex_lab import native
from dspex_lab.errors import PipelineError
from dspex_lab.native import Template, _budget, _template, template_filters


class Ticket(BaseModel):
    title: str
    urgent: bool = False


@dataclasses.dataclass
class Account:
    name: str
    wiped: bool = False

    def wipe(self) -> str:
        self.wiped = True
        return "gone"


class Colour(enum.Enum):
    RED = "red"


# --- what it renders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values", "made"),
    [
        ("", {}, ""),
        ("no values\n", {}, "no values\n"),
        ("{{ a }}{{ b }}", {"a": 1, "b": "x"}, "1x"),
        ("{{ ticket.title }}", {"ticket": Ticket(title="Card")}, "Card"),
        ("{{ d.key }}{{ d['key'] }}{{ d.get('no', '-') }}", {"d": {"key": 1}}, "11-"),
        (
            "{% for x in xs if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
            {"xs": [1, 2, 3]},
            "1/2:2 2/2:3 ",
        ),
        (
            "{% for x in xs %}{{ x }}{{ loop.cycle('a', 'b') }}{{ ',' if not loop.last }}{% else %}none{% endfor %}",
            {"xs": "pq"},
            "pa,qb",
        ),
        ("{% for x in xs %}{% else %}none{% endfor %}", {"xs": []}, "none"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", {"d": {"a": 1, "b": 2}}, "a=1;b=2;"),
        (
            "{% for x in xs recursive %}{{ x.n }}{{ loop(x.kids) }}{% endfor %}",
            {"xs": [{"n": 1, "kids": [{"n": 2, "kids": []}]}]},
            "12",
        ),
        ("{% macro hi(n) %}Hi {{ n }}!{% endmacro %}{{ hi('A') }}{{ hi('B') }}", {}, "Hi A!Hi B!"),
        ("{% macro box() %}[{{ caller() }}]{% endmacro %}{% call box() %}x{% endcall %}", {}, "[x]"),
        ("{% filter upper %}abc{% endfilter %}{% set x %}{{ 1 }}2{% endset %}{{ x }}", {}, "ABC12"),
        ("{% with y = 2 %}{{ y }}{% endwith %}{% if x is defined %}a{% else %}b{% endif %}{{ x|default('c') }}", {}, "2bc"),
        (
            "{{ xs }}{{ d }}{{ t }}{{ e }}",
            {"xs": [1, "a", None], "d": {"a": [2]}, "t": (1,), "e": []},
            "[1, 'a', None]{'a': [2]}(1,)[]",
        ),
        ("{{ (1, 2) }}{{ fs }}{{ s }}", {"fs": frozenset({1}), "s": {2}}, "(1, 2)frozenset({1}){2}"),
        (
            "{{ xs|join(', ') }}|{{ ts|join('/', attribute='title') }}",
            {"xs": [1, "b"], "ts": [Ticket(title="t"), Ticket(title="u")]},
            "1, b|t/u",
        ),
        (
            "{{ a ~ '-' ~ 1 }}{{ a + 'b' }}{{ a * 3 }}{{ 3 * a }}{{ 2 ** 3 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ -1 }}",
            {"a": "x"},
            "x-1xbxxxxxx833-1",
        ),
        ("{{ '%.2f|%5s' % (1.005, 'ab') }}{{ '%(a)s' % {'a': 1} }}{{ '%d%%' % 5 }}", {}, "1.00|   ab15%"),
        ("{{ '%.1f'|format(x) }}{{ '%(n)s'|format(n='a') }}", {"x": 2.25}, "2.2a"),
        ("{{ '{:,} {a[k]} {:>4}'.format(1200, 'x', a={'k': 1}) }}", {}, "1,200 1    x"),
        ("{{ t|upper|replace('A', 'b')|trim }}{{ t.replace('a', 'c', 1) }}", {"t": " aa "}, "bb ca "),
        ("{{ t|indent(2) }}{{ 'x'|center(3) }}{{ t.ljust(4) }}", {"t": "a\nb"}, "a\n  b x a\nb "),
        (
            "{{ [3, 1, 2]|sort|first }}{{ [1, 2]|sum }}{{ [1, 1]|unique|list }}{{ xs|map('upper')|join }}",
            {"xs": ["a", "b"]},
            "13[1]AB",
        ),
        (
            "{{ xs|selectattr('urgent')|map(attribute='title')|list }}",
            {"xs": [Ticket(title="a", urgent=True), Ticket(title="b")]},
            "['a']",
        ),
        (
            "{{ xs|select('odd')|list }}{{ xs|batch(2)|list }}{{ xs|slice(2)|list }}{{ 1.25|round(1) }}",
            {"xs": [1, 2]},
            "[1][[1, 2]][[1], [2]]1.2",
        ),
        (
            "{{ xs|sum(attribute='n') }}{{ [1]|string }}{{ 'a,b'.split(',')|length }}{{ ', '.join(xs|map(attribute='m')) }}",
            {"xs": [{"n": 2, "m": "q"}]},
            "2[1]2q",
        ),
        (
            "{{ d|tojson }}",
            {"d": {"é": Ticket(title="<a>"), "on": datetime.date(2024, 1, 2), "c": Colour.RED}},
            '{"é": {"title": "<a>", "urgent": false}, "on": "2024-01-02", "c": "red"}',
        ),
        ("{{ [1]|tojson(indent=1) }}", {}, "[\n 1\n]"),
        (
            "{{ on.strftime('%d.%m.%Y') }} {{ on.isoformat() }} {{ dt.isoformat() }}",
            {"on": datetime.date(2024, 1, 2), "dt": datetime.datetime(2024, 1, 2)},
            "02.01.2024 2024-01-02 2024-01-02T00:00:00",
        ),
        ("{{ text[:2] }}{{ xs[-1] }}{{ 1 in xs }}", {"text": "abc", "xs": [1, 2]}, "ab2True"),
        ("{{ x if y else 'no' }}{{ x is mapping }}{{ range(3)|list }}", {"x": 1, "y": 0}, "noFalse[0, 1, 2]"),
        ("{# note #}{% raw %}{{ x }}{% endraw %}{{ '{{ x }}' }}", {}, "{{ x }}{{ x }}"),
        ("{{ price * 2 }}{{ 2 * 1.5 }}", {"price": Decimal("1.50")}, "3.003.0"),
    ],
)
def test_the_language(text: str, values: dict[str, Any], made: str) -> None:
    assert Template(text).render(values) == made


def test_what_a_value_says_is_data() -> None:
    hostile = "{{ 7 * 7 }}{% for x in y %}<b>&amp;"
    assert Template("{{ a }}{{ a|upper|lower }}").render({"a": hostile, "y": [1]}) == hostile + hostile.lower()


def test_inputs_are_the_names_that_come_from_outside_in_order() -> None:
    template = Template(
        "{% set own = 1 %}{{ zeta.alpha }} {{ beta|upper }}{% for x in items %}{{ x }}{{ loop.index }}{% endfor %}"
        "{{ own }}{{ range(2) }}{{ zeta }}"
    )
    assert template.inputs == ("zeta", "beta", "items")
    assert Template("{{ range(n) }}{{ x|default(range) }}").inputs == ("n", "x")
    assert Template("{% macro m(a) %}{{ a }}{{ b }}{% endmacro %}").inputs == ("b",)
    assert Template("{{ a.upper }}{{ upper|upper }}").inputs == ("a", "upper")


def test_a_template_is_a_value() -> None:
    one, same, other = Template("{{ a }}", name="x"), Template("{{ a }}"), Template("{{ b }}")
    assert one == same != other
    assert hash(one) == hash(same)
    assert len({one, same, other}) == 2
    assert one != "{{ a }}"
    assert repr(one) == "Template('{{ a }}', name='x')"
    assert repr(Template("y" * 90)) == f"Template('{'y' * 59}…')"
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert (again, again.name, again.inputs, again.render({"a": 1})) == (one, "x", ("a",), "1")
    with pytest.raises(AttributeError, match="cannot be changed"):
        one.text = "z"


def test_a_text_is_compiled_once() -> None:
    assert Template("{{ once }}")._compiled is Template("{{ once }}", name="other")._compiled


def test_what_is_not_used_is_left_alone() -> None:
    assert Template("{{ a }}").render({"a": 1, "range": 2, "b": object()}) == "1"


def test_the_room_is_light() -> None:
    heavy = ("jinja2", "dspy", "numpy", "pydantic", "json_repair")
    code = f"import sys, dspex_lab.native; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_room_names_what_it_has() -> None:
    assert dir(native) == sorted(native.__all__)
    for name in native.__all__:
        assert getattr(native, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        native.nothing  # noqa: B018


# --- what its errors say ----------------------------------------------------------------------------------------------


def error_of(text: str, values: dict[str, Any] | None = None, name: str | None = None) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        Template(text, name=name).render(values or {})
    return caught.value


@pytest.mark.parametrize(
    ("text", "values", "says", "line", "column"),
    [
        ("a\n  {{ nmae }}", {"name": 1}, r"needs 'nmae', which was not given. Did you mean 'name'\?", 2, 6),
        (
            "{{ x.titel }}",
            {"x": {"title": 1}},
            "needs the key 'titel' of a dict that has no such key. Did you mean 'title'?",
            1,
            6,
        ),
        (
            "{{ x.titel }}",
            {"x": Ticket(title="a")},
            "needs the attribute 'titel' of a Ticket, which has none. Did you mean 'title'",
            1,
            6,
        ),
        ("{{ x.titel }}", {"x": 5}, "needs the attribute 'titel' of a int, which has none", 1, 6),
        ("\n\n{{ x[3] }}", {"x": [1]}, "needs item 3 of a list of length 1", 3, 6),
        ("{% if a.b.c %}x{% endif %}", {"a": {}}, "needs the key 'b' of a dict", 1, 9),
        ("{% for x in missing %}{% endfor %}", {}, "needs 'missing', which was not given. Given: nothing", 1, 13),
        ("{{ [gone] }}", {}, "needs 'gone'", 1, 5),
        ("{{ {'a': gone}|tojson }}", {}, "needs 'gone'", 1, 10),
        ("{{ gone() }}", {}, "needs 'gone'", 1, 4),
        ("{{ gone|upper }}", {}, "needs 'gone'", 1, 4),
        ("a\n{{ 1 / x }}", {"x": 0}, "failed: ZeroDivisionError", 2, 1),
        ("{{ a + 1 }}", {"a": "x"}, "failed: TypeError", 1, 1),
    ],
)
def test_a_failing_render_points_at_the_place(text: str, values: dict[str, Any], says: str, line: int, column: int) -> None:
    error = error_of(text, values, name="reply")
    assert says.replace(r"\?", "?") in str(error)
    assert str(error).startswith("The template 'reply' ")
    assert (error.text, error.line, error.column, error.step) == (text, line, column, "reply")
    assert error.__cause__ is not None
    assert not any("template>" in frame for frame in error._user_frames())


@pytest.mark.parametrize(
    ("text", "says", "line", "column"),
    [
        ("a\n{% for x in y %}", "Unexpected end of template", 2, 1),
        ("a\n b {{ x|uper }}", "there is no filter 'uper'. Did you mean 'upper'?", 2, 9),
        ("{{ x is od }}", "there is no test 'od'. Did you mean 'odd'?", 1, 9),
        ("{% if x %}{{ x|nope9 }}{% endif %}", "there is no filter 'nope9'", 1, 16),
        ("{{ x", "cannot be read", 1, 1),
        ("{% foo %}", "unknown tag 'foo'", 1, 1),
    ],
)
def test_a_text_that_is_no_template_is_refused_when_it_is_made(text: str, says: str, line: int, column: int) -> None:
    with pytest.raises(PipelineError) as caught:
        Template(text)
    assert says in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_arguments_are_checked() -> None:
    with pytest.raises(PipelineError, match="A template is a text, not int"):
        Template(5)  # type: ignore[arg-type]
    for values in ([], {1: 2}, None):
        with pytest.raises(PipelineError, match=r"takes its values by name"):
            Template("x").render(values)  # type: ignore[arg-type]


# --- filters of the user ----------------------------------------------------------------------------------------------


def test_users_add_filters() -> None:
    with pytest.raises(PipelineError, match="no filter 'shout'"):
        Template("{{ x|shout }}")
    template_filters.register("shout", lambda text, mark="!": str(text).upper() + mark)
    try:
        template = Template("{{ x|shout }}{{ x|shout(mark='?') }}{{ [x]|map('shout')|first }}")
        assert template.render({"x": "a"}) == "A!A?A!"
        template_filters.register("shout", lambda text: "quiet", replace=True)
        assert Template("{{ x|shout }}").render({"x": "a"}) == "quiet"
        template_filters.register("shout", lambda text: 1 / 0, replace=True)
        assert "failed: ZeroDivisionError" in str(error_of("{{ x|shout }}", {"x": "a"}))
    finally:
        template_filters.unregister("shout")
    assert "No filter named 'shout'" in str(error_of_compiled(template))


def error_of_compiled(template: Template) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        template.render({"x": "a"})
    return caught.value


# --- attacks ----------------------------------------------------------------------------------------------------------

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
