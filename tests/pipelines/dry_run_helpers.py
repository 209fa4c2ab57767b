"""What the tests of the dry run share: its findings."""

from __future__ import annotations

from dspex_lab.pipelines import CheckReport


def texts(report: CheckReport, severity: str, step: str | None = None) -> list[str]:
    return [f.text for f in report.findings if f.severity == severity and (step is None or f.step == step)]
