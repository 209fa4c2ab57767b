"""DSPy programs whose knobs are tuned, each trial with a program of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest
from tune_programs import ROWS, program, space_of, worth

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs import Jobs, Models
from dspex_lab.jobs.tune import Calls, Knobs, Made, build_of, tune
from dspex_lab.pipelines import Alone, Builder, with_values
from dspex_lab.pipelines import knobs as pipeline_knobs
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Exposure, Space, knobs

DATA = [{"text": f"t{at}", "label": "odd" if at % 2 else "even"} for at in range(6)]


def right(example: Any, prediction: Any) -> bool:
    return bool(example.label == prediction.label)


def by_instructions(prompt: Any) -> dict[str, str]:
    """A model that is right where it is told how; or else says "even"."""
    number = int(str(prompt.question["text"]).removeprefix("t")) if "last digit" in prompt.task.instructions else 0
    return {"label": "odd" if number % 2 else "even"}


@pytest.fixture
def live() -> Any:
    return dspy.Predict(dspy.Signature("text -> label", "Say something."))


@pytest.fixture
def exposed(live: Any) -> Any:
    space = Space()
    with Exposure(space, live, knobs(live), "triage") as made:
        candidates = ["Guess.", "Look at the last digit."]
        space.text("triage.instructions", live.signature.instructions, candidates=candidates)
        yield made


def test_instructions_are_chosen_among_candidates_and_the_live_program_is_left_alone_until_the_end(
    jobs: Jobs, tmp_path: Path, exposed: Exposure, live: Any
) -> None:
    lm = scripted_lm(by_instructions)
    seen: set[str] = set()

    def watching(example: Any, prediction: Any) -> bool:
        seen.add(live.signature.instructions)
        return right(example, prediction)

    work = tune(exposed, "triage.instructions", watching, DATA, 6, sampler="grid", parallel=1, folder=tmp_path)
    assert work.inputs == ("text",)
    job = jobs.start(work, surroundings=Models(lm, fresh=True), seed=1)
    found = job.result(60)
    assert job.settings["plan"]["calls"] == 6 * 6
    assert seen == {"Say something."}
    assert found.values == {"triage.instructions": "Look at the last digit."}
    assert {t.values["triage.instructions"] for t in found.tried} == {"Say something.", "Guess.", "Look at the last digit."}
    assert (found.score, found.best.calls) == (1.0, 6)
    assert live.signature.instructions == "Look at the last digit."  # committed, and the program follows
    assert {"triage.instructions": "Guess."} in [t.values for t in job.trials]


def test_on_a_pool_the_program_of_each_trial_travels_with_its_values(
    place: Any, jobs: Jobs, tmp_path: Path, exposed: Exposure
) -> None:
    def shorter(example: Any, prediction: Any) -> float:
        return float(len(dspy.settings.lm.engine.prompts[-1].task.instructions))

    lm = scripted_lm([{"label": "even"}])
    work = tune(exposed, "triage.instructions", shorter, DATA[:1], 3, sampler="grid", parallel=1, folder=tmp_path)
    found = jobs.start(work, pool="optimizer", surroundings=Models(lm, fresh=True), seed=1).result(60)
    assert {t.values["triage.instructions"]: t.scores["score"] for t in found.tried} == {
        text: float(len(text)) for text in ("Say something.", "Guess.", "Look at the last digit.")
    }
    assert len(place.pool.calls) == 3


def test_a_program_whose_knobs_are_variables_by_their_paths_needs_no_exposure(live: Any) -> None:
    space = Space()
    for knob in knobs(live):
        space.add(knob.path, knob.domain, default=knob.read(live))
    made = build_of(live, space)
    assert isinstance(made, Knobs)
    other = made({"instructions": "Another one."})
    assert other.signature.instructions == "Another one."
    assert live.signature.instructions == "Say something."
    assert made.read(other)["instructions"] == "Another one."


def test_a_function_is_given_the_variables_that_are_called_like_its_parameters() -> None:
    space = Space()
    space.float("find.x", 0, 1, default=0.7)
    space.int("k", 1, 8, default=5)
    space.int("else.k", 1, 8)
    made = build_of(program, space)
    assert isinstance(made, Calls)
    assert made.arguments == {"find.x": "x", "k": "k"}
    assert made(space.values())(q=1) == {"worth": 1.0}


def test_what_makes_programs_can_be_given(jobs: Jobs, tmp_path: Path) -> None:
    def make(values: Any) -> Any:
        return lambda q: {"worth": values["x"]}

    made = build_of(None, space_of(), make)
    assert isinstance(made, Made)
    assert build_of(None, space_of(), made) is made
    space = space_of()
    found = jobs.start(tune(None, ["x"], worth, ROWS, 4, space=space, build=make, inputs=["q"], folder=tmp_path)).result(60)
    assert found.score == found.values["x"] == space.get("x")


def test_a_program_that_no_variable_has_to_do_with_is_refused(exposed: Exposure, live: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"has to do with <lambda>.*Its parameters are text"):
        build_of(lambda text: text, space_of())
    with pytest.raises(ConfigurationError, match=r"has to do with Predict.*lab\.expose"):
        build_of(live, space_of())
    with pytest.raises(ConfigurationError, match="exposed in another space"):
        build_of(exposed, space_of())
    with pytest.raises(ConfigurationError, match="Its parameters are none"):
        build_of(dict, Space())


def test_what_is_exposed_and_no_module_needs_to_be_told_how_it_is_made() -> None:
    pipeline = dx.pipeline("p", cut=dx.step(clip))
    with (
        Exposure(Space(), pipeline, pipeline_knobs(pipeline), "p", builder=Builder()) as exposure,
        pytest.raises(ConfigurationError, match=r"Give build="),
    ):
        build_of(exposure, exposure.space)


def clip(text: str, longest: int = 5) -> dict[str, str]:
    return {"short": text[:longest]}


@dataclass(frozen=True)
class Steps:
    """A pipeline with given values, as a Lab has it."""

    pipeline: Any
    paths: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.paths)

    def __call__(self, values: Any) -> Any:
        given = {self.paths[name]: value for name, value in values.items() if name in self.paths}
        return with_values(self.pipeline, given).as_module(Alone())


@pytest.mark.parametrize("pool", [None, "optimizer"])
def test_the_steps_of_a_pipeline_are_tuned_here_and_on_a_pool(jobs: Jobs, tmp_path: Path, pool: str | None) -> None:
    pipeline = dx.pipeline("p", cut=dx.step(clip), ask=dx.step(dspy.Predict("short -> label")))
    space = Space()
    with Exposure(space, pipeline, pipeline_knobs(pipeline), "p", builder=Builder()) as exposed:
        space.int("p.cut.longest", 1, 4, default=2)
        build = Steps(pipeline, {exposed.name(knob.path): knob.path for knob in exposed.knobs})
        work = tune(
            exposed,
            "p.cut.longest",
            lambda example, found: float(len(found.short)),
            [{"text": "abcdefghij"}],
            9,
            build=build,
            parallel=1,
            folder=tmp_path,
        )
        assert work.inputs == ("text",)  # what a step can do without is no field of the rows
        lm = scripted_lm([{"label": "x"}])
        found = jobs.start(work, pool=pool, surroundings=Models(lm, fresh=True), seed=1).result(60)
        assert (found.values, found.score) == ({"p.cut.longest": 4}, 4.0)
        assert found.best.calls == 1
        assert space.get("p.cut.longest") == 4
