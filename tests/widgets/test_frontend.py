"""The browser's half: its tests pass, what is shipped is what is built, and both halves say the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from graphs import support
from widget_records import Emits, whole_run

from dspex_lab.widgets import RunState, _format, _text
from dspex_lab.widgets._nodes import walk

ROOT = Path(__file__).parents[2]
FRONT = ROOT / "widgets"
STATIC = ROOT / "dspex_lab" / "static"

node = shutil.which("node")
needs_node = pytest.mark.skipif(node is None, reason="node is not installed")
needs_modules = pytest.mark.skipif(
    not (FRONT / "node_modules" / "esbuild").is_dir() or node is None,
    reason="the front-end's packages are not installed: run `npm ci` in widgets/",
)


def ask(code: str, value: Any) -> Any:
    """Run a module in node that has ``value`` and prints its answer as JSON."""
    program = f"const value = JSON.parse(process.argv[1]);\n{code}"
    command = [str(node), "--input-type=module", "-e", program, json.dumps(value)]
    return json.loads(subprocess.run(command, cwd=FRONT, capture_output=True, text=True, check=True).stdout)


@needs_modules
def test_what_is_shipped_is_what_is_built(tmp_path: Path) -> None:
    build = json.loads((FRONT / "package.json").read_text())["scripts"]["build"]
    command = re.sub(r"--outdir=\S+", f"--outdir={tmp_path}", build)
    esbuild, *arguments = command.split()
    subprocess.run([FRONT / "node_modules" / ".bin" / esbuild, *arguments], cwd=FRONT, check=True, capture_output=True)
    for name in ("run.js", "pipeline.js", "board.js", "job.js", "thumbs.js", "run.css", "board.css", "job.css"):
        assert (STATIC / name).read_text() == (tmp_path / name).read_text(), "run `npm run build` in widgets/"


@needs_modules
def test_the_browsers_tests_pass() -> None:
    tests = sorted(str(p.relative_to(FRONT)) for p in (FRONT / "test").glob("*.test.js"))
    assert tests
    done = subprocess.run([str(node), "--test", *tests], cwd=FRONT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_shipped_asks_for_nothing() -> None:
    for name in ("run.js", "pipeline.js", "board.js", "job.js", "thumbs.js", "run.css", "board.css", "job.css"):
        text = (STATIC / name).read_text()
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|@import|url\(|\bimport\(|innerHTML", text)


def test_motion_is_only_for_those_who_want_it() -> None:
    css = (FRONT / "src" / "run.css").read_text()
    wanted = css.index("prefers-reduced-motion: no-preference")
    assert [m.start() > wanted for m in re.finditer(r"animation:", css)] == [True]


def test_the_lock_names_no_registry() -> None:
    for entry in json.loads((FRONT / "package-lock.json").read_text())["packages"].values():
        assert "resolved" not in entry


def test_what_builds_is_pinned() -> None:
    wanted = json.loads((FRONT / "package.json").read_text())
    assert "dependencies" not in wanted
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted["devDependencies"].values())


NUMBERS = [0, 0.0001, 0.0004, 0.0005, 0.00123, 0.00995, 0.0125, 0.34, 0.94, 0.95, 0.9995, 1, 2.25, 4.25, 9.949, 9.95, 12.5]
NUMBERS += [59.4, 59.5, 60, 61.5, 184, 3599.6, 7500, 9999, 10000, 12350, 99950, 999949, 999950, 4500000]


@needs_node
def test_both_halves_write_numbers_alike() -> None:
    code = """import * as f from "./src/format.js";
    console.log(JSON.stringify(Object.fromEntries(["seconds", "left", "cost", "rate"].map((n) => [n, value.map(f[n])])
      .concat([["count", value.map((v) => f.count(Math.floor(v)))]]))));"""
    answer = ask(code, NUMBERS)
    for name in ("seconds", "left", "cost", "rate"):
        assert answer[name] == [getattr(_format, name)(n) for n in NUMBERS], name
    assert answer["count"] == [_format.count(int(n)) for n in NUMBERS]
    assert _format.seconds(None) == ""


def states(graph: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    lab = {"limits": {"calls": 1, "tokens": 12_000}, "fraction": 1.005}
    run, rows = RunState(graph), RunState(graph, total_rows=1500, limits={"cost": 0.29}, account=lambda: lab)
    out = [run.snapshot()]
    for record in whole_run():
        run.apply(record)
        out.append(run.snapshot())
    rows.apply(Emits("m").start(kind="map"))
    for i in range(1200):
        row = Emits(f"row{i}")
        failed = i % 7 == 0
        rows.apply(row.call("label", 20, 3, 0.0001, hit=i % 5 == 0, simulated=False))
        rows.apply(row.call("label", 20, 3, simulated=False))
        rows.apply(row.span("label", 0.02, "failed" if failed else "complete", "bad" if failed else None))
        rows.apply(row.row("m", ("complete", "partial", "failed", "cancelled")[i % 4], at=i / 100))
    row = Emits("row0")
    for name, times in (("lm.retry", 1), ("fallback.use", 1201), ("hedge.win", 2), ("breaker.open", 1)):
        for _ in range(times):
            rows.apply(row.event(name, "maker/<b>"))
    rows.apply(row.event("degradation.change", "degradation", after="no_second_opinions"))
    rows.apply(row.call("label", simulated=False)._replace(again=True))
    out.append(rows.snapshot())
    rows.apply(row.event("lm.retry"))
    rows.apply(Emits("m").end("failed", 12, "map", error="gone"))
    return [*out, rows.snapshot()]


def nested_states() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    run = RunState(support())
    emits = Emits(name="support")
    out = []
    for record in (
        emits.start(),
        emits.step("about.item"),
        *(emits.span("about.item", 0.04, s) for s in ("complete", "partial", "failed", "complete")),
        emits.call("about.item", 280, 32),
        emits.span("about", 0.2, "partial", "1 of 4 items"),
        emits.end("partial", 0.6),
    ):
        run.apply(record)
        out.append(run.snapshot())
    return out


@needs_node
@pytest.mark.parametrize("nested", [False, True])
def test_both_halves_say_the_same(graph: dict[str, Any], nested: bool) -> None:
    code = """import * as t from "./src/text.js";
    const [graph, states] = value;
    console.log(JSON.stringify({ words: t.WORDS, icons: t.ICONS, said: states.map(([steps, s]) => [
      t.tokensText(s), t.costText(s), t.errorText(s), t.notesText(s.notes), t.budgetText(s.budgets),
      s.rows && t.rowsText(s.rows), s.rows && t.shares(s.rows),
      graph.map(([name, n]) => [n, steps[name], s.rows !== null]).map(([n, step, isMap]) =>
        [t.stepLine(n, step, isMap), t.stepLabel(n, step, isMap), t.outcomes(step), t.callsText(step),
         t.costText(step)])])}));"""
    snapshots = nested_states() if nested else states(graph)
    nodes = list(walk(support() if nested else graph))
    answer = ask(code, [nodes, snapshots])
    assert answer["words"] == _text.WORDS
    assert answer["icons"] == _text.ICONS
    for (steps, summary), said in zip(snapshots, answer["said"], strict=True):
        is_map = summary["rows"] is not None
        each = [
            [
                _text.step_line(n, step, is_map),
                _text.step_label(n, step, is_map),
                _text.outcomes(step),
                _text.calls_text(step),
                _text.cost_text(step),
            ]
            for n, step in ((n, steps[name]) for name, n in nodes)
        ]
        assert said == [
            _text.tokens_text(summary),
            _text.cost_text(summary),
            _text.error_text(summary),
            _text.notes_text(summary["notes"]),
            _text.budget_text(summary["budgets"]),
            _text.rows_text(summary["rows"]) if is_map else None,
            _text.shares(summary["rows"]) if is_map else None,
            each,
        ]
