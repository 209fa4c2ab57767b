"""Recording a Lab's models and playing them back, with no key and no server: answers, errors, streams, retries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from guard_helpers import SIGNATURE, WAYS, Seen, model_at, only, quick, run, without_waits

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer

__all__ = ["quick"]


def _script(arrival: Any) -> Any:
    return {"label": f"about {arrival.prompt.question['message']}"}


def _recorded(path: Path, ways: tuple[str, ...], **server_is: Any) -> list[dx.Result]:
    with dx.Lab(":memory:") as lab, FaultyServer(_script, **server_is) as server, without_waits(lab).record(path):
        lab.use(model_at(server, num_retries=2, cache=True))
        return [run(lab, way, message=way) for way in ways]


@pytest.mark.parametrize("played_by", WAYS)
def test_what_is_recorded_one_way_is_played_by_every_other(tmp_path: Path, played_by: str) -> None:
    path = tmp_path / "t.jsonl"
    recorded = _recorded(path, WAYS)
    assert {r.status for r in recorded} == {"complete"}
    with dx.Lab(":memory:") as lab:
        seen = Seen(lab)
        with lab.replay(path) as tape:
            lab.use("openai/any-model")  # no key, no address
            for way, before in zip(WAYS, recorded, strict=True):
                result = run(lab, played_by, message=way)
                assert (result.status, result.outputs, result.tokens) == ("complete", before.outputs, before.tokens)
            missing = run(lab, played_by, message="never asked")
            assert isinstance(missing.error, dx.LMError)
            assert "is not on t.jsonl" in str(missing.error)
            assert (tape.replayed, tape.missed) == (len(WAYS), 1)
        assert seen.names("tape.") == ["tape.miss"]
        assert lab.budget.spent.calls == 0
        assert lab.gateway.tape is None


def test_errors_and_retries_are_played_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    faults = {1: Fault.server_error(), 2: Fault.rate_limit(retry_after=0), 4: Fault.wrong_key()}
    ok, wrong = _recorded(path, ("run", "arun"), faults=faults)
    assert (ok.status, type(wrong.error)) == ("complete", dspy.LMAuthError)
    with dx.Lab(":memory:") as lab, lab.replay(path):
        seen = Seen(lab)
        lab.use("openai/any-model")
        assert run(lab, "run", message="run").outputs == ok.outputs
        assert [c.attempts for c in seen.calls] == [3], "at once: nobody waits for a provider that is not there"
        again = run(lab, "run", message="arun")
        assert type(again.error) is dspy.LMAuthError
        assert str(again.error).partition("(")[0] == str(wrong.error).partition("(")[0]


def test_a_cut_stream_is_played_with_what_had_come(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    (cut,) = _recorded(path, ("stream",), faults=Fault.cut(after=4))
    with dx.Lab(":memory:") as lab, lab.replay(path):
        lab.use("openai/any-model")
        played = run(lab, "stream", message="stream")
        assert type(played.error) is type(cut.error)
        assert only(played).note == only(cut).note


def test_while_a_tape_runs_no_cache_answers_and_afterwards_it_does(quick: dx.Lab, tmp_path: Path) -> None:
    with FaultyServer(_script) as server:
        quick.use(model_at(server, cache=True))
        for _ in range(2):
            quick.run(SIGNATURE, message="on a tape")
        assert server.counts.arrived == 1
        with quick.record(tmp_path / "t.jsonl") as tape:
            quick.run(SIGNATURE, message="on a tape")
            run(quick, "dspy", message="on a tape")
        assert (server.counts.arrived, tape.recorded) == (3, 2)
        quick.run(SIGNATURE, message="on a tape")
        assert server.counts.arrived == 3


def test_an_open_circuit_and_a_spent_budget_do_not_stop_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    _recorded(path, ("run",))
    with dx.Lab(":memory:") as lab, lab.replay(path):
        lm = lab.use("openai/any-model")
        lab.gateway.guard(lm).breaker.open("no provider is asked")
        lab.gateway.degradation.pin("cached_only")
        lab.budget = "0 calls"
        assert run(lab, "run", message="run").status == "complete"


def test_what_is_missing_is_asked_for_and_recorded(quick: dx.Lab, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    _recorded(path, ("run",))
    with FaultyServer(_script) as server:
        quick.use(model_at(server))
        with quick.replay(path, "fill"):
            assert run(quick, "run", message="run").status == "complete"
            assert server.counts.arrived == 0
            assert run(quick, "run", message="new").status == "complete"
            assert server.counts.arrived == 1
        with quick.replay(path):
            assert run(quick, "run", message="new").status == "complete"
        assert server.counts.arrived == 1


def test_no_secret_is_on_a_tape_of_a_lab(tmp_path: Path) -> None:
    from guard_helpers import KEY

    path = tmp_path / "t.jsonl"
    _recorded(path, ("run", "stream"), faults={1: Fault.wrong_key(echo=True)})
    assert KEY not in path.read_text()


def test_a_fresh_run_asks_anew_and_leaves_the_cache_as_it_was(quick: dx.Lab) -> None:
    answers = [{"label": "first"}, {"label": "second"}]
    with FaultyServer(answers) as server:
        quick.use(model_at(server, cache=True))
        for way in ("run", "dspy"):
            assert run(quick, way, message="afresh").outputs["label"] == "first"
        assert run(quick, "run", message="afresh", options=dx.RunOptions(fresh=True)).outputs["label"] == "second"
        assert run(quick, "run", message="afresh").outputs["label"] == "first"
        assert server.counts.arrived == 2
