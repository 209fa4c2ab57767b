"""The doors to jobs: evaluate, compare, optimize and tune anything that a Lab can run, in the background."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.jobs import Dataset, Job, Jobs, Models, Shelf, evaluate
from dspex_lab.lms import describe
from dspex_lab.pipelines import Alone, Pipeline, is_dspy_module, run_in
from dspex_lab.store import DatasetTable, JobTable, ProgramTable
from dspex_lab.variables.expose import Exposure
from dspex_lab.workbench._adopting import Adopting
from dspex_lab.workbench._adoptions import Adoption, Programs
from dspex_lab.workbench._comparing import Compare
from dspex_lab.workbench._held_out import HELD_OUT, held_out
from dspex_lab.workbench._job_parts import PipelineBuild, beside_of, label_of, metric_of, named, said_of
from dspex_lab.workbench._targets import Target
from dspex_lab.workbench._variables import VariableDoors


class JobDoors(VariableDoors):
    """``jobs``, ``evaluate``, ``compare``, ``optimize``, ``tune`` and ``programs``."""

    @property
    def jobs(self) -> Jobs:
        """The jobs of this store, also those of earlier kernels: ``lab.jobs[3]``, ``lab.jobs.stop(3)``, ``lab.jobs.resume(3)``.

        A job that was under way when its kernel ended is ``interrupted`` and can be resumed.
        """
        with self._idle:
            self._ensure_open()
            if self._jobs is None:
                book = JobTable(self.store)
                self._adopting = Adopting(self, self.bus)
                self._jobs = Jobs(
                    book,
                    shelf=Shelf(book, self.jobs_folder),
                    pool=self.pools.get,
                    emit=self.bus.emit,
                    surroundings=self._around_jobs,
                    ledger=self.ledger,
                    adopter=self._adopting,
                )
                self._closers.append(self._jobs.close)
                if any(row.kind == "tune" and row.state != "complete" for row in book.rows()):
                    self._know_space()
                self._adopting.guards.restore(self._jobs)
            found: Jobs = self._jobs
            return found

    @property
    def programs(self) -> Programs:
        """The versions of programs that jobs made and that were put to use; see :meth:`Job.adopt`."""
        self.jobs  # noqa: B018 - what puts them to use is made with the jobs
        found: Programs = self._adopting.programs
        return found

    def _in_use(self, name: str, pipeline: Pipeline) -> Pipeline:
        """Return a pipeline that is defined with what was adopted for it by an earlier kernel, or before its cell ran again."""
        if name != pipeline.name or ProgramTable(self.store).in_use(name) is None:
            return pipeline
        self.jobs  # noqa: B018 - what puts versions to use is made with the jobs
        found: Pipeline = self._adopting.defined(pipeline, [one.named for one in self._exposed if one.exposure.bound])
        return found

    @property
    def adoption(self) -> Adoption | None:
        """The last adoption of this kernel, or the last way back: what changed, and by which figures; None before the first."""
        return None if self._adopting is None else self._adopting.last

    @property
    def datasets(self) -> list[str]:
        """The names of the data sets that are kept."""
        return sorted(set(DatasetTable(self.store).list()["name"]))

    def evaluate(
        self,
        x: Any,
        *,
        data: Any,
        metric: Any,
        pool: str | None = None,
        name: str | None = None,
        seed: int | None = None,
        budget: Any = None,
        inputs: Sequence[str] | None = None,
        concurrency: int = 16,
        fresh: bool = False,
    ) -> Job:
        """Run ``x`` on every row, score each answer, and return the job at once; ``.result()`` waits for its
        :class:`~dspex_lab.jobs.Evaluation`: the score with its interval, every row, the failed ones with their errors.

        Args:
            x: a pipeline, its name in this Lab, a step, a function, a DSPy module or a signature, with the values that it has
                now. Its runs are those of the job and no runs of the Lab.
            data: a DataFrame, a list of dicts, ``dspy.Examples``, the path of a Parquet, CSV or JSONL file, a data set or the
                name of one (``"tickets"``, ``"tickets.test"`` for a part).
            metric: ``metric(example, prediction)``, or the name of a metric (:func:`dx.metric`).
            pool: whose workers the rows run on; None is threads of this kernel.
            budget: what it may spend: US dollars, ``"$2, 50k tokens, 100 calls"`` or a ``dx.Budget``.
            inputs: the fields that ``x`` is given, where nobody else says.
            concurrency: rows under way at once.
            fresh: no cache answers.

        Raises:
            ConfigurationError: a row lacks a field, the metric or the data make no sense, a budget of 0. Nothing was run.
            Unserialisable: with ``pool``: a part of it cannot travel; ``.path`` says which.
        """
        program, target = self._program(x, pool)
        work = evaluate(program, self._rows(data), metric_of(metric), inputs=inputs, concurrency=concurrency)
        settings = {"metric": named(metric), "data": said_of(data), "lm": describe(self._models.current())}
        around = {"fresh": True} if fresh else None
        return self._start(work, target, name, pool=pool, budget=budget, seed=seed, settings=settings, around=around)

    def compare(
        self,
        a: Any,
        b: Any,
        *,
        data: Any,
        metric: Any,
        level: float = 0.95,
        pool: str | None = None,
        name: str | None = None,
        seed: int | None = None,
        budget: Any = None,
        inputs: Sequence[str] | None = None,
        concurrency: int = 16,
        parent: str | None = None,
    ) -> Job:
        """Evaluate two programs on the same rows and return the job at once; its result says by how much ``a`` is better than
        ``b``, with the interval of a paired bootstrap, and how likely that is by chance.

        Args:
            a, b: as ``x`` of :meth:`evaluate`, as are the other arguments.
            level: of the interval.
            parent: the id of the job that it is part of.
        """
        rows, judge = self._rows(data), metric_of(metric)
        (one, target), (other, _) = self._program(a, pool), self._program(b, pool)
        first = evaluate(one, rows, judge, inputs=inputs, concurrency=concurrency)
        second = evaluate(other, rows, judge, inputs=first.inputs, concurrency=concurrency)
        settings = {"metric": named(metric), "data": said_of(data)}
        called = name or f"{target.name} against {label_of(b)}"
        work = Compare(first, second, level)
        return self._start(work, target, called, pool=pool, budget=budget, seed=seed, settings=settings, parent=parent)

    def optimize(
        self,
        x: Any,
        *,
        optimizer: Any = "miprov2",
        metric: Any,
        trainset: Any,
        valset: Any = None,
        heldout: Any = None,
        budget: Any = None,
        seed: int | None = None,
        pool: str | None = "optimizer",
        name: str | None = None,
        **settings: Any,
    ) -> Job:
        """Have an optimizer improve ``x`` and return the job at once; ``.result().program`` is the best program, and
        ``job.adopt()`` puts it to use.

        Args:
            x: as for :meth:`evaluate`; it is left as it is.
            optimizer: a name (``"miprov2"``, ``"gepa"``, …), or an optimizer of DSPy's, its own class or yours.
            trainset, valset: rows, as ``data`` of :meth:`evaluate`.
            heldout: rows that the optimizer does not see: :meth:`Job.adopt` compares on them, and refuses what is not better.
            pool: whose worker it runs on; None is a thread of this kernel.
            settings: of the optimizer.

        Raises:
            ConfigurationError: a row lacks a field (also a held-out one), a setting there is not, a budget of 0. Nothing was
                run.
        """
        from dspex_lab.jobs.optimize import optimize, remembered

        program, target = self._program(x, pool, whole=True)
        judge, rows = metric_of(metric), self._rows(trainset)
        work = optimize(
            program,
            optimizer=optimizer,
            metric=judge,
            trainset=rows,
            valset=self._rows(valset),
            seed=seed,
            rejected=remembered(self.jobs, program),
            **settings,
        )
        held = held_out(self._rows(heldout), work.inputs, judge, work.train, target.kind)
        said = {**work.described(), "metric": named(metric), "data": said_of(trainset), **_said_of_held(held)}
        job = self._start(work, target, name, pool=pool, budget=budget, seed=seed, settings=said)
        self._hold_out(job, held, judge)
        return job

    def tune(
        self,
        x: Any,
        *,
        variables: Any = None,
        metric: Any,
        data: Any,
        trials: int = 40,
        beside: Any = None,
        heldout: Any = None,
        budget: Any = None,
        seed: int | None = None,
        pool: str | None = "general",
        name: str | None = None,
        **settings: Any,
    ) -> Job:
        """Search the values of variables under which ``x`` does best and return the job at once; ``job.adopt()`` commits them.

        Args:
            x: as for :meth:`evaluate`; it is exposed where it is not (:meth:`expose`).
            variables: names of variables or patterns (``"support.*"``); None is all that ``x`` has and that can be searched.
            data: rows, as for :meth:`evaluate`.
            trials: how many values are tried.
            beside: an optimizer that rewrites the program's instructions and demonstrations meanwhile: as for
                :meth:`optimize`, or a dict of it and its settings: ``{"optimizer": "gepa", "rounds": 2, "auto": "light"}``.
                It learns from the very rows that the trials are scored on, unless the dict has a ``"trainset"`` (and a
                ``"valset"``) of its own, which is the safer way: what is learned by heart is then not taken for better.
                Each round begins with the newest values; what is better, of both, is committed as it is found
                (``lab.variables.rollback`` goes back), and the result says what gained what.
            heldout: as for :meth:`optimize`, not for a function; with ``beside``, rows on which what each gains is measured.
            pool: whose workers the trials run on, several at once; None is threads of this kernel.
            settings: more of :func:`dspex_lab.jobs.tune.tune`: ``objectives``, ``pruner``, ``sampler``, ``parallel`` …; with
                ``commit="end"`` the best values become the present ones without being asked.

        Raises:
            ConfigurationError, VariableError: no such variable, constraints that no values can meet, a row that lacks a field,
                a budget of 0. Nothing was run.
        """
        from dspex_lab.jobs.tune import tune

        _, target = self._program(x, pool)
        exposure = None if target.kind == "function" else self.exposure_of(x)
        judge, held = metric_of(metric), self._rows(heldout)
        if exposure is not None and isinstance(exposure.program, Pipeline):
            settings.setdefault("build", PipelineBuild.of(exposure))
        work = tune(
            x if exposure is None else exposure,
            variables,
            judge,
            self._rows(data),
            trials,
            space=self.variables,
            folder=self.jobs.around.shelf.folder,
            key=self._key,
            **{"commit": "never", **settings},
        )
        said = {"metric": named(metric), "data": said_of(data), "trials": trials, "variables": list(work.search.names)}
        if beside is not None:
            both = beside_of(beside, exposure, work, held, self._rows)
            said["beside"] = both.side.called
            return self._start(both, target, name, pool=pool, budget=budget, seed=seed, settings=said)
        held = held_out(held, work.inputs, judge, work.rows, target.kind)
        job = self._start(work, target, name, pool=pool, budget=budget, seed=seed, settings=said | _said_of_held(held))
        self._hold_out(job, held, judge)
        return job

    # ---- what they share ---------------------------------------------------------------------------------------------

    def _start(self, work: Any, target: Target, name: str | None, *, settings: Mapping[str, Any], **how: Any) -> Job:
        if name is not None and target.kind == "module":
            target = replace(target, name=name)  # a class has many modules, and no other name tells them apart
        job = self.jobs.start(work, name=name or target.name, settings={"target": target.describe(), **settings}, **how)
        self._adopting.targets.note(job.id, target)
        return job

    @property
    def _key(self) -> str:
        """What tells the variables of this store in every process."""
        path = str(self.store.path)
        return self.id if path == ":memory:" else str(Path(path).absolute())

    def _know_space(self) -> None:
        """Let a search of an earlier kernel find its variables when it goes on."""
        from dspex_lab.jobs.tune import know_space

        know_space(self.variables, self._key)

    def _around_jobs(self, fresh: bool = False) -> Models:
        import dspy

        return Models(self._models.current(), dspy.settings.adapter, self.gateway, self.id, fresh)

    def _hold_out(self, job: Job, heldout: Any, metric: Any) -> None:
        if heldout is not None:
            job._account.keep(HELD_OUT, (heldout, metric))

    def _rows(self, data: Any) -> Any:
        """Return data as the works take it: the name of a data set stands for its rows."""
        if not isinstance(data, str):
            return data
        table, (name, dot, part) = DatasetTable(self.store), data.rpartition(".")
        known = set(table.list()["name"])
        if data in known:
            return Dataset.load(table, data)
        if Path(data).suffix.lower() in _FILES:
            return data
        if dot and name in known:
            whole = Dataset.load(table, name)
            return Dataset(name, {part: whole[part]}, whole.inputs, whole.version, whole.source)
        raise ConfigurationError(
            f"There is no data set {data!r}, and it is no file of rows.",
            key="data",
            expected=sorted(known),
            actual=data,
            hint="lab.dataset(name, data) keeps one; files end in .parquet, .csv, .tsv, .jsonl or .json.",
        )

    def _program(self, x: Any, pool: str | None, whole: bool = False) -> tuple[Any, Target]:
        """Return what a job calls for ``x``, a copy with its present values, and where a result of that job would go.

        Args:
            whole: it is to be a DSPy module, whatever ``x`` is.
        """
        self._ensure_open()
        alone = Alone() if pool is not None else Alone(self.router, self.pools.get)
        if is_dspy_module(x) and not isinstance(getattr(x, "pipeline", None), Pipeline):
            with ExitStack() as stack:
                for one in self._exposed:
                    if one.program() is x and one.exposure.bound:
                        running = stack.enter_context(one.exposure.running())
                        return run_in(running.program, alone), self._module_target(x)
            return run_in(x, alone), self._module_target(x)
        if inspect.isroutine(x) and not whole:
            return x, Target(label_of(x), "function")
        pipeline, modules = self._find(x)
        if getattr(x, "step_modules", None) is not None:
            return run_in(x, alone), Target(pipeline.name, "pipeline", lambda: self.pipelines.get(pipeline.name, pipeline))
        with ExitStack() as stack:
            bound = stack.enter_context(self._bind(pipeline, modules)) if self._space is not None else None
            chosen = pipeline if bound is None else bound.pipeline
            if bound is not None and bound.modules:
                chosen = chosen.with_steps(
                    {n: chosen.steps[n].with_target(m) for n, m in bound.modules.items() if n in chosen.steps}
                )
            made = chosen.as_module(alone)
        return made, Target(pipeline.name, "pipeline", lambda: self.pipelines.get(pipeline.name, pipeline))

    def _find(self, x: Any) -> tuple[Pipeline, Mapping[str, Any]]:
        if self._adopting is not None and isinstance(x, Pipeline):
            self._adopting.say_if_replaced(x)
        return super()._find(x)

    def _module_target(self, module: Any) -> Target:
        prefix = next((one.exposure.prefix for one in self._exposed if one.program() is module), "")
        return Target(prefix or type(module).__name__.lower(), "module", weakref.ref(module))

    def exposure_of(self, x: Any) -> Exposure:
        """Return what binds a program's knobs to variables; it is exposed where it is not yet."""
        program = self._find(x)[0] if isinstance(x, str) else x
        found = [one.exposure for one in self._exposed if one.program() is program and one.exposure.bound]
        return found[0] if found else self.expose(program)

    def _exposures(self, program: Any) -> Iterator[Exposure]:
        yield from (one.exposure for one in self._exposed if one.program() is program and one.exposure.bound)


def _said_of_held(held: Any) -> dict[str, str]:
    return {} if held is None else {HELD_OUT: said_of(held)}


_FILES = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
