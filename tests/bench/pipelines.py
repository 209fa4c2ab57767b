"""What an engine adds to the steps of a pipeline: ours, telemetry on, beside bare asyncio and the engines others use.

    python tests/bench/pipelines.py [--only chain,fanout,rows,diamond] [--rounds N]

All run in turns in one process on the same steps. A figure is the median over the rounds of the mean of one round, after a
warm-up, with the garbage collector as it is. A peer that cannot be imported is left out; all of them:

    pip install pipefunc sf-hamilton haystack-ai pydantic-graph langgraph

``chain``: ten steps, one after the other, that do nothing. ``fanout``: twenty that do nothing, and one that joins them.
``rows``: 1,000 rows through three steps of 1 ms, 32 rows at once. ``diamond``: how long until the end of a branch of 1 ms and
15 ms beside a sibling of 50 ms. "with flush" counts the time until the records are in the file, too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import importlib.util
import inspect
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

from pipelines_tasks import EXPECTED, ROWS, SPECS, TIMES, TITLES, UNITS, WIDTH, Contender, done, ended, functions, in_workers

# --- bare asyncio -----------------------------------------------------------------------------------------------------


def bare(task: str) -> list[Contender]:
    steps = functions(task)
    create = asyncio.create_task

    async def chain(x: int) -> int:
        for step in steps.values():
            x = await create(step(x))
        return x

    async def chain_at_once(x: int) -> int:
        async def after(step: Callable[[int], Awaitable[int]], before: asyncio.Task[int]) -> int:
            return await step(await before)

        first, *rest = steps.values()
        last = create(first(x))
        for step in rest:
            last = create(after(step, last))
        return await last

    branches = [step for name, step in steps.items() if name != "joined"]

    async def fanout(x: int) -> int:
        return await create(steps["joined"](*await asyncio.gather(*(b(x) for b in branches))))

    async def diamond(x: int) -> int:
        async def fast(x: int) -> int:
            return await steps["after"](await steps["quick"](x))

        source = await create(steps["source"](x))
        return await create(steps["joined"](*await asyncio.gather(steps["slow"](source), fast(source))))

    async def row(x: int) -> int:
        for step in steps.values():
            x = await step(x)
        return x

    call = {"chain": chain, "fanout": fanout, "rows": row, "diamond": diamond}[task]
    more = [Contender("asyncio, all ten tasks made at once", chain_at_once)] if task == "chain" else []
    return [Contender("bare asyncio", call), *more]


# --- peers ------------------------------------------------------------------------------------------------------------


def pipefunc(task: str) -> list[Contender]:
    from pipefunc import PipeFunc, Pipeline

    steps = functions(task, sync=True)
    pipeline = Pipeline([PipeFunc(f, output_name=n) for n, f in steps.items()])
    last = next(reversed(steps))
    one = pipeline.func(last)
    threads = ThreadPoolExecutor(WIDTH)

    def by_map(x: int) -> Any:
        return pipeline.map({"x": x}, executor=threads, storage="dict", show_progress=False)[last].output

    def rows(xs: list[int]) -> list[Any]:
        return list(threads.map(lambda x: one(x=x), xs))

    if task == "diamond":
        return [Contender("pipefunc, map in threads", by_map)]
    return [Contender("pipefunc, sync" if task != "rows" else "pipefunc, in threads", lambda x: one(x=x), rows)]


def hamilton(task: str) -> list[Contender]:
    from hamilton import ad_hoc_utils, async_driver

    steps = functions(task)
    last = next(reversed(steps))
    module = ad_hoc_utils.create_temporary_module(*steps.values(), module_name=f"bench_{task}")
    driver = async_driver.Builder().with_modules(module).build_without_init()

    async def call(x: int) -> Any:
        return (await driver.execute([last], inputs={"x": x}))[last]

    return [Contender("Hamilton, async", call)]


def haystack(task: str) -> list[Contender]:
    from haystack import Pipeline, component

    @component
    class Does:
        def __init__(self, step: Callable[..., Any], needs: tuple[str, ...]) -> None:
            self.step = step
            component.set_input_types(self, **dict.fromkeys(needs, int))
            component.set_output_types(self, value=int)

        def run(self, **inputs: int) -> dict[str, int]:
            raise NotImplementedError

        async def run_async(self, **inputs: int) -> dict[str, int]:
            return {"value": await self.step(**inputs)}

    steps, pipeline = functions(task), Pipeline()
    for name, needs, _ in SPECS[task]:
        pipeline.add_component(name, Does(steps[name], needs))
    starts = [name for name, needs, _ in SPECS[task] if "x" in needs]
    for name, needs, _ in SPECS[task]:
        for need in needs:
            if need != "x":
                pipeline.connect(f"{need}.value", f"{name}.{need}")
    last = next(reversed(steps))

    async def call(x: int) -> Any:
        given = {name: {"x": x} for name in starts}
        return (await pipeline.run_async(given, concurrency_limit=WIDTH))[last]["value"]

    return [Contender("Haystack", call)]


def pydantic_graph(task: str) -> list[Contender]:
    from pydantic_graph import GraphBuilder, StepContext, reduce_list_append

    steps = functions(task)
    builder: Any = GraphBuilder(input_type=int, output_type=int)
    nodes, entries = dict[str, Any](), dict[str, Any]()
    for name, needs, _ in SPECS[task]:

        async def work(ctx: StepContext[None, None, Any], step: Any = steps[name], joins: bool = len(needs) > 1) -> int:
            return await (step(*ctx.inputs) if joins else step(ctx.inputs))

        nodes[name] = entries[name] = builder.step(work, node_id=name)
        if len(needs) > 1:
            entries[name] = builder.join(reduce_list_append, initial_factory=list, node_id=f"{name}_join")
            builder.add(builder.edge_from(entries[name]).to(nodes[name]))
    readers: dict[str, list[str]] = {}
    for name, needs, _ in SPECS[task]:
        for need in needs:
            readers.setdefault(need, []).append(name)
    for need, names in readers.items():
        builder.add(builder.edge_from(nodes.get(need, builder.start_node)).to(*(entries[n] for n in names)))
    builder.add(builder.edge_from(nodes[next(reversed(steps))]).to(builder.end_node))
    graph = builder.build()

    async def call(x: int) -> Any:
        return await graph.run(inputs=x)

    return [Contender("pydantic-graph", call)]


def langgraph(task: str) -> list[Contender]:
    from langgraph.graph import START, StateGraph

    steps = functions(task)
    keys: Any = {"x": int, **dict.fromkeys(steps, int)}
    builder = StateGraph(TypedDict("State", keys))
    for name, needs, _ in SPECS[task]:

        async def work(state: Any, name: str = name, needs: tuple[str, ...] = needs) -> dict[str, int]:
            return {name: await steps[name](*(state[n] for n in needs))}

        # Node names and state keys must differ there.
        builder.add_node(f"n_{name}", work)
    for name, needs, _ in SPECS[task]:
        before = [f"n_{n}" for n in needs if n != "x"]
        builder.add_edge(before if len(before) > 1 else (before or [START])[0], f"n_{name}")
    graph, last = builder.compile(), next(reversed(steps))

    async def call(x: int) -> Any:
        return (await graph.ainvoke({"x": x}))[last]

    async def rows(xs: list[int]) -> list[Any]:
        out = await graph.abatch([{"x": x} for x in xs], {"max_concurrency": WIDTH})
        return [o[last] for o in out]

    return [Contender("LangGraph", call, rows)]


def dspy_parallel(task: str) -> list[Contender]:
    import dspy

    steps = list(functions(task, sync=True).values())

    class Row(dspy.Module):
        def forward(self, x: int) -> int:
            for step in steps:
                x = step(x)
            return x

    program = Row()
    parallel = dspy.Parallel(num_threads=WIDTH, disable_progress_bar=True)

    def rows(xs: list[int]) -> Any:
        return parallel([(program, {"x": x}) for x in xs])

    return [Contender("DSPy Parallel", None, rows)]


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(task: str, lab: Any) -> list[Contender]:
    import dspex_lab as dx

    pipeline = dx.pipeline(task, **functions(task))
    plain = dx.pipeline(f"{task}_sync", **functions(task, sync=True))
    last = next(reversed(pipeline.steps))

    async def arun(x: int) -> Any:
        return (await lab.arun(pipeline, x=x)).outputs[last]

    def run(x: int) -> Any:
        return lab.run(plain, x=x).outputs[last]

    def mapped(chosen: Any) -> Callable[[list[int]], list[Any]]:
        return lambda xs: list(lab.map(chosen, [{"x": x} for x in xs], concurrency=WIDTH, progress=False)[last])

    flush = lab.store.flush
    if task == "rows":
        return [
            Contender("dspex_lab, lab.map", None, mapped(pipeline), flush),
            Contender("dspex_lab, lab.map, sync functions", None, mapped(plain), flush),
        ]
    return [
        Contender("dspex_lab, lab.arun", arun, settle=flush),
        Contender("dspex_lab, lab.run, sync functions", run, settle=flush),
    ]


# --- measuring --------------------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[Callable[[str], list[Contender]], tuple[str, ...]]] = {
    "pipefunc": (pipefunc, ("chain", "fanout", "rows", "diamond")),
    "hamilton": (hamilton, ("chain", "fanout", "rows", "diamond")),
    "haystack": (haystack, ("chain", "fanout", "rows", "diamond")),
    "pydantic_graph": (pydantic_graph, ("chain", "fanout", "rows", "diamond")),
    "langgraph": (langgraph, ("chain", "fanout", "rows", "diamond")),
    "dspy": (dspy_parallel, ("rows",)),
}


def contenders(task: str, lab: Any) -> Iterator[Contender]:
    yield from bare(task)
    for package, (make, tasks) in PEERS.items():
        if task in tasks and importlib.util.find_spec(package) is not None:
            yield from make(task)
    yield from ours(task, lab)


async def once(contender: Contender, task: str) -> float:
    """Return the seconds of one round of the task."""
    call, xs = contender.call, list(range(ROWS))
    start = time.perf_counter()
    if task == "rows":
        out = await (done(contender.rows(xs)) if contender.rows else in_workers(contender.call, xs))  # type: ignore[arg-type]
        assert list(out) == [x + 3 for x in xs], contender.name
        return time.perf_counter() - start
    assert call is not None
    for _ in range(TIMES[task]):
        value = call(1)
        if inspect.isawaitable(value):
            value = await value
    assert value == EXPECTED[task], (contender.name, value)
    return (ended[0] if task == "diamond" else time.perf_counter()) - start


async def measure(task: str, lab: Any, rounds: int) -> list[Contender]:
    entered = list(contenders(task, lab))
    for number in range(-2, rounds):
        for contender in entered:
            clock = time.perf_counter()
            seconds = await once(contender, task)
            if contender.settle is not None:
                contender.settle()
                whole = time.perf_counter() - clock
            if number >= 0:
                contender.seconds.append(seconds / TIMES[task])
                if contender.settle is not None and task != "diamond":
                    contender.settled.append(whole / TIMES[task])
    return entered


def table(task: str, entered: list[Contender]) -> str:
    unit, scale = UNITS[task]
    base = statistics.median(entered[0].seconds)
    lines = [f"### {TITLES[task]}", "", f"| | {unit} | × bare asyncio | with flush | × |", "|---|---|---|---|---|"]
    for contender in entered:
        value = statistics.median(contender.seconds)
        whole = statistics.median(contender.settled) if contender.settled else None
        tail = f"{whole * scale:.3g} | {whole / base:.2f}" if whole is not None else " | "
        lines.append(f"| {contender.name} | {value * scale:.4g} | {value / base:.2f} | {tail} |")
    return "\n".join(lines)


def header(rounds: int) -> str:
    found = []
    for package in ("dspy", "duckdb", "pipefunc", "sf-hamilton", "haystack-ai", "pydantic-graph", "langgraph"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} missing (pip install {package})")
    return f"Python {platform.python_version()}; {'; '.join(found)}; median of {rounds} rounds; gc {gc.get_threshold()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SPECS), help="tasks, with commas between them")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each task (default: 15, of rows and diamond 5)")
    chosen = parser.parse_args()
    import dspy  # noqa: F401 - as for anyone who uses the Lab

    import dspex_lab as dx

    print(header(chosen.rounds or 15), flush=True)
    with tempfile.TemporaryDirectory() as folder, dx.Lab(Path(folder) / "bench.duckdb") as lab:
        for task in chosen.only.split(","):
            rounds = chosen.rounds or (15 if TIMES[task] > 1 else 5)
            print(f"\n{table(task, asyncio.run(measure(task, lab, rounds)))}", flush=True)


if __name__ == "__main__":
    main()
