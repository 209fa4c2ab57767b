"""``%dspex pools``: the worker processes of the kernel's Lab, seen and set by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clocks import eventually
from magic_helpers import complete, magic

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.testing import FakePool


@pytest.fixture
def lab(shell: Any) -> Any:
    """The kernel's Lab; the workers of its pools are threads of this process."""
    made = dx.lab()
    for name in made.pools.names:
        made.pools._pools[name] = FakePool(spec=made.pools.get(name).spec, emit=made.bus.emit)
    return made


def test_the_table_starts_nothing(shell: Any, lab: Any) -> None:
    found = magic(shell, "pools")
    assert [row[0] for row in found.pools()] == ["general", "optimizer", "neural"]
    assert {row[2] for row in found.pools()} == {"not started"}
    assert "all pools together take" in repr(found)
    assert "<table" in found._repr_html_()


def test_pools_are_warmed_in_the_background(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "pools warm general")
    assert "pool general starts in the background: " in capsys.readouterr().out
    lab.pools.get("general").warm()
    assert not lab.pools.get("optimizer").started
    magic(shell, "pools warm")
    said = capsys.readouterr().out
    assert "pool general is up already" in said
    assert "pool optimizer starts in the background" in said
    for name in lab.pools.names:
        lab.pools.get(name).warm()
    magic(shell, "pools warm general neural")
    assert "starts" not in capsys.readouterr().out
    assert "idle" in repr(magic(shell, "pools"))


def test_a_pool_is_resized(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = lab.pools.get("general").spec.workers
    magic(shell, "pools resize general 3")
    assert f"pool general: {before} → 3 workers, when it is started" in capsys.readouterr().out
    assert magic(shell, "pools").pools()[0][1] == "0/3"
    lab.pools.get("general").warm()
    magic(shell, "pools resize general 1")
    assert "pool general: 3 → 1 workers, in the background" in capsys.readouterr().out
    eventually(lambda: len(lab.pools.get("general").status()) == 1)


def test_workers_are_restarted(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "pools restart general")
    assert "pool general is not up; its first call starts it" in capsys.readouterr().out
    pool = lab.pools.get("general").warm()
    names = [w["name"] for w in pool.status()]
    magic(shell, f"pools restart general {names[0]}")
    assert f"worker {names[0]} of pool general is ended and started anew" in capsys.readouterr().out
    magic(shell, "pools restart general")
    assert "the workers of pool general are ended and started anew" in capsys.readouterr().out
    eventually(lambda: [w["state"] for w in pool.status()] == ["idle"] * len(names))
    assert asyncio.run(pool.call(abs, -3)) == 3


def test_pools_are_stopped_and_start_again(shell: Any, lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "pools stop")
    assert "no pool is up" in capsys.readouterr().out
    magic(shell, "pools stop general")
    assert "pool general is not up" in capsys.readouterr().out
    first = lab.pools.get("general").warm()
    lab.pools.get("neural").warm()
    magic(shell, "pools stop general")
    assert "pool general is stopped; its next call starts it again" in capsys.readouterr().out
    assert not first.started
    assert lab.pools.get("general") is not first
    magic(shell, "pools stop")
    assert "pool neural is stopped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said", "column"),
    [
        ("pools wram", "'wram' is not expected here. Did you mean 'warm'", 14),
        ("pools warm genral", "There is no pool 'genral'. Did you mean 'general'", 19),
        ("pools resize", "Which pool?", None),
        ("pools resize general", "How many workers?", None),
        ("pools resize general many", "'many' is no number of workers", 29),
        ("pools resize general 0", "workers is 0. Expected: a whole number, at least 1", 29),
        ("pools resize general 2000", "workers is 2000", 29),
        ("pools resize general 2 3", "'3' is not expected here", 31),
        ("pools restart", "Which pool?", None),
        ("pools restart general a b", "'b' is not expected here", None),
        ("pools stop genral", "There is no pool 'genral'", 19),
        ("pools stop general neural", "'neural' is not expected here", None),
    ],
)
def test_what_is_mistyped_is_refused_with_what_is_near(shell: Any, lab: Any, line: str, said: str, column: int | None) -> None:
    before = [row[1] for row in magic(shell, "pools").pools()]
    with pytest.raises(ConfigurationError) as found:
        magic(shell, line)
    assert said in str(found.value)
    assert found.value.line == 1
    assert found.value.text == f"%dspex {line}"
    if column is not None:
        assert found.value.column == column
    assert [row[1] for row in magic(shell, "pools").pools()] == before, "nothing was changed"


def test_a_worker_that_is_not_there_is_refused(shell: Any, lab: Any) -> None:
    name = lab.pools.get("general").warm().status()[0]["name"]
    with pytest.raises(ConfigurationError, match=f"Did you mean '{name}'") as found:
        magic(shell, f"pools restart general {name}x")
    assert found.value.expected == [worker["name"] for worker in lab.pools.get("general").status()]


def test_names_are_completed(shell: Any, lab: Any) -> None:
    assert complete(shell, "%dspex pools w") == ["warm"]
    assert complete(shell, "%dspex pools warm ") == ["general", "optimizer", "neural"]
    assert complete(shell, "%dspex pools warm general ") == ["optimizer", "neural"]
    assert complete(shell, "%dspex pools resize o") == ["optimizer"]
    assert complete(shell, "%dspex pools stop n") == ["neural"]
    assert complete(shell, "%dspex pools restart general ") == [], "it is not up"
    pool = lab.pools.get("general").warm()
    assert complete(shell, "%dspex pools restart general ") == [worker["name"] for worker in pool.status()]
    assert complete(shell, "%dspex pools resize general ") == []
    assert complete(shell, "%dspex pools nothing ") == []


def test_completion_opens_no_lab(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import dspex_lab.workbench

    monkeypatch.setattr(dspex_lab.workbench, "current_lab", lambda: None)
    assert complete(shell, "%dspex pools warm ") == []


def test_help_explains_it(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "help pools")
    said = capsys.readouterr().out
    assert "%dspex pools [warm [NAME …] | resize NAME N | restart NAME [WORKER] | stop [NAME]]" in said
    assert "so that the first call does not" in said
