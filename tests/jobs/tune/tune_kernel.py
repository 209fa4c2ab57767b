"""A kernel with a tune job that stands still in its fourth trial: to be killed."""

from __future__ import annotations

import sys
import threading
from typing import Any

from tune_programs import ROWS, program, space_of, worth

#: Opened where the job goes on.
HOLDS = threading.Event()
INSIDE = threading.Event()
_rows = [0]


def metric(example: Any, prediction: Any) -> float:
    _rows[0] += 1
    if _rows[0] > 3 * len(ROWS) + 2 and not HOLDS.is_set():
        INSIDE.set()
        HOLDS.wait()
    return worth(example, prediction)


def main() -> None:
    import tune_kernel  # by its name, so that what is pickled is found again

    from dspex_lab.events import Bus
    from dspex_lab.jobs import Jobs, Shelf
    from dspex_lab.jobs.tune import tune
    from dspex_lab.store import JobTable, Store

    store, bus = Store("lab.duckdb"), Bus()
    bus.subscribe(store.write, live=False)
    book = JobTable(store)
    jobs = Jobs(book, shelf=Shelf(book, "jobs"), emit=bus.emit)
    space = space_of()
    work = tune(program, ["x", "k"], tune_kernel.metric, ROWS, 6, space=space, key="kernel", parallel=1, concurrency=1)
    job = jobs.start(work, name="long", seed=5)
    tune_kernel.INSIDE.wait()
    job._account.write()
    store.flush()
    print("inside", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
