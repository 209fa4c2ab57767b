"""The pools of a Lab as they were asked for: code, then the environment, then a file of settings, then the default."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_lab._settings import SettingsFile, find_settings
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pools._checks import RECYCLING, SETTINGS
from dspex_lab.pools._defaults import fill
from dspex_lab.pools._layers import Layer, Told, checked, of_code, of_environment, of_file
from dspex_lab.pools._machine import Machine
from dspex_lab.pools._machine import machine as this_machine
from dspex_lab.pools._scaling import WANTED, Asked, plan, sentence
from dspex_lab.pools._spec import PoolSpec

_ADDRESS = re.compile(r"tls://(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", re.ASCII)
_TLS = ("tls_ca", "tls_cert", "tls_key")


@dataclass(frozen=True)
class PoolsConfig:
    """What code asks of the pools; what it leaves open is filled in from the environment, a file of settings, and the machine.

    Args:
        address: ``tls://host:port`` of a Dask scheduler to join; None starts workers on this machine.
        tls_ca: file of the certificate authority of the cluster; ``tls_cert`` and ``tls_key`` are this side's own.
        pools: settings by name of the pool (``{"general": {"workers": 4, "memory": "1GB"}}``), or whole ``PoolSpec``s. A pool
            that is not ``general``, ``optimizer`` or ``neural`` needs workers and memory.
        writable: folders in which the workers of every pool may write.
    """

    address: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    pools: Mapping[str, Mapping[str, Any] | PoolSpec] = field(default_factory=dict)
    writable: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """Return it in the shape of a file's table ``[pools]``."""
        named = {key: getattr(self, key) for key in ("address", *_TLS) if getattr(self, key) is not None}
        return {**named, **({"writable": self.writable} if self.writable else {}), **self.pools}


class PoolSettings:
    """All that was said of the pools, settled; :func:`settle` makes it.

    Attributes:
        names: the pools there are.
        address: of a cluster to join, with ``tls_ca``, ``tls_cert`` and ``tls_key``, paths of existing files; None for all of
            them is a cluster of the kernel's own.
    """

    def __init__(self, specs: Mapping[str, PoolSpec], layers: Iterable[Layer]) -> None:
        self._specs = dict(specs)
        self._all: dict[str, Told] = {}
        self._each: dict[str, dict[tuple[str, ...], Told]] = {name: {} for name in (*WANTED, *specs)}
        for layer in layers:
            self._all.update(layer.all)
            for name, said in layer.each.items():
                self._each.setdefault(name, {}).update(said)
        # Each folder that was named anywhere is meant.
        self._shared = [told for layer in layers if (told := layer.all.get("writable")) is not None]
        self._values = {name: _values(told) for name, told in self._each.items()}
        self._machine: Machine | None = None
        self.names: tuple[str, ...] = tuple(self._each)
        self.address: str | None = self._address()
        self.tls_ca, self.tls_cert, self.tls_key = (self._file(key) for key in _TLS)
        self._writable = tuple(folder for told in self._shared for folder in checked(SETTINGS["writable"], told))
        self._ensure_whole()

    def spec(self, name: str, machine: Machine | None = None) -> PoolSpec:
        """Return a pool as it is to be started, scaled to the machine where nothing was said.

        Args:
            machine: what to scale to; None asks this machine, once.

        Raises:
            ConfigurationError: there is no such pool, it asks for a GPU that is not there, or its settings do not go together.
        """
        if name not in self._each:
            raise ConfigurationError(
                f"There is no pool {name!r}.{did_you_mean(name, self.names)}",
                key="pool",
                expected=list(self.names),
                actual=name,
                hint=f"Pools here: {', '.join(self.names)}.",
            )
        if name in self._specs:
            return self._specs[name]
        here = machine or self._here()
        self._ensure_gpus(name, here)
        shares = plan(here, {each: self._asked(each) for each in self.names})
        share, values = shares[name], self._values[name]
        if self.address is not None:
            here = replace(here, gpus=())  # whoever starts the workers there gives them theirs
        made = fill(name, share, values, here, self._writable)
        if self.address is not None:
            said = f"those workers of {self.address} that carry the resource {name!r}."
        else:
            total = sum(each.bytes for each in shares.values())
            where = _where(made, gpu=name in WANTED and WANTED[name].gpu)
            said = sentence(share, where=where, sources=self._sources(name), total=total, machine=here)
        return PoolSpec(**{**made, "name": name, "scaling": said})

    def _here(self) -> Machine:
        if self._machine is None:
            self._machine = this_machine()
        return self._machine

    def _asked(self, name: str) -> Asked:
        if name in self._specs:
            return Asked(self._specs[name].workers, self._specs[name].memory)
        values = self._values[name]
        return Asked(
            values.get(("workers",)), values.get(("memory",)), values.get(("gpus",)), values.get(("workers_per_gpu",), 1)
        )

    def _sources(self, name: str) -> dict[str, str]:
        """Return which settings were given, by where they are from."""
        found: dict[str, list[str]] = {}
        for keys, told in self._each[name].items():
            found.setdefault(told.source, []).append(".".join(keys))
        return {source: " and ".join(keys) for source, keys in found.items()}

    def _address(self) -> str | None:
        told = self._all.get("address")
        if told is None:
            return None
        match = _ADDRESS.fullmatch(told.value) if isinstance(told.value, str) and len(told.value) < 300 else None
        if match is None or not 0 < int(match[2]) < 65_536:
            raise told.refuse("tls://HOST:PORT of a Dask scheduler; without TLS anybody who reaches it could run code")
        for key in _TLS:
            if key not in self._all:
                raise ConfigurationError(
                    f"A cluster is to be joined at {told.value}, but {key} is not set.",
                    key=f"pools.{key}",
                    expected="the path of a file",
                    hint="Give tls_ca, tls_cert and tls_key; `dspex-lab certificate` makes them.",
                )
        return str(told.value)

    def _file(self, key: str) -> str | None:
        """Return the path of a certificate or key; where nothing is joined it is not looked at."""
        told = self._all.get(key)
        if told is None or self.address is None:
            return None
        if not isinstance(told.value, str | os.PathLike):
            raise told.refuse("the path of a file")
        path = Path(told.value).expanduser()
        if not path.is_file():
            raise told.refuse("the path of a file that exists")
        return str(path.absolute())

    def _ensure_whole(self) -> None:
        """See that a pool of a person's own says what nobody else can."""
        for name, told in self._each.items():
            missing = [key for key in ("workers", "memory") if (key,) not in told]
            if name in WANTED or name in self._specs or not missing:
                continue
            raise ConfigurationError(
                f"Pool {name!r} has no {' and no '.join(missing)}.{did_you_mean(name, WANTED)}",
                key=f"pools.{name}.{missing[0]}",
                expected="a number of workers, and the memory of each",
                actual=None,
                hint=f'A pool of your own needs both: {{"{name}": {{"workers": 2, "memory": "1GB"}}}}.',
            )

    def _ensure_gpus(self, name: str, machine: Machine) -> None:
        """See that the GPUs that were asked for are there; of another machine, and of ids for good, it is believed."""
        told = self._each[name].get(("gpus",))
        if told is None or self.address is not None:
            return
        for gpu in self._values[name][("gpus",)]:
            if gpu.isdecimal() and gpu not in machine.gpus:
                here = ", ".join(machine.gpus) or "none"
                raise told.refuse(f'ids of GPUs of this machine (there {"are" if machine.gpus else "is"}: {here}), or "none"')


