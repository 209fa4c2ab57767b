"""What is said when a call is refused."""

from __future__ import annotations

from dspex_lab.lms.budget._estimate import Estimate
from dspex_lab.lms.budget._snapshot import Snapshot, count, money


def refused(limit: str, by_held: bool, what: Estimate, now: Snapshot) -> tuple[str, str]:
    """Return what is said of a refusal, and what to do about it.

    Args:
        limit: the limit that stands in the way, or ``"price"``.
        by_held: the call would fit if nothing were held.
        what: the call's estimate.
        now: how the ledger that refuses stands.
    """
    whose, model = now.name, what.model
    if limit == "price":
        return (
            f"The budget of {whose} is in money ({money(now.budget.cost or 0)}), and nobody says what {model!r} costs, so it "
            "was not called.",
            f"Say it: dx.set_price({model!r}, input=..., output=...), in US dollars per million tokens (0 for a model of your "
            "own), or limit tokens or calls instead.",
        )
    asked = {"money": money(what.cost or 0), "tokens": count(what.tokens, "token"), "calls": "1 call"}[limit]
    of, spent, held = {
        "money": (money(now.budget.cost or 0), money(now.spent.cost), money(now.held.cost)),
        "tokens": (count(now.budget.tokens or 0, "token"), f"{now.spent.tokens:,}", f"{now.held.tokens:,}"),
        "calls": (count(now.budget.calls or 0, "call"), f"{now.spent.calls:,}", f"{now.held.calls:,}"),
    }[limit]
    under_way = f" and {held} held by {count(now.under_way, 'call')} under way" if now.under_way else ""
    needs = "at most" if what.bounded else "about"
    message = (
        f"The budget of {whose} does not allow this call of {model!r}: of {of} there {'is' if of[0] == '$' else 'are'} "
        f"{spent} spent{under_way}, and the call could take {asked if limit == 'calls' else f'{needs} {asked}'}."
    )
    hints = ["Raise the budget"]
    if by_held:
        hints.insert(0, "Wait for the calls under way")
    if limit != "calls":
        hints.append("take a cheaper model" if limit == "money" else "shorten the prompt")
        if not what.bounded:
            hints.append("set max_tokens, which bounds what a call can take")
    return message, ", or ".join(hints) + "."
