"""The error tree."""

from __future__ import annotations

import pickle

import pytest

import dspex_lab as dx
from dspex_lab import errors
from dspex_lab._lazy import require
from dspex_lab.errors import did_you_mean


def test_every_error_stands_under_the_one_root_and_in_the_drawn_tree() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            assert issubclass(kind, dx.DspexError)
            assert name in (errors.__doc__ or ""), f"{name} is not in the tree drawn at the top"


def test_a_message_ends_with_what_to_do() -> None:
    assert str(dx.ConfigurationError("It is wrong.", hint="Mend it.")) == "It is wrong. Mend it."


@pytest.mark.parametrize(
    "error",
    [
        dx.SignatureError("m", text="a: x", line=1, column=4, field="a", hint="h"),
        dx.PipelineError("m", step="s", outcomes={"a": 1}),
        dx.LMError("m", engine="e", status=429),
        dx.BudgetExceeded("m"),
        dx.WorkerKilled("m", pool="general", worker="w", traceback="t"),
        dx.VariableError("m", name="v"),
        dx.ConfigurationError("m", key="k", expected=1, actual=2),
        dx.StoreError("m", path="p"),
        dx.SandboxError("m", level="none"),
        dx.CircuitOpen("m", target="t"),
    ],
)
def test_an_error_crosses_a_process_boundary_whole(error: dx.DspexError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_a_notebook_shows_the_line_a_caret_and_the_remedy() -> None:
    error = dx.SignatureError("Unknown type 'strng'.", text="a: int,\nb: strng -> c", line=2, column=4, hint="Write str.")
    assert error._render_traceback_() == [
        "SignatureError: Unknown type 'strng'.",
        "line 2 | b: strng -> c",
        "            ^",
        "→ Write str.",
    ]


def test_a_place_outside_the_text_is_left_out() -> None:
    assert dx.SignatureError("m", text="a", line=9, column=1).excerpt() == []


def test_the_users_own_frames_are_shown_and_the_packages_are_not() -> None:
    def mine() -> None:
        raise ValueError("inner")

    try:
        try:
            mine()
        except ValueError as error:
            raise dx.PipelineError("outer") from error
    except dx.PipelineError as caught:
        shown = "\n".join(caught._render_traceback_())
    assert "in mine" in shown
    assert "ValueError: inner" in shown


def test_the_nearest_name_is_offered_or_none() -> None:
    assert did_you_mean("pipelin", ["Pipeline", "sql"]) == " Did you mean 'Pipeline'?"
    assert did_you_mean("zzz", ["pipeline"]) == ""


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require("json", "for x").loads("1") == 1
    with pytest.raises(dx.ConfigurationError, match="'no_such_package' is needed for x"):
        require("no_such_package", "for x")


def test_a_package_that_is_there_but_broken_is_not_called_missing(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package_of_test.py").write_text("import no_such_dependency_of_it")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency_of_it"):
        require("broken_package_of_test", "for x")
