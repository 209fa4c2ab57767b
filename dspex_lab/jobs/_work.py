"""What a job does: the contract between jobs and the works (evaluate, optimize, tune, …) that they carry out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_lab.events import LMCall, Record, TrialRecord
from dspex_lab.lms import Budget, Ledger


@dataclass(frozen=True, slots=True)
class Plan:
    """What a work expects to take, before anything is spent; what nobody can say is None.

    Args:
        total: rows, trials or steps: the units of its progress.
        calls: calls of models.
        prompt_tokens: of what models are asked.
        answer_tokens: of what they answer.
        cost: US dollars; where it is None and the tokens are known, the price of the model in use says it.
        notes: what a person should know beforehand.
    """

    total: float | None = None
    calls: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cost: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int | None:
        """Of prompts and answers."""
        if self.prompt_tokens is None or self.answer_tokens is None:
            return None
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True)
class Found:
    """What a work had told when it was stopped or died.

    Args:
        state: what it kept last (:meth:`Reporter.keep`).
        trials: in their order.
        best: the best candidate it told of (:meth:`Reporter.best`), None for none.
        score: that one's.
    """

    state: Any = None
    trials: Sequence[TrialRecord] = ()
    best: Any = None
    score: float | None = None


class Reporter(Protocol):
    """What a work is given: how it tells, and what it is told. Thread-safe.

    Attributes:
        job_id: the job's.
        seed: what random choices are to be made from; None leaves them free.
        attempt: 1 the first time, one more each time it begins again.
        state: what it had kept when it was stopped or its worker or kernel died; None where it begins at the beginning.
        known: the numbers of the trials that the job told of before it began again. What it told just before its kernel died
            may not be among them: who keeps trials elsewhere tells of those again. None within another work: nobody knows.
        workers: how many pieces (:meth:`submit`) can be under way on different workers at once.
        folder: the job's own, for files it goes on from; None where it has none.
        number: by which people know the job; None where it has none.
    """

    job_id: str
    seed: int | None
    attempt: int
    state: Any
    known: frozenset[int] | None
    workers: int
    folder: str | None
    number: int | None

    @property
    def stopping(self) -> bool:
        """Whether it is to end soon, with the best so far: it was asked to stop, or its budget is spent. A work that looks
        here and then returns has been stopped, not completed."""
        ...

    def progress(self, done: float, total: float | None = None, note: str = "", score: float | None = None) -> None:
        """Tell how far it is, and the score so far; cheap enough to be called for each row."""
        ...

    def trial(self, score: float | None = None, **fields: Any) -> int:
        """Tell of a candidate that was tried and return its number.

        Args:
            score: higher is better.
            fields: those of :class:`~dspex_lab.events.TrialRecord`; ``number`` is the next one where it is not given, and
                ``status`` is ``"complete"``.
        """
        ...

    def best(self, candidate: Any, score: float | None = None) -> None:
        """Tell of the best candidate so far: what is left if the work has to be killed. It must be picklable."""
        ...

    def keep(self, state: Any) -> None:
        """Keep what the work goes on from if it begins again; first tell how far that is (:meth:`progress`).

        Args:
            state: picklable, and not changed afterwards. A function without parameters is called for it when it is written
                down, from another thread (in a worker: at once).
        """
        ...

    def submit(
        self, function: Callable[..., Any], *args: Any, told: Callable[[Any], None] | None = None, label: str | None = None
    ) -> Future[Any]:
        """Have a piece of a spread work done: on a worker of the job's pool, or in a thread of the kernel.

        The function is called as ``function(piece, *args)``: ``piece.tell(value)`` brings values to ``told`` while it runs,
        ``piece.stopping`` says whether it should end. If its worker dies it is not sent again: the future raises
        :class:`~dspex_lab.errors.WorkerKilled`, and the work, which knows what was told, decides. Of a budget each of several
        pieces has its share, and one alone all that is left: where a share did not suffice, send the rest alone.
        """
        ...

    def again(self, count: int) -> None:
        """Tell that so much of a piece is done a second time, because its worker died."""
        ...


class Work(Protocol):
    """One kind of job: a frozen, picklable description of all that it needs.

    :meth:`check` is called once, in the kernel, before anything is spent; :meth:`run` in a worker process, in a thread of the
    kernel where the job has no pool, and again with ``reporter.state`` after a stop or a death; :meth:`partial` in the kernel.
    Inherit from it for the defaults.

    Attributes:
        kind: ``"evaluate"``, ``"optimize"``, ``"tune"``, ``"train"``, or another word.
        spread: it runs in the kernel and only its pieces (:meth:`Reporter.submit`) on workers; else it goes whole to one.
        continues: it goes on from what it kept: it may begin again by itself after a worker's death. Without, a resume begins
            at the beginning, and only when a person asks.
    """

    kind: str
    spread: bool = False
    continues: bool = False

    def check(self, budget: Budget) -> Plan:
        """Return what it expects to take.

        Raises:
            DspexError: it cannot be done with what it was given (a row lacks a field, no values meet the constraints).
        """
        return Plan()

    def run(self, reporter: Reporter) -> Any:
        """Do it and return the result, which must be picklable. Models and settings are those of the job: a context
        surrounds it, and ``dspy.configure`` is never called."""
        ...

    def partial(self, found: Found) -> Any:
        """Return the result of what was told until it was killed; None where nothing is of use."""
        return found.best


class Surroundings(Protocol):
    """What a work finds around it: the model in use and whatever else is not part of it."""

    def entered(
        self, job_id: str, tell: Callable[[LMCall | Record], None], ledger: Ledger | None
    ) -> AbstractContextManager[Any]:
        """Return the context in which the work runs, in the process it is called in.

        Args:
            tell: takes the record of each call of a model; thread-safe.
            ledger: what may be spent.
        """
        ...

    def price(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost with the model in use, in US dollars; None where nobody says."""
        ...

    def away(self) -> Surroundings:
        """Return them as they travel to a worker: picklable, and without secrets.

        Raises:
            LMError: the model cannot travel.
        """
        ...


class Adopter(Protocol):
    """Puts what a job found in the place of what is in use, and takes it back."""

    def adopt(self, job_id: str, result: Any, **how: Any) -> Any:
        """Do so and return what :meth:`rollback` needs: plain data, which is kept beyond this process.

        Args:
            how: what :meth:`Job.adopt` was given.

        Raises:
            DspexError: there is nothing to put it in.
        """
        ...

    def rollback(self, job_id: str, receipt: Any, **how: Any) -> None:
        """Bring back what was in use before."""
        ...


#: What a job was started with, for people.
Settings = Mapping[str, Any]
