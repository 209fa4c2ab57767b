"""What importing costs, and that the public names are the documented ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dspex_lab

HEAVY = ("dspy", "panel", "altair", "torch", "distributed", "pandas", "duckdb", "pyarrow", "litellm", "anywidget", "ipywidgets")


def loaded_after(code: str, modules: tuple[str, ...] = HEAVY) -> set[str]:
    probe = f"import sys\n{code}\nprint(' '.join(m for m in {modules!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import dspex_lab") == set()


def test_loading_the_extension_loads_nothing_heavy() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell as S\n"
        "before = set(sys.modules)\n"
        "s = S.instance(); s.run_line_magic('load_ext', 'dspex_lab')"
    )
    rooms = ("numpy", "dspex_lab.jobs", "dspex_lab.lms", "dspex_lab.pipelines", "dspex_lab.workbench")
    assert loaded_after(code, HEAVY + rooms) == set()


def test_rooms_that_use_heavy_packages_can_be_imported_without_them() -> None:
    rooms = (
        "signatures",
        "lms",
        "pools",
        "store",
        "pipelines",
        "router",
        "security",
        "sessions",
        "variables",
        "jobs",
        "workbench",
        "widgets",
        "dashboards",
        "magics",
        "cli",
    )
    assert loaded_after("\n".join(f"import dspex_lab.{room}" for room in rooms)) == set()


def test_every_public_name_can_be_had_and_is_listed() -> None:
    for name in dspex_lab.__all__:
        assert getattr(dspex_lab, name) is not None
    assert set(dspex_lab.__all__) == {*dspex_lab._HOME, "__version__"}
    assert dir(dspex_lab) == sorted(dspex_lab.__all__)


def test_the_public_names_are_those_of_the_architecture_guide() -> None:
    guide = (Path(dspex_lab.__file__).parent / "README.md").read_text(encoding="utf-8")
    section = guide.split("## The public names")[1].split("\n## ")[0]
    told = set(re.findall(r"`dx\.(\w+)`", section))
    assert told == set(dspex_lab.__all__) - {"load_ipython_extension", "unload_ipython_extension"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        dspex_lab.no_such_name  # noqa: B018
