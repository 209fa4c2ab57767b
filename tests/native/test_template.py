"""Templates: what they render, and what their errors say."""

from __future__ import annotations

import datetime
import enum
import pickle
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from template_helpers import error_of

from dspex_lab import native
from dspex_lab.errors import PipelineError
from dspex_lab.native import Template, template_filters


class Ticket(BaseModel):
    title: str
    urgent: bool = False


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
