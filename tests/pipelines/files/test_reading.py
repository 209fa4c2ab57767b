# ruff: noqa: E501
"""Files as they are read: what every text means, what is refused, and where an error points."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import Pipeline, load_pipeline, same
from dspex_lab.pipelines.files._nodes import MAX_CHARACTERS, Document, read, resolve
from dspex_lab.pipelines.files._yaml import written

PIECES = [
    "name: p\n", "steps:\n", "  a: f\n", "  a: {type: native, function: f}\n", "  on: 'Say {{ x }}'\n",
    "  b:\n    type: when\n", "    condition: x > 1\n", "    then: f\n", "    do: f\n", "    type: loop\n",
    "    until: x\n", "    limit: 3\n", "    limit: no\n", "    type: each\n", "    field: xs\n", "    type: predict\n",
    "    signature: x -> y\n", "    signature: {text: 'x -> y: nope'}\n", "    retries: 1\n", "    timeout: 1:30\n",
    "    cache: true\n", "    fallback: {y: 1}\n", "    fallback: {function: f}\n", "    type: dspy\n",
    "    module: Predict\n", "    demos: [{x: 1, y: 2}]\n", "    config: {temperature: 1}\n", "    lm: a/b\n",
    "variables: {x: 1}\n", "presets: {default: {timeout: 2}}\n", "    preset: default\n", "&a ", "*a ",
    "!!python/object:os.system ", "<<: ", "[", "]", "{", "}", "- ", "? ", ": ", "|\n", ">\n", "'", "\"", "#", "---\n",
    "\t", "%TAG", "{{ x }}", "{% for %}", "\u2028", "\u00e9", "\u0000", "    type: switch\n", "    on: x\n",
    "    cases: {a: f, 1: f}\n", "    type: compute\n", "    values: {y: x * 2}\n", "    type: transform\n",
    "    keep: item > 1\n", "    type: parallel\n", "    steps: {c: f}\n", "    type: pipeline\n",
    "    file: other.yaml\n", "    check: y\n", "    type: assert\n", "    type: retrieve\n", "    source: f\n",
    "    source: {server: 'http://x'}\n", "    template: [{file: a}, {field: x}]\n", "    type: lm\n",
    "    returns: list[str]\n", "    returns: {a: int}\n", "    batch: {size: 2}\n", "    outputs: [y]\n",
]  # fmt: skip


def f(x: int = 1) -> int:
    return x


def error_of(text: str, **allowed: Any) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        load_pipeline(text, **allowed)
    return caught.value


def attempt(text: str) -> Pipeline | PipelineError:
    try:
        return load_pipeline(text + "\n", functions={"f": f})
    except PipelineError as error:
        found = error
    assert found.line is None or 1 <= found.line <= len(text.splitlines()) + 2
    return found


# --- any text ---------------------------------------------------------------------------------------------------------


@given(st.text())
@example("\ud800")
@example("a: \x00")
@example("name: p\nsteps: {a: '{{'}")
@example("? [a]\n: b")
@example("[" * 5000)
@example("a: " * 3000)
@example("name: p\nsteps: {a: {type: native, function: [1]}}")
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_pipeline_or_a_pipeline_error(text: str) -> None:
    attempt(text)


@given(st.lists(st.sampled_from(PIECES), max_size=14))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_pieces_of_the_language_are_a_pipeline_or_a_pipeline_error(pieces: list[str]) -> None:
    made = attempt("".join(pieces))
    if isinstance(made, Pipeline):
        assert same(made, load_pipeline(made.to_yaml(), functions={"f": f})) == []


WHOLE = """\
name: p
presets: {slow: {timeout: 3}}
steps:
  a: {type: native, function: f, preset: slow, retries: 2, idempotent: true}
  b: {type: when, condition: a > 1, then: f, otherwise: 'Say {{ x }}'}
  c: {type: predict, signature: 'x: int -> y: str', demos: [{x: 1, y: b}], config: {temperature: 0.5}}
  d: {type: each, field: xs, do: f, concurrency: 3}
