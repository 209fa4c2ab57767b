"""Plain data as YAML that this room and any other reader take for the same."""

from __future__ import annotations

import functools
import re
from typing import Any

from dspex_lab.pipelines.files._nodes import resolve

#: What YAML 1.1 takes for the end of a line, and YAML 1.2 does not, or the other way round.
_BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")


def written(data: Any) -> str:
    """Return plain data (dicts with text keys, lists, texts, numbers, booleans, None) as YAML, in the order of the data."""
    import yaml

    return str(
        yaml.dump(data, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=120, default_flow_style=False, indent=2)
    )


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what either YAML 1.1 or 1.2 would take for something else than a text; never writes an alias."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)

    def text(dumper: Any, value: str) -> Any:
        style = None
        if _BREAKS.search(value):
            style = '"'
        elif "\n" in value and value.strip() and not value[0].isspace():
            style = "|"
        elif not isinstance(_resolved(value), str):
            style = "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def items(dumper: Any, value: list[Any]) -> Any:
        short = all(not isinstance(v, list | dict) and len(str(v)) <= 40 and "\n" not in str(v) for v in value)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=short)

    Dumper.add_representer(str, text)
    Dumper.add_representer(list, items)
    return Dumper


def _resolved(text: str) -> Any:
    try:
        return resolve(text)
    except ValueError:
        return None
