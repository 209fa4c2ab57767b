"""Instructions that the engine writes for optimizers, and what they gain."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pytest
from dspy.teleprompt.gepa import InstructionProposer
from dspy.teleprompt.gepa.instruction_proposal import MultiModalInstructionProposer
from gepa.strategies.instruction_proposal import InstructionProposalSignature
from library_desks import CODES, TEST, TRAIN, examples

from dspex_lab.lms import make_lm
from dspex_lab.lms.exemplar._draws import draw_of
from dspex_lab.lms.exemplar._lessons import HEADING, lines_in, lines_of, usual_length
from dspex_lab.lms.exemplar._records import Record
from dspex_lab.lms.exemplar._reflection import Attempt, from_attempts, improved, reflect, shortened, writes_instructions

PLAIN = "Send the question to its desk."


@pytest.fixture(autouse=True)
def offline() -> Iterator[dspy.LM]:
    lm = make_lm("offline")
    with dspy.context(lm=lm):
        yield lm


def desk(instructions: str = PLAIN) -> Any:
    options = Literal[tuple(CODES.values())]  # type: ignore[valid-type]
    return dspy.Predict(dspy.Signature("message -> desk", instructions).with_updated_fields("desk", type_=options))


def accuracy(program: Any) -> float:
    return sum(program(message=e.message).desk == e.desk for e in examples(TEST)) / len(TEST)


def metric(example: Any, found: Any, trace: Any = None, name: Any = None, own: Any = None) -> Any:
    right = found.desk == example.desk
    return dspy.Prediction(score=float(right), feedback="Correct." if right else f"Wrong, the right desk is {example.desk}.")


def score(example: Any, found: Any, trace: Any = None) -> bool:
    return bool(found.desk == example.desk)


def mixed(shuffled: int | None = None) -> list[dspy.Example]:
    rows = examples(TRAIN, shuffled)
    random.Random(5).shuffle(rows)
    return rows


# --- what optimizers gain -------------------------------------------------------------------------------------------


def gepa(train: list[dspy.Example]) -> Any:
    lm = make_lm("offline", temperature=1.0)
    tuned = dspy.GEPA(metric=metric, max_metric_calls=250, reflection_lm=lm, reflection_minibatch_size=6, num_threads=1, seed=0)
    return tuned.compile(desk(), trainset=train, valset=train)


def miprov2(train: list[dspy.Example]) -> Any:
    tuned = dspy.MIPROv2(
        metric=score, auto=None, num_candidates=4, max_bootstrapped_demos=0, max_labeled_demos=0, num_threads=1, seed=0
    )
    return tuned.compile(desk(), trainset=train, valset=train, num_trials=5, minibatch=False)


def copro(train: list[dspy.Example]) -> Any:
    handbook = "\n".join(f"Question: {e.message}\nDesk: {e.desk}" for e in train)
    tuned = dspy.COPRO(metric=score, breadth=3, depth=2, init_temperature=1.0)
    kwargs = {"num_threads": 1, "display_progress": False}
    return tuned.compile(desk(f"{PLAIN} From the handbook:\n{handbook}"), trainset=train, eval_kwargs=kwargs)


def infer_rules(train: list[dspy.Example]) -> Any:
    tuned = dspy.InferRules(metric=score, num_candidates=2, num_threads=1, max_bootstrapped_demos=0, max_labeled_demos=0)
    return tuned.compile(desk(), trainset=train)


OPTIMIZERS = [gepa, miprov2, copro, infer_rules]


@pytest.mark.parametrize("tune", OPTIMIZERS, ids=lambda t: t.__name__)
def test_optimizers_gain_where_instructions_can_carry_knowledge(tune: Any) -> None:
    assert accuracy(desk()) <= 0.45
    assert accuracy(tune(mixed())) >= 0.7


@pytest.mark.parametrize("tune", OPTIMIZERS, ids=lambda t: t.__name__)
def test_optimizers_gain_nothing_from_shuffled_labels(tune: Any) -> None:
    found = [accuracy(tune(mixed(shuffled=seed))) for seed in range(3)]
    assert sum(found) / len(found) < 0.55


REWARD = """def reward(args, pred):
    if 'tea' not in pred.answer:
        return 0.0
    return len(pred.answer) < 5"""


def test_advice_of_simba_and_refine_names_words_and_conditions() -> None:
    from dspy.predict.refine import OfferFeedback as Refining
    from dspy.teleprompt.simba_utils import OfferFeedback

    shown = dict.fromkeys(OfferFeedback.input_fields, "")
    shown |= {
        "program_inputs": '{"message": "renew the loan of my novel"}',
        "oracle_metadata": '{"desk": "K4"}',
        "worse_program_outputs": '{"desk": "Z9"}',
        "module_names": '["self"]',
    }
    with dspy.context(warn_on_type_mismatch=False):
        found = dspy.Predict(OfferFeedback)(**shown)
        assert "K4: renew, loan, novel" in found.module_advice["self"]
        assert "'Z9'" in found.discussion
        told = desk(f"{PLAIN}\n\n{found.module_advice['self']}")
        assert told(message="my novel, a loan").desk == "K4"
        asked = dict.fromkeys(Refining.input_fields, "")
        asked |= {
            "program_inputs": "{}",
            "program_outputs": '{"answer": "a long text"}',
            "reward_code": REWARD,
            "module_names": "self",
        }
        advice = dspy.Predict(Refining)(**asked).advice["self"]
    assert "'tea' in pred.answer" in advice
    assert "len(pred.answer) < 5" in advice
    assert "«a long text» is not accepted" in advice


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def f(a, p): return len(p.x) > 3", "len(p.x) > 3"),
        ("if not p.x.startswith('a'): return 0", "p.x.startswith('a')"),
        ("if p.x.islower(): return False", "not p.x.islower()"),
        ("if len(p.x) > 3:  # long\n  return 1.0", "len(p.x) > 3"),
        ("x = 1", ""),
    ],
)
def test_the_conditions_of_a_reward_are_read(code: str, line: str) -> None:
    inputs = {"reward_code": code, "module_names": '["m"]', "program_outputs": "[1]", "program_trajectory": ""}
    advice = reflect("advice", inputs, ["advice"], 0)["advice"]["m"]
    assert advice == (f"It must hold that {line}" if line else "N/A")


# --- the proposers' prompts -----------------------------------------------------------------------------------------

REFLECTIVE = [
    {
        "Inputs": {"message": e.message},
        "Generated Outputs": {"desk": "Z9"},
        "Feedback": f"The right desk is {e.desk}. Never guess.",
    }
    for e in examples(TRAIN)
]


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()], ids=lambda a: type(a).__name__)
def test_gepas_proposer_gets_an_instruction_that_its_own_task_reads(adapter: Any) -> None:
    proposer = InstructionProposer(adapter=adapter)
    found = proposer({"self": PLAIN}, {"self": REFLECTIVE}, ["self"])["self"]
    assert found.startswith(PLAIN)
    assert "Never guess." in found
    assert accuracy(desk(found)) >= 0.8


def test_a_limit_on_the_length_of_instructions_is_kept() -> None:
    found = InstructionProposer(max_chars=180)({"self": PLAIN}, {"self": REFLECTIVE}, ["self"])["self"]
    assert len(found) <= 180
    assert accuracy(desk(found)) > accuracy(desk())


def test_the_other_proposers_of_gepa_are_served_too(offline: dspy.LM) -> None:
    texts = [{k: v if isinstance(v, str) else {n: str(x) for n, x in v.items()} for k, v in r.items()} for r in REFLECTIVE]
    found = MultiModalInstructionProposer()({"self": PLAIN}, {"self": texts}, ["self"])["self"]
    assert accuracy(desk(found)) >= 0.8
    prompt = InstructionProposalSignature.prompt_renderer(
        {"current_instruction_doc": PLAIN, "dataset_with_feedback": REFLECTIVE}
    )
    (said,) = offline(prompt)
    told = InstructionProposalSignature.output_extractor(said)["new_instruction"]
    assert accuracy(desk(told)) >= 0.8


def test_proposals_differ_with_the_settings_of_a_request_and_are_the_same_for_the_same() -> None:
    from dspy.teleprompt.copro_optimizer import BasicGenerateInstruction

    handbook = "\n".join(f"Question: {e.message}\nDesk: {e.desk}" for e in mixed())

    def propose(n: int = 4, **options: Any) -> list[str]:
        with dspy.context(lm=make_lm("offline", **options)):
            found = dspy.Predict(BasicGenerateInstruction, n=n)(basic_instruction=f"{PLAIN}\n{handbook}")
        return list(found.completions.proposed_instruction)

    assert propose(1) == propose(1)
    drawn = propose(temperature=1.0)
    assert len(set(drawn)) > 1
    assert propose(temperature=1.0) == drawn
    assert propose(temperature=0.5) != drawn
    assert propose(temperature=1.0, seed=7) != drawn


def test_draws_forget_old_requests() -> None:
    from dspy.lm15 import Config, Message, Request

    def request(temperature: float | None) -> Request:
        return Request(model="m", messages=(Message.user("x"),), config=Config(temperature=temperature))

    first = request(1.0)
    assert draw_of(request(None)) == 0
    once, twice = draw_of(first), draw_of(first)
    assert once != twice
    for _ in range(40):
        draw_of(request(1.0))
    assert draw_of(first) == once


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind"),
    [
        (["current_instruction", "examples_with_feedback"], ["new_instruction"], "propose"),
        (["basic_instruction"], ["proposed_instruction", "proposed_prefix_for_output_field"], "propose"),
        (["attempted_instructions"], ["proposed_instruction"], "propose"),
        (["instruction", "length_limit"], ["shortened_instruction"], "shorten"),
        (["examples"], ["observations"], "observations"),
        (["observations"], ["summary"], "summary"),
        (["examples_text"], ["reasoning", "natural_language_rules"], "rules"),
        (["program_trajectory", "module_names"], ["discussion", "advice"], "advice"),
        (["letter"], ["advice"], None),
        (["text"], ["summary"], None),
        (["letter"], ["instruction"], None),
    ],
)
def test_only_optimizers_prompts_are_taken_for_reflections(inputs: list[str], outputs: list[str], kind: str | None) -> None:
    assert writes_instructions(inputs, outputs) == kind


def test_tips_set_the_manner() -> None:
    records = [Record({"m": e.message}, {"d": e.desk}, {}) for e in examples(TRAIN)]
    concise, full = (improved(PLAIN, records, tip=tip) for tip in ("Keep it clear and concise.", "informative and descriptive"))
    assert len(concise) < len(full)
    assert "expert" in improved(PLAIN, records, tip='Include a persona (ie. "You are a ...")')
    stakes = improved(PLAIN, records, tip="include a high stakes scenario")
    assert "depends" in stakes
    assert "depends" not in improved(stakes, records)


def test_an_instruction_grows_by_what_it_is_shown() -> None:
    first = improved(PLAIN, [Record({"m": "renew the loan"}, {"d": "K4"}, {}), Record({"m": "a quiet room"}, {"d": "Z9"}, {})])
    second = improved(first, [Record({"m": "borrow a film"}, {"d": "K4"}, {})])
    assert set(lines_in(second)["K4"]) == {"renew", "loan", "borrow", "film"}
    assert lines_in(second)["Z9"]
    assert second.count(HEADING) == 1


def test_short_answers_set_a_length() -> None:
    records = [Record({"q": f"where is {n} now"}, {"a": f"in {n} street nine"}, {}) for n in ("oak", "elm", "fir")]
    assert usual_length(records) == 4
    assert "at most 4 words" in improved("Answer.", records)
    assert usual_length(records[:1]) is None


def test_attempts_teach_by_their_scores() -> None:
    good = lines_of({"K4": ["renew", "loan"], "Z9": ["room"]})
    bad = lines_of({"K4": ["room", "loan"], "Z9": ["room"]})
    found = lines_in(from_attempts([Attempt(f"Sort.\n{bad}", 30.0), Attempt(f"Sort.\n{good}", 80.0)], 0))
    assert list(found["K4"]) == ["renew", "loan"]
    better = lines_of({"K4": ["renew"], "Z9": ["seminar"]})
    found = lines_in(from_attempts([Attempt(f"S.\n{better}", 90.0), Attempt(f"S.\n{good}", 80.0), Attempt("S.", 10.0)], 0))
    assert set(found["K4"]) == {"renew", "loan"}
    assert from_attempts([], 3)
    assert from_attempts([Attempt("Sort.", 1.0)], 0) == "Sort."


def test_attempts_and_histories_are_read_from_prompts() -> None:
    attempts = ["Instruction #1: Sort.\nWell.", "Prefix #1: A", "Resulting Score #1: 50.0", "Resulting Score #2: odd", "else"]
    said = reflect("propose", {"attempted_instructions": json.dumps(attempts)}, ["proposed_instruction"], 0)
    assert said["proposed_instruction"].startswith("Sort.\nWell.")
    shown = {"previous_instructions": "Bad. | Score: 1.0\n\nGood. | Score: 2.5\n\n", "basic_instruction": "Basic."}
    assert reflect("propose", shown, ["proposed_instruction"], 0)["proposed_instruction"] == "Good."
    assert reflect("propose", {"my_instruction": "Mine."}, ["new_instruction"], 0)["new_instruction"] == "Mine."


def test_instructions_are_shortened_by_words_then_lines() -> None:
    text = f"Sort.\n{lines_of({'K4': ['renew', 'loan', 'borrow'], 'Z9': ['room']})}"
    assert lines_in(shortened(text, "at most 70 characters"))["K4"]
    assert shortened("one\ntwo\nthree", "at most 8 characters") == "one\ntwo"
    assert shortened("one two three", "2 words") == "one two"
    assert shortened("abcdef", "3 characters") == "abc"
    assert shortened("abcdef", "be short") == "abcdef"
