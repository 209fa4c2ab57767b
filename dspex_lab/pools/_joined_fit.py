"""Whether a worker that somebody else has started can take this kernel's calls."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from dspex_lab._version import __version__
from dspex_lab.errors import ConfigurationError, PoolError
from dspex_lab.pools._by_value import by_value, packed, version_here

#: Packages that both sides must have in one version: what is pickled by one is loaded by the other.
SAME = ("dask", "distributed", "cloudpickle")


async def check_versions(client: Any, address: str, pool: str, worker: str) -> None:
    """Ask a worker for its versions.

    Raises:
        ConfigurationError: they are not the kernel's.
        OSError: it does not answer.
    """
    rpc = client.rpc(address)
    compare_versions((await rpc.versions(packages=[]))["packages"], f"Worker {worker}", f"pools.{pool}")
    answer = await rpc.run(function=packed(by_value(version_here)))
    if answer["status"] != "OK":
        raise OSError(f"worker {worker} could not be asked for its version: {answer['exception']!r}")
    check_own_version(answer["result"], pool, worker)


def check_own_version(found: str | None, pool: str, worker: str) -> None:
    """Compare the version of this package that a worker has with the kernel's.

    Raises:
        ConfigurationError: another one, or none.
    """
    if found is None:
        raise ConfigurationError(
            f"Worker {worker} cannot be used by pool {pool!r}: dspex_lab is not installed there.",
            key=f"pools.{pool}",
            expected=f"dspex-lab {__version__}",
            actual=None,
            hint=f"Install it where the worker runs: pip install dspex-lab=={__version__}.",
        )
    if found != __version__:
        raise _differs(f"Worker {worker}", f"pools.{pool}", "dspex-lab", found, __version__)


def compare_versions(packages: dict[str, str | None], who: str, key: str) -> None:
    """Compare the versions of one side, as Dask tells them, with the kernel's.

    Args:
        who: whose they are, for the error.
        key: the setting that it came by.

    Raises:
        ConfigurationError: the minor version of Python differs (code travels as bytecode), or a package does.
    """
    theirs = ".".join(str(packages["python"]).strip("()").replace(", ", ".").split(".")[:2])
    here = ".".join(platform.python_version_tuple()[:2])
    if theirs != here:
        raise _differs(who, key, "Python", theirs, here)
    for package in SAME:
        found, mine = packages.get(package), importlib.metadata.version(package)
        if found != mine:
            raise _differs(who, key, package, found, mine)


def unfit(pool: str, worker: str, error: Exception) -> PoolError:
    """Return the error for a worker that could not take its host."""
    refused = PoolError(
        f"Worker {worker} cannot be used by pool {pool!r}: {type(error).__name__}: {error}.",
        pool=pool,
        worker=worker,
        hint="Its own log may say more.",
    )
    refused.__cause__ = error
    return refused


def _differs(who: str, key: str, what: str, theirs: str | None, here: str) -> ConfigurationError:
    return ConfigurationError(
        f"{who} cannot be used: it has {what} {theirs}, the kernel {here}.",
        key=key,
        expected=f"{what} {here}",
        actual=f"{what} {theirs}",
        hint="Install the same on both sides.",
    )
