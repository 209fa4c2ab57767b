"""What code, the environment and a file of settings each say of the pools, brought into one shape."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab._settings import SettingsFile
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pools._checks import RECYCLING, RESERVED, SETTINGS, Bad, Setting, pool_name
from dspex_lab.pools._environment import of_all, of_each, read_text
from dspex_lab.pools._spec import Recycle, refused

_KEYS = (*SETTINGS, "recycle")


@dataclass(frozen=True, slots=True)
class Told:
    """A value that was given: where it is from, in a word or two, and the error that says it cannot be."""

    value: Any
    source: str
    blame: Callable[[Any, str], ConfigurationError]

    def refuse(self, expected: str) -> ConfigurationError:
        """Return the error of this value."""
        return self.blame(self.value, expected)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one place says: of all pools by key, and of each pool by the way to the setting (``("recycle", "age")``)."""

    all: dict[str, Told]
    each: dict[str, dict[tuple[str, ...], Told]]


def checked(setting: Setting, told: Told) -> Any:
    """Return the value as a pool takes it.

    Raises:
        ConfigurationError: it cannot be one; the error is that of the place it is from.
    """
    value = told.value
    try:
        if isinstance(value, str) and setting.form in ("size", "seconds"):
            value = read_text(setting, value)
        return setting.check(value)
    except Bad as bad:
        raise told.refuse(str(bad)) from None


class _Reader:
    """Reads a table, of code or of a file: how an error is made is theirs."""

    source = "code"

    def refuse(self, keys: tuple[str, ...], value: Any, expected: str) -> ConfigurationError:
        """Return the error of a value."""
        return refused(".".join(("pools", *keys)), _shown(keys, value), expected, ".".join(("pools", *keys)))

    def unknown(self, keys: tuple[str, ...], known: Iterable[str]) -> ConfigurationError:
        """Return the error of a key that means nothing."""
        key, names = str(keys[-1])[:64], list(known)
        return ConfigurationError(
            f"{'.'.join(('pools', *keys[:-1]))} has no setting {key!r}.{did_you_mean(key, names)}",
            key=".".join(("pools", *keys[:-1], key)),
            expected=names,
            actual=key,
            hint=f"Settings here: {', '.join(names)}.",
        )

    def told(self, keys: tuple[str, ...], value: Any) -> Told:
        """Return a value with where it is from."""
        return Told(value, self.source, lambda found, expected: self.refuse(keys, found, expected))

    def path(self, value: Any) -> Any:
        """Return a path as it is meant."""
        return value

    def read(self, table: Mapping[str, Any]) -> Layer:
        """Read a whole table.

        Raises:
            ConfigurationError: a key that is none, or a value of another kind.
        """
        layer = Layer({}, {})
        for key, value in table.items():
            if key in RESERVED:
                if value is not None:
                    layer.all[key] = self.told((key,), value if key == "address" else self.path(value))
            elif isinstance(value, Mapping):
                layer.each[self._name(key)] = self._pool(key, value)
            else:
                raise self._no_pool(key, value)
        return layer

    def _name(self, key: Any) -> str:
        try:
            return pool_name(key)
        except Bad as bad:
            raise self.refuse(("name",), str(key)[:64], str(bad)) from None

    def _no_pool(self, key: Any, value: Any) -> ConfigurationError:
        if str(key) in SETTINGS:
            return self.refuse((str(key),), value, f"the table of a pool around it, such as general = {{ {key} = … }}")
        return self.unknown((str(key)[:64],), (*RESERVED, "general", "optimizer", "neural"))

    def _pool(self, pool: str, table: Mapping[str, Any]) -> dict[tuple[str, ...], Told]:
        found: dict[tuple[str, ...], Told] = {}
        for key, value in table.items():
            keys = (pool, str(key))
            if key not in _KEYS:
                raise self.unknown(keys, _KEYS)
            if key == "recycle":
                found.update(self._recycle(pool, value))
            elif value is not None:
                found[(key,)] = self.told(keys, self.path(value) if key == "writable" else value)
        return found

    def _recycle(self, pool: str, value: Any) -> dict[tuple[str, ...], Told]:
        if isinstance(value, Recycle):
            value = {key: getattr(value, key) for key in RECYCLING}
        if not isinstance(value, Mapping):
            raise self.refuse((pool, "recycle"), value, "a table of memory, age and calls")
        for key in value:
            if key not in RECYCLING:
                raise self.unknown((pool, "recycle", str(key)), RECYCLING)
        return {("recycle", key): self.told((pool, "recycle", key), inner) for key, inner in value.items()}


