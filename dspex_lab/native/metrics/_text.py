"""Texts made comparable: the normalisation of SQuAD, and words."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Any

from dspex_lab.native.metrics._values import as_text

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
#: Chinese and Japanese are written without spaces: each of their characters is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def normalise(value: Any) -> str:
    """Return ``value`` as text in lower case, without ASCII punctuation, English articles and surplus space.

    ``normalize_answer`` of SQuAD's ``evaluate-v1.1.py`` and ``evaluate-v2.0.py`` (Rajpurkar et al. 2016, 2018), after the
    text was brought to Unicode's composed form (NFC), so that two spellings of "é" are one. DSPy's ``normalize_text`` takes
    the decomposed form instead and so takes "à" for the article "a" with something behind it, and "thé" for "the".
    """
    text = unicodedata.normalize("NFC", as_text(value)).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def words(value: Any) -> list[str]:
    """Return the words of ``value`` in lower case: runs of letters and digits, and each Chinese or Japanese character.

    On ASCII text these are the tokens of the library ``rouge-score`` without stemming; of other letters that library
    knows nothing and drops them.
    """
    return _WORD.findall(unicodedata.normalize("NFC", as_text(value)).lower())
