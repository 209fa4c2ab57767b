"""A Lab's variables: kept and back after any end, exposed programs that follow them, and runs that say what they ran with."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspex_lab as dx
from dspex_lab._options import RunOptions
from dspex_lab.errors import ConfigurationError, LeaseError, StoreError, VersionConflict
from dspex_lab.events import Event, VariableRecord
from dspex_lab.store import variables_of_run
from dspex_lab.variables import Author


@pytest.fixture
def lab() -> Iterator[Any]:
    with dx.Lab(":memory:") as made:
        made.use("offline")
        yield made


@pytest.fixture
def program() -> Any:
    return dspy.Predict("question -> answer")


class Around(dspy.Module):
    """A program around another one."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, question: str) -> Any:
        return self.inner(question=question)


def recorded(lab: Any, run_id: str) -> Any:
    kept = lab.sql("SELECT variables FROM runs WHERE run_id = ?", [run_id])["variables"][0]
    return json.loads(kept) if isinstance(kept, str) else None


def test_the_space_is_made_once_and_its_events_are_the_labs(lab: Any) -> None:
    told: list[Any] = []
    lab.bus.subscribe(told.append)
    assert lab.variables is lab.variables
    lab.variables.float("t", 0.0, 1.5, default=0.5)
    lab.variables["t"].set(0.75, why="so")
    with lab.variables.lease("t", owner="tune"):
        pass
    names = [r.name for r in told if isinstance(r, Event) and r.name.startswith("variable.")]
    assert set(names) == {"variable.define", "variable.commit", "variable.lease", "variable.release"}
    assert names.count("variable.commit") == 2
    assert not [r for r in told if isinstance(r, VariableRecord)], "the journal has them"
    found = lab.sql("SELECT version, value::VARCHAR AS value, who, why FROM variable_history ORDER BY version")
    assert found.to_numpy().tolist() == [[1, "0.5", "person", "defined"], [2, "0.75", "person", "so"]]


def test_a_closed_lab_has_no_variables_to_give(lab: Any) -> None:
    lab.close()
    with pytest.raises(ConfigurationError, match="closed"):
        _ = lab.variables


def test_variables_come_back_with_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "lab.duckdb"
    with dx.Lab(path) as lab:
        space = lab.variables
        space.float("t", 0.0, 1.5, default=0.5)
        space.derive("twice", "t * 2")
        space.constrain("t < 1", name="small")
        space["t"].set(0.75, score=0.9)
        space.pin("t")
        version = space.version
    with dx.Lab(path) as lab:
        space = lab.variables
        assert space.damaged == {}
        assert (space["t"].value, space["twice"].value, space["t"].pinned, space.version) == (0.75, 1.5, True, version)
        assert space.history("t")[0].score == 0.9
        space.unpin("t")
        with pytest.raises(dx.VariableError, match="small"):
            space["t"].set(1.25)
        assert space["t"].set(0.25).version == version + 1
        assert space.rollback(version).changes["t"].value == 0.75


