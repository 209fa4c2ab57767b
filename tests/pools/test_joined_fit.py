"""Which workers of others' fit, from what they say of themselves."""

from __future__ import annotations

import asyncio
import importlib.metadata
import pickle
import platform
from typing import Any

import pytest
from distributed.versions import get_package_info

from dspex_lab import __version__
from dspex_lab.errors import ConfigurationError
from dspex_lab.pools._birth import check_preloads
from dspex_lab.pools._by_value import by_value, packed, unpacked, version_here
from dspex_lab.pools._joined_fit import SAME, check_own_version, check_versions, compare_versions, unfit

HERE = get_package_info(SAME)


def test_the_same_versions_fit() -> None:
    compare_versions(HERE, "Worker w", "pools.general")
    major, minor, _ = platform.python_version_tuple()
    compare_versions({**HERE, "python": f"{major}.{minor}.99.final.0"}, "Worker w", "pools.general")
    check_own_version(__version__, "general", "w")
    check_preloads([], "general", "w", "Install them.")


@pytest.mark.parametrize("package", SAME)
def test_another_version_of_what_pickles_is_named(package: str) -> None:
    mine = importlib.metadata.version(package)
    with pytest.raises(ConfigurationError, match=rf"Worker w cannot be used: it has {package} 0\.1, the kernel {mine}"):
        compare_versions({**HERE, package: "0.1"}, "Worker w", "pools.general")


def test_another_python_is_named_first() -> None:
    with pytest.raises(ConfigurationError, match=r"The scheduler cannot be used: it has Python 3\.9, the kernel"):
        compare_versions({**HERE, "python": "3.9.1.final.0", "dask": "0.1"}, "The scheduler", "pools.address")


def test_a_worker_is_asked_by_a_function_that_needs_nothing_of_ours() -> None:
    asked = pickle.loads(packed(by_value(version_here)))  # noqa: S301 - packed here
    assert asked.__module__ == "__main__"
    assert asked() == version_here() == __version__
    assert b"dspex_lab.pools" not in packed(by_value(unpacked))


def test_another_version_of_this_package_is_named_and_none_at_all_too() -> None:
    with pytest.raises(ConfigurationError, match=rf"it has dspex-lab 0\.0\.1, the kernel {__version__}"):
        check_own_version("0.0.1", "general", "w")
    with pytest.raises(ConfigurationError, match="not installed there") as caught:
        check_own_version(None, "general", "w")
    assert f"dspex-lab=={__version__}" in str(caught.value.hint)


def test_what_else_goes_wrong_keeps_its_cause() -> None:
    cause = ValueError("odd")
    error = unfit("general", "w", cause)
    assert error.__cause__ is cause
    assert (error.pool, error.worker) == ("general", "w")
    assert "ValueError: odd" in str(error)


def test_a_worker_that_cannot_be_asked_is_an_os_error() -> None:
    class Rpc:
        async def versions(self, packages: list[str]) -> dict[str, Any]:
            return {"packages": HERE}

        async def run(self, function: bytes) -> dict[str, Any]:
            return {"status": "error", "exception": RuntimeError("no")}

    class Client:
        def rpc(self, address: str) -> Rpc:
            return Rpc()

    with pytest.raises(OSError, match="could not be asked"):
        asyncio.run(check_versions(Client(), "tls://x", "general", "w"))
