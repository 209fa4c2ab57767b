"""Jobs and thumbs in a cell: live, with their last state kept in the saved output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines import Result
from dspex_lab.widgets._live_show import show_live

if TYPE_CHECKING:
    from dspex_lab.widgets._job import JobWidget
    from dspex_lab.widgets._job_thumbs import ThumbsWidget

__all__ = ["show_job", "show_thumbs", "thumbs_under_results"]


def show_job(lab: Any, job: Any) -> JobWidget:
    """Show a job live in the cell until the Lab is closed, and return the widget.

    Outside IPython its text is printed.
    """
    from dspex_lab.widgets._job import JobWidget

    return show_live(lab, JobWidget(job, lab.bus))


def show_thumbs(lab: Any, run: Any = None) -> ThumbsWidget:
    """Show thumbs for a run and its fields to be corrected, and return the widget.

    Args:
        run: a result, the id of a run, or None for the last one.

    Raises:
        ConfigurationError: there is no such run.
    """
    from dspex_lab.store import FeedbackTable, recorded_runs
    from dspex_lab.widgets._job_thumbs import ThumbsWidget

    result = lab.last_result if run is None else run
    if isinstance(result, Result):
        run_id, outputs = result.run_id, dict(result.outputs)
    else:
        found = recorded_runs(lab.store, run_id=str(result)) if result is not None else []
        if not found:
            raise ConfigurationError("There is no such run.", key="run", actual=run, hint="lab.run(…) gives one.")
        run_id, outputs = found[0].run_id, found[0].outputs
    table = FeedbackTable(lab.store)
    widget = ThumbsWidget(lambda **said: lab.feedback(run_id, **said), run_id, outputs, lambda: table.of(run_id), lab.bus)
    return show_live(lab, widget)


def thumbs_under_results(shell: Any, lab: Callable[[], Any]) -> None:
    """Show thumbs under each result that a cell shows, from now on.

    Args:
        shell: IPython's.
        lab: gives the Lab; None to show them no more.
    """
    formatter = shell.display_formatter.ipython_display_formatter
    if lab() is None:
        formatter.pop(Result, None)
        return

    def shown(result: Result) -> None:
        from IPython.display import HTML, display

        display(HTML(result._repr_html_()))
        show_thumbs(lab(), result)

    formatter.for_type(Result, shown)
