"""What an optimizer prints and draws goes to its log, and what a cell prints meanwhile to the cell."""

from __future__ import annotations

import sys
import threading

import dspy
import pytest
from tqdm import TMonitor, tqdm

from dspex_lab.jobs.optimize._quiet import JobLog, quiet


def test_prints_of_the_job_go_to_its_log_and_those_of_others_on(capsys: pytest.CaptureFixture[str]) -> None:
    log = JobLog()
    with quiet(log):
        print("trial 1")
        with dspy.context(dspex_lab_job_log=None):
            print("a cell")
        thread = threading.Thread(target=print, args=("another thread",))
        thread.start()
        thread.join()
    print("after")
    assert log.lines == ("trial 1",)
    assert capsys.readouterr().out == "a cell\nanother thread\nafter\n"


def test_a_bar_that_has_not_moved_for_long_is_not_drawn_into_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet(JobLog()):
        bar = tqdm(total=9, file=sys.stdout, desc="stuck", miniters=5, maxinterval=0)
        monitor = TMonitor(tqdm, 0.001)
        while bar.miniters > 1:  # it sets that, and draws the bar
            assert monitor.is_alive()
        monitor.exit()
        bar.close()
    assert capsys.readouterr().out == ""
