"""Keys are entered unseen, kept nowhere but in the environment, and never shown."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.errors
import pytest
from keyring.backends.fail import Keyring as NoKeyring
from keyring.backends.null import Keyring as NullKeyring
from model_helpers import KEY, Memory, keyring_in_memory, typed

from dspex_lab import ConfigurationError
from dspex_lab.lms.choice import _keys
from dspex_lab.lms.choice._keys import SERVICE, Keys, check_key
from dspex_lab.lms.choice._providers import accepted_variables, key_variables, known_providers


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    for provider in known_providers():
        for variable in accepted_variables(provider):
            os.environ.pop(variable, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def store() -> Iterator[Memory]:
    with keyring_in_memory() as made:
        yield made


@pytest.fixture
def keys() -> Keys:
    return Keys()


def told(error: BaseException) -> str:
    """Return everything that could be shown of an error."""
    shown = "\n".join(error._render_traceback_()) if isinstance(error, ConfigurationError) else ""
    chain = "".join(traceback.format_exception(error))
    return f"{shown}\n{chain}\n{error!r}\n{error.__dict__}"


def test_an_entered_key_is_in_the_environment_and_is_not_shown(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts = typed(monkeypatch, KEY)
    state = keys.enter("openai")
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert (state.provider, state.variable, state.source) == ("openai", "OPENAI_API_KEY", "entered here")
    assert prompts == ["Key of openai (OPENAI_API_KEY; it is not shown): "]
    shown = f"{state}{state!r}{keys!r}{keys()!r}{keys._repr_html_()}{vars(keys)}" + "".join(capfd.readouterr())
    assert not any(KEY[i : i + 4] in shown for i in range(3, len(KEY) - 3))
    assert "entered here" in shown


@pytest.mark.parametrize("name", ["openai", "OpenAI", " openai ", "openai/gpt-5-mini"])
def test_a_provider_is_found_by_its_name_however_it_is_written(keys: Keys, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    typed(monkeypatch, KEY)
    assert keys.enter(name).provider == "openai"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "nothing was given"),
        ("   ", "nothing was given"),
        ("sk-abc def-123456", "it has spaces"),
        (f" {KEY}", "it has spaces"),
        (f"{KEY}\n", "more than one line"),
        (f'"{KEY}"', "it has quotes"),
        (f"“{KEY}”", "it has quotes"),
        ("sk-...", "filled in"),
        ("sk-xxxxxxxxxxxxxxxx", "filled in"),
        ("your-api-key-here", "filled in"),
        ("YOUR_OPENAI_KEY", "filled in"),
        ("<put-it-in-there>", "filled in"),
        ("${OPENAI_API_KEY}", "filled in"),
        ("changeme", "filled in"),
        ("sk-********", "filled in"),
        ("OPENAI_API_KEY", "the name of the variable"),
        (f"OPENAI_API_KEY={KEY}", "the whole assignment"),
        ("sk-12", "too short"),
        ("sk-schlüssel-123456", "characters that no key has"),
        ("sk-abc\x00def123456", "characters that no key has"),
    ],
)
def test_what_cannot_be_a_key_is_refused_and_not_shown(keys: Keys, monkeypatch: pytest.MonkeyPatch, key: str, why: str) -> None:
    typed(monkeypatch, key)
    with pytest.raises(ConfigurationError, match=why) as caught:
        keys.enter("openai")
    assert "OPENAI_API_KEY" not in os.environ
    assert "Nothing was changed" in str(caught.value)
    if len(key.strip()) > 8 and key != "OPENAI_API_KEY":
        shown = "\n".join([*caught.value._render_traceback_(), str(caught.value.__dict__)])
        assert key.strip() not in shown
        assert KEY[4:] not in shown


@pytest.mark.parametrize(
    "key",
    [KEY, "sk-ant-api03-Ab_Cd-1234567890", "AIzaSyA1234567890abcdefghijklm", "gsk_0123456789abcdef", "0123456789abcdef" * 2],
)
def test_what_keys_look_like_is_taken(key: str) -> None:
    check_key(key, "OPENAI_API_KEY")


def test_a_key_of_another_provider_is_taken_and_said(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "sk-ant-api03-Ab_Cd-1234567890")
    assert "as the keys of anthropic do" in keys.enter("openai").source
    assert keys.enter("anthropic").source == "entered here"
    typed(monkeypatch, "AIzaSyA1234567890abcdefghijklm")
    assert "gemini" not in keys.enter("vertex-express").source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opnai", "Did you mean 'openai'"),
        ("nothing-such", "There is no provider 'nothing-such'"),
        ("ollama", "needs no key"),
        ("bedrock", "needs no key"),
        ("", "no name of a provider"),
        (3, "no name of a provider"),
    ],
)
def test_a_provider_that_takes_no_key_is_refused(keys: Keys, name: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        keys.enter(name)


@pytest.mark.parametrize("key", [KEY, "gsk_A1b2C3d4E5f6", "AIzaSyA1234567890", "abcd1234efgh", "hf_abcdefghijkl", "0123456789"])
def test_a_key_in_the_place_of_a_provider_is_not_repeated(keys: Keys, key: str) -> None:
    with pytest.raises(ConfigurationError, match="Was it a key") as caught:
        keys.enter(key)
    assert key not in told(caught.value)
    assert key.lower() not in told(caught.value)


def test_a_provider_with_other_ways_in_takes_a_key_too(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "xai-0123456789abcdef")
    assert key_variables("xai") == ()
    assert str(keys.enter("xai")) == "xai: XAI_API_KEY, entered here"


def test_every_provider_with_a_key_can_be_named(keys: Keys) -> None:
    assert {"openai", "ai21", "text-completion-openai", "watsonx"} <= set(keys.providers())
    assert all(_keys._provider(name)[0] == name for name in keys.providers())


@pytest.mark.parametrize("error", [EOFError, NotImplementedError, OSError])
def test_where_nobody_can_be_asked_that_is_said(keys: Keys, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refuse(prompt: str = "", stream: Any = None) -> str:
        raise error("no prompt")

    monkeypatch.setattr(getpass, "getpass", refuse)
    with pytest.raises(ConfigurationError, match=r"Nobody can be asked .*Set OPENAI_API_KEY") as caught:
        keys.enter("openai")
    assert isinstance(caught.value.__cause__, error)


def test_where_what_is_typed_would_be_seen_nothing_is_read() -> None:
    code = (
        "from dspex_lab.lms.choice._keys import Keys\n"
        "from dspex_lab import ConfigurationError\n"
        "try: Keys().enter('openai')\n"
        "except ConfigurationError as e: print('refused:', e)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=KEY, capture_output=True, text=True, start_new_session=True)
    assert "refused: Nobody can be asked" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_the_terminals_own_warning_stays_an_error_for_the_prompt_alone(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(prompt: str = "", stream: Any = None) -> str:
        warnings.warn("Can not control echo", getpass.GetPassWarning, stacklevel=2)
        return KEY

    monkeypatch.setattr(getpass, "getpass", seen)
    with pytest.raises(ConfigurationError, match="Nobody can be asked"):
        keys.enter("openai")
    assert "OPENAI_API_KEY" not in os.environ


# --- a file ------------------------------------------------------------------------------------------------------


def env(text: str) -> Path:
    path = Path("project.env")
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_the_key_of_a_provider_and_nothing_else(keys: Keys) -> None:
    path = env(f'# mine\nDEBUG=1\nOPENAI_API_KEY="{KEY}"\nexport GROQ_API_KEY=gsk_0123456789abcdef\n')
    found = keys.from_env_file(path, "openai")
    assert [str(s) for s in found] == ["openai: OPENAI_API_KEY, from project.env"]
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert "GROQ_API_KEY" not in os.environ
    assert "DEBUG" not in os.environ


def test_a_file_gives_all_keys_and_says_which_it_left_out(keys: Keys) -> None:
    path = env(
        f"OPENAI_API_KEY={KEY}\nANTHROPIC_API_KEY=your-key-here\nGOOGLE_API_KEY=AIzaSyA1234567890abcdef\nPATH=/nowhere\n"
    )
    before = os.environ["PATH"]
    found = keys.from_env_file(path)
    assert {s.provider for s in found} == {"openai", "gemini"}
    assert found.left_out == ("This is no key for ANTHROPIC_API_KEY: it stands for a key that was to be filled in.",)
    assert os.environ["PATH"] == before
    assert {s.provider for s in keys()} == {"openai", "gemini"}


def test_values_are_taken_as_they_are_written(keys: Keys) -> None:
    os.environ["OTHER_PART"] = "spliced"
    with pytest.raises(ConfigurationError, match="filled in"):
        keys.from_env_file(env("OPENAI_API_KEY=sk-${OTHER_PART}-0123456789"), "openai")


@pytest.mark.parametrize(
    ("text", "provider", "message"),
    [
        ("OTHER=1\n", "openai", "has no OPENAI_API_KEY; it has 1 other line of"),
        ("OTHER=1\nX=2\n", None, "no key of a provider"),
        ("OPENAI_API_KEY=\n", "openai", "has no OPENAI_API_KEY"),
        ("OPENAI_API_KEY=sk-...\n", "openai", "filled in"),
    ],
)
def test_a_file_without_the_key_is_said(keys: Keys, text: str, provider: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        keys.from_env_file(env(text), provider)


def test_a_file_that_cannot_be_read_is_said_without_its_content(keys: Keys) -> None:
    with pytest.raises(ConfigurationError, match=r"'\.env' does not exist"):
        keys.from_env_file(".env")
    Path("folder").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        keys.from_env_file("folder")
    Path("latin").write_bytes(f"OPENAI_API_KEY={KEY}\xff".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="cannot be read: UnicodeDecodeError") as caught:
        keys.from_env_file("latin")
    assert caught.value.__cause__ is None
    assert KEY not in "\n".join(caught.value._render_traceback_())


def test_a_line_that_is_no_assignment_is_not_repeated(keys: Keys) -> None:
    with pytest.raises(ConfigurationError) as caught:
        keys.from_env_file(env(f"{KEY}\n"))
    assert KEY not in told(caught.value)


# --- the keyring -------------------------------------------------------------------------------------------------


def test_a_keyring_keeps_a_key_and_gives_it_back(keys: Keys, store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.from_keyring("openai") is None
    typed(monkeypatch, KEY)
    keys.enter("openai")
    assert store.kept == {}, "it is kept where that was asked for"
    assert keys.keep("openai").source == "from the keyring"
    assert store.kept == {(SERVICE, "OPENAI_API_KEY"): KEY}

    assert keys.forget("openai") == ("OPENAI_API_KEY (environment)",)
    assert "OPENAI_API_KEY" not in os.environ
    state = keys.from_keyring("openai")
    assert state is not None
    assert state.source == "from the keyring"
    assert os.environ["OPENAI_API_KEY"] == KEY

    assert keys.forget("openai", keyring=True) == ("OPENAI_API_KEY (environment)", "OPENAI_API_KEY (keyring)")
    assert store.kept == {}
    assert keys.forget("openai", keyring=True) == ()


def test_a_key_that_is_not_there_cannot_be_kept(keys: Keys, store: Memory) -> None:
    with pytest.raises(ConfigurationError, match="has no key to be kept"):
        keys.keep("openai")


@pytest.mark.parametrize(
    ("backend", "message"), [(NoKeyring, "no keyring to keep a key in"), (NullKeyring, "took the key and did not keep it")]
)
def test_a_machine_without_a_keyring_says_so(keys: Keys, store: Memory, backend: Any, message: str) -> None:
    os.environ["OPENAI_API_KEY"] = KEY
    keyring.set_keyring(backend())
    with pytest.raises(ConfigurationError, match=message) as caught:
        keys.keep("openai")
    assert KEY not in told(caught.value)


def test_a_locked_keyring_is_said_without_its_words(keys: Keys, store: Memory) -> None:
    store.locked = True
    with pytest.raises(ConfigurationError, match="The keyring refused: KeyringLocked") as caught:
        keys.from_keyring("openai")
    assert KEY not in "\n".join([*caught.value._render_traceback_(), str(caught.value)])
    assert caught.value.__cause__ is None


def test_without_the_package_its_name_is_said(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="'keyring' is needed to keep keys"):
        keys.from_keyring("openai")


# --- what is there -----------------------------------------------------------------------------------------------


def test_the_keys_that_are_there_are_listed_once_each(keys: Keys) -> None:
    assert "No provider has a key" in repr(keys())
    os.environ["OPENAI_API_KEY"] = KEY
    os.environ["AZURE_API_KEY"] = KEY
    assert [(s.provider, s.source) for s in keys()] == [("azure", "from the environment"), ("openai", "from the environment")]
    assert "azure" in keys._repr_html_()


def test_neither_package_is_loaded_before_it_is_needed() -> None:
    code = "import sys, dspex_lab.lms.choice._keys; print([m for m in ('keyring', 'dotenv', 'dspy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
