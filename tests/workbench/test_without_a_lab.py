"""What was optimized works where there is no Lab."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dspy
import pytest
from adopting_helpers import own_state
from job_helpers import better, clean, found, model

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.testing import scripted_lm

__all__ = ["own_state"]

_PRODUCTION = """
import sys
import dspex_lab as dx
import dspy
from dspex_lab.testing import scripted_lm
taught = lambda prompt: {"label": "right" if prompt.demonstrations and "Carefully" in prompt.task.instructions else "wrong"}
dspy.configure(lm=scripted_lm(taught))
if sys.argv[1].endswith(".py"):
    import runpy
    pipeline = runpy.run_path(sys.argv[1])["support"]()
else:
    pipeline = dx.load_pipeline(sys.argv[1])
program = pipeline.as_module()
print(program(message="a").label)
import asyncio
print(asyncio.run(program.acall(message="a")).label)
print([name for name in ("dspex_lab.workbench", "duckdb", "distributed") if name in sys.modules])
"""


@pytest.mark.parametrize("name", ["support.yaml", "support.py"])
def test_an_optimized_pipeline_is_saved_with_its_prompts_and_runs_without_a_lab(lab: Lab, tmp_path: Path, name: str) -> None:
    from dspex_lab.pipelines import save

    lab.use(model())
    lab.pipelines["support"] = dx.pipeline("support", triage=dx.predict("message -> label"))
    program = better(lab, "support")
    program.triage.demos = [dspy.Example(message="b", label="right")]
    found(lab, "support", program=program).adopt()
    save(lab.pipelines["support"], tmp_path / name)
    text = (tmp_path / name).read_text()
    assert "Carefully!" in text
    command = [sys.executable, "-c", _PRODUCTION, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["right", "right", "[]"]
    assert not (tmp_path / ".dspex").exists(), "no store"


def test_without_a_lab_the_model_is_dspys(tmp_path: Path) -> None:
    from dspex_lab.pipelines import Alone

    alone = Alone()
    pipeline = dx.pipeline("p", text=dx.step(clean, name="text", pool="general"), label=dx.predict("text -> label"))
    with dspy.context(lm=scripted_lm({"label": "x"})):
        assert alone.run(pipeline, message=" a ").outputs == {"text": "a", "label": "x"}
        assert alone.run(pipeline.as_module(alone), {"message": "b"}).outputs["text"] == "b"
        parts = dx.pipeline("q", both=dx.parallel(one=dx.step(clean, name="one", pool="general")))
        assert alone.run(parts, message=" c ").outputs == {"one": "c"}
    with pytest.raises(dx.PipelineError, match="input 'message'"):
        alone.run(pipeline)


def test_without_a_lab_nobody_routes(tmp_path: Path) -> None:
    import asyncio

    from dspex_lab.pipelines import Alone, Operation

    answer = dx.pipeline("p", answer=dx.predict("message -> label"), again=dx.chain_of_thought("label -> note"))
    said = scripted_lm({"label": "x", "note": "y", "reasoning": "z"})
    with dspy.context(lm=said):
        assert asyncio.run(Alone().arun(answer, message="a")).outputs == {"label": "x", "note": "y"}
    routed = dx.pipeline("r", answer=dx.step(Operation("classify", dx.signature("message -> label"))))
    result = Alone().run(routed, message="a")
    assert "Only a Lab's router knows" in str(result.error)
    with pytest.raises(dx.PipelineError, match="no pool 'general' without a Lab"):
        Alone()._runner(None).pool("general")
