"""The source of what was defined in cells: it travels with it, so that ``inspect.getsource`` and tracebacks work in workers
too.

A function knows the name of its file, and :mod:`linecache` has what is in there, though there is no such file: IPython,
doctest and others put it there. A class of a cell knows nothing of the kind (and ``inspect`` gives up on ``__main__``, which
has no file), so for classes the name of the file travels as well, and a worker's ``inspect.getfile`` asks there first.
"""

from __future__ import annotations

import inspect
import linecache
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

#: Cells that a worker remembers, the oldest forgotten first.
REMEMBERED = 1000

_lock = threading.Lock()
_cells: OrderedDict[str, str] = OrderedDict()
#: The file of each class of a cell, by the class's qualified name (in a worker), and by the class (where it was looked for).
_classes: dict[str, str] = {}
_files: weakref.WeakKeyDictionary[type, str | None] = weakref.WeakKeyDictionary()


def sources_of(defined: Iterable[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the sources by file name, and the file names of the classes, of functions and classes that travel by value."""
    sources: dict[str, str] = {}
    classes: dict[str, str] = {}
    for item in defined:
        name = file_of_class(item) if isinstance(item, type) else item.__code__.co_filename
        if name is None or (name not in sources and (source := cell(name)) is None):
            continue
        sources.setdefault(name, source or "")
        if isinstance(item, type):
            classes[item.__qualname__] = name
    return sources, classes


def cell(name: str) -> str | None:
    """Return the source of a file that is not one; None for a real file, or where nothing is known."""
    entry = linecache.cache.get(name)
    if entry is not None and len(entry) > 1:
        return None if entry[1] is not None else "".join(entry[2])
    if name.startswith("<doctest "):  # doctest puts nothing there, it has linecache ask it
        return "".join(linecache.getlines(name)) or None
    return None


def file_of_class(kind: type) -> str | None:
    """Return the name of the cell that a class is from, if one is: that of its functions, else one in which it is defined."""
    if kind not in _files:
        _files[kind] = _file_of_class(kind)
    return _files[kind]


def _file_of_class(kind: type) -> str | None:
    for member in vars(kind).values():
        function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
        if code is not None and code.co_qualname.startswith(f"{kind.__qualname__}.") and cell(code.co_filename) is not None:
            return str(code.co_filename)
    definition = re.compile(rf"^\s*class\s+{re.escape(kind.__name__)}\b", re.MULTILINE)
    for name in reversed(list(linecache.cache)):
        if (source := cell(name)) is not None and definition.search(source):
            return name
    return None


def install(sources: dict[str, str], classes: dict[str, str]) -> None:
    """Make sources known here, in a worker. Those that are known are left alone."""
    with _lock:
        for name, source in sources.items():
            if name not in linecache.cache:
                _cells[name] = source
                linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        _classes.update(classes)
        while len(_cells) > REMEMBERED:
            name, _ = _cells.popitem(last=False)
            linecache.cache.pop(name, None)
            for kind in [k for k, file in _classes.items() if file == name]:
                del _classes[kind]
        if classes and not hasattr(inspect.getfile, "dspex"):
            setattr(inspect, "getfile", _asking_first(inspect.getfile))  # noqa: B010 - for mypy it is a function, not a variable


def _asking_first(original: Callable[[Any], str]) -> Callable[[Any], str]:
    def getfile(object: Any) -> str:  # noqa: A002 - the signature of inspect's
        """As ``inspect.getfile``, and for classes of cells, the name of the cell."""
        if isinstance(object, type) and object.__module__ == "__main__" and object.__qualname__ in _classes:
            return _classes[object.__qualname__]
        return original(object)

    getfile.dspex = True  # type: ignore[attr-defined]
    return getfile