def settle(
    config: PoolsConfig | Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: SettingsFile | None = None,
) -> PoolSettings:
    """Return all that was said of the pools; code goes before the environment, that before the file, that before the default.

    Args:
        config: what code says.
        environment: None is the process's own.
        file: None is the nearest one, from the current folder upwards.

    Raises:
        ConfigurationError: a setting that there is not, or a value that it cannot take; it says where it is from.
    """
    if config is not None and not isinstance(config, PoolsConfig | Mapping):
        raise ConfigurationError(
            f"Config(pools=) is {type(config).__name__!r}.",
            key="pools",
            expected="a table or a PoolsConfig",
            actual=config,
            hint='Give {"general": {"workers": 4}}, or dspex_lab.pools.PoolsConfig(…).',
        )
    table = config.table() if isinstance(config, PoolsConfig) else dict(config or {})
    specs = {name: spec for name, spec in table.items() if isinstance(spec, PoolSpec)}
    for name, spec in specs.items():
        if spec.name != name:
            raise ConfigurationError(
                f"Config(pools=) has pool {spec.name!r} under the name {name!r}.",
                key=f"pools.{name}",
                expected=name,
                actual=spec.name,
            )
    code = of_code({name: value for name, value in table.items() if name not in specs})
    written = of_file(find_settings() if file is None else file)
    known = dict.fromkeys((*WANTED, *specs, *code.each, *written.each))
    told = of_environment(os.environ if environment is None else environment, known)
    return PoolSettings(specs, [written, told, code])


def default_spec(name: str = "general", *, machine: Machine | None = None) -> PoolSpec:
    """Return a pool as it is where code says nothing: from the environment, the file of settings, and the machine.

    Args:
        name: ``"general"``, ``"optimizer"``, ``"neural"``, or one that environment or file define.
        machine: what to scale to; None asks this machine.

    Raises:
        ConfigurationError: an unknown name, or a setting that cannot be read.
    """
    return settle().spec(name, machine)


def _values(told: Mapping[tuple[str, ...], Told]) -> dict[tuple[str, ...], Any]:
    return {
        keys: checked(RECYCLING[keys[1]] if keys[0] == "recycle" else SETTINGS[keys[0]], each) for keys, each in told.items()
    }


def _where(made: Mapping[str, Any], *, gpu: bool) -> str:
    """Say what a pool computes on, where that is no matter of course."""
    gpus: tuple[str, ...] = made["gpus"]
    if not gpus:
        return "on the CPU" if gpu else ""
    used = gpus[: made["workers"]]
    left = made["workers"] - len(gpus) * made["workers_per_gpu"]
    return f"on GPU {', '.join(used)}" + (f" and {left} of them on the CPU" if left > 0 else "")
