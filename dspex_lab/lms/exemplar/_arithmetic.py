"""A small safe arithmetic: expressions in a text, sums put in words, formulas, and patterns that examples show.

Expressions are parsed to Python's syntax tree and only numbers, named values, ``+ - * / // % **`` and a few functions
are evaluated; length, depth and size of powers are capped, so no text can keep it busy.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

#: Characters of an expression that are read at most; no honest sum in a prompt is longer.
_LONGEST = 400
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_EXPRESSION = re.compile(r"(?<![\w.])[-(]{0,20}\d[\d\s.()+*/×÷^%-]{0,200}[+*/×÷^%-]\s{0,5}[\d\s.()+*/×÷^%-]{0,200}\d\){0,20}")
_SPOKEN = (
    (re.compile(r"%\s+of\s+(?=\d)", re.I), " / 100 * "),
    (re.compile(r"(?<=\d)\s+percent\s+of\s+(?=\d)", re.I), " / 100 * "),
    (re.compile(r"(?<=[\d)])\s+(?:plus|added to|and then add)\s+(?=[-(\d])", re.I), " + "),
    (re.compile(r"(?<=[\d)])\s+minus\s+(?=[-(\d])", re.I), " - "),
    (re.compile(r"(?<=[\d)])\s+(?:times|multiplied by|x)\s+(?=[-(\d])", re.I), " * "),
    (re.compile(r"(?<=[\d)])\s+(?:divided by|over)\s+(?=[-(\d])", re.I), " / "),
    (re.compile(r"(?<=[\d)])\s+(?:modulo|mod)\s+(?=[-(\d])", re.I), " % "),
    (re.compile(r"(?<=[\d)])\s+(?:to the power of|raised to)\s+(?=[-(\d])", re.I), " ** "),
    (re.compile(r"(?<=\d)\s+squared\b", re.I), " ** 2"),
    (re.compile(r"(?<=\d)\s+cubed\b", re.I), " ** 3"),
)
_OVER_ALL = re.compile(
    r"\b(sum|total|product|difference|average|mean|maximum|minimum|largest|smallest)\s+(?:of|between)\s+", re.I
)
_ROOT = re.compile(rf"\bsquare root of\s+({_NUMBER})", re.I)
_SUBTRACT = re.compile(rf"\bsubtract\s+({_NUMBER})\s+from\s+({_NUMBER})", re.I)
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve"
_COUNT_WORDS = {word: float(i) for i, word in enumerate(_SMALL.split())}
_QUANTITY = re.compile(rf"(?<![\w.])(?<!\w-)(?:[-+](?=\d))?({_NUMBER})(?!\w)|\b({'|'.join(_COUNT_WORDS)})\b", re.I)
_FORMULA = re.compile(r"\b(\w+)\s*=\s*([\w\s.()+*/%-]{3,200})")

_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "sqrt": math.sqrt,
    "min": min,
    "max": max,
    "sum": lambda *values: math.fsum(values),
    "mean": lambda *values: math.fsum(values) / len(values),
    "round": lambda value, digits=0: round(value, int(digits)),
}
#: The plain operations looked for in examples, by how many numbers there are; simpler ones first.
PATTERNS: dict[int, tuple[str, ...]] = {
    1: ("a * 2", "a / 2", "a", "a + 1", "a - 1", "a ** 2"),
    2: ("a + b", "a - b", "a * b", "a / b", "b - a", "b / a", "a * b / 100", "a - a * b / 100", "a + a * b / 100"),
    3: (
        "a + b + c",
        "a - b - c",
        "a + b - c",
        "a - b + c",
        "a * b * c",
        "a * b + c",
        "a * b - c",
        "a + b * c",
        "a - b * c",
        "(a + b) * c",
        "(a - b) * c",
        "(a + b) / c",
        "(a - b) / c",
        "a * b / c",
        "a / b * c",
        "a * (b + c)",
        "a * (b - c)",
        "a * c + b",
    ),
    4: ("a + b + c + d", "a * b + c * d", "a * b - c * d", "a - b - c - d", "a * b * c * d", "a * b + c - d"),
}


def evaluate(source: str, values: Mapping[str, float] | None = None) -> float:
    """Return the value of an expression.

    Args:
        source: numbers, names of ``values``, operators, parentheses, ``sqrt`` and its like.

    Raises:
        ValueError: it is none, is too large to be evaluated, or has no real finite value.
    """
    if len(source) > _LONGEST:
        raise ValueError(f"an expression of {len(source)} characters is too long")
    plain = source.replace("×", "*").replace("÷", "/").replace("^", "**").replace("−", "-")
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", plain).strip()
    try:
        value = float(_value(ast.parse(plain, mode="eval").body, values or {}))
    except (SyntaxError, TypeError, ZeroDivisionError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"no arithmetic: {source!r}") from error
    if not math.isfinite(value):
        raise ValueError(f"no finite value: {source!r}")
    return value


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand, values)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, values), _value(node.right, values)
        if isinstance(node.op, ast.Pow) and (abs(left) > 1e6 or abs(right) > 64):
            raise ValueError("power too large")
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords:
        return _FUNCTIONS[node.func.id](*(_value(argument, values) for argument in node.args))
    raise ValueError("no arithmetic")


def expression_in(text: str) -> str | None:
    """Return the first expression in ``text`` as Python writes it, also one put in words; None if there is none."""
    if not any(sign.isdigit() for sign in text):
        return None
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    if root := _ROOT.search(plain):
        return f"sqrt({root.group(1)})"
    if taken := _SUBTRACT.search(plain):
        return f"{taken.group(2)} - {taken.group(1)}"
    for pattern, sign in _SPOKEN:
        plain = pattern.sub(sign, plain)
    for match in _EXPRESSION.finditer(plain):
        source = match.group().replace("×", "*").replace("÷", "/").replace("^", "**").strip()
        if re.fullmatch(r"[\d\s./-]+", source) and not re.search(r"\s[-/]\s", source):
            continue  # a date, a telephone number or a code, not a sum
        if not _is_expression(source):
            return None
        return " ".join(source.split())
    return _over_all(plain)


def _is_expression(source: str) -> bool:
    try:
        evaluate(source)
    except ValueError:
        return False
    return True


def _over_all(text: str) -> str | None:
    """Return the expression for ``the sum of 3, 4 and 5`` and its like."""
    said = _OVER_ALL.search(text)
    if said is None:
        return None
    found = [f"{n:g}" for n in quantities(re.split(r"[.?!;](?:\s|$)", text[said.end() :], maxsplit=1)[0])]
    if len(found) < 2:
        return None
    word = said.group(1).lower()
    if word in ("sum", "total"):
        return " + ".join(found)
    if word == "product":
        return " * ".join(found)
    if word == "difference":
        return f"abs({found[0]} - {found[1]})"
    name = {"average": "mean", "mean": "mean", "maximum": "max", "largest": "max"}.get(word, "min")
    return f"{name}({', '.join(found)})"


def calculate(text: str) -> float | None:
    """Return the value of the first arithmetic expression in ``text``: in signs, or put in words."""
    source = expression_in(text)
    return evaluate(source) if source is not None else None


def quantities(text: str) -> list[float]:
    """Return the numbers of ``text`` in order; small ones may be written as words."""
    found = []
    for match in _QUANTITY.finditer(text):
        number, word = match.groups()
        value = float(number.replace(",", "")) if number else _COUNT_WORDS[word.lower()]
        if math.isfinite(value):
            found.append(-value if match.group().startswith("-") else value)
    return found


def formula(name: str, text: str, values: Mapping[str, float]) -> tuple[float, str] | None:
    """Return the value of the formula that ``text`` gives for the field ``name`` in terms of ``values``, with the formula."""
    for match in _FORMULA.finditer(text):
        if match.group(1) != name:
            continue
        source = re.split(r"\.(?:\s|$)", match.group(2), maxsplit=1)[0].strip(" .")
        while source and source[-1] not in "+-*/%(":  # the sentence may go on after it, but not within it
            try:
                return evaluate(source, values), source
            except ValueError:
                source = source.rpartition(" ")[0].strip()
    return None


def by_pattern(
    shown: Sequence[tuple[Sequence[float], float]], weights: Sequence[float], asked: Sequence[float]
) -> tuple[float, str] | None:
    """Return what the operation that the examples show gives for ``asked``, with that operation.

    Args:
        shown: the numbers of each example's text, and its value.
        weights: how much each example counts.
        asked: the numbers of the question.

    None unless one plain operation explains most examples with as many numbers.
    """
    same = [
        (numbers, value, weight) for (numbers, value), weight in zip(shown, weights, strict=True) if len(numbers) == len(asked)
    ]
    total = sum(weight for _, _, weight in same)
    best: tuple[float, str] | None = None
    for pattern in PATTERNS.get(len(asked), ()):
        fitting = sum(weight for numbers, value, weight in same if _gives(pattern, numbers, value))
        if fitting >= 0.6 * total > 0 and (best is None or fitting > best[0]):
            best = fitting, pattern
    if best is None:
        return None
    try:
        return evaluate(best[1], dict(zip("abcd", asked, strict=False))), _filled(best[1], asked)
    except ValueError:
        return None


def _gives(pattern: str, numbers: Sequence[float], value: float) -> bool:
    try:
        found = evaluate(pattern, dict(zip("abcd", numbers, strict=False)))
    except ValueError:
        return False
    return math.isclose(found, value, rel_tol=1e-4, abs_tol=1e-6)


def _filled(pattern: str, numbers: Sequence[float]) -> str:
    return "".join(f"{numbers['abcd'.index(sign)]:g}" if sign in "abcd" else sign for sign in pattern)
