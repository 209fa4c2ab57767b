"""``dspex-lab tour``: the main job from beginning to end, on the data shipped or on the user's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dspex_lab._shipped import shipped
from dspex_lab.cli._base import Command
from dspex_lab.cli._notebook import NotebookFailed, execute, tagged_text, write_html
from dspex_lab.config import FOLDER
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms import make_lm
from dspex_lab.pipelines import check_labels, read_rows

OPTIMIZERS = ("auto", "knn", "labeled", "bootstrap", "random-search", "none")
REPORT = Path("tour-report.html")
FAILED = Path("tour-report-failed.html")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", type=Path, metavar="FILE", help="your own rows: .csv, .parquet or .jsonl")
    parser.add_argument("--text", metavar="COLUMN", help="the column with the text (with --data)")
    parser.add_argument("--label", metavar="COLUMN", help="the column with the label to be found (with --data)")
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="auto",
        help="a DSPy optimizer; auto takes what suits the number of labels (with --data)",
    )
    parser.add_argument("--lm", default=None, metavar="MODEL", help='a model such as openai/gpt-5-mini; default "offline"')


def run(options: argparse.Namespace) -> int:
    """Run the notebook, write the report, print the scores."""
    path, parameters = _what(options)
    Path(FOLDER).mkdir(exist_ok=True)
    store = Path(FOLDER) / "tour.duckdb"
    print(f"running {path.name}; the report will be {REPORT}", flush=True)
    environment = {"DSPEX_STORE": str(store.resolve())}
    if options.lm:
        environment["DSPEX_LM"] = options.lm
    try:
        notebook = execute(path, environment, parameters)
    except NotebookFailed as error:
        # A report of an earlier run stays as it is.
        write_html(error.notebook, FAILED, "dspex_lab tour")
        error.hint = f"{FAILED} shows everything up to it."
        raise
    write_html(notebook, REPORT, "dspex_lab tour")
    print(f"\n{tagged_text(notebook, 'scores')}\n")
    print(f"report: {REPORT.resolve()}")
    print(f"store:  {store.resolve()}")
    return 0


def _what(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the notebook to run and its parameters; everything that can be wrong with them is found here."""
    if options.lm:
        make_lm(options.lm)
    if options.data is None:
        given = [f for f in ("text", "label") if getattr(options, f)] + (["optimizer"] if options.optimizer != "auto" else [])
        if given:
            raise ConfigurationError(
                f"--{given[0]} needs --data.", key=given[0], hint="dspex-lab tour --data FILE --text COLUMN --label COLUMN"
            )
        return shipped("notebooks/00_tour.ipynb"), {}
    for flag in ("text", "label"):
        if not getattr(options, flag):
            raise ConfigurationError(
                f"--data needs --{flag} COLUMN.", key=flag, hint="dspex-lab tour --data FILE --text COLUMN --label COLUMN"
            )
    check_labels(read_rows(options.data), options.text, options.label, str(options.data))
    return shipped("notebooks/tour_your_data.ipynb"), {
        "data": str(options.data.resolve()),
        "text": options.text,
        "label": options.label,
        "optimizer": options.optimizer,
    }


COMMAND = Command("tour", "run the whole workbench once and write tour-report.html", arguments, run)
