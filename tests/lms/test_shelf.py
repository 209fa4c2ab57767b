"""``lab.lms``: the models of a Lab."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from model_helpers import models_put_back

import dspex_lab as dx
from dspex_lab import ConfigurationError, LMError
from dspex_lab.lms import make_lm
from dspex_lab.lms.calls._gateway import target_of
from dspex_lab.lms.choice._cache import CacheState
from dspex_lab.lms.choice._requirements import Requirements
from dspex_lab.lms.choice._shelf import LMs
from dspex_lab.testing import scripted_lm

OFFLINE = "offline/exemplar"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with models_put_back():
        for name in ("HF_TOKEN", "OLLAMA_API_BASE", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        yield


class Used:
    """The model in use."""

    def __init__(self) -> None:
        self.lm: Any = make_lm("offline")
        self.offline = self.lm

    def __call__(self) -> Any:
        return self.lm


@pytest.fixture
def used() -> Used:
    return Used()


@pytest.fixture
def lms(used: Used) -> LMs:
    return LMs(used, lambda: used.offline)


def key(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names or ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test-0123456789")


# --- what is there -----------------------------------------------------------------------------------------------


def test_the_offline_engine_is_there_and_is_the_last_resort(lms: LMs, used: Used) -> None:
    assert [c.name for c in lms] == [OFFLINE]
    assert lms.select(structured=True).lm is used.offline
    used.lm = scripted_lm(["x"])
    assert [(c.name, c.last_resort) for c in lms] == [(used.lm.model, False), (OFFLINE, True)]
    assert lms.select().order == (used.lm.model, OFFLINE)
    assert lms.select().lm is used.lm


def test_models_are_added_by_name_and_made_when_they_are_needed(lms: LMs, monkeypatch: pytest.MonkeyPatch) -> None:
    name = lms.add("openai/gpt-5-mini", quality=0.8, cache=False)
    assert name == "openai/gpt-5-mini"
    assert name in lms
    assert len(lms) == 2
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY is not set \\(%dspex key openai"):
        lms.select(providers="openai")
    key(monkeypatch)
    found = lms.select(tools=True, context="32k", quality=0.7)
    assert found.chosen == name
    assert isinstance(found.lm, dspy.LM)
    assert found.lm is found.lm is lms[name]
    assert found.lm.cache is False
    lms.remove(name)
    assert name not in lms


def test_a_name_of_ones_own_tells_two_of_the_same_model_apart(lms: LMs) -> None:
    lms.add("vllm/mine", name="near", api_base="http://127.0.0.1:8000/v1", quality=0.9)
    lms.add("vllm/mine", name="far", api_base="http://far.example/v1")
    assert lms.facts("near").local is True
    assert lms.facts("far").local is False
    assert lms.select(local=True, quality=0.5).order == ("near",)
    assert lms["near"].kwargs["api_base"] == "http://127.0.0.1:8000/v1"
    lms.statistics.score("vllm/mine", 0.5)
    assert {lms.measured(name).scores["score"][0] for name in ("near", "far", "vllm/mine")} == {0.5}


def test_an_lm_is_added_as_it_is(lms: LMs, used: Used) -> None:
    mine = scripted_lm(["x"])
    assert lms.add(mine) == mine.model
    assert lms[mine.model] is mine
    hot = lms.add(mine, name="hot", temperature=0.9)
    assert lms[hot].kwargs["temperature"] == 0.9
    assert lms.facts(mine).local is True
    used.lm = mine
    assert len(lms) == 3, "the model in use is the one that was added"


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"lm": "opnai/gpt-5"}, LMError, "Did you mean 'openai'"),
        ({"lm": "gpt-5"}, LMError, "provider/model"),
        ({"lm": "openai/gpt-4o-mni"}, LMError, "gpt-4o-mini"),
        ({"lm": 3}, LMError, "name or a dspy.LM"),
        ({"lm": "openai/x", "quality": 80}, ConfigurationError, "from 0 to 1"),
        ({"lm": "openai/x", "name": OFFLINE}, ConfigurationError, "always here"),
        ({"lm": "offline"}, ConfigurationError, "always here"),
    ],
)
def test_what_cannot_be_added_is_refused(lms: LMs, args: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lms.add(args.pop("lm"), **args)
    assert len(lms) == 1


def test_a_name_that_is_not_here_is_an_error_with_a_near_one(lms: LMs) -> None:
    lms.add("openai/gpt-5-mini")
    with pytest.raises(ConfigurationError, match="Did you mean 'openai/gpt-5-mini'"):
        lms.remove("openai/gpt-5-min")
    with pytest.raises(ConfigurationError, match="always here"):
        lms.remove(OFFLINE)
    with pytest.raises(ConfigurationError, match="Did you mean 'openai/gpt-5-mini'"):
        lms["openai/gpt-5-mni"]


# --- what is offered ---------------------------------------------------------------------------------------------


def test_providers_with_a_key_are_offered_and_never_taken(lms: LMs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No provider has a key" in repr(lms.available())
    key(monkeypatch)
    offered = lms.available()
    assert [o.provider for o in offered] == ["anthropic", "openai"]
    assert "OPENAI_API_KEY, from the environment" in repr(offered)
    assert "openai/gpt-5-mini" in lms.available("openai")[0].models
    assert "sk-test" not in repr(offered) + offered._repr_html_()
    assert lms.select().order == (OFFLINE,)


def test_servers_are_offered_where_they_were_configured(lms: LMs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_BASE", "http://me:secret@127.0.0.1:11434")
    monkeypatch.setenv("HOSTED_VLLM_API_BASE", "gpu.example:eight")
    offered = {o.provider: o for o in lms.available()}
    assert offered["ollama"].why == "its server at 127.0.0.1:11434"
    assert offered["hosted_vllm"].why == "its server at gpu.example"
    assert "whatever it has" in offered["hosted_vllm"].choice
    assert "secret" not in repr(lms.available())
    monkeypatch.delenv("OLLAMA_API_BASE")
    with pytest.raises(ConfigurationError, match="'ollama' is not available"):
        lms.available("ollama")


# --- choosing ----------------------------------------------------------------------------------------------------


def test_health_is_asked_by_target(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    key(monkeypatch)
    asked: list[str] = []

    def health(target: str) -> Any:
        asked.append(target)
        return "open" if target.startswith("openai") else "closed"

    lms = LMs(used, lambda: used.offline, health=health)
    lms.add("openai/gpt-5-mini", quality=1.0)
    lms.add("anthropic/claude-sonnet-4-5", quality=0.1)
    lms.add("vllm/mine", api_base="http://me:secret@127.0.0.1:8000/v1", quality=0.2)
    assert lms.select().order[-2:] == ("openai/gpt-5-mini", OFFLINE)
    assert "vllm/mine@http://127.0.0.1:8000/v1" in asked
    assert target_of(lms["vllm/mine"]) in asked
    assert "fails now" in repr(lms)


def test_needs_are_given_as_words_or_as_one_value(lms: LMs) -> None:
    assert lms.select(Requirements(local=True)) == lms.select(local=True)
    with pytest.raises(ConfigurationError, match="Did you mean 'tools'"):
        lms.select(tool=True)


def test_a_mistyped_exclusion_is_refused(lms: LMs, monkeypatch: pytest.MonkeyPatch) -> None:
    key(monkeypatch)
    lms.add("openai/gpt-5-mini")
    with pytest.raises(ConfigurationError, match="Did you mean 'openai/gpt-5-mini'"):
        lms.select(exclude="openai/gpt-5-mni")
    with pytest.raises(ConfigurationError, match="names no model here and no provider"):
        lms.select(providers="opnai")
    assert lms.select(exclude="openai").order == (OFFLINE,)
    assert lms.select(exclude=("openai/gpt-5-mini", "anthropic")).order == (OFFLINE,)
    assert lms.select(providers=("openai", "anthropic")).order == ("openai/gpt-5-mini",)


def test_nothing_suitable_says_what_each_lacks(lms: LMs) -> None:
    lms.add("openai/gpt-5-mini")
    with pytest.raises(ConfigurationError) as caught:
        lms.select(vision=True, local=True)
    assert "openai/gpt-5-mini: OPENAI_API_KEY is not set" in str(caught.value)
    assert f"{OFFLINE}: cannot take images" in str(caught.value)


def test_a_chain_is_a_plain_list_of_models(lms: LMs, used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    key(monkeypatch)
    lms.add("openai/gpt-5-mini", name="main")
    mine = scripted_lm(["x"])
    chain = lms.chain("main", mine, "anthropic/claude-sonnet-4-5", "cache", "main", OFFLINE)
    assert chain[0] is lms["main"]
    assert chain[1] is mine
    assert chain[2].model == "anthropic/claude-sonnet-4-5"
    assert chain[3:] == ["cache", used.offline]
    assert lms.chain() == lms.select().lms == lms.chain(lms.select())
    with pytest.raises(LMError, match="openai"):
        lms.chain("opnai/x")


# --- what is known and measured ----------------------------------------------------------------------------------


def test_facts_and_figures_of_the_model_in_use_come_without_a_name(lms: LMs, used: Used) -> None:
    assert lms.facts().model == OFFLINE
    lms.score(0.9)
    lms.score(0.5, scripted_lm(["x"]), name="taste")
    assert lms.measured().scores["score"][0] == pytest.approx(0.9)
    assert lms.facts("openai/gpt-5-mini").tools is True
    assert lms.set_model("mine/own", context="8k").context == 8000
    price = lms.set_price("mine/own", input=1, output=2).price
    assert price is not None
    assert price[:2] == (1.0, 2.0)


def test_the_table_shows_what_is_known_and_measured(lms: LMs) -> None:
    lms.add("openai/gpt-5-mini", name="<i>main</i>")
    shown = lms._repr_html_()
    assert "&lt;i&gt;main&lt;/i&gt;" in shown
    assert "<i>" not in shown
    assert "never called here" in shown
    assert "OPENAI_API_KEY is not set" in shown
    assert "in use" in repr(lms)
    lms.add("nobody/new", check=False)
    assert "unknown" in repr(lms)


# --- prompts and the cache, with a real Lab ----------------------------------------------------------------------


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        yield made


def test_calls_of_a_lab_are_measured_and_their_prompts_shown(lab: dx.Lab) -> None:
    lms = lab.lms
    with pytest.raises(ConfigurationError, match="No call of a model was recorded yet"):
        lms.last_prompt()
    lab.use(scripted_lm([{"answer": "<b>4</b>"}]))
    lab.predict("question -> answer", question="2 + 2?").raise_for_status()
    assert lms.measured().total == 1
    assert lms.measured().seconds is not None
    prompt = lms.last_prompt()
    assert [who for who, _ in prompt.turns] == ["system", "user"]
    assert "2 + 2?" in prompt.turns[1][1]
    assert "<b>4</b>" in prompt.answers[0]
    assert "<b>4" not in prompt._repr_html_()
    assert lms.prompt(prompt.call_id) == prompt
    with pytest.raises(ConfigurationError, match="No call 'nothing' was recorded"):
        lms.prompt("nothing")


def test_statistics_are_seeded_from_the_store(lab: dx.Lab) -> None:
    lab.use(scripted_lm([{"answer": "4"}]))
    lab.predict("question -> answer", question="2 + 2?").raise_for_status()
    lms = LMs(lab._models.current, lab._models.offline)
    assert lms.statistics.seed(lab.sql("SELECT * FROM lm_calls").to_dict("records")) == 1  # type: ignore[arg-type]
    assert lms.measured().total == 1


def test_a_fresh_block_asks_anew_and_leaves_the_cache_alone(lms: LMs, used: Used) -> None:
    used.lm = scripted_lm(["one", "two", "three"], cache=True)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    first = used.lm("hello")
    assert used.lm("hello") == first
    with lms.fresh() as lm:
        assert dspy.settings.lm is lm
        assert lm("hello") != first
    assert dspy.settings.lm is not lm
    assert used.lm("hello") == first


def test_the_cache_is_switched_and_emptied(lms: LMs, used: Used, tmp_path: Any) -> None:
    used.lm = scripted_lm(["one", "two", "three"], cache=True)
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path / "kept"))
    first = used.lm("hello")
    held = lms.cache
    assert (held.memory, held.disk, held.folder) == (1, 1, str(tmp_path / "kept"))
    assert "1 answer in memory, 1 answer in" in str(held)

    assert str(lms.switch_cache(False)) == "DSPy's cache is off: every call reaches a model"
    assert lms.switch_cache(False) == CacheState(None, None, None)
    assert used.lm("hello") != first
    assert lms.switch_cache(True) == held, "it is the one it was"
    assert lms.switch_cache(True) == held
    assert used.lm("hello") == first

    assert lms.clear_cache() == held
    assert (lms.cache.memory, lms.cache.disk) == (0, 0)
    assert used.lm("hello") != first
    dspy.cache.disk_cache.close()


def test_a_cache_that_was_off_from_the_start_can_be_switched_on(lms: LMs, monkeypatch: pytest.MonkeyPatch) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert lms.clear_cache() == CacheState(None, None, None)
    made: list[bool] = []
    monkeypatch.setattr(dspy, "configure_cache", lambda: made.append(True))
    lms.switch_cache(True)
    assert made == [True]
