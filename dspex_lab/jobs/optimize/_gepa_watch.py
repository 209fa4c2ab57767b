"""Follows GEPA by its events: candidates with their parents, proposals that were rejected, its state after each iteration."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab.jobs.optimize._optimized import INSTRUCTIONS, Rejected

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course

_STATE = "gepa_state.bin"
_LOG = "run_log.jsonl"


class Stopper:
    """GEPA's stop condition: the job is to stop. It ends an iteration first."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def __call__(self, gepa_state: Any) -> bool:
        return self._course.stopping


@dataclass
class _Proposal:
    candidate: dict[str, str]
    parent: int
    before: float
    after: float
    rows: int
    changed: tuple[str, ...]


class Following:
    """GEPA's callback for one run, and the memory of what it rejected.

    Args:
        course: the run.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        own = dict(course.tried.own or {})
        #: The number of a trial by GEPA's index of a candidate.
        self._numbers: dict[int, int] = dict(own.get("numbers", {}))
        self._state: bytes | None = own.get("state")
        #: In the order in which they were rejected, earlier jobs' first.
        self.rejected: list[Rejected] = list(dict.fromkeys((*course.work.rejected, *own.get("rejected", ()))))
        self._since, self._before = time.monotonic(), course.meter.now
        self._texts: list[tuple[int, dict[str, str], dict[str, str]]] = []
        self._parents: list[tuple[int, dict[str, str]]] = []
        self._sums: dict[int, list[float]] = {}
        self._proposals: list[_Proposal] = []
        self._merging: tuple[Sequence[int], dict[str, str]] | None = None

    @property
    def folder(self) -> Path:
        """Where GEPA keeps what it does."""
        return self._course.folder / "gepa"

    def restore(self) -> None:
        """Put GEPA's state where it looks for it; there is none but what was kept with the job."""
        if self.folder.exists() and self._state is None:
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "gepa.stop").unlink(missing_ok=True)
        if self._state is not None:
            (self.folder / _STATE).write_bytes(self._state)
            self._course.note("GEPA went on from its state; the iteration that was under way was done again.")

    # ---- GEPA's events -----------------------------------------------------------------------------------------------

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """A candidate was taken into the pool, and evaluated on the validation rows."""
        course, at = self._course, int(event["candidate_idx"])
        scores = [float(score) for _, score in sorted(event["scores_by_val_id"].items(), key=lambda item: str(item[0]))]
        program = course.built(event["candidate"])
        parents = [self._numbers[p] for p in event["parent_ids"] if p is not None and p in self._numbers]
        note = f"merged from trials {parents[0]} and {parents[1]}" if len(parents) > 1 else None
        number = course.tried.add(
            program,
            scores,
            rows=f"val/{at}",
            whole=len(scores) == int(event["total_valset_size"]),
            parent=max(parents) if parents else None,
            measures=len(scores) == int(event["total_valset_size"]),
            note=note,
            **self._spent(),
        )
        self._numbers[at] = number
        course.measured()

    def on_candidate_selected(self, event: Mapping[str, Any]) -> None:
        """A candidate is to be improved."""
        self._parents.append((int(event["candidate_idx"]), dict(event["candidate"])))

    def on_iteration_start(self, event: Mapping[str, Any]) -> None:
        """An iteration begins: what an earlier one left is done with."""
        self._parents, self._texts, self._proposals, self._sums = [], [], [], {}
        self._merging = None

    def on_iteration_end(self, event: Mapping[str, Any]) -> None:
        """An iteration is over: it is written down. GEPA would keep the record of every one in its state, and write them all
        again, as text, after each."""
        trace = event["state"].full_program_trace
        with (self.folder / _LOG).open("a", encoding="utf-8") as log:
            log.writelines(f"{json.dumps(each, default=repr)}\n" for each in trace)
        trace.clear()

    def on_proposal_end(self, event: Mapping[str, Any]) -> None:
        """Texts were proposed for it."""
        at = min(len(self._texts), len(self._parents) - 1)
        parent, candidate = self._parents[at]
        self._texts.append((parent, candidate, dict(event["new_instructions"])))

    def on_evaluation_end(self, event: Mapping[str, Any]) -> None:
        """A candidate, or a proposal (without index), was evaluated on a minibatch."""
        scores = [float(score) for score in event["scores"]]
        if event["candidate_idx"] is not None:
            self._sums.setdefault(int(event["candidate_idx"]), []).append(sum(scores))
            return
        if len(self._proposals) < len(self._texts):
            parent, candidate, texts = self._texts[len(self._proposals)]
            before = (self._sums.get(parent) or [0.0])[-1]
            changed = tuple(name for name, text in texts.items() if candidate.get(name) != text)
            self._proposals.append(_Proposal({**candidate, **texts}, parent, before, sum(scores), len(scores), changed))

    def on_candidate_rejected(self, event: Mapping[str, Any]) -> None:
        """A proposal was not better on its minibatch."""
        found = [p for p in self._proposals if p.after == event["new_score"]] or self._proposals
        if not found:
            return
        proposal = found[0]
        self._proposals.remove(proposal)
        why = f"{proposal.after:g} of {proposal.rows} on a minibatch, and {proposal.before:g} before"
        self._reject(proposal.candidate, proposal.parent, proposal.after / max(1, proposal.rows), proposal.rows, why)
        for name in proposal.changed:
            self.rejected.append(Rejected(name, proposal.candidate[name], why))

    def on_merge_attempted(self, event: Mapping[str, Any]) -> None:
        """Two candidates were made into one."""
        self._merging = (event["parent_ids"], dict(event["merged_candidate"]))

    def on_merge_rejected(self, event: Mapping[str, Any]) -> None:
        """It was worse than both."""
        if self._merging is not None:
            parents, candidate = self._merging
            self._reject(candidate, max(parents), None, None, f"merged: {event['reason']}")

    def on_state_saved(self, event: Mapping[str, Any]) -> None:
        """GEPA's state was written: it goes on from here."""
        self._state = (self.folder / _STATE).read_bytes()
        self._keep()

    def on_error(self, event: Mapping[str, Any]) -> None:
        """An iteration broke."""
        self._course.log.line(f"GEPA, iteration {event['iteration']}: {event['exception']}")

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _reject(self, candidate: Mapping[str, str], parent: int, score: float | None, rows: int | None, why: str) -> None:
        course = self._course
        texts = {name + INSTRUCTIONS: text for name, text in candidate.items()}
        course.tried.told(
            f"rejected/{len(course.tried.records)}",
            score,
            status="rejected",
            parent=self._numbers.get(parent),
            candidate=texts,
            rows=rows,
            note=why,
            **self._spent(),
        )

    def _keep(self) -> None:
        self._course.tried.own = {"numbers": dict(self._numbers), "state": self._state, "rejected": tuple(self.rejected)}
        self._course.tried.keep()

    def _spent(self) -> dict[str, Any]:
        """Return what was spent and how long it took since the last trial: a proposal's reflection is a part of it."""
        now, bill = time.monotonic(), self._course.meter.now
        spent = bill.since(self._before)
        seconds, self._since, self._before = now - self._since, now, bill
        return {"seconds": seconds, "cost": spent.known, "calls": spent.calls}
