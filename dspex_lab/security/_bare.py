"""A Python that has only its standard library and the modules of ``security`` that need no more.

What guards model-written code starts this way: no site-packages, no variable of the environment, nothing of the notebook.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent

#: Modules are found in the package without running its ``__init__``, which wants packages that are not there.
_BOOT = """\
import sys, types
for name, path in {packages!r}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from {module} import main
main(*sys.argv[1:])
"""


def bare_python(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs ``main(*arguments)`` of a module, such as ``"dspex_lab.security._probe"``."""
    security = _PACKAGE / "security"
    packages = {"dspex_lab": str(_PACKAGE), "dspex_lab.security": str(security)}
    packages["dspex_lab.security.sandbox"] = str(security / "sandbox")
    # The interpreter itself, not the one of a virtual environment, which would bring its site-packages.
    executable = getattr(sys, "_base_executable", None) or sys.executable
    return [executable, "-I", "-S", "-c", _BOOT.format(packages=packages, module=module), *arguments]


def bare_environment() -> dict[str, str]:
    """Return the environment of such a Python: nothing of the kernel's but where shared libraries are."""
    environment = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/"}
    # One thread each: there are no others in the sandbox, and these libraries would ask for some when they are loaded.
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment
