"""``%dspex health``: what it shows, and circuits and levels set by hand."""

from __future__ import annotations

from typing import Any

import pytest
from magic_helpers import complete, magic

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience import Policy
from dspex_lab.testing import scripted_lm


@pytest.fixture
def lab(shell: Any) -> Any:
    """The kernel's Lab, after one call of ``acme/one``."""
    made = dx.lab()
    made.use(scripted_lm({"answer": "yes"}, model="acme/one"))
    made.predict("question -> answer", question="What?")
    return made


def state(lab: Any, target: str = "acme/one") -> str:
    return next(row.state for row in lab.gateway.guards.snapshot() if row.target == target)


def test_without_any_call_it_says_so(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no provider was called yet" in repr(magic(shell, "health"))
    magic(shell, "health reset all")
    assert "No provider was called yet" in capsys.readouterr().out


def test_it_shows_components_targets_and_changes(shell: Any, lab: Any) -> None:
    found = magic(shell, "health")
    text = repr(found)
    for part in ("models", "store", "pools", "load", "acme/one", "✓ closed", "0/1", "degradation: normal"):
        assert part in text, part
    assert "<table" in found._repr_html_()


def test_a_circuit_is_opened_and_closed_by_hand(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "health open acme/one")
    assert "not called until %dspex health reset acme/one" in capsys.readouterr().out
    result = lab.predict("question -> answer", question="Again?")
    assert result.status == "failed"
    assert "opened by hand" in str(result.error)
    text = repr(magic(shell, "health"))
    assert "✗ open" in text
    assert "when closed by hand" in text
    assert "✗ unhealthy" in text
    assert "opened by hand" in text
    magic(shell, "health reset acme/one")
    assert state(lab) == "closed"
    assert lab.predict("question -> answer", question="Again?").status == "complete"
    assert "✗" not in repr(magic(shell, "health")).partition("Last changes")[0]


def test_all_circuits_are_closed_at_once(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lab.gateway.guards.of("other/two").breaker.open("no")
    magic(shell, "health open acme/one")
    magic(shell, "health reset all")
    assert (state(lab), state(lab, "other/two")) == ("closed", "closed")
    assert "other/two: its circuit is closed" in capsys.readouterr().out


def test_a_model_that_was_never_called_can_be_kept_from_it(shell: Any, lab: Any) -> None:
    lab.lms.add(scripted_lm({"answer": "no"}, model="acme/unused"))
    magic(shell, "health open 'acme/unused'")
    assert state(lab, "acme/unused") == "open"


def test_a_level_is_kept_and_given_back(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "health level fewer-retries")
    assert "fewer_retries, whatever the load" in capsys.readouterr().out
    assert "left out: hedging, second opinions, retries but one" in repr(magic(shell, "health"))
    assert lab.gateway.degradation.pinned
    magic(shell, "health level auto")
    assert "normal, as the load says" in capsys.readouterr().out
    text = repr(magic(shell, "health"))
    assert "nothing is left out" in text
    assert text.count("fewer_retries") >= 2, "both changes are told"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("health rest", "Did you mean 'reset'"),
        ("health reset acme/on", "Did you mean 'acme/one'"),
        ("health open", "Which target"),
        ("health open offline/exemplar", "answers in this process"),
        ("health level normel", "Did you mean 'normal'"),
        ("health level", "Which level"),
    ],
)
def test_what_is_mistyped_is_refused_with_what_is_near(shell: Any, lab: Any, line: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as found:
        magic(shell, line)
    assert found.value.line == 1


def test_a_target_without_a_breaker_is_refused(shell: Any, lab: Any) -> None:
    lab.policy(Policy(breaker=None))
    lab.predict("question -> answer", question="Without?")
    with pytest.raises(ConfigurationError, match="has no circuit breaker"):
        magic(shell, "health open acme/one")
    magic(shell, "health reset all")


def test_names_are_completed(shell: Any, lab: Any) -> None:
    assert complete(shell, "%dspex health re") == ["reset"]
    assert complete(shell, "%dspex health reset ") == ["acme/one", "all"]
    assert complete(shell, "%dspex health open a") == ["acme/one"]
    assert complete(shell, "%dspex health level no_") == ["no_hedging", "no_second_opinions"]
    assert "auto" in complete(shell, "%dspex health level ")
    assert complete(shell, "%dspex health open acme/one a") == []


def test_completion_opens_no_lab(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import dspex_lab.workbench

    monkeypatch.setattr(dspex_lab.workbench, "current_lab", lambda: None)
    assert complete(shell, "%dspex health reset ") == []
