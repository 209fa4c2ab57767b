"""DSPy's interpreter, in our sandbox. This module imports DSPy: it is imported when ``SandboxInterpreter`` is first used."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreterError, FinalOutput
from dspy.utils.callback import with_callbacks

from dspex_lab import errors
from dspex_lab.security.interpreter._errors import SessionLost, both, wrongly_given
from dspex_lab.security.interpreter._limits import limits_of
from dspex_lab.security.interpreter._opening import level_here, open_session
from dspex_lab.security.interpreter._own import packages as installed
from dspex_lab.security.interpreter._session import Done, Journal, Session
from dspex_lab.security.interpreter._telling import outcome_of, tell
from dspex_lab.security.interpreter._tools import call_tool, check_names
from dspex_lab.security.interpreter._values import jsonable
from dspex_lab.security.sandbox import CodeError, Limits

#: The interpreters whose code runs here: one of their tools may not run code in them.
_inside: ContextVar[tuple[int, ...]] = ContextVar("dspex_sandbox_inside", default=())


class _Ticket:
    """Whether an execution that somebody awaits is under way, and whether it is still wanted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = self.cancelled = False


_ticket: ContextVar[_Ticket | None] = ContextVar("dspex_execution", default=None)


class SandboxInterpreter:
    """Runs Python that a model wrote in a process that can do no harm; goes wherever ``dspy.PythonInterpreter`` goes.

    ::

        dspy.RLM("context, query -> answer", interpreter_factory=dx.SandboxInterpreter)
        dspy.RLM("context, query -> answer", interpreter_factory=dx.SandboxInterpreter.factory(timeout=60, memory="1 GB"))

        with dx.SandboxInterpreter(tools={"search": search}) as sandbox:
            sandbox.execute("found = search(query='x')")
            sandbox.execute("len(found)")

    The process is started by the first execution and has no network, no file of the machine, none of the environment and limits
    of time, memory and output. State is kept from one execution to the next. Code that breaks a limit or ends its process gets
    an error that a model can act on, and the next execution finds the state as it was before: what ran until then is done again
    in a new process, its tools answering as they did. Thread-safe: executions take turns. A copy or a pickle is a fresh
    interpreter with the same tools and limits.

    Args:
        tools: functions that the code can call by name; arguments and results cross as JSON. Coroutine functions too.
        output_fields: what ``SUBMIT`` takes, as DSPy gives it; None for one value.
        timeout: seconds one execution may take, the time in its tools left out.
        memory: the most memory the code may have, in bytes or as text (``"512 MB"``).
        output: bytes kept of what it prints.
        limits: all limits at once; those above are set on top.
        packages: whether the code may import the packages that are installed here (NumPy, pandas); else the standard library.
        callbacks: DSPy callbacks of this interpreter.

    Raises:
        ConfigurationError: a limit is none.
    """

    #: What DSPy tells the model of the place its code runs in.
    execution_instructions = (
        "Code runs as CPython in a sandboxed process. State persists across executions. The standard library is there, and so "
        "are the packages that are installed. There is no network, no file of the machine, no writing of files, no "
        "environment, no thread and no subprocess. Each execution has limits of time, memory and output. Tools and SUBMIT are "
        "global functions."
    )

    def __init__(
        self,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        output_fields: Sequence[Mapping[str, Any]] | None = None,
        *,
        timeout: float | None = None,
        memory: int | str | None = None,
        output: int | None = None,
        limits: Limits | None = None,
        packages: bool = True,
        callbacks: Sequence[Any] | None = None,
    ) -> None:
        self.limits = limits_of(limits, timeout=timeout, memory=memory, output=output)
        self.packages = packages
        self.tools: dict[str, Callable[..., Any]] = dict(tools or {})
        self.output_fields = None if output_fields is None else [dict(f) for f in output_fields]
        self.callbacks = list(callbacks or [])
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._journal = Journal()
        self._ended = False

    @classmethod
    def factory(cls, **limits: Any) -> InterpreterFactory:
        """Return what makes interpreters with these limits, for ``interpreter_factory=`` and ``dspy.configure``.

        Raises:
            ConfigurationError: a limit is none.
        """
        return InterpreterFactory(cls, limits)

    @property
    def level(self) -> str:
        """What holds the code: the layers of our sandbox, ``"deno …"``, or ``"none"``: then nothing will run."""
        return self._session.level if self._session is not None else level_here()

    # --- what DSPy asks ---------------------------------------------------------------------------------------------

    @with_callbacks
    def start(self) -> None:
        """Start the process; does nothing where it runs.

        Raises:
            SandboxUnavailable: this machine gives too little protection; nothing was run.
        """
        with self._lock:
            session = self._ready()
            if not session.alive:
                try:
                    session.run("", {}, {}, self.invoke_tool, None)
                except errors.SandboxUnavailable as error:
                    raise self._refused(error) from error

    @with_callbacks
    def execute(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        """Run code and return what it gave.

        Args:
            code: Python.
            variables: set as global names first. Text, numbers, lists, dicts, models, dataclasses; also NumPy arrays and
                DataFrames, which are what they were. Tuples and sets become lists, dates ISO text.

        Returns:
            ``dspy.primitives.code_interpreter.FinalOutput`` where it called ``SUBMIT``; else the value of its last expression;
            where that is None, what it printed.

        Raises:
            SyntaxError: it is no Python.
            CodeExecutionError: what it raised, or which limit it broke; then it is a ``SandboxError`` too.
            CodeInterpreterError: the interpreter was shut down, or what was given to it cannot be given to code.
            SandboxUnavailable: this machine gives too little protection; nothing was run.
        """
        if id(self) in _inside.get():
            raise CodeInterpreterError("A tool cannot run code in the interpreter that waits for it.")
        with self._lock:
            token = _inside.set((*_inside.get(), id(self)))
            ticket = _ticket.get() or _Ticket()
            try:
                with ticket.lock:
                    if ticket.cancelled:
                        raise CodeInterpreterError("This execution was cancelled before it began.")
                    ticket.running = True
                return self._execute(code, {} if variables is None else variables)
            finally:
                with ticket.lock:
                    ticket.running = False
                _inside.reset(token)

    @with_callbacks
    def invoke_tool(self, tool_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what a tool gives."""
        return call_tool(self.tools, tool_name, args, kwargs)

    @with_callbacks
    def shutdown(self) -> None:
        """End the process; the interpreter is of no use afterwards. More than once does no harm."""
        self._ended = True
        session, self._session = self._session, None
        if session is not None:
            session.close()
        self._journal = Journal()

    async def aexecute(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        """Run code as :meth:`execute` does, without blocking the event loop; cancelling ends the process."""
        ticket = _Ticket()
        before = _ticket.set(ticket)
        try:
            return await asyncio.to_thread(self.execute, code, variables)
        except asyncio.CancelledError:
            with ticket.lock:
                ticket.cancelled = True
                session = self._session if ticket.running else None  # else the process works for somebody else
            if session is not None:
                session.close()
            raise
        finally:
            _ticket.reset(before)

    def __call__(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        return self.execute(code, variables)

    def __enter__(self) -> SandboxInterpreter:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    async def __aenter__(self) -> SandboxInterpreter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.shutdown)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("limits", "packages", "tools", "output_fields", "callbacks")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, tools=dict(state["tools"]), callbacks=list(state["callbacks"]))
        self._begin()

    def __repr__(self) -> str:
        return f"SandboxInterpreter({_words(self.limits)}{''.join(f', {name}()' for name in self.tools)})"

    # --- the session ------------------------------------------------------------------------------------------------

    def _ready(self) -> Session:
        if self._ended:
            raise CodeInterpreterError("This interpreter was shut down; make a new one.")
        if self._session is not None and self._journal and not self._session.alive:
            self._drop()
        if self._session is None:
            try:
                session = open_session(self.limits, installed() if self.packages else ())
            except errors.SandboxUnavailable as error:
                raise self._refused(error) from error
            try:
                self._journal.replay(session)
            except BaseException as error:
                session.close()
                if not isinstance(error, errors.SandboxError):
                    raise
                self._ended = True
                raise SessionLost(
                    f"The state of the session could not be made again after its process had ended: {error}",
                    level=error.level,
                    hint="Make a new interpreter.",
                ) from error
            self._session = session
        return self._session

    def _prepared(self, session: Session, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variables as the session takes them, all names being fit for code."""
        try:
            check_names(self.tools, "tool")
            check_names((f.get("name") for f in self.output_fields or ()), "output field")
            check_names(variables, "variable", self.tools)
            return session.prepare(variables)
        except errors.ConfigurationError as error:
            raise wrongly_given(error) from error

    def _execute(self, code: str, variables: Mapping[str, Any]) -> Any:
        if not isinstance(code, str):
            raise CodeInterpreterError(f"code is {type(code).__name__}, not a text.")
        session = self._ready()
        entry = self._journal.begin(code, self._prepared(session, variables), self.tools, self.output_fields)

        def answer(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            try:
                value = jsonable(self.invoke_tool(name, args, kwargs))
            except Exception as problem:
                entry.answers.append((name, problem))
                raise
            entry.answers.append((name, value))
            return value

        clock, about = time.perf_counter(), {"level": session.level, "code": len(code)}
        try:
            done = session.run(code, entry.given, entry.tools, answer, entry.fields)
        except CodeError as error:
            self._journal.keep(entry)
            self._told(about, clock, entry.answers, "failed", error=str(error))
            raise _of_code(error) from (error.__cause__ or error)
        except errors.ConfigurationError as error:
            raise wrongly_given(error) from error
        except errors.SandboxUnavailable as error:
            raise self._refused(error) from error
        except errors.SandboxError as error:
            self._told(about, clock, entry.answers, outcome_of(error), error=str(error))
            if session.alive:
                self._journal.keep(entry)
                raise both(error) from error
            self._drop()
            raise both(error, "Names are as they were before this code ran.") from error
        except BaseException as error:
            # An interrupt, or a tool that ends more than itself: nobody knows how far the code came.
            self._drop()
            self._told(about, clock, entry.answers, "stopped", error=type(error).__name__)
            raise
        self._journal.keep(entry)
        outcome = "submitted" if done.final else "complete"
        self._told(about, clock, entry.answers, outcome, printed=len(done.printed), **done.facts)
        return _value(done)

    @staticmethod
    def _refused(error: errors.SandboxUnavailable) -> errors.SandboxError:
        """Tell that nothing was run, and return the error that says so."""
        tell("sandbox.refuse", {"level": error.level, "error": str(error)})
        return both(error)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _told(self, about: dict[str, Any], clock: float, answers: Sequence[Any], outcome: str, **more: Any) -> None:
        seconds = time.perf_counter() - clock
        tell("sandbox.run", {**about, "seconds": seconds, "outcome": outcome, "tools": len(answers), **more})


class InterpreterFactory:
    """Makes interpreters that have the same limits. Can be pickled; made by :meth:`SandboxInterpreter.factory`."""

    def __init__(self, kind: type[SandboxInterpreter], limits: Mapping[str, Any]) -> None:
        self._kind, self._limits = kind, dict(limits)
        self.execution_instructions = f"{kind.execution_instructions} Limits: {_words(kind(**limits).limits)}."

    def __call__(self) -> SandboxInterpreter:
        return self._kind(**self._limits)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._limits.items())
        return f"SandboxInterpreter.factory({told})"


def _value(done: Done) -> Any:
    if done.final:
        return FinalOutput(done.value)
    return done.value if done.value is not None else done.printed


def _of_code(error: CodeError) -> Exception:
    """Return the code's own failure as DSPy's modules know it; its text is what the model is shown."""
    if error.type == "SyntaxError":
        return SyntaxError(f"Invalid Python syntax. message: {error.message}")
    return CodeExecutionError(str(error))


def _words(limits: Limits) -> str:
    return f"{limits.seconds:g} s, {limits.memory / 1e6:,.0f} MB of memory, {limits.output / 1e6:g} MB printed"
