"""Masking of secrets in text: keys of known shapes, assignments, URLs with passwords, private keys, secret variables.

Works on plain text and on serialised JSON alike: a key may follow an escaped line end (``\\n``), and quotes round an
assignment may be escaped because the text is JSON within JSON. What is masked is the secret alone, so the rest stays
readable and JSON stays valid.
"""

from __future__ import annotations

import json
import os
import re

#: What stands where a secret was.
MASK = "[redacted]"

#: A variable of the environment with such a name holds a secret.
SECRET_SUFFIXES = ("_KEY", "_APIKEY", "_TOKEN", "_TOKEN_BEDROCK", "_SECRET", "_PASSWORD")

#: A shorter value of such a variable is not searched for: it would mask ordinary words.
SHORTEST_SECRET = 8

# A token starts where no letter or digit stands before it, or right after a control character that JSON escaped.
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4}))"
_QUOTE = r"\\*[\"']"
_NAME = (
    r"(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|client[_-]?secret|"
    r"access[_-]?token|auth[_-]?token|refresh[_-]?token|passwd|password)"
)
_NAME_LITERALS = (
    *(f"{owner}{dash}key" for owner in ("api", "access", "secret", "private") for dash in ("", "_", "-")),
    *(f"{owner}{dash}token" for owner in ("access", "auth", "refresh") for dash in ("", "_", "-")),
    *(f"client{dash}secret" for dash in ("", "_", "-")),
    "passwd",
    "password",
)
#: One of these is in each of them, and few texts have any: they are looked for first.
_NAME_ROOTS = ("key", "token", "secret", "passw")
_NOTHING = r"(?!(?:None|null|true|false|undefined)\b)"

# Each pattern stands beside the lower-case literals without one of which it cannot match: searching a text for a
# literal costs a hundredth of running the pattern over it.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (
        ("private key",),
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|(?=\\*[\"'])|\Z)"),
        MASK,
    ),
    # OpenAI, Anthropic and the many that imitate them; a digit is asked for, so that hyphenated words are left alone.
    (("sk-",), re.compile(_START + r"sk-(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{12,}"), MASK),
    (("akia", "asia"), re.compile(_START + r"A(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9])"), MASK),
    (("aiza",), re.compile(_START + r"AIza[A-Za-z0-9_-]{30,}"), MASK),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(_START + r"(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{16,}"),
        MASK,
    ),
    (("hf_",), re.compile(_START + r"hf_[A-Za-z0-9]{16,}"), MASK),
    (("bearer",), re.compile(r"(?i)(" + _START + r"bearer\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\1" + MASK),
    (("://",), re.compile(r"(://[^\s/:@\"'\\]*:)[^\s/@\"'\\]+(?=@)"), r"\1" + MASK),
    # name=value and "name": "value"; a bare `name: word` is prose or a type, unless it is long and has a digit.
    (
        _NAME_LITERALS,
        re.compile(
            rf"(?i)({_NAME}(?:{_QUOTE})?\s*(?:=\s*(?:{_QUOTE})?|:\s*{_QUOTE})){_NOTHING}[^\s\"'\\,;&<>()\[\]{{}}]{{4,}}"
        ),
        r"\1" + MASK,
    ),
    (
        _NAME_LITERALS,
        re.compile(rf"(?i)({_NAME}\s*:\s*)(?=[^\s\"'\\,;]*\d)[^\s\"'\\,;&<>()\[\]{{}}]{{12,}}"),
        r"\1" + MASK,
    ),
)

#: What begins a token, by the literals of its pattern.
_TOKENS = "|".join(re.escape(each) for literals, pattern, _ in _PATTERNS if _START in pattern.pattern for each in literals)
#: The length of what begins with a token, in a pickle: of a text, or of bytes; of a long one the last byte is 0.
_LENGTH = re.compile(rf"[\x8cC][\s\S](?=(?i:{_TOKENS}))")


def _is_in(lowered: str, literals: tuple[str, ...]) -> bool:
    if literals is _NAME_LITERALS and not any(root in lowered for root in _NAME_ROOTS):
        return False
    return any(literal in lowered for literal in literals)


def _secrets_of_environment() -> list[str]:
    return [
        value for name, value in os.environ.items() if name.upper().endswith(SECRET_SUFFIXES) and len(value) >= SHORTEST_SECRET
    ]


def _spellings(secret: str) -> set[str]:
    """Return the secret as it stands in plain text and in both ways JSON may write it."""
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}


class Redactor:
    """Masks secrets in many texts; what :func:`redact` does, with the environment read once, when it is made.

    Make one per batch and not one for good: a key is often set in a cell, after the Lab was made. Thread-safe.
    """

    def __init__(self) -> None:
        spellings = {spelling for secret in _secrets_of_environment() for spelling in _spellings(secret)}
        self._secrets = sorted(spellings, key=len, reverse=True)

    def may_hold(self, text: str) -> bool:
        """Return False only where masking would change no part of ``text``; many texts may be joined with line ends."""
        lowered = text.lower()
        if any(_is_in(lowered, literals) for literals, _, _ in _PATTERNS):
            return True
        return any(secret in text for secret in self._secrets)

    def __call__(self, text: str) -> str:
        """Return ``text`` with its secrets masked."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        lowered = text.lower()
        for literals, pattern, replacement in _PATTERNS:
            if _is_in(lowered, literals):
                text = pattern.sub(replacement, text)
        return text


def holds_secret(data: bytes) -> bool:
    """Say whether bytes, a pickle for instance, hold a secret that :func:`redact` would mask if it stood in a text.

    In a pickle the length of a text or of bytes stands right before it, as a byte that may look like a letter or a digit.
    """
    text, mask = data.decode("latin-1"), Redactor()
    if not mask.may_hold(text):
        return False
    if mask(text) != text:
        return True
    apart = _LENGTH.sub(r"\g<0>\n", text)
    return len(apart) > len(text) and mask(apart) != apart


def redact(text: str) -> str:
    """Return ``text`` with the secrets in it replaced by :data:`MASK`.

    Masked are API keys (``sk-…``, ``sk-ant-…``, ``AKIA…``, ``AIza…``, ``ghp_…`` and kin, ``hf_…``), bearer tokens, values
    assigned to names such as ``api_key``, ``access_token`` or ``password`` (``name=value``, ``"name": "value"``), passwords
    in URLs, PEM private keys, and the values, of at least 8 characters, of environment variables whose name ends in
    ``_KEY``, ``_APIKEY``, ``_TOKEN``, ``_SECRET`` or ``_PASSWORD``. Text without a secret comes back unchanged, and a second
    pass changes nothing more. Valid JSON stays valid JSON.
    """
    return Redactor()(text)


def may_hold_secret(text: str) -> bool:
    """Return False only where :func:`redact` would change no part of ``text``."""
    return Redactor().may_hold(text)