KILLED = """
    import os, signal, sys
    import dspex_lab as dx
    from dspex_lab.variables import Author
    lab = dx.Lab(sys.argv[1])
    space = lab.variables
    space.int("a", 0, 10_000, default=0)
    space.int("b", 0, 10_000, default=0)
    for n in range(1, 201):
        with space.lease("a", "b", owner="tune") as lease:
            lease.commit({"a": n, "b": n}, score=n / 1000)
        if n == 100:
            lab.store.flush()
            print(space.version, lease.fence, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_nothing_flushed_is_lost_and_versions_and_fences_go_on(tmp_path: Path) -> None:
    path = tmp_path / "lab.duckdb"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    flushed, fence = map(int, done.stdout.split())
    with dx.Lab(path) as lab:
        space = lab.variables
        assert space.version >= flushed
        assert space["a"].value == space["b"].value >= 100, "commits are whole"
        versions = [record.version for record in space.history("a")]
        assert versions == sorted(versions, reverse=True)
        before = space.version
        with space.lease("a", owner="again") as lease:
            assert lease.fence > fence
            assert lease.commit({"a": 7}).version == before + 1


def test_two_labs_of_a_file_do_not_both_number_its_versions(tmp_path: Path) -> None:
    path = tmp_path / "lab.duckdb"
    with dx.Lab(path) as one, dx.Lab(path) as two:
        one.variables.float("t", 0.0, 1.0)
        with pytest.raises(StoreError, match="Another Lab of this process has the variables"):
            _ = two.variables
        assert two.run(lambda x: x, x=1).variables is None
        one.close()
        assert "t" in two.variables


def test_a_run_says_nothing_of_variables_that_nobody_made(lab: Any) -> None:
    result = lab.run(lambda x: x + 1, x=1)
    assert result.variables is None
    assert recorded(lab, result.run_id) is None
    _ = lab.variables
    assert lab.run(lambda x: x + 1, x=1).variables is None


def test_a_run_without_an_exposed_program_says_the_version_alone(lab: Any) -> None:
    lab.variables.float("t", 0.0, 1.5, default=0.5)
    result = lab.run(lambda x: x + lab.variables["t"].value, x=1)
    assert result.variables == {"version": 1, "values": {}}
    assert recorded(lab, result.run_id) == result.variables


def test_a_run_of_an_exposed_program_has_and_says_the_present_values(lab: Any, program: Any) -> None:
    exposure = lab.expose(program, "qa")
    first = lab.run(program, question="Why?")
    assert set(first.variables["values"]) <= set(exposure.names)
    assert first.variables["values"]["qa.temperature"] == program.config.get("temperature", 1.0)
    lab.variables.commit({"qa.instructions": "Say so.", "qa.temperature": 0.25}, author=Author("optimizer", "o"))
    second = lab.run(program, question="Why?")
    assert second.variables["values"]["qa.instructions"] == "Say so."
    assert second.variables["version"] == lab.variables.version > first.variables["version"]
    asked = json.dumps(lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls ORDER BY started DESC LIMIT 1")["m"][0])
    assert "Say so." in asked, "what is said is what was asked with"
    assert recorded(lab, second.run_id) == second.variables == variables_of_run(lab.store, second.run_id)


def test_what_was_changed_in_the_program_is_committed_before_it_runs(lab: Any, program: Any) -> None:
    lab.expose(program, "qa")
    program.signature = program.signature.with_instructions("By hand.")
    result = lab.run(program, question="Why?")
    record = lab.variables.history("qa.instructions")[0]
    assert (record.value, record.who) == ("By hand.", "program")
    assert result.variables["values"]["qa.instructions"] == "By hand."
    assert result.variables["version"] == record.version


def test_what_was_changed_on_both_sides_stops_the_run_before_it_costs_anything(lab: Any, program: Any) -> None:
    lab.expose(program, "qa")
    with lab.variables.lease("qa.instructions", owner="gepa"):
        program.signature = program.signature.with_instructions("By hand.")
        with pytest.raises(LeaseError, match="gepa"):
            lab.run(program, question="Why?")
        assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 0
        assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 0
    assert lab.run(program, question="Why?").status == "complete"


def test_long_values_stand_in_the_record_by_their_version(lab: Any, program: Any) -> None:
    lab.expose(program, "qa")
    made = lab.variables.commit({"qa.instructions": "so " * 1_000})
    lab.variables.commit({"qa.temperature": 0.5})
    result = lab.run(program, question="Why?")
    assert result.variables["values"]["qa.instructions"] == {"version": made.version}
    assert lab.variables.at(made.version).values["qa.instructions"] == "so " * 1_000


@pytest.mark.parametrize("how", ["step", "within", "module"])
def test_a_pipeline_or_program_around_it_runs_with_its_values_too(lab: Any, program: Any, how: str) -> None:
    pipeline = dx.pipeline("asks", first=program)
    whole = pipeline.as_module(lab=lab) if how == "module" else None
    lab.expose(whole if whole is not None else program, "qa")
    name = "qa.first.instructions" if how == "module" else "qa.instructions"
    lab.variables.commit({name: "Say so."})
    x = {"step": pipeline, "within": Around(program), "module": whole}[how]
    result = lab.run(x, question="Why?")
    assert result.variables["values"][name] == "Say so."
    assert "Say so." in lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls")["m"][0]


def normalise(message: str, limit: int = 100) -> str:
    return message.strip()[:limit]


def test_a_pipeline_is_exposed_by_name_with_its_native_parameters(lab: Any) -> None:
    lab.pipelines["support"] = pipeline = dx.pipeline("support", clean=normalise, reply=dspy.Predict("clean -> reply"))
    exposure = lab.expose("support")
    assert {"support.clean.limit", "support.reply.instructions"} <= set(exposure.names)
    lab.variables.commit({"support.clean.limit": 3, "support.reply.instructions": "Be kind."})
    for x in ("support", pipeline):
        result = lab.run(x, message="  abcdef")
        assert result["clean"] == "abc"
        assert result.variables["values"]["support.clean.limit"] == 3
    assert "Be kind." in lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls LIMIT 1")["m"][0]
    exposure.close()
    after = lab.run("support", message="  abcdef")
    assert after["clean"] == "abcdef"
    assert after.variables["values"] == {}


def test_a_pipeline_whose_cell_is_run_again_is_bound_again(lab: Any) -> None:
    lab.pipelines["support"] = dx.pipeline("support", clean=normalise)
    lab.expose("support", "s")
    lab.variables.commit({"s.clean.limit": 3})
    lab.pipelines["support"] = dx.pipeline("support", clean=normalise)
    gc.collect()
    for _ in range(2):
        result = lab.run("support", message="abcdef")
        assert result["clean"] == "abc"
        assert result.variables["values"]["s.clean.limit"] == 3
    assert lab.run(dx.pipeline("support", clean=normalise), message="abcdef")["clean"] == "abcdef", "another of that name"


def test_the_rows_of_a_map_do_not_repeat_what_the_map_ran_with(lab: Any) -> None:
    lab.pipelines["support"] = dx.pipeline("support", clean=normalise)
    lab.expose("support")
    lab.variables.commit({"support.clean.limit": 2})
    frame = lab.map("support", [{"message": "abcd"}, {"message": "efgh"}])
    assert list(frame["clean"]) == ["ab", "ef"]
    kept = lab.sql("SELECT kind, variables::VARCHAR AS variables FROM runs ORDER BY kind")
    assert list(kept["kind"]) == ["map", "row", "row"]
    assert json.loads(kept["variables"][0])["values"]["support.clean.limit"] == 2
    assert kept["variables"][1:].isna().all()
    row = lab.sql("SELECT run_id FROM runs WHERE kind = 'row'")["run_id"][0]
    assert variables_of_run(lab.store, row) == json.loads(kept["variables"][0])


def test_every_door_says_it(lab: Any, program: Any) -> None:
    lab.expose(program, "qa")

    async def awaited() -> list[Any]:
        async with lab.astream(program, question="d") as stream:
            async for _ in stream:
                pass
            return [await lab.arun(program, question="a"), stream.result]

    results = [*asyncio.run(awaited()), lab.run(program, question="b", options=RunOptions(deadline=60))]
    with lab.stream(program, question="c") as stream:
        list(stream)
        results.append(stream.result)
    assert all("qa.instructions" in result.variables["values"] for result in results)


def test_a_value_that_comes_while_a_run_is_under_way_is_of_the_next_run(lab: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(message: str, limit: int = 100) -> str:
        begun.set()
        assert go_on.wait(60)
        return message[:limit]

    lab.pipelines["slow"] = dx.pipeline("slow", clean=slow)
    lab.expose("slow")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(lab.run("slow", message="abcdef")))
    thread.start()
    assert begun.wait(60)
    lab.variables.commit({"slow.clean.limit": 2})
    go_on.set()
    thread.join(60)
    assert results[0]["clean"] == "abcdef"
    assert results[0].variables["values"]["slow.clean.limit"] == 100
    assert lab.run("slow", message="abcdef").variables["values"]["slow.clean.limit"] == 2


def test_a_program_is_exposed_once_at_a_time_and_is_not_kept_alive(lab: Any, program: Any) -> None:
    first = lab.expose(program, "qa")
    second = lab.expose(program, "again")
    assert repr(first).endswith("closed)")
    assert lab.run(program, question="a").variables["values"]["again.instructions"]
    lab.conceal(program)
    assert repr(second).endswith("closed)")
    assert lab.run(program, question="a").variables["values"] == {}
    gone = dspy.Predict("question -> answer")
    lab.expose(gone, "gone")
    del gone
    gc.collect()
    assert lab.run(program, question="a").variables["values"] == {}


def test_both_sides_changed_is_a_conflict_that_says_what_to_do(lab: Any, program: Any) -> None:
    exposure = lab.expose(program, "qa")
    with exposure.running():  # the program is in use, so the commit waits
        lab.variables.commit({"qa.instructions": "The space's."})
        program.signature = program.signature.with_instructions("The program's.")
        with pytest.raises(VersionConflict, match="pull"):
            lab.run(program, question="Why?")


def test_what_cannot_be_exposed_is_said(lab: Any) -> None:
    lab.pipelines["support"] = dx.pipeline("support", clean=normalise)
    with pytest.raises(ConfigurationError, match="Did you mean 'support'"):
        lab.expose("suport")
    with pytest.raises(dx.VariableError, match="no DSPy program"):
        lab.expose(3)


@pytest.mark.parametrize("how", ["program", "step", "module"])
def test_values_that_wait_for_another_run_to_end_are_those_of_the_next(lab: Any, program: Any, how: str) -> None:
    pipeline = dx.pipeline("asks", first=program)
    x = {"program": program, "step": pipeline, "module": pipeline.as_module(lab=lab)}[how]
    exposure = lab.expose(x if how == "module" else program, "qa")
    name = "qa.first.instructions" if how == "module" else "qa.instructions"
    with exposure.running():  # as another run of it does
        lab.variables.commit({name: "Say so."})
        result = lab.run(x, question="Why?")
    assert result.variables["values"][name] == "Say so."
    assert "Say so." in lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls")["m"][0]


def test_a_module_around_a_program_in_use_does_not_claim_values_that_it_has_not(lab: Any, program: Any) -> None:
    exposure = lab.expose(program, "qa")
    with exposure.running():
        lab.variables.commit({"qa.instructions": "Say so."})
        result = lab.run(Around(program), question="Why?")
    assert result.variables["values"] == {}
    assert "Say so." not in lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls")["m"][0]
