"""The optimizers that need more than a model: a trainer, an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy.clients.provider import Provider, ReinforceJob
from optimize_cases import program, right, rows

from dspex_lab.jobs import Models, fingerprint_program
from dspex_lab.lms import make_lm
from dspex_lab.testing import scripted_lm

Start = Callable[..., Any]


class Steps(ReinforceJob):
    """Counts the steps it is told to train."""

    def __init__(self, lm: Any, train_kwargs: Any = None) -> None:
        super().__init__(lm, train_kwargs)
        self.steps = 0
        self.pending: list[int] = []

    def initialize(self) -> None:
        Trainer.jobs.append(self)

    def get_status(self) -> Any:
        from dspy.clients.utils_finetune import GRPOStatus

        return GRPOStatus(job_id="j", pending_batch_ids=[self.steps])

    def step(self, train_data: Any, train_data_format: Any) -> None:
        self.steps += 1

    def terminate(self) -> None: ...
    def update_model(self) -> None: ...
    def save_checkpoint(self, checkpoint_name: str) -> None: ...
    def cancel(self) -> None: ...
    def status(self) -> Any: ...


class Trainer(Provider):  # type: ignore[misc]
    """Trains nothing: it gives back another name of the model."""

    jobs: list[Any] = []  # noqa: RUF012 - read by the tests
    data: list[Any] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.finetunable = self.reinforceable = True
        self.ReinforceJob = Steps

    @staticmethod
    def finetune(job: Any, model: str, train_data: Any, train_data_format: Any, train_kwargs: Any = None) -> str:
        Trainer.data = train_data
        return f"{model}-trained"


def trainable(script: Any) -> Any:
    made = program()
    lm = scripted_lm(script)
    lm.provider = Trainer()
    made.set_lm(lm)
    return made


def test_finetuning_trains_the_programs_model_on_its_right_answers(start: Start) -> None:
    student = trainable({"code": "K7"})
    before = fingerprint_program(student)
    job = start("finetune", program=student)
    found = job.result(60)
    assert len(Trainer.data) == 3  # of 9 rows the answers to 3 are right
    assert found.program.lm.model == f"{student.lm.model}-trained"
    assert [part.other for part in found.diff] == [(f"lm: {student.lm.model} → {student.lm.model}-trained",)]
    assert fingerprint_program(student) == before
    assert len(job.trials) == 2


def test_grpo_steps_where_a_trainer_does(start: Start) -> None:
    student = trainable({"code": "K7"})
    found = start("grpo", program=student, num_train_steps=2, num_steps_for_val=1, num_rollouts_per_grpo_step=2).result(60)
    assert Trainer.jobs[-1].steps == 2
    assert found.after is not None
    assert [t.rows for t in found.trials] == [6, 6]
    assert "which other" not in found.note
    assert "the trainer decides what it draws" in found.note


class Agent(dspy.Module):
    """As DSPy's Avatar, which cannot be made in DSPy 3.4: an actor with tools."""

    def __init__(self) -> None:
        super().__init__()
        self.tools = ["search"]
        self.actor = dspy.Predict(dspy.Signature("message -> code", "Give the code."))
        self.actor_clone = self.actor

    def forward(self, message: str) -> Any:
        if "pin" in message:
            raise RuntimeError("no tool for pins")
        return dspy.Prediction(code=self.actor(message=message).code, actions=[])


def agent_lm(prompt: Any) -> dict[str, str]:
    question = str(prompt.question)
    if "pos_input_with_metrics" in question:
        return {"feedback": "Look at the words."}
    if "previous_instruction" in question:
        return {"new_instruction": "Look at the words, then give the code."}
    return {"code": "K7"}


def test_avatar_improves_an_agent(place: Any, start: Start) -> None:
    jobs = place.jobs(surroundings=lambda: Models(scripted_lm(agent_lm)))
    found = start("avatar", program=Agent(), jobs=jobs, max_iters=2).result(60)
    assert found.program.actor.signature.instructions == "Look at the words, then give the code."
    assert [(t.rows, t.score) for t in found.trials] == [
        (6, pytest.approx(1 / 3)),
        (9, pytest.approx(1 / 3)),
        (9, pytest.approx(1 / 3)),
        (6, pytest.approx(1 / 3)),
    ]
    assert "which other threads of the kernel use too" in found.note
    assert "no tool for pins" in found.note
    assert found.row_scores[1].count(0.0) == 6


def test_avatar_as_an_instance_or_where_dspy_can_make_it(place: Any, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspy.teleprompt import AvatarOptimizer

    jobs = place.jobs(surroundings=lambda: Models(scripted_lm(agent_lm)))
    monkeypatch.setattr(dspy, "TypedPredictor", dspy.Predict, raising=False)
    made = AvatarOptimizer(metric=right, max_iters=1, max_negative_inputs=2)
    assert start(made, program=Agent(), jobs=jobs).result(60).after is not None
    assert start("avatar", program=Agent(), jobs=jobs, max_iters=1).result(60).after is not None


def test_avatar_can_be_stopped(place: Any, start: Start) -> None:
    jobs = place.jobs(surroundings=lambda: Models(scripted_lm(agent_lm)))
    job = start("avatar", program=Agent(), jobs=jobs, max_iters=3)
    assert job.result(60)
    limited = jobs.start(_work(), budget="20 calls")
    found = limited.result(60)
    assert limited.state == "stopped"
    assert found.stopped


def _work() -> Any:
    from dspex_lab.jobs.optimize import optimize

    return optimize(Agent(), "avatar", metric=right, trainset=rows(9), valset=rows(6, 1), max_iters=5)


def test_the_offline_model_has_no_trainer() -> None:
    from dspex_lab.errors import ConfigurationError
    from dspex_lab.jobs.optimize import optimize
    from dspex_lab.lms import Budget

    student = program()
    student.set_lm(make_lm("offline"))
    with pytest.raises(ConfigurationError, match="no trainer"):
        optimize(student, "finetune", metric=right, trainset=rows(3)).check(Budget())