class _FileReader(_Reader):
    """Reads the table ``pools`` of a file of settings; paths are relative to the file."""

    def __init__(self, file: SettingsFile) -> None:
        self._file = file
        self.source = file.name

    def refuse(self, keys: tuple[str, ...], value: Any, expected: str) -> ConfigurationError:
        said = repr(_shown(keys, value))
        said = said if len(said) <= 100 else said[:99] + "…"
        message = f"{'.'.join(keys[1:]) or keys[0]} is {said}."
        return self._file.error(("pools", *keys), message, expected=expected, actual=said, hint=f"Expected: {expected}.")

    def unknown(self, keys: tuple[str, ...], known: Iterable[str]) -> ConfigurationError:
        return self._file.unknown(("pools", *keys), list(known))

    def path(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.path(item) for item in value]
        if not isinstance(value, str) or not value.strip() or value.startswith("~"):
            return value
        return str(self._file.folder / value)


def of_code(table: Mapping[str, Any]) -> Layer:
    """Return what code says.

    Raises:
        ConfigurationError: a key that is none, or a value of another kind.
    """
    return _Reader().read(table)


def of_file(file: SettingsFile) -> Layer:
    """Return what a file of settings says.

    Raises:
        ConfigurationError: as :func:`of_code`, with the file, the table and the line.
    """
    reader = _FileReader(file)
    table = file.table.get("pools", {})
    if not isinstance(table, dict):
        raise file.error(
            ("pools",), f"pools is {str(table)[:64]!r}.", expected="a table", actual=table, hint="Write: [pools.general]."
        )
    return reader.read(table)


def of_environment(environment: Mapping[str, str], pools: Iterable[str]) -> Layer:
    """Return what the environment says.

    Args:
        pools: the names that are known from elsewhere.

    Raises:
        ConfigurationError: a variable that begins as these do and is none, or whose text cannot be read.
    """
    layer = Layer({}, {})
    for key, (text, variable) in of_all(environment).items():
        value = [part for part in text.split(os.pathsep) if part.strip()] if key == "writable" else text.strip()
        layer.all[key] = Told(value, variable, _blame(text, variable))
    for pool, settings in of_each(environment, pools).items():
        try:
            found = layer.each.setdefault(pool_name(pool), {})
        except Bad as bad:
            variable = next(iter(settings.values()))[1]
            raise refused(f"The pool of {variable}", pool, str(bad), variable) from None
        for keys, (text, variable) in settings.items():
            setting = RECYCLING[keys[1]] if keys[0] == "recycle" else SETTINGS[keys[0]]
            blame = _blame(text, variable)
            try:
                found[keys] = Told(read_text(setting, text), variable, blame)
            except Bad as bad:
                raise blame(text, str(bad)) from None
    return layer


def _blame(text: str, variable: str) -> Callable[[Any, str], ConfigurationError]:
    return lambda found, expected: refused(variable, text.strip(), expected, variable)


def _shown(keys: tuple[str, ...], value: Any) -> Any:
    """Return what of a value may be shown: of an environment the names, for a key may be in it."""
    return sorted(str(name)[:64] for name in value) if keys[-1] == "environment" and isinstance(value, Mapping) else value
