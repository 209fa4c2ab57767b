"""What the tests of budgets share: a price, a call and what it used."""

from __future__ import annotations

from typing import Any

from dspex_lab.lms.budget import Estimate
from dspex_lab.lms.choice._prices import Price

PRICE = Price(1.0, 2.0, "test")  # a millionth of a dollar a token sent, two a token answered


def call(prompt: int = 100, answer: int = 50, **more: Any) -> Estimate:
    more = {"price": PRICE, "cost": PRICE.of(prompt, answer), **more}
    return Estimate("test/model", prompt, answer, **more)


def used(prompt: int = 100, answer: int = 50) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer}
