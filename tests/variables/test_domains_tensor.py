"""Arrays of numbers by shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dspex_lab.errors import VariableError
from dspex_lab.variables import Tensor


def refusal(domain: Tensor, value: Any) -> str:
    with pytest.raises(VariableError) as caught:
        domain.cast(value, "w")
    return str(caught.value)


def test_a_tensor_takes_lists_and_arrays_and_is_its_own() -> None:
    given = np.ones((2, 3))
    found = Tensor((2, 3)).cast(given, "w")
    given[0, 0] = 7
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 5
    assert Tensor(2, "int8").cast([1, 2.0], "w").tolist() == [1, 2]


def test_a_tensor_takes_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    given = torch.tensor([1.5, 2.5], requires_grad=True)
    assert Tensor((2,), torch.float64).cast(given, "w").tolist() == [1.5, 2.5]
    assert Tensor((2,)).cast(given.to(torch.bfloat16), "w").tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2, 3], r"its shape is (2,), and this one's is (3,)"),
        ([1, float("nan")], "nan at [1] is no finite number. Allow it: nan=True."),
        ([1, float("inf")], "inf at [1] is no finite number"),
        ([1e300, 1], "at [0] is no float32"),
        ([1, 11], "11.0 at [1] is above its range, -∞ to 10.0"),
        (["a", "b"], "this is of <U1"),
        ([1 + 2j, 1], "complex128"),
        ([[1], [1, 2]], "and this is none"),
        ([None, 1], "object"),
    ],
)
def test_a_tensor_says_what_is_wrong_and_where(value: Any, said: str) -> None:
    assert said in refusal(Tensor((2,), high=10), value)


def test_whole_numbers_and_bools_are_not_rounded() -> None:
    assert "1.5 at [0] is no int32" in refusal(Tensor((1,), "int32"), [1.5])
    assert "300 at [0] is no int8" in refusal(Tensor((1,), "int8"), [300])
    assert "2 at [0] is no bool" in refusal(Tensor((1,), "bool"), [2])
    assert "-1.0 at [0] is below its range, 0.0 to ∞" in refusal(Tensor((1,), low=0), [-1])


def test_nan_is_allowed_by_name_and_equal_to_itself() -> None:
    domain = Tensor((2,), nan=True)
    one, other = domain.cast([1, float("nan")], "w"), domain.cast([1, float("nan")], "w")
    assert domain.equal(one, other)
    assert not domain.equal(one, domain.cast([1, 2], "w"))
    assert not domain.equal(one, one.astype("float64"))
    assert np.isnan(domain.from_json(domain.to_json(one))[1])


@pytest.mark.parametrize(
    "given",
    [
        {"shape": "23"},
        {"shape": 2.5},
        {"shape": (2, -1)},
        {"shape": (True,)},
        {"shape": (10_000, 10_000)},
        {"shape": (1,) * 33},
        {"shape": 2, "dtype": "object"},
        {"shape": 2, "low": 2, "high": 1},
        {"shape": 2, "low": float("nan")},
        {"shape": 2, "nan": 1},
    ],
)
def test_a_tensor_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(VariableError):
        Tensor(**given)


def test_optuna_has_no_tensors() -> None:
    with pytest.raises(VariableError, match="Optuna has no tensors"):
        Tensor((2,)).distribution()


def test_the_first_tensor_is_zero_or_as_near_as_it_may_be() -> None:
    assert Tensor((2,)).first().tolist() == [0, 0]
    assert Tensor((1,), low=2, high=3).first().tolist() == [2]
    assert Tensor((1,), low=-3, high=-2).first().tolist() == [-2]
    assert Tensor(()).first().shape == ()
    assert "-1 at [] is no bool" in refusal(Tensor((), "bool"), -1)


@pytest.mark.parametrize(
    "kept",
    [
        5,
        {},
        {"dtype": "object", "shape": [2], "data": ""},
        {"dtype": "float32", "shape": [2], "data": "AAAA"},
        {"dtype": "float32", "shape": [2], "data": "ö"},
        {"dtype": "float32", "shape": [2], "data": 5},
    ],
)
def test_a_damaged_tensor_is_named(kept: Any) -> None:
    with pytest.raises(VariableError, match="cannot be read"):
        Tensor((2,)).from_json(kept)
