"""What is said of settings of pools that make no sense, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest
from config_helpers import NO_FILE, every, settled
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import default_spec, settle
from dspex_lab.pools._checks import SETTINGS


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ({"general": {"worker": 3}}, "pools.general has no setting 'worker'. Did you mean 'workers'?"),
        ({"general": {"workers": "3"}}, "pools.general.workers is '3'. Expected: a whole number, at least 1"),
        ({"general": {"memory": "5 parsecs"}}, "pools.general.memory is '5 parsecs'. Expected: a size such as"),
        ({"general": {"memory": "10MB"}}, "pools.general.memory is '10MB'. Expected: a whole number, at least 384,000,000"),
        ({"general": {"patience": "soon"}}, "pools.general.patience is 'soon'. Expected: seconds, or a time"),
        ({"general": {"recycle": 3}}, "pools.general.recycle is 3. Expected: a table of memory, age and calls"),
        ({"general": {"recycle": {"ages": 3}}}, "pools.general.recycle has no setting 'ages'. Did you mean 'age'?"),
        ({"general": {"recycle": {"age": "never"}}}, "pools.general.recycle.age is 'never'"),
        ({"general": {"recycle": {"memory": "2GB"}}}, "recycle.memory is 2000000000. Expected: at most the 512 MB"),
        ({"general": {"stuck_after": 1}}, "stuck_after is 1.0. Expected: at least the heartbeat"),
        ({"general": 4}, "pools has no setting 'general'"),
        ({"workers": 4}, "pools.workers is 4. Expected: the table of a pool around it"),
        ({"<b>": {"workers": 4}}, "pools.name is '<b>'"),
        ({7: {"workers": 4}}, "pools.name is '7'"),
        ({"genral": {"workers": 4}}, "Pool 'genral' has no memory. Did you mean 'general'?"),
        ({"mine": {}}, "Pool 'mine' has no workers and no memory."),
        ({"writable": ["/"], "general": {}}, "pools.writable is ['/']"),
        ({"address": "tcp://host:8786"}, "pools.address is 'tcp://host:8786'. Expected: tls://HOST:PORT"),
        ({"address": "tls://host:99999"}, "pools.address is"),
        ({"address": 7}, "pools.address is 7"),
        ({"address": "tls://host:8786"}, "tls_ca is not set"),
        ({"neural": {"gpus": ["7"]}}, "pools.neural.gpus is ['7']. Expected: ids of GPUs of this machine (there is: none)"),
        (["general"], "Config(pools=) is 'list'"),
        ({"general": {"environment": {"KEY": 3}}}, "pools.general.environment is ['KEY']"),
        ({"x" * 500: 3}, "pools has no setting"),
    ],
)
def test_each_bad_value_of_code_is_named(code: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        every(settle(code, environment={}, file=NO_FILE))
    assert said in str(caught.value)
    assert caught.value.key
    assert caught.value.hint
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("WORKERS", "many"),
        ("WORKERS", "0"),
        ("WORKERS", "-2"),
        ("WORKERS", "1.5"),
        ("WORKERS", "9" * 30),
        ("MEMORY", "lots"),
        ("MEMORY", "5 parsecs"),
        ("MEMORY", "10MB"),
        ("CONFINE", "perhaps"),
        ("PATIENCE", "soon"),
        ("PATIENCE", "0"),
        ("WRITABLE", "/"),
        ("PRELOAD", "os; x"),
        ("RECYCLE_AGE", "never"),
        ("RECYCLE_MEMORY", "1MB"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, key: str, text: str) -> None:
    monkeypatch.setenv(f"DSPEX_POOL_GENERAL_{key}", text)
    with pytest.raises(ConfigurationError, match=f"DSPEX_POOL_GENERAL_{key} is ") as caught:
        default_spec()
    assert caught.value.key == f"DSPEX_POOL_GENERAL_{key}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("DSPEX_POOL_GENERAL_WORKER", "Did you mean 'DSPEX_POOL_GENERAL_WORKERS'"),
        ("DSPEX_POOL_GENERAL_ENVIRONMENT", "is no setting of the pools"),
        ("DSPEX_POOLS_ADRESS", "Did you mean 'DSPEX_POOLS_ADDRESS'"),
        ("DSPEX_POOL_GENRAL_WORKERS", "Pool 'genral' has no memory. Did you mean 'general'"),
        ("DSPEX_POOL_9_WORKERS", "The pool of DSPEX_POOL_9_WORKERS is '9'"),
    ],
)
def test_a_variable_that_is_none_is_told_with_what_is_near(variable: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled(environment={variable: "1"})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pools.general]\nworker = 3", "line 2, [pools.general]: 'worker' is no setting. Did you mean 'workers'?"),
        ("[pools.general]\n\nworkers = 0", "line 3, [pools.general]: workers is 0. Expected: a whole number"),
        ("[pools.general]\nmemory = '5 parsecs'", "line 2, [pools.general]: memory is '5 parsecs'"),
        ("[pools.general]\nrecycle = {age = 0}", "line 2, [pools.general.recycle]: recycle.age is 0"),
        ("[pools.general.recycle]\nages = 1", "line 2, [pools.general.recycle]: 'ages' is no setting"),
        ("[pools]\nadress = 'x'", "line 2, [pools]: 'adress' is no setting. Did you mean 'address'?"),
        ("[pools]\nworkers = 3", "line 2, [pools]: workers is 3"),
        ("[pools]\naddress = 'http://x'", "line 2, [pools]: address is 'http://x'"),
        ("pools = 3", "line 1: pools is '3'"),
        ("[pools.general]\nwritable = [3]", "writable is [3]"),
        ("[pools.general]\nwritable = 'here'", "writable is '"),
    ],
)
def test_each_bad_value_of_a_file_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled(file=text)
    assert said in str(caught.value)
    assert caught.value.line
    assert caught.value.excerpt()


def test_a_key_in_an_environment_is_never_told() -> None:
    secret = "sk-very-secret-0123456789"  # noqa: S105 - it is none
    for text in (f"[pools.general]\nenvironment = {{A-KEY = '{secret}'}}", f"[pools.general.environment]\nKEY = ['{secret}']"):
        with pytest.raises(ConfigurationError) as caught:
            settled(file=text)
        assert secret not in str(caught.value) + repr(caught.value.actual)
    with pytest.raises(ConfigurationError) as caught:
        settled({"general": {"environment": {"A-KEY": secret}}})
    assert secret not in str(caught.value) + repr(vars(caught.value))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([*SETTINGS, "recycle", "address", "name"])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["general", "neural", "mine", "address", "writable"]), st.dictionaries(keys, values) | values
    )
)
def test_any_table_is_settled_or_refused_by_name(table: dict[str, Any]) -> None:
    refused: ConfigurationError | None = None
    try:
        for made in every(settle(table, environment={}, file=NO_FILE)):
            assert made.workers >= 1
            assert made.scaling.endswith(".")
    except ConfigurationError as error:
        refused = error
    if refused is not None:
        assert refused.key
        assert len(str(refused)) < 2_000


@given(
    st.dictionaries(
        st.sampled_from(["WORKERS", "MEMORY", "PATIENCE", "GPUS", "CONFINE", "RECYCLE_AGE", "WRITABLE"]), st.text(max_size=20)
    )
)
def test_any_variable_is_read_or_refused_by_name(said: dict[str, str]) -> None:
    refused: ConfigurationError | None = None
    try:
        every(settle(environment={f"DSPEX_POOL_GENERAL_{key}": text for key, text in said.items()}, file=NO_FILE))
    except ConfigurationError as error:
        refused = error
    if refused is not None:
        assert "DSPEX_POOL_GENERAL_" in str(refused.key) or "pools.general" in str(refused.key)