"""


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_a_good_file_with_a_slip_is_a_pipeline_or_an_error_with_a_place(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    end = data.draw(st.integers(at, min(at + 12, len(WHOLE))))
    slip = data.draw(st.sampled_from(["", " ", "\n", ":", "x", "[]", "{}", "null", "1", "-", "'", "no", "*", "{{", "..", "\t"]))
    made = attempt(WHOLE[:at] + slip + WHOLE[end:])
    assert isinstance(made, Pipeline) or made.line is not None


# --- what a scalar means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["no", "on", "yes", "off", "y", "N", "1:30", "2024-01-01", "1_000", "0b1", "1e", "=", "<<x"])
def test_what_yaml_1_1_takes_for_something_else_is_a_text(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("true", True), ("FALSE", False), ("~", None), ("", None), ("12", 12), ("-3", -3), ("007", 7), ("0x1F", 31)],
        *[("0o17", 15), ("1e3", 1000.0), (".5", 0.5), ("-.inf", -math.inf)],
    ],
)
def test_what_yaml_1_2_takes_for_a_value_is_one(text: str, value: Any) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_a_step_may_be_called_on_and_a_value_may_be_no() -> None:
    made = load_pipeline("name: yes\nvariables: {x: no}\nsteps: {on: 'Say {{ x }}', 1: 'Say {{ on }}'}")
    assert (made.name, list(made.steps), made.defaults) == ("yes", ["on", "1"], {"x": "no"})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b", "no", "1", "x y", "- z"]), plain, min_size=1))
@example({"a": "0o17"})
@example({"a": "1e3"})
@example({"a": " lead\n\n  x\n"})
@example({"a": "\n"})
@example({"a": "x\n\n"})
@example({"a": "a\x85b\u2028"})
@example({"a": "tab\there\n# no\n"})
@settings(max_examples=300, deadline=None)
def test_what_is_written_reads_the_same_here_and_elsewhere(data: dict[str, Any]) -> None:
    import yaml

    text = written(data)
    assert read(Document(text)).plain() == data
    assert yaml.safe_load(text) == data


# --- what is refused ---------------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(f"b{i}: &b{i} [*a,*a,*a,*a,*a,*a,*a]" for i in range(9))


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        (BOMB, "'&a' is an anchor", 1, 4),
        ("name: p\nsteps: *all", "'*all' is an alias", 2, 8),
        ("name: p\nsteps: !!python/object/apply:os.system [ls]", "the tag", 2, 8),
        ("name: !custom p", "the tag", 1, 7),
        ("name: p\nsteps:\n  a: f\n  a: f", "'a' is given twice; first in line 3", 4, 3),
        ("name: p\n<<: {a: 1}", "'<<' merges mappings", 2, 1),
        ("name: p\nsteps: {a: f}\n---\nname: q", "a second document", 3, 1),
        ("name: p\nsteps: " + "[" * 80, "deep inside each other", 2, None),
        ("", "the file is empty", 1, 1),
        ("name: p\n\tsteps: x", "this is no YAML", 2, 1),
        ("name: 'x", "this is no YAML", 1, None),
        ("{a: b}: c\nx: y", "cannot be a key", 1, 1),
        ("a: b\nc: d\n\x07", "cannot be in a file", 3, 1),
        ("é: é\n\x07x", "cannot be in a file", 2, 1),
        ("name: p\nx: " + "9" * 500, "a number of 500 digits", 2, 4),
        ("- a", "a pipeline is a mapping, found a list", 1, 1),
        ("name: p", "the pipeline has no 'steps'", 1, 1),
        ("nam: p\nsteps: {}", "a pipeline has no 'nam'. Did you mean 'name'?", 1, 1),
        ("name: 3\nsteps: {}", "the name is the number 3, not a text", 1, 7),
        ("workflow:\n  name: x", "'workflow' is of another tool", 1, 1),
        ("name: p\nversion: 2\nsteps: {a: f}", "version 1 is read", 2, 10),
        ("name: p\nsteps: {}", "there are no steps", 2, 8),
        ("name: p\nsteps:\n  - name: a", "steps is a list", 3, 3),
        ("name: p\nsteps: {a: 3}", "step 'a' is the number 3", 2, 12),
        ("name: p\nsteps: {a: {retries: 1}}", "step 'a' has no type", 2, 12),
        ("name: p\nsteps: {a: {type: nativ, function: f}}", "there is no type of step 'nativ'. Did you mean 'native'?", 2, 19),
        ("name: p\nsteps: {a: {type: native, function: g}}", "'g' is not among what was handed in", 2, 37),
        ("name: p\nsteps: {a: {function: 'os:system'}}", "in a module that was not allowed", 2, 23),
        ("name: p\nsteps: {a: {function: f, tiemout: 3}}", "has no 'tiemout'. Did you mean 'timeout'?", 2, 26),
        ("name: p\nsteps: {a: {type: lm, templat: x}}", "has no 'template'. There is 'templat'.", 2, 12),
        ("name: p\nsteps: {a: {function: f, timeout: 1:30}}", "timeout is the text '1:30', not a number", 2, 35),
        ("name: p\nsteps: {a: {function: f, replaces: yes}}", "replaces is the text 'yes', not true or false", 2, 36),
        ("name: p\nsteps: {a: {function: f, retries: true}}", "retries is true, not a whole number", 2, 35),
        ("name: p\nsteps: {a: {function: f, retries: 2}}", "may only be tried again where that does no harm", 2, 12),
        ("name: p\nsteps: {a: {function: f, timeout: -1}}", "is not a number of seconds above 0", 2, 35),
        ("name: p\nsteps: {a: {function: f, cache: soon}}", "cache is the text 'soon'", 2, 33),
        ("name: p\nsteps: {a: {function: f, on_error: ignore}}", "on_error='ignore' is unknown", 2, 36),
        ("name: p\nsteps: {a: {function: f, on_error: stop, fallback: 1}}", "and there is a fallback", 2, 36),
        ("name: p\nsteps: {a: {function: f, fallback: {b: 1}}}", "the fallback's field 'a' does not fit", 2, 9),
        ("name: p\nsteps: {a: {function: f, fallback: text}}", "the fallback does not fit", 2, 36),
        ("name: p\nsteps: {a: {function: f, batch: {sise: 2}}}", "batch has no 'sise'. Did you mean 'size'?", 2, 34),
        ("name: p\nsteps: {a: {function: f, batch: {size: 0}}}", "is not 1 or more", 2, 33),
        ("name: p\nsteps: {a: {function: f, preset: x}}", "there is no preset 'x'", 2, 34),
        ("name: p\npresets: {x: {functon: 1}}\nsteps: {a: f}", "the preset 'x' has no 'functon'", 2, 15),
        ("name: p\nvariables: {y: 1}\nsteps: {a: f}", "'y' is not an input", 2, 13),
        ("name: p\nvariables: {x: text}\nsteps: {a: f}", "the variable 'x' does not fit", 2, 16),
        ("name: p\nsteps:\n  x: 'Say {{ y }}'\n  y: 'Say {{ x }}'", "wait for each other", 3, 3),
        ("name: p\nsteps:\n  a: f\n  b: {function: f, outputs: [a]}", "both produce the field 'a'", 4, 3),
        ("name: p\nsteps: {a: {type: when, condition: 'x >', then: f}}", "cannot be read", 2, None),
        ("name: p\nsteps: {a: {type: when, condition: '__import__(1)', then: f}}", "the condition '__import__(1)': there is no function", 2, 37),
        ("name: p\nsteps: {a: {type: when, condition: {al: [x]}, then: f}}", "this is no condition", 2, 36),
        ("name: p\nsteps: {a: {type: when, condition: {not: {function: f}}, then: f}}", "cannot be part of a condition", 2, 42),
        ("name: p\nsteps: {a: {type: each, field: xs, do: f, concurrency: 0}}", "concurrency=0 is not 1 or more", 2, None),
        ("name: p\nsteps: {a: {type: loop, do: f}}", "until or while", 2, 12),
        ("name: p\nsteps: {a: {type: loop, do: f, until: x, limit: 1.5}}", "limit=1.5 is not 1 or more", 2, 49),
        ("name: p\nsteps: {a: {type: switch, on: x, cases: {}}}", "nothing to choose from", 2, 41),
        ("name: p\nsteps: {a: {type: pipeline}}", "one of them", 2, 12),
        ("name: p\nsteps: {a: {type: pipeline, file: other.yaml}}", "this text is not in a folder", 2, 35),
        ("name: p\nsteps: {a: {type: pipeline, pipeline: {name: q, presets: {}, steps: {b: f}}}}", "no 'presets'", 2, None),
        ("name: p\nsteps: {a: {type: retrieve, source: {server: 'http://evil.example/'}}}", "may not send queries", 2, None),
        ("name: p\nsteps: {a: {type: retrieve, source: {server: 'http://[x'}}}", "is no address", 2, None),
        ("name: p\nsteps: {a: {type: compute, values: {}}}", "nothing to compute", 2, None),
        ("name: p\nsteps: {a: {type: compute, values: {b: [1]}}}", "b is a list, not a text", 2, None),
        ("name: p\nsteps: {a: {type: transform, field: xs, limit: -1}}", "limit=-1", 2, 48),
        ("name: p\nsteps: {a: {type: lm, template: [{fil: a}]}}", "no part of a prompt", 2, 34),
        ("name: p\nsteps: {a: {type: lm, template: [{field: a b}]}}", "no name of a field", 2, None),
        ("name: p\nsteps: {a: {type: lm, template: Hi, config: {api_base: x}}}", "is no setting of a model", 2, 46),
        ("name: p\nsteps: {a: {type: lm, template: Hi, config: {stop: {a: 1}}}}", "not a plain value", 2, None),
        ("name: p\nsteps: {a: {type: lm, template: Hi, lm: [x]}}", "lm is a list, not a model", 2, 41),
        ("name: p\nsteps: {a: {type: lm, template: Hi, lm: {temperature: 1}}}", "lm says no model", 2, 41),
        ("name: p\nsteps: {a: {type: lm, template: Hi, lm: {model: a/b, api_base: 'http://x'}}}", "may not say 'api_base'", 2, 54),
        ("name: p\nsteps: {a: {type: lm, template: Hi, lm: {model: a/b, temprature: 1}}}", "Did you mean 'temperature'?", 2, None),
        ("name: p\nsteps: {a: {type: lm, template: Hi, returns: 'list['}}", "cannot be read", 2, 46),
        ("name: p\nsteps: {a: {type: predict, signature: 'x -> y: Tikcet'}}", "unknown type 'Tikcet'", 2, 48),
        ("name: p\nsteps: {a: {type: predict, signature: {text: 'x -> y', name: a b}}}", "'a b' is no name", 2, None),
        ("name: p\nsteps: {a: {type: predict, signature: x -> y, demos: [1]}}", "a demonstration is the number 1", 2, None),
        ("name: p\nsteps: {a: {type: predict, signature: x -> y, demos: x}}", "demos is the text 'x', not a list", 2, None),
        ("name: p\nsteps: {a: {type: predict, signature: x -> y, config: 1}}", "config is the number 1", 2, None),
        ("name: p\nsteps: {a: {type: operation, signature: x -> y}}", "has no 'operation'", 2, 12),
        ("name: p\nsteps: {a: {type: dspy, module: ProgramOfThought, signature: x -> y}}", "runs code that a model wrote", 2, 33),
        ("name: p\nsteps: {a: {type: dspy, module: Predikt, signature: x -> y}}", "Did you mean 'Predict'?", 2, 33),
        ("name: p\nsteps: {a: {type: dspy, module: f}}", "'f' is function, not a dspy.Module", 2, 33),
        ("name: p\nsteps: {a: {type: dspy, module: Predict, signature: x -> y, predictors: {z: {}}}}", "no predictor 'z'", 2, None),
        ("name: p\nsteps: {a: {type: lm, template: Hi, returns: 'str, b: int'}}", "is more than a type", 2, 46),
        ("name: p\nsteps: {a: {function: f, retries: 1, retry_count: 2}}", "another word for retries", 2, 51),
        ("name: p\ndescription: [x]\nsteps: {a: f}", "description is a list", 2, 14),
        ("name: p\nsteps: {a: {type: native, function: 3}}", "the reference is the number 3, not a text", 2, 37),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, message: str, line: int | None, column: int | None) -> None:
    error = error_of(text + "\n", functions={"f": f})
    assert message in error.message, error.message
    if line is not None:
        assert error.line == line, error.message
        assert f"line {line}, column" in error.message.lower()
    if column is not None:
        assert error.column == column, error.message
    assert error.excerpt() or not text


def test_an_error_in_a_text_of_several_lines_points_into_it() -> None:
    error = error_of("name: p\nsteps:\n  a:\n    type: lm\n    template: |\n      First {{ x }}\n      then {{ y | nope }}\n")
    assert (error.line, error.excerpt()[0]) == (7, "line 7 |       then {{ y | nope }}")
    error = error_of("name: p\nsteps:\n  a:\n    type: predict\n    signature: |\n      x: int\n      -> y: strng\n")
    assert (error.line, error.column) == (7, 13)
    error = error_of('name: p\nsteps: {a: {type: when, condition: "x > 1 adn y", then: f}}\n', functions={"f": f})
    assert error.excerpt()[1].index("^") >= error.excerpt()[0].index("x > 1")


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__ }}", "{% include '/etc/passwd' %}", "{{ x.__init__.__globals__ }}", "{% import 'os' %}"],
)
def test_a_template_that_reaches_out_is_refused_before_anything_runs(template: str) -> None:
    error = error_of(f'name: p\nsteps:\n  a: "{template}"\n')
    assert error.line == 3
    assert "not allowed" in error.message or "cannot be read" in error.message


def test_a_file_of_ten_megabytes_is_not_even_parsed(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("name: p\n" + "# x\n" * 2_600_000)
    with pytest.raises(PipelineError, match=r"big.yaml has 10,400,008 bytes; 2,000,000 characters are read at most"):
        load_pipeline(tmp_path / "big.yaml")
    assert "characters" in error_of("name: p\n" + "x" * MAX_CHARACTERS).message


def test_too_many_values_and_too_many_steps_are_refused() -> None:
    assert "more than 100,000 values" in error_of("name: p\nx: [" + "1," * 100_001 + "]").message
    many = "\n".join(f"  s{i}: f" for i in range(5_001))
    assert "more than 5,000 steps" in error_of(f"name: p\nsteps:\n{many}\n", functions={"f": f}).message


# --- what may be referred to --------------------------------------------------------------------------------------------


def test_a_module_is_allowed_by_the_caller_and_only_its_own_public_names_are(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "mysteps_for_files.py").write_text(
        "import os\nfrom os import system\n_PRIVATE = 1\ndef _hidden(x): ...\ndef tidy(x: str) -> str:\n    return x.strip()\n"
        "class Tools:\n    @staticmethod\n    def clean(x: str) -> str:\n        return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def text(name: str) -> str:
        return f"name: p\nsteps: {{a: {{function: 'mysteps_for_files:{name}'}}}}\n"

    assert "was not allowed" in error_of(text("tidy")).message
    made = load_pipeline(text("tidy"), modules=["mysteps_for_files"])
    assert made.steps["a"].target(" x ") == "x"
    assert "mysteps_for_files:tidy" in made.to_yaml()
    assert load_pipeline(text("Tools.clean"), modules="mysteps_for_files").steps["a"].target("x") == "x"
    for name, why in [
        ("_hidden", "no public name"),
        ("os.system", "is not defined in"),
        ("system", "is not defined in"),
        ("tidi", "Did you mean 'tidy'?"),
        ("tidy.__globals__", "no public name"),
        ("", "no public name"),
    ]:
        assert why in error_of(text(name), modules=["mysteps_for_files"]).message, name
    assert "cannot be imported" in error_of(text("tidy").replace("steps_for", "none"), modules=["mynone_files"]).message


def test_functions_may_be_a_list_and_nothing_else_is_taken() -> None:
    assert load_pipeline("name: p\nsteps: {a: f}\n", functions=[f]).steps["a"].target is f
    with pytest.raises(dx.ConfigurationError, match="functions that have a name"):
        load_pipeline("name: p\nsteps: {a: f}\n", functions=[3])
    with pytest.raises(dx.ConfigurationError, match="modules= takes"):
        load_pipeline("name: p\nsteps: {a: f}\n", modules=[3])


def test_a_type_of_ones_own_is_handed_in() -> None:
    class Ticket:
        pass

    text = "name: p\nsteps: {a: {type: predict, signature: 'x -> y: Ticket'}}\n"
    assert "handed in" in str(error_of(text))
    assert load_pipeline(text, functions={"Ticket": Ticket}).outputs["y"].type is Ticket


def test_a_retrieval_server_of_this_machine_or_handed_in_may_be_named() -> None:
    text = "name: p\nsteps: {a: {type: retrieve, source: {server: 'http://HOST/api'}}}\n"
    assert load_pipeline(text.replace("HOST", "127.0.0.1:1")).steps["a"].target.source == "http://127.0.0.1:1/api"
    away = text.replace("HOST", "wiki.example")
    assert load_pipeline(away, functions={"wiki": "http://wiki.example/api"}).steps["a"].kind == "retrieve"
