"""Python source as text: literals, texts and lines as a formatter would write them, and the names a piece of source uses."""

from __future__ import annotations

import ast
import io
import symtable
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

#: The longest line written.
WIDTH = 88


def literal(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return a literal of plain values as a formatter writes it: on one line, or item by item.

    Args:
        indent: spaces before the line it is on.
        before: characters before it on its line, those spaces included.
    """
    flat = _flat(value)
    if len(flat) + before <= WIDTH or not isinstance(value, list | tuple | dict | set) or not value:
        return flat
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        keys = {k: _flat(k) for k in value}
        parts = [f"{keys[k]}: {literal(v, indent + 4, indent + 4 + len(keys[k]) + 3)}" for k, v in value.items()]
    else:
        parts = [literal(v, indent + 4, indent + 5) for v in value]
    sign = {list: "[]", tuple: "()", dict: "{}", set: "{}"}[type(value)]
    return f"{sign[0]}\n" + "".join(f"{inner}{part},\n" for part in parts) + " " * indent + sign[1]


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flat(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, set) and value:
        return "{" + ", ".join(sorted(map(_flat, value))) + "}"
    return repr(value)


def quoted(text: str) -> str:
    """Return a text in double quotes, unless it holds more of these than of single ones."""
    found = repr(text)
    if found[0] == "'" and '"' not in text:
        return f'"{found[1:-1]}"'.replace("\\'", "'")
    return found


def block(text: str) -> str:
    """Return a text of several lines between triple quotes, or quoted on one line where that cannot be."""
    lines = text.split("\n")
    if len(lines) > 1 and "\\" not in text and all(line.isprintable() for line in lines):
        for sign in ('"""', "'''"):
            if sign not in text and not text.endswith(sign[0]):
                return f"{sign}{text}{sign}"
    return quoted(text)


def called(function: str, arguments: list[str], after: str, before: int) -> str:
    """Return a call as a formatter writes it; ``before`` are the characters before it on its line."""
    flat = f"{function}({', '.join(arguments)}){after}"
    inner = ", ".join(arguments)
    if "\n" not in flat and (before + len(flat) <= WIDTH or before == WIDTH):
        return flat
    if len(arguments) == 1 and inner[:3] in ('"""', "'''"):
        return flat
    if len(arguments) == 1 or ("\n" not in inner and len(inner) + 4 <= WIDTH):
        return f"{function}(\n    {inner}\n){after}"
    return f"{function}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){after}"


def is_literal(value: Any, depth: int = 0) -> bool:
    """Say whether a value can be written as a literal and reads back the same."""
    if value is None or type(value) in (str, int, bool, bytes):
        return True
    if type(value) is float:
        return value == value and abs(value) != float("inf")
    if depth > 20:
        return False
    if type(value) in (list, tuple) or (type(value) is set and value):
        return all(is_literal(v, depth + 1) for v in value)
    return type(value) is dict and all(is_literal(k, depth + 1) and is_literal(v, depth + 1) for k, v in value.items())


def indented(source: str) -> str:
    """Return source four spaces further right; lines inside a text of several lines stay where they are."""
    inside = set[int]()
    opened: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif kind == "FSTRING_START":
            opened.append(token.start[0])
        elif kind == "FSTRING_END":
            inside.update(range(opened.pop() + 1, token.end[0] + 1))
    made: list[str] = []
    for number, line in enumerate(source.splitlines(), 1):
        if number in inside:
            made.append(line)
        elif line.strip():
            made.append(f"    {line}")
        elif not made or made[-1]:
            made.append("")
    return "\n".join(made)


def uses(source: str) -> set[str]:
    """Return the names that source takes from around it: read in it, or in a function of it, and not defined by it."""
    top = symtable.symtable(source, "<source>", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    found = {s.get_name() for s in top.get_symbols() if s.is_referenced() and s.get_name() not in bound}
    for table in _inner(top):
        around = {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
        found |= around - bound
    return found | set(read_before(ast.parse(source), bound))


def _inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _inner(child)


def read_before(tree: ast.Module, bound: set[str]) -> list[str]:
    """Return the names of ``bound`` that are read before they are bound, as in ``tidy = step(tidy)``."""
    early, so_far = dict[str, None](), set[str]()
    for node in tree.body:
        early.update((n.id, None) for n in loads(node) if n.id in bound and n.id not in so_far)
        so_far |= binds(node)
    return list(early)


def loads(node: ast.AST) -> Iterator[ast.Name]:
    """Yield the names that are read when a statement is carried out, those inside functions left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for part in [*getattr(child, "decorator_list", ()), *child.args.defaults, *filter(None, child.args.kw_defaults)]:
                yield from ([part] if isinstance(part, ast.Name) else loads(part))
        else:
            yield from loads(child)


def binds(node: ast.stmt) -> set[str]:
    """Return the names a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).partition(".")[0] for a in node.names}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def renamed(source: str, names: dict[str, str]) -> str:
    """Return source in which what it binds under a name of ``names`` is called otherwise, from there on."""
    edits: list[tuple[int, int, str, str]] = []
    so_far = set[str]()
    for node in ast.parse(source).body:
        read = [n for n in loads(node) if n.id in so_far]
        made = binds(node) & names.keys()
        stored = [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id in made]
        edits += [(n.lineno, n.col_offset, n.id, names[n.id]) for n in [*read, *stored]]
        so_far |= made
    lines = [line.encode() for line in source.splitlines()]
    for line, column, old, new in sorted(edits, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:column] + new.encode() + text[column + len(old.encode()) :]
    return "\n".join(line.decode() for line in lines)


def as_definition(source: str) -> str:
    """Return ``name = lambda …`` as a function definition, anything else as it is."""
    tree = ast.parse(source)
    only = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(only, ast.Assign) or not isinstance(only.value, ast.Lambda) or not isinstance(only.targets[0], ast.Name):
        return source
    return f"def {only.targets[0].id}({ast.unparse(only.value.args)}):\n    return {ast.unparse(only.value.body)}"


def dedented(source: str) -> str:
    """Return source without the margin its lines share and without lines around it."""
    return textwrap.dedent(source).strip("\n").rstrip()
