"""``%dspex var`` and ``%dspex vars``: variables looked at, defined, set, pinned, brought back, dropped, listed, shown live."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError, ConstraintError, DspexError, VariableError
from dspex_lab.magics import COMMANDS
from dspex_lab.magics._complete import candidates
from dspex_lab.magics._line import Line
from dspex_lab.magics._var import RANGE, _range, read
from dspex_lab.variables import Choice, Float, Int


def run(shell: Any, line: str) -> Any:
    return shell.run_line_magic("dspex", line)


def space() -> Any:
    return dx.lab().variables


def test_a_range_defines_a_variable(shell: Any) -> None:
    found = run(shell, 'var t 0.0..1.5 --step 0.5 --default 1.0 --note "how free"')
    assert space()["t"].domain == Float(0.0, 1.5, 0.5)
    assert (space()["t"].value, space()["t"].note) == (1.0, "how free")
    assert "t" in repr(found)
    assert "<table" in found._repr_html_()
    run(shell, "var k 0..20")
    assert space()["k"].domain == Int(0, 20)
    run(shell, "var rate 1e-5..1 --log")
    assert space()["rate"].domain == Float(1e-5, 1.0, None, True)
    run(shell, "var low -1.5..-.5")
    assert space()["low"].domain == Float(-1.5, -0.5)
    run(shell, "var half 0..1 --step 0.5")
    assert space()["half"].domain == Float(0, 1, 0.5)
    run(shell, 'var style ["brief", "long"] --default "long"')
    assert (space()["style"].domain, space()["style"].value) == (Choice(["brief", "long"]), "long")
    run(shell, "var on bool --default True")
    run(shell, 'var words text --default "Be kind."')
    assert (space()["on"].value, space()["words"].value) == (True, "Be kind.")


def test_a_variable_that_is_defined_again_keeps_its_value(shell: Any) -> None:
    run(shell, "var t 0.0..1.5 --default 0.25")
    run(shell, "var t = 0.75")
    run(shell, "var t 0.5..2.0")
    assert (space()["t"].value, space()["t"].domain) == (0.75, Float(0.5, 2.0))


def test_a_value_is_python_and_says_who_and_why(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "var t 0.0..1.5 --default 0.25")
    shell.user_ns["best"] = 0.5
    run(shell, 'var t = best + 0.25 --why "the best so far" --score 0.9')
    record = space().history("t")[0]
    assert (record.value, record.who, record.why, record.score) == (0.75, "person", "the best so far", 0.9)
    run(shell, "var t=0.75")
    out = capsys.readouterr().out
    assert f"t = 0.75 (version {record.version})" in out
    assert "t is that already" in out
    space().derive("twice", "t * 2")
    run(shell, "var t = 1.0")
    assert "and with it twice" in capsys.readouterr().out


def test_it_is_pinned_brought_back_and_dropped(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "var t 0.0..1.5 --default 0.25")
    first = space().version
    run(shell, "var t = 0.5 --pin")
    assert space()["t"].pinned
    with pytest.raises(VariableError, match="pinned"):
        run(shell, "var t = 0.75")
    run(shell, "var t --unpin")
    run(shell, "var t = 0.75")
    run(shell, f"var t --rollback {first}")
    assert space()["t"].value == 0.25
    assert [r.value for r in run(shell, "var t --history")] == [0.25, 0.75, 0.5, 0.25]
    assert run(shell, "var t --drop") is None
    assert "t" not in space()
    assert len(run(shell, "var t --history")) == 4
    out = capsys.readouterr().out
    assert f"t is as it was at version {first}" in out
    assert "its history is kept" in out


def test_a_name_of_a_program_or_pipeline_exposes_it_first(shell: Any) -> None:
    import dspy

    shell.user_ns["qa"] = program = dspy.Predict("question -> answer")
    run(shell, "var qa.temperature 0.0..1.5")
    assert space()["qa.temperature"].domain == Float(0.0, 1.5)
    run(shell, "var qa.temperature = 0.25")
    assert program.config["temperature"] == 0.25
    with pytest.raises(VariableError, match=r"no variable 'qa.temperatur'.*Did you mean 'qa.temperature'"):
        run(shell, "var qa.temperatur")
    with pytest.raises(VariableError, match=r"no variable 'nothing.t'"):
        run(shell, "var nothing.t")


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("var", ConfigurationError, "needs the name of a variable"),
        ("var --pin", ConfigurationError, "needs the name of a variable"),
        ("var x", VariableError, r"no variable 'x'.*defines one"),
        ("var x = 1", VariableError, "no variable 'x'"),
        ("var t =", ConfigurationError, "There is no value after t ="),
        ("var t = 2.5", VariableError, "2.5"),
        ("var t = unknown_name", ConfigurationError, "unknown_name"),
        ("var t = 'a' 1", ConfigurationError, "cannot be read"),
        ("var t = (1", ConfigurationError, "ends inside"),
        ("var t 1.5..0.0", VariableError, "above high"),
        ("var t 0.0..", ConfigurationError, "does not say what a variable may be"),
        ("var t some", ConfigurationError, "does not say what a variable may be"),
        ("var t [] ", VariableError, "no options"),
        ("var t ['a'] --log", ConfigurationError, "--log goes with a range"),
        ("var t 0..1 --step x", ConfigurationError, "--step takes"),
        ("var t --step 1", ConfigurationError, "--step, --log, --default and --note go with"),
        ("var t --why so", ConfigurationError, "--why and --score go with a value"),
        ("var t --rollback 99", VariableError, "no version 99"),
        ("var t --rollback x", ConfigurationError, "--rollback takes a whole number"),
        ("var t --histroy", ConfigurationError, "Did you mean '--history'"),
        ("vars nothing", ConfigurationError, "No variable is like 'nothing'"),
        ("vars tt", ConfigurationError, "No variable is like 'tt'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(shell: Any, line: str, kind: type[DspexError], said: str) -> None:
    run(shell, "var t 0.0..1.5 --default 0.25")
    with pytest.raises(kind, match=said) as caught:
        run(shell, line)
    assert caught.value.text == f"%dspex {line.strip()}"
    assert caught.value.line == 1
    assert space()["t"].value == 0.25


def test_the_place_of_a_wrong_value_is_that_of_the_value(shell: Any) -> None:
    run(shell, "var t 0.0..1.5")
    with pytest.raises(VariableError) as caught:
        run(shell, "var t =  2.5 --why x")
    assert caught.value.column == len("%dspex var t =  ") + 1


def test_a_broken_constraint_changes_nothing(shell: Any) -> None:
    run(shell, "var t 0.0..1.5 --default 0.25")
    space().constrain("t < 1", name="small")
    with pytest.raises(ConstraintError, match="small"):
        run(shell, "var t = 1.25")
    assert space()["t"].value == 0.25


def test_variables_are_listed_by_pattern(shell: Any) -> None:
    assert "There are no variables yet" in run(shell, "vars")._repr_html_()
    for name in ("support.triage.t", "support.k", "other"):
        run(shell, f"var {name} 0..5 --default 3")
    run(shell, 'var other = 4 --why "<b>better</b>"')
    whole = run(shell, "vars")
    assert [line.split()[0] for line in repr(whole).splitlines()[1:]] == ["support.triage.t", "support.k", "other"]
    html = whole._repr_html_()
    assert "&lt;b&gt;better" in html
    assert "<b>" not in html
    assert "support.k" not in repr(run(shell, "vars support.*.t"))
    assert "support.k = 3" in repr(run(shell, "vars .k"))


def test_words_of_fields_that_nobody_uses_are_left_out(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import dspy

    program = dspy.Predict("a -> b")
    dx.lab().expose(program, prefix="p")
    listed = repr(run(shell, "vars p."))
    assert "p.instructions" in listed
    assert "desc" not in listed
    assert "prefix" not in listed
    assert "4 empty or pinned words of fields are left out: %dspex vars p. --all" in capsys.readouterr().out
    assert repr(run(shell, "vars --all")).count("prefix") == 2
    assert "p.a.desc" in repr(run(shell, "vars a.desc")), "who asks for them gets them"
    run(shell, 'var p.a.desc = "the first"')
    assert "p.a.desc = the first" in repr(run(shell, "vars"))


def test_the_board_is_shown_live_and_settles_with_the_lab(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "var t 0..5 --default 3")
    assert run(shell, "vars t --live") is None
    assert len(space()._observers) == 2, "events, and the board"
    was = space()
    dx.lab().close()
    assert len(was._observers) == 1


def test_names_flags_and_values_are_completed(shell: Any) -> None:
    import dspy

    def offered(line: str) -> list[str]:
        found = candidates(f"%dspex {line}", COMMANDS, shell.user_ns)
        assert found is not None
        return found[1]

    assert offered("var ") == []
    shell.user_ns["qa"] = dspy.Predict("question -> answer")
    run(shell, 'var a.style ["brief", "long"]')
    run(shell, "var b 0.0..1.0")
    assert offered("var ") == ["a.style", "b", "qa."]
    assert offered("var a") == ["a.style"]
    assert offered("var a.style ") == ["="]
    assert offered("var a.style = ") == ["'brief'", "'long'"]
    assert offered("var b = ") == []
    assert offered("var nothing ") == []
    assert offered("var b --ro") == ["--rollback"]
    assert offered("vars ") == ["a.*", "a.style", "b"]
    assert offered("vars --l") == ["--live"]


def test_help_tells_of_both(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(shell, "help var")
    run(shell, "help vars")
    out = capsys.readouterr().out
    assert "--rollback VERSION brings back what it was then" in out
    assert "--live shows the board" in out


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12)


@given(low=NUMBERS, high=NUMBERS, name=st.from_regex(r"[a-z_][a-z_0-9]{0,8}(\.[a-z]{1,5}){0,3}", fullmatch=True))
def test_any_two_numbers_are_a_range_as_python_writes_them(low: float, high: float, name: str) -> None:
    asked = read(f"  {name}   {low!r}..{high!r}  --log")
    assert (asked.name, asked.sign, "log" in asked.line.flags) == (name, "", True)
    found = RANGE.match(asked.what)
    assert found is not None, asked.what
    domain = _range(Line(""), *found.groups())
    assert (domain["low"], domain["high"]) == (low, high)
    assert domain["kind"] == ("int" if isinstance(low, int) and isinstance(high, int) else "float")


@given(value=st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3))
def test_any_plain_value_is_read_as_python_writes_it(value: Any) -> None:
    for line in (f"t = {value!r}", f"t={value!r}", f't =  {value!r}   --why "because -- so"'):
        asked = read(line)
        assert (asked.name, asked.sign, asked.what) == ("t", "=", repr(value))
        assert line[asked.at :].startswith(asked.what)


@given(text=st.text(max_size=30))
def test_no_line_breaks_the_reading(text: str) -> None:
    try:
        asked = read(text)
    except ConfigurationError as error:
        assert error.text == text  # noqa: PT017
    else:
        assert asked.name
