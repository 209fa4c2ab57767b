"""What tokens cost, without loading LiteLLM."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from dspex_lab import ConfigurationError
from dspex_lab.lms import Price, price_of, set_price
from dspex_lab.lms.choice import _prices


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    _prices._own.clear()


def table() -> dict[str, dict[str, object]]:
    folder = next(iter(find_spec("litellm").submodule_search_locations))  # type: ignore[union-attr, arg-type]
    return json.loads(Path(folder, "model_prices_and_context_window_backup.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("openai/gpt-5-mini", "gpt-5-mini"),
        ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("azure/gpt-4o", "azure/gpt-4o"),
    ],
)
def test_a_price_is_that_of_the_table_for_a_million_tokens(model: str, entry: str) -> None:
    listed = table()[entry]
    found = price_of(model)
    assert found is not None
    assert found.input == pytest.approx(listed["input_cost_per_token"] * 1e6)
    assert found.output == pytest.approx(listed["output_cost_per_token"] * 1e6)
    assert "litellm" in found.source
    assert found.of(2_000_000, 1_000_000) == pytest.approx(2 * found.input + found.output)


def test_another_providers_model_of_that_name_has_no_price() -> None:
    assert price_of("my-own/gpt-5-mini") is None
    assert price_of("gpt-5-mini") is not None


def test_what_the_first_table_lacks_is_looked_up_in_dspys() -> None:
    dspys, first = _prices._table("dspy", _prices._TABLES[1][1]), table()
    only = next(m for m in sorted(dspys) if m not in first and _prices._priced(m, dspys))
    found = price_of(only)
    assert found is not None
    assert "dspy" in found.source


def test_what_nobody_prices_is_unknown() -> None:
    assert price_of("nobody/nothing") is None
    assert price_of("offline/exemplar") is None


def test_an_entry_without_prices_of_tokens_is_unknown() -> None:
    assert _prices._priced("a/b", {"a/b": {"input_cost_per_token": "dear", "output_cost_per_token": 1}}) is None
    assert _prices._priced("a/b", {"a/b": {"input_cost_per_token": 1e-6}}) is None
    assert _prices._priced("a/b", {"a/b": "no entry"}) is None
    assert _prices._priced("a/b", {"a/b": {"input_cost_per_token": -1, "output_cost_per_token": 1}}) is None


def test_the_users_own_price_goes_before_the_table_until_it_is_forgotten() -> None:
    listed = price_of("openai/gpt-5-mini")
    set_price("openai/gpt-5-mini", input=1, output=3.5)
    assert price_of("openai/gpt-5-mini") == Price(1.0, 3.5, "set_price")
    set_price("openai/gpt-5-mini", input=None)
    assert price_of("openai/gpt-5-mini") == listed
    set_price("mine/own", input=0, output=0)
    assert price_of("mine/own") == Price(0.0, 0.0, "set_price")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"input": -1, "output": 1}, "input=-1"),
        ({"input": 1}, "output=None"),
        ({"input": None, "output": 1}, "input=None"),
        ({"input": 1, "output": float("nan")}, "output=nan"),
        ({"input": True, "output": 1}, "input=True"),
        ({"input": "1", "output": 1}, "input='1'"),
    ],
)
def test_what_is_no_price_is_refused_and_changes_nothing(given: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        set_price("openai/gpt-5-mini", **given)  # type: ignore[arg-type]
    assert not _prices._own


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no model"):
        set_price("", input=1, output=1)


def test_a_package_that_is_not_installed_has_no_table(tmp_path: Path) -> None:
    assert _prices._table.__wrapped__("no_such_package_at_all", "x.json") == {}
    assert _prices._table.__wrapped__("litellm", "no_such_file.json") == {}


def test_no_package_is_loaded_for_it() -> None:
    code = (
        "import sys, dspex_lab.lms as l; assert l.price_of('openai/gpt-5-mini') and l.price_of('no/thing') is None; "
        "print([m for m in ('litellm', 'dspy', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
