"""``%dspex sessions`` and ``%dspex session``: listed, inspected, used, changed, renamed, closed."""

from __future__ import annotations

from typing import Any

import pytest

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError, SessionError
from dspex_lab.magics import COMMANDS
from dspex_lab.magics._complete import candidates


def run(shell: Any, line: str) -> Any:
    return shell.run_line_magic("dspex", line)


def double(x: int) -> int:
    return 2 * x


def test_sessions_are_listed(shell: Any) -> None:
    assert "0 sessions" in repr(run(shell, "sessions"))
    dx.lab().sessions.open("a<b>")
    dx.lab().sessions.open("gone").close()
    found = run(shell, "sessions")
    assert "a&lt;b&gt;" in found._repr_html_()
    assert "gone" not in repr(found)
    assert "gone" in repr(run(shell, "sessions --all"))


def test_runs_belong_to_the_session_in_use(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["double"] = double
    assert run(shell, "session") is None
    run(shell, "session support --use --ttl 60 --affinity strict-queue")
    assert dx.lab().run(double, x=1).status == "complete"
    run(shell, "run double x=2")
    run(shell, "session --use none")
    dx.lab().run(double, x=3)
    made = dx.lab().sessions.get("support")
    assert (len(made.history), made.ttl, made.affinity) == (2, 60.0, "strict-queue")
    out = capsys.readouterr().out
    assert "runs belong to none; %dspex session NAME --use" in out
    assert "following runs belong to support" in out
    assert "session: runs belong to none\n" in out
    run(shell, "session --use support")
    assert dx.lab().sessions.default == "support"


def test_a_session_is_inspected(shell: Any) -> None:
    made = dx.lab().sessions.open("a b", state={"topic": "<i>cards</i>"})
    made.run(double, x=1)
    found = run(shell, "session 'a b'")
    for part in ("Session a b", "topic", "runs: 1 (1 complete)", "Insights of session a b"):
        assert part in repr(found), part
    assert "<i>" not in found._repr_html_()
    dx.lab().sessions.use("a b")
    assert "Session a b" in repr(run(shell, "session")), "without a name it is the one in use"


def test_a_session_is_changed_renamed_and_closed(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = dx.lab().sessions.open("old", ttl=5)
    run(shell, "session old --rename new --ttl none")
    assert (made.name, made.ttl) == ("new", None)
    run(shell, "session new --pool general")
    run(shell, "session new --close")
    assert made.status == "closed"
    out = capsys.readouterr().out
    assert "session old is now new" in out
    assert "new is closed: its state is forgotten" in out


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("session nobody", SessionError, "no session 'nobody'"),
        ("session a --ttl soon", ConfigurationError, "--ttl takes a number"),
        ("session a --affinity sticky", ConfigurationError, "affinity of a session is 'sticky'"),
        ("session a --rename b", SessionError, "session 'b' already"),
        ("session a --colour red", ConfigurationError, "flag --colour is unknown"),
        ("session a b", ConfigurationError, "'b' is not expected here"),
        ("sessions a", ConfigurationError, "'a' is not expected here"),
    ],
)
def test_what_is_wrong_is_pointed_at(shell: Any, line: str, error: type[Exception], says: str) -> None:
    dx.lab().sessions.open("a")
    dx.lab().sessions.open("b")
    with pytest.raises(error, match=says) as caught:
        run(shell, line)
    assert caught.value.text == f"%dspex {line}"  # type: ignore[attr-defined]
    assert caught.value.line == 1  # type: ignore[attr-defined]


def test_names_and_flags_are_completed(shell: Any) -> None:
    dx.lab().sessions.open("support")
    dx.lab().sessions.open("with space")
    assert candidates("%dspex session s", COMMANDS, {}) == ("s", ["support"])
    assert candidates("%dspex session ", COMMANDS, {}) == ("", ["'with space'", "support"])
    assert "--rename" in (candidates("%dspex session support --", COMMANDS, {}) or ("", []))[1]
    assert candidates("%dspex session --use ", COMMANDS, {}) == ("", ["none"])
    assert candidates("%dspex sessions --", COMMANDS, {}) == ("--", ["--all"])
    dx.lab().close()
