"""Secrets are masked, and nothing else is."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.security import MASK, Redactor, holds_secret, may_hold_secret, redact

DIGITS = "0123456789"
SECRETS = [
    "sk-" + "aB3" * 8,
    "sk-proj-" + "xY7_" * 10,
    "sk-ant-api03-" + "q9Z-" * 12,
    "AKIA" + "ABCDEFGH" + DIGITS[:8],
    "ASIA" + "ABCDEFGH" + DIGITS[:8],
    "AIza" + "Sy" + "a1B2c3D4" * 5,
    "ghp_" + "a1B2c3D4" * 5,
    "github_pat_" + "a1B2c3D4" * 5,
    "hf_" + "aBcDeFgH" * 4,
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "frame", ["{}", "my key is {}, keep it", "({})", "key={}", "line\n{}\nline", "x\\n{}", "\\u0000{}", "a/{}/b", "'{}'"]
)
def test_keys_of_known_shapes_are_masked_wherever_they_stand(secret: str, frame: str) -> None:
    text = frame.format(secret)
    assert redact(text) == frame.format(MASK)
    assert may_hold_secret(text)


@pytest.mark.parametrize("secret", SECRETS)
def test_json_with_a_key_stays_json(secret: str) -> None:
    value = {"messages": [{"role": "user", "content": f'use\n{secret} and "{secret}"\t{secret}'}], "n": 1}
    for text in (json.dumps(value), json.dumps({"inner": json.dumps(value)})):
        masked = redact(text)
        assert secret not in masked
        json.loads(masked)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abcdefgh12345678", f"Authorization: Bearer {MASK}"),
        ("authorization: bearer eyJhbGciOi.J9.x-y_z", f"authorization: bearer {MASK}"),
        ("api_key=hunter2hunter2", f"api_key={MASK}"),
        ("OPENAI_API_KEY='hunter2hunter2'", f"OPENAI_API_KEY='{MASK}'"),
        ("apikey = hunter2, next", f"apikey = {MASK}, next"),
        ('{"api_key": "hunter2"}', f'{{"api_key": "{MASK}"}}'),
        ('{"x-api-key":"hunter2","a":1}', f'{{"x-api-key":"{MASK}","a":1}}'),
        ('"{\\"client_secret\\": \\"hunter2\\"}"', f'"{{\\"client_secret\\": \\"{MASK}\\"}}"'),
        ("password=hunter2&user=me", f"password={MASK}&user=me"),
        ("api_key: abc123def456ghi", f"api_key: {MASK}"),
        ("postgres://me:hunter2@host:5432/db", f"postgres://me:{MASK}@host:5432/db"),
        ("redis://:hunter2@host", f"redis://:{MASK}@host"),
    ],
)
def test_assignments_bearer_tokens_and_urls(text: str, masked: str) -> None:
    assert redact(text) == masked
    assert may_hold_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "My card never came; I forgot my password: reset it please.",
        "question: str, password: str -> answer: str",
        "api_key=None",
        '{"api_key": null, "prompt_tokens": 12, "token": "cat"}',
        "a task-specific risk-averse sk-learn-contrib-package-name",
        "https://example.org:8080/path?q=1",
        "ask-me-1-thing-about-2-keys",
        "see http://host/a@b",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_private_keys_go_whole_also_without_their_end() -> None:
    body = "MIIEvQIBADANBg" * 4
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a {pem} b") == f"a {MASK} b"
    assert body not in redact(pem[:60])
    cut = json.dumps({"key": pem[:60], "after": "kept"})
    assert json.loads(redact(cut)) == {"key": MASK, "after": "kept"}


def test_values_of_secret_variables_are_masked_from_the_moment_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the answer is plain-looking-value"
    assert redact(text) == text
    assert not may_hold_secret(text)
    monkeypatch.setenv("ACME_API_KEY", "plain-looking-value")
    assert redact(text) == f"the answer is {MASK}"
    assert may_hold_secret(text)


def test_a_redactor_knows_the_environment_of_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Redactor()
    monkeypatch.setenv("ACME_API_KEY", "plain-looking-value")
    assert before("plain-looking-value") == "plain-looking-value"
    assert Redactor()("plain-looking-value") == MASK


@pytest.mark.parametrize("name", ["A_API_KEY", "A_TOKEN", "A_SECRET", "A_PASSWORD", "a_token"])
def test_which_variables_are_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "eight888")
    assert redact("x eight888 y") == f"x {MASK} y"


def test_short_values_and_other_variables_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "yes")
    monkeypatch.setenv("A_COLOUR", "chartreuse")
    assert redact("yes, chartreuse") == "yes, chartreuse"


def test_a_secret_variable_with_quotes_is_found_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    value = 'pä"ss\\word'
    monkeypatch.setenv("A_PASSWORD", value)
    for text in (json.dumps({"x": value}), json.dumps({"x": value}, ensure_ascii=False)):
        assert json.loads(redact(text)) == {"x": MASK}


@settings(deadline=None)
@given(st.text(), st.sampled_from(SECRETS), st.text())
def test_redacting_twice_changes_nothing_more(before: str, secret: str, after: str) -> None:
    once = redact(f"{before} {secret} {after}")
    assert secret not in once
    assert redact(once) == once


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_json_stays_json(value: object) -> None:
    json.loads(redact(json.dumps(value)))


@settings(deadline=None)
@given(st.text())
def test_what_may_hold_no_secret_is_not_changed(text: str) -> None:
    if not may_hold_secret(text):
        assert redact(text) == text


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_secret_in_a_pickle_is_found_whatever_its_length(secret: str, protocol: int) -> None:
    for more in range(90):
        longer = secret + "7" * more
        for value in (longer, longer.encode(), {"key": longer}, [pickle.dumps(longer, protocol)]):
            assert holds_secret(pickle.dumps(value, protocol)) is redact(f" {longer} ").startswith(f" {MASK}"), (more, value)
    assert not holds_secret(pickle.dumps(["task-related", "a mask-1 and risk-22-for-everybody", "Bearer"], protocol))
