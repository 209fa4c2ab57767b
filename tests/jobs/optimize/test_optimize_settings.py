"""What is refused before anything is spent, and what is estimated."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from optimize_cases import SMALL, HalfHearted, program, right, rows

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs.optimize import Optimize, optimize, shape_of
from dspex_lab.lms import Budget


def work(optimizer: Any, **more: Any) -> Optimize:
    asked = {"metric": right, "trainset": rows(9), "valset": rows(6, 1), **more}
    return optimize(asked.pop("program", None) or program(), optimizer, **asked)


def check(optimizer: Any, **more: Any) -> Any:
    return work(optimizer, **more).check(Budget())


def agent() -> Any:
    made = dspy.Module()
    made.actor, made.tools = program(), []
    return made


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("mirpo", {}, "There is no optimizer 'mirpo'. Did you mean 'mipro'?"),
    (7, {}, r"optimizer is 7, which has no compile\(\)"),
    ("miprov2", {"num_candidats": 3}, "miprov2 has no setting 'num_candidats'. Did you mean 'num_candidates'?"),
    ("copro", {"bredth": 3}, "copro has no setting 'bredth'. Did you mean 'breadth'?"),  # DSPy swallows it
    ("knn", {"max_labelled_demos": 3}, "Did you mean 'max_labeled_demos'?"),
    ("infer_rules", {"num_rule": 3}, "Did you mean 'num_rules'?"),
    ("gepa", {"student": 3}, "student= is no setting of the optimizer: it is given to optimize"),
    (dspy.COPRO(metric=None), {"breadth": 3}, "copro was given as an instance, which has its breadth already"),
    (dspy.COPRO(metric=None), {"depths": 3}, "copro has no setting 'depths'"),
    (HalfHearted, {"metric": None}, "The metric is None"),
    (dspy.LabeledFewShot(), {"samples": True}, "labeled has no setting 'samples'. Did you mean 'sample'?"),
    ("gepa", {"program": len}, "The program is a builtin_function_or_method, which no optimizer can change"),
    ("gepa", {"trainset": []}, "trainset has no rows"),
    ("gepa", {"valset": []}, "valset has no rows"),
    ("gepa", {"trainset": [*rows(2), {"message": "x"}]}, "Row 2 of 'trainset' has no field 'code'"),
    ("gepa", {"valset": [{"text": "x", "code": "K7"}]}, "Row 0 of 'valset' has no field 'message'"),
    ("gepa", {"valset": [{"message": "x"}]}, "Row 0 of 'valset' has no field 'code'"),
    ("miprov2", {"auto": "lite"}, "miprov2: auto='lite'"),
    ("miprov2", {"auto": None, "num_candidates": 3}, "needs both num_candidates and num_trials.*num_trials=6"),
    ("miprov2", {"auto": None, "num_trials": 3}, "needs both num_candidates and num_trials"),
    ("miprov2", {"num_candidates": 3}, "auto='light' says how many candidates and trials there are"),
    ("miprov2", {"auto": None, "num_candidates": 3, "num_trials": 3, "minibatch_size": 9}, "minibatch is larger"),
    ("miprov2", {"trainset": rows(1), "valset": None}, "needs two rows"),
    ("infer_rules", {"trainset": rows(1), "valset": None}, "needs two rows"),
    ("simba", {"bsize": 10}, "a batch is larger than the rows there are"),
    ("copro", {"breadth": 1}, "breadth=1"),
    ("knn", {"k": 10}, "k=10 neighbours of 9 rows"),
    ("gepa", {"auto": "light", "max_metric_calls": 3}, "auto and max_metric_calls are both given"),
    ("gepa", {"auto": "tiny"}, "auto='tiny'"),
    ("gepa", {"max_metric_calls": 0}, "max_metric_calls=0: it could not begin"),
    ("gepa", {"max_metric_calls": 9, "teacher": program()}, "it has no teacher"),
    ("better_together", {"strategy": "p -> q"}, "strategy='p -> q' has no optimizer 'q'.*q='miprov2'"),
    ("better_together", {"p": {"k": 3}}, "p= names no optimizer"),
    ("better_together", {"p": "better_together"}, "p= names no optimizer"),
    ("better_together", {"p": "gepaa"}, "There is no optimizer 'gepaa'. Did you mean 'gepa'?"),
    ("better_together", {"strategy": "p -> w"}, "predictor 'self' has no model of its own"),
    ("ensemble", {"programs": []}, r"programs=\[\]"),
    ("ensemble", {"programs": [program()], "size": 2}, "size=2"),
    ("ensemble", {"programs": [program()], "top": 2}, "top= is for a random search"),
    ("avatar", {}, "Predict is no agent that it can improve"),
    ("finetune", {}, r"predictor 'self' has no model of its own.*program.set_lm\(lm\)"),
    ("grpo", {}, "predictor 'self' has no model of its own"),
]


@pytest.mark.parametrize(("optimizer", "settings", "said"), REFUSED, ids=[f"{r[0]}-{r[1]}"[:40] for r in REFUSED])
def test_it_is_refused_with_a_reason(optimizer: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check(optimizer, **settings)


def test_without_a_trainer_it_names_what_is_missing() -> None:
    student = program()
    student.set_lm(dspy.LM("vllm/some-model", api_key="x"))
    for name, words in (("finetune", "cannot be finetuned"), ("grpo", "cannot learn by reinforcement")):
        with pytest.raises(ConfigurationError, match=rf"no trainer: 'vllm/some-model' \(provider Provider\) {words}"):
            check(name, program=student)


@pytest.mark.parametrize("name", [*SMALL, "avatar"])
def test_what_it_will_take_is_estimated(name: str) -> None:
    plan = check(name, **SMALL.get(name, {}), **({"program": agent()} if name == "avatar" else {}))
    assert plan.total >= 12 or name == "gepa"
    assert plan.calls >= plan.total
    assert plan.tokens > plan.calls


def test_estimates_follow_the_arithmetic_of_the_optimizers() -> None:
    assert check("gepa", max_metric_calls=50).total == 50 + 6 + 6 - 1 + 6
    assert check("gepa", max_full_evals=2).total == 2 * 15 + 6 + 6 - 1 + 6
    light = dspy.GEPA(metric=lambda a, b, c, d, e: 0, reflection_lm=dspy.LM("x/y"), auto="light")
    assert check("gepa").total == light.auto_budget(1, 6, 6) + 6 + 6 - 1 + 6
    assert check(light).total == check("gepa").total
    # An evaluation before and after is always there.
    assert check("labeled").total == 12
    assert check("copro", breadth=3, depth=2).total == 6 * 9 + 12
    assert check("copro", breadth=3, depth=2).calls == 6 * 9 + 12 + 2
    assert check("random_search", num_candidate_programs=2).total == 5 * 6 + 3 * 9 + 12
    auto = check("miprov2")
    assert auto.total == 6 * (10 + 1) + 4 * 9 + 6
    many = check("miprov2", valset=rows(60), auto="light")  # minibatches
    assert many.total == 35 * 10 + 60 * (10 // 5 + 2) + 4 * 9 + 60
    assert check(HalfHearted).total == 12
    assert check("grpo", program=trainable(), num_train_steps=10).total == 10 + 3 * 6 + 12
    assert check("finetune", program=trainable(), teacher=[None, None]).total == 18 + 12


def trainable() -> Any:
    class Trainer(dspy.clients.Provider):
        def __init__(self) -> None:
            super().__init__()
            self.finetunable = self.reinforceable = True

    made = program()
    made.set_lm(dspy.LM("x/y", provider=Trainer(), api_key="x"))
    return made


def test_settings_go_where_they_belong() -> None:
    _, task = work("miprov2", auto=None, num_candidates=3, num_trials=2).driven()
    assert task.init == {"auto": None, "num_candidates": 3}
    assert task.compile == {"num_trials": 2, "minibatch_size": 6}
    _, free = work(HalfHearted, tries=3, colour="red", hint="!").driven()
    assert (dict(free.init), dict(free.compile)) == ({"tries": 3, "colour": "red"}, {"hint": "!"})
    _, simba = work("simba").driven()
    assert simba.init == {"bsize": 9}


def test_a_class_or_subclass_of_an_optimizer_is_driven_as_that() -> None:
    class Mine(dspy.COPRO):
        pass

    assert work(Mine, breadth=3).name == "copro"
    assert work(dspy.COPRO, breadth=3).name == "copro"
    assert work(HalfHearted).name == "HalfHearted"
    assert work("MIPRO-v2").name == "miprov2"

    class GEPA:  # a name is not enough
        def compile(self, student: Any) -> Any:
            return student

    assert work(GEPA()).driven()[0].name == "other"


def test_the_same_program_is_known_whatever_its_instructions_are() -> None:
    one, other = program(), program()
    other.signature = other.signature.with_instructions("Else.")
    assert shape_of(one) == shape_of(other)
    assert shape_of(one) != shape_of(dspy.Predict("a -> b"))


def test_what_people_see_of_it_is_plain() -> None:
    said = work("gepa", max_metric_calls=3, reflection_lm=dspy.LM("x/y"), seed=4).described()
    assert said["settings"] == {"max_metric_calls": 3, "reflection_lm": "x/y"}
    assert (said["optimizer"], said["train"], said["val"], said["seed"], said["resume"]) == ("gepa", 9, 6, 4, "state")
    inner = work("better_together", p={"optimizer": "labeled", "k": 2}, strategy="p").described()
    assert inner["settings"]["p"] == {"optimizer": "labeled", "k": 2}
    assert work("ensemble", programs=[program()]).described()["settings"] == {"programs": ["Predict"]}
    assert work("ensemble", reduce_fn=len, valset=None).described()["settings"] == {"reduce_fn": "len"}


def test_what_does_not_say_what_it_takes_takes_nothing() -> None:
    class Odd:
        compile = dict.fromkeys  # a built-in function without a signature

    with pytest.raises(ConfigurationError, match="Odd has no setting 'depth'"):
        work(Odd(), depth=2)
