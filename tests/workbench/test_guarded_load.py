"""What a Lab leaves out under load, and that it comes back."""

from __future__ import annotations

from guard_helpers import ANSWER, SIGNATURE, Seen, model_at, only, quick

import dspex_lab as dx
from dspex_lab.testing import Fault, FaultyServer, scripted_lm

__all__ = ["quick"]

must = dx.assert_


def test_each_level_leaves_something_out_and_it_comes_back(quick: dx.Lab) -> None:
    quick.policy(dx.Policy(retry=dx.Retry(attempts=4, wait=0.0, jitter=0.0), breaker=None, hedge=dx.Hedge(0.02, share=1.0)))
    level = quick.gateway.degradation
    seen = Seen(quick)
    with FaultyServer(ANSWER) as server:
        lm = model_at(server, num_retries=3, cache=True)
        quick.use(lm)
        level.pin("no_hedging")
        server.outage(Fault.server_error())
        quick.run(SIGNATURE, message="a")
        assert server.counts.arrived == 4
        level.pin("fewer_retries")
        server.clear()
        quick.run(SIGNATURE, message="a")
        assert server.counts.arrived == 2
        server.recover()
        assert quick.run(SIGNATURE, message="kept under load").status == "complete"
        level.pin("cached_only")
        server.clear()
        refused = quick.run(SIGNATURE, message="new")
        assert type(refused.error) is dx.BulkheadFull
        assert "only caches answer" in str(refused.error)
        assert quick.run(SIGNATURE, message="kept under load").outputs == ANSWER
        assert server.counts.arrived == 0
        level.unpin()
        assert quick.run(SIGNATURE, message="new").status == "complete"
    changes = [e.data["after"] for e in seen.events("degradation.change")]
    assert changes == ["no_hedging", "fewer_retries", "cached_only", "normal"]


def test_under_load_the_cheapest_that_may_answer_is_asked_first(quick: dx.Lab) -> None:
    with FaultyServer(ANSWER) as server:
        dear, cheap = model_at(server, "openai/gpt-4o"), model_at(server, "openai/gpt-4o-mini")
        quick.use(dear, fallbacks=[cheap, "cache"])
        quick.run(SIGNATURE, message="x")
        quick.gateway.degradation.pin("cheapest_model_first")
        quick.run(SIGNATURE, message="x")
        quick.gateway.degradation.unpin()
        quick.run(SIGNATURE, message="x")
        assert [r.model for r in server.requests] == ["gpt-4o", "gpt-4o-mini", "gpt-4o"]


def test_under_load_a_suggestion_is_not_asked_for_again_and_says_so(quick: dx.Lab) -> None:
    lm = scripted_lm([{"label": "no"}, {"label": "billing"}])
    quick.use(lm)
    checked = dx.suggest(dx.signature(SIGNATURE), "label == 'billing'")
    quick.gateway.degradation.pin("no_second_opinions")
    spared = quick.run(checked, message="x")
    assert (spared.status, spared.outputs["label"], lm.engine.calls) == ("partial", "no", 1)
    assert "not again at the present load" in only(spared).note
    strict = quick.run(must(dx.signature(SIGNATURE), "label == 'no'"), message="y")
    assert (strict.status, lm.engine.calls) == ("complete", 3), "what must hold is asked for again all the same"
    quick.gateway.degradation.unpin()
    again = quick.run(checked, message="z")
    assert (again.status, lm.engine.calls) == ("complete", 4)


def test_under_load_a_step_is_tried_twice_at_most_and_says_so(quick: dx.Lab) -> None:
    tries = []

    def fails(x: int) -> int:
        tries.append(x)
        raise ConnectionError("no")

    step = dx.step(fails, name="s", retries=3, idempotent=True)
    quick.gateway.degradation.pin("fewer_retries")
    result = quick.run(step, x=1)
    assert len(tries) == 2
    assert "not again at the present load" in (only(result).note or "")


def test_under_load_a_judge_is_asked_in_one_order(quick: dx.Lab) -> None:
    from dspex_lab.lms import LMJudge

    lm = scripted_lm({"reason": "good", "grade": 5})
    quick.use(lm)
    judge = LMJudge(both_orders=True)

    def graded(answer: str) -> float:
        return judge(rubric="right", prediction=answer, reference="yes", task=None).score

    assert quick.run(graded, answer="yes").status == "complete"
    assert lm.engine.calls == 2
    quick.gateway.degradation.pin("no_second_opinions")
    result = quick.run(graded, answer="no")
    assert (result.status, lm.engine.calls) == ("partial", 3)
    assert "one order" in only(result).note
