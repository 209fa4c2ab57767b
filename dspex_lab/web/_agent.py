"""Answers requests: finds the pipeline, runs it, and where it fails what fits the failure. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex_lab._options import RunOptions
from dspex_lab.lms import embed_text, make_lm
from dspex_lab.pipelines import Result, StreamEvent
from dspex_lab.web._ask import AUTO, Answer, Ask, answered
from dspex_lab.web._experience import Memory
from dspex_lab.web._fallbacks import Fallback, failure_of, fallbacks, told_of
from dspex_lab.web._offers import Catalogue, Offer
from dspex_lab.web._routing import LEAST, Embed, Kept, Ranked, Route, rank, route
from dspex_lab.workbench import Lab

#: Fallbacks of one request at most.
MOST = 2


class Unknown(Exception):
    """A client asked for a pipeline that is not offered."""

    def __init__(self, name: str, offered: Sequence[str]) -> None:
        super().__init__(name)
        self.name, self.offered = name, list(offered)


class Heard(NamedTuple):
    """Something that happened in a run; ``spoken`` where it is a token of the answer."""

    event: StreamEvent
    spoken: bool


@dataclass
class Try:
    """One run of a request, with what it asks."""

    offer: Offer
    inputs: dict[str, Any]
    model: Any = None
    fallback: Fallback | None = None


@dataclass
class Course:
    """One request on its way; made by :meth:`Agent.begin`."""

    ask: Ask
    route: Route
    began: float
    now: Try
    tried: list[str] = field(default_factory=list)
    left: Iterator[Fallback] | None = None
    seen: set[tuple[str, int]] = field(default_factory=set)

    def answer(self, result: Result) -> Answer:
        """Return what it comes to."""
        seconds = time.perf_counter() - self.began
        return Answer(self.ask, self.now.offer, result, self.route, self.now.fallback, tuple(self.tried), seconds)


class Agent:
    """Answers requests for the pipelines of a Lab.

    Args:
        lab: runs them.
        catalogue: what is offered.
        models: asked in place of the one in use where that fails, in this order; as ``lab.use`` takes them.
        declared: for a pipeline those that are tried where it fails.
        embed: texts to unit vectors, for the routing; by default by spelling, without a model.
        deadline: seconds that a request may take where it does not say.
    """

    def __init__(
        self,
        lab: Lab,
        catalogue: Catalogue,
        *,
        models: Sequence[Any] = (),
        declared: Mapping[str, Sequence[str]] | None = None,
        embed: Embed = embed_text,
        deadline: float | None = None,
    ) -> None:
        self.lab, self.catalogue = lab, catalogue
        self._models, self._declared = tuple(make_lm(model) for model in models), dict(declared or {})
        self._embed, self._deadline = Kept(embed), deadline
        self.memory = Memory(lab.store)

    def route(self, ask: Ask) -> Route:
        """Return who is to answer.

        Raises:
            Unknown: the request names a pipeline that is not offered, or none is.
            NoRoute: it names none, and none fits.
        """
        offers = self.catalogue.all()
        if ask.model != AUTO:
            if any(offer.name == ask.model for offer in offers):
                return Route(ask.model, "named")
            raise Unknown(ask.model, [offer.name for offer in offers])
        if not offers:
            raise Unknown(AUTO, [])
        able = [offer for offer in offers if ask.fits(offer)]
        return route(ask.words(), able or offers, self._embed, self.memory.experience())

    def begin(self, ask: Ask) -> Course:
        """Return the way of a request, for :meth:`answer` or :meth:`stream`; nothing is run yet.

        Raises:
            Unknown, NoRoute, Unfit: nobody can start on it.
        """
        began, found = time.perf_counter(), self.route(ask)
        offer = self.catalogue.get(found.name)
        if offer is None:  # it was taken away in this moment
            raise Unknown(found.name, [each.name for each in self.catalogue.all()])
        return Course(ask, found, began, Try(offer, ask.inputs_for(offer)), seen={(offer.name, id(None))})

    async def answer(self, course: Course) -> Answer:
        """Answer a request; cancelling it cancels the run."""
        while True:
            now = course.now
            with self._asking(now, course.ask):
                result = await self.lab.arun(now.offer.pipeline, now.inputs, options=self._options(course))
            if answered(now.offer, result) or not await self._fall_back(course, result):
                return course.answer(result)

    async def stream(self, course: Course) -> AsyncGenerator[Heard | Fallback | Answer, None]:
        """Yield what happens in the runs of a request, and last the answer; closing it ends the run.

        Where a pipeline fails after a token of its answer was handed out, nothing stands in for it.
        """
        spoken = False
        while True:
            now = course.now
            events = self.lab.astream(now.offer.pipeline, now.inputs, options=self._options(course))
            async with events:
                with self._asking(now, course.ask):  # the run begins with the first event, and keeps what is around it then
                    event = await anext(events, None)
                while event is not None:
                    heard = Heard(event, now.offer.speaks(event))
                    spoken = spoken or heard.spoken
                    if event.result is None:
                        yield heard
                    event = await anext(events, None)
            result = events.result
            if result is None:
                return
            if answered(now.offer, result) or spoken or not await self._fall_back(course, result):
                yield course.answer(result)
                return
            if course.now.fallback is not None:
                yield course.now.fallback

    # ---- one request -------------------------------------------------------------------------------------------------

    async def _fall_back(self, course: Course, result: Result) -> bool:
        """Set up what is tried next; return whether there is something."""
        now = course.now
        failure = failure_of(result.error, now.offer)
        course.tried.append(f"{now.offer.name}: {failure}: {told_of(result.error)}")
        if result.cancelled or len(course.tried) > MOST or self._left(course) == 0:
            return False
        ranked, like = await asyncio.to_thread(self._ranked, course)  # texts may be compared, which a model may do
        ways = fallbacks(failure, now.offer, ranked, course.ask.fits, like=like, models=self._models, declared=self._declared)
        for each in ways:
            key = (each.offer.name, id(each.model))
            if key in course.seen:
                continue
            course.seen.add(key)
            course.now = Try(each.offer, course.ask.inputs_for(each.offer), each.model, each)
            return True
        return False

    def _ranked(self, course: Course) -> tuple[list[Offer], set[str]]:
        """Return all offers, the best for the request first, and the names of those that are like it at all."""
        offers = self.catalogue.all()
        ranking: Sequence[Ranked] = course.route.ranking or rank(course.ask.words(), offers, self._embed)
        place = {each.name: at for at, each in enumerate(ranking)}
        like = {each.name for each in ranking if each.score >= LEAST}
        return sorted(offers, key=lambda offer: place.get(offer.name, len(place))), like

    def _options(self, course: Course) -> RunOptions:
        ask, left = course.ask, self._left(course)
        tags = ["web", f"request:{ask.id}", *ask.tags]
        if course.now.fallback is not None:
            tags.append(f"fallback:{course.now.fallback.failure}")
        return RunOptions(
            session=ask.session, deadline=None if left is None else max(0.001, left), seed=ask.seed, tags=tuple(tags)
        )

    def _left(self, course: Course) -> float | None:
        """Return the seconds that a request still has, None for any."""
        whole = course.ask.deadline if course.ask.deadline is not None else self._deadline
        return None if whole is None else max(0.0, course.began + whole - time.perf_counter())

    @contextlib.contextmanager
    def _asking(self, now: Try, ask: Ask) -> Iterator[None]:
        """Have the run ask another model, or the one in use with other settings."""
        if now.model is None and not ask.settings:
            yield
            return
        import dspy

        lm = self.lab.lm if now.model is None else now.model
        with dspy.context(lm=lm.copy(**ask.settings) if ask.settings else lm):
            yield
