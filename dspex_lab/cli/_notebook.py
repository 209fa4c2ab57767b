"""Runs a notebook in a kernel of this very environment, with progress, and writes it as one HTML file."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex_lab.errors import DspexError


class NotebookFailed(DspexError):
    """A cell raised; ``notebook`` holds everything up to it."""

    def __init__(self, message: str, *, notebook: Any, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.notebook = notebook


def with_parameters(notebook: Any, values: Mapping[str, Any]) -> Any:
    """Replace the assignments of the cell tagged ``parameters``."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    return notebook


def execute(
    path: Path, environment: Mapping[str, str], parameters: Mapping[str, Any] | None = None, timeout: int = 1800
) -> Any:
    """Run the notebook at ``path`` in the current folder and return it with its outputs.

    Args:
        environment: set for the kernel on top of this process's own.
        parameters: values for the cell tagged ``parameters``.
        timeout: seconds one cell may take.

    Raises:
        NotebookFailed: a cell raised; its error is in the message, the cells before it are kept.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from tqdm import tqdm

    notebook = nbformat.read(path, as_version=4)
    if parameters:
        with_parameters(notebook, parameters)
    # No port on this machine's network where the system has files for sockets.
    manager = KernelManager(kernel_name="python3", transport="ipc" if os.name == "posix" else "tcp")
    # Not the kernel spec of that name, which may belong to another environment.
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="Python 3", language="python"
    )
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    bar = tqdm(total=len(cells), unit="cell", desc=path.stem, disable=None if os.environ.get("CI") is None else True)

    def begin(cell: Any, cell_index: int) -> None:
        bar.set_postfix_str(_first_line(cell), refresh=True)

    def finish(cell: Any, cell_index: int, execute_reply: Any) -> None:
        bar.update(1)

    client = NotebookClient(
        notebook,
        km=manager,
        timeout=timeout,
        resources={"metadata": {"path": str(Path.cwd())}},
        on_cell_start=begin,
        on_cell_executed=finish,
    )
    try:
        client.execute(env={**os.environ, **environment})
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookFailed(f"{path.name} did not come to its end: {error}", notebook=notebook) from error
    except CellExecutionError as error:
        raise NotebookFailed(
            f"A cell of {path.name} failed: {error.ename}: {error.evalue}",
            notebook=notebook,
            hint="The report holds everything up to it.",
        ) from error
    finally:
        bar.close()
        if client.kc is not None:
            client.kc.stop_channels()
        # Asked, not killed: the Lab in the kernel closes its store and its pool.
        manager.shutdown_kernel(now=False)
    return notebook


def _first_line(cell: Any) -> str:
    return next((line.strip() for line in cell.source.splitlines() if line.strip()), "")[:48]


def _without_scripts(notebook: Any) -> Any:
    """Return a copy without the outputs that only load a script into a live page."""
    import nbformat

    readable = {"text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain"}
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            kept = [o for o in cell.outputs if "data" not in o or (readable & set(o.data) and not _needs_scripts(o))]
            if len(kept) < len(cell.outputs) and not kept:
                kept = [nbformat.v4.new_output("display_data", {"text/html": "<i>shown while the notebook runs</i>"})]
            cell.outputs = kept
    return made


def _needs_scripts(output: Any) -> bool:
    return "data-root-id" in str(output.data.get("text/html", ""))


def write_html(notebook: Any, target: Path, title: str) -> None:
    """Write the notebook as one HTML file that loads nothing from the network."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.NbConvertBase.display_data_priority = [
        "text/html",
        "image/svg+xml",
        "image/png",
        "text/markdown",
        "text/plain",
    ]
    exporter = HTMLExporter(config=config, embed_images=True, mathjax_url="", require_js_url="", template_name="lab")
    body, _ = exporter.from_notebook_node(_without_scripts(notebook), resources={"metadata": {"name": title}})
    target.write_text(body, encoding="utf-8")


def tagged_text(notebook: Any, tag: str) -> str:
    """Return the plain text that the cells tagged ``tag`` put out."""
    out = []
    for cell in notebook.cells:
        if tag in cell.metadata.get("tags", []):
            for output in cell.get("outputs", []):
                out.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(t.rstrip() for t in out if t)
