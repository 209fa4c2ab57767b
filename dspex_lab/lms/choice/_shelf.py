"""``lab.lms``: the models a Lab may ask, what is known and measured of each, and the choice among them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._html import table
from dspex_lab.lms._make import OFFLINE_MODEL, describe, make_lm
from dspex_lab.lms.calls._chain import CACHE
from dspex_lab.lms.choice._available import Available, available
from dspex_lab.lms.choice._cache import CacheState, cache_state, clear_cache, switch_cache
from dspex_lab.lms.choice._capabilities import ABILITIES, ModelFacts, address_of, at, facts_of, price_text, set_model
from dspex_lab.lms.choice._keys import Keys
from dspex_lab.lms.choice._prices import set_price
from dspex_lab.lms.choice._prompts import Prompt, prompt_of
from dspex_lab.lms.choice._providers import check_name, is_provider, missing_key
from dspex_lab.lms.choice._requirements import Requirements, requirements
from dspex_lab.lms.choice._select import Candidate, Health, Selection, select
from dspex_lab.lms.choice._statistics import Measured, Statistics


@dataclass(slots=True)
class _Shelved:
    """A model of the Lab; ``lm`` is made when it is first needed."""

    model: str
    options: dict[str, Any]
    lm: Any = None
    quality: float | None = None
    last_resort: bool = False

    @property
    def address(self) -> str | None:
        given = self.options.get("api_base") or self.options.get("base_url")
        return address_of(self.lm) if self.lm is not None else given

    @property
    def target(self) -> str:
        """What a call of it goes to, as the gateway names it (``target_of``)."""
        return at(self.model, self.address)

    @property
    def lacks(self) -> str | None:
        """Say why it cannot be called, None where it can."""
        lm, options = self.lm, self.options
        if lm is not None and not isinstance(getattr(lm, "engine", None), str):
            return None
        missing = missing_key(self.model, {**(getattr(lm, "kwargs", None) or {}), **options})
        provider = self.model.partition("/")[0]
        return f"{' or '.join(missing)} is not set (%dspex key {provider} asks for it)" if missing else None


class LMs:
    """The models of one Lab. Thread-safe.

    There by themselves are the model in use and, as the last resort, the offline engine; others are added by name. Nothing
    is called, and no model is made, before it is asked for.

    Args:
        current: gives the model that a run would use now; ``offline`` the offline one.
        health: gives the state of the circuit breaker of a target (``provider/model@api_base``).
        fetch: gives the fields of the recorded call of an id, of the newest one for None; None where there is none.
        history: gives the recorded calls of former days, for the first who asks what was measured.
        statistics: what was measured; a new one by default.
    """

    def __init__(
        self,
        current: Callable[[], Any],
        offline: Callable[[], Any],
        *,
        health: Callable[[str], Health] = lambda target: "closed",
        fetch: Callable[[str | None], Mapping[str, Any] | None] = lambda call_id: None,
        history: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
        statistics: Statistics | None = None,
    ) -> None:
        self.keys = Keys()
        self._statistics = statistics or Statistics()
        self._history: Callable[[], Iterable[Mapping[str, Any]]] | None = history
        self._current, self._offline, self._health, self._fetch = current, offline, health, fetch
        self._added: dict[str, _Shelved] = {}
        self._lock = threading.RLock()

    @property
    def statistics(self) -> Statistics:
        """What was measured, in former days too."""
        with self._lock:
            history, self._history = self._history, None
        if history is not None:
            self._statistics.seed(history())
        return self._statistics

    # --- what is there ----------------------------------------------------------------------------------------

    def add(self, lm: Any, *, name: str | None = None, quality: float | None = None, check: bool = True, **options: Any) -> str:
        """Add a model to choose from, and return its name here. Its key may be entered later.

        Args:
            lm: ``"provider/model"`` or a ``dspy.LM``.
            name: its name here; its own by default. Adding another model under that name replaces it.
            quality: how good you know it to be, 0 to 1, higher is better.
            check: compare its name with the providers and models that are known.
            options: handed to ``dspy.LM`` (``temperature=``, ``api_base=`` …).

        Raises:
            LMError: there is no such provider, or the model's name is a slip of the pen.
            ConfigurationError: the quality is no number from 0 to 1, or the name is taken by the Lab.
        """
        requirements({"quality": quality})
        made = None if isinstance(lm, str) else make_lm(lm, **options)
        model = lm.strip() if isinstance(lm, str) else describe(made)
        if model in ("offline", OFFLINE_MODEL) or name == OFFLINE_MODEL:
            raise ConfigurationError(f"{OFFLINE_MODEL!r} is always here, as the last resort.", key="lm", actual=name or model)
        if made is None and check:
            check_name(model, options)
        with self._lock:
            self._added[name or model] = _Shelved(model, {} if made is not None else dict(options), made, quality)
        return name or model

    def remove(self, name: str) -> None:
        """Take a model out that was added.

        Raises:
            ConfigurationError: none was added under that name.
        """
        with self._lock:
            if self._added.pop(name, None) is None:
                raise ConfigurationError(
                    f"No model {name!r} was added.{did_you_mean(name, self._added)}",
                    key="lm",
                    expected=list(self._added),
                    actual=name,
                    hint="The model in use and the offline engine are always here." if name in self else None,
                )

    def _shelf(self) -> dict[str, _Shelved]:
        """Return the models to choose from now, by name."""
        lm = self._current()
        name = describe(lm)
        with self._lock:
            found = dict(self._added)
        if name != OFFLINE_MODEL and not any(shelved.lm is lm for shelved in found.values()):
            found.setdefault(name, _Shelved(name, {}, lm))
        found[OFFLINE_MODEL] = _Shelved(OFFLINE_MODEL, {}, self._offline() if name != OFFLINE_MODEL else lm, last_resort=True)
        return found

    def _candidate(self, name: str, shelved: _Shelved) -> Candidate:
        return Candidate(
            name=name,
            facts=facts_of(shelved.lm if shelved.lm is not None else shelved.model, shelved.address),
            measured=self.statistics.of(shelved.model),
            health=self._health(shelved.target),
            quality=shelved.quality,
            unavailable=shelved.lacks,
            last_resort=shelved.last_resort,
        )

    def __iter__(self) -> Iterator[Candidate]:
        """Yield the models to choose from now, with what is known and measured of them."""
        return iter([self._candidate(name, shelved) for name, shelved in self._shelf().items()])

    def __len__(self) -> int:
        return len(self._shelf())

    def __contains__(self, name: object) -> bool:
        return name in self._shelf()

    def __getitem__(self, name: str) -> Any:
        """Return the model of that name, made when it is first asked for.

        Raises:
            ConfigurationError: there is none.
        """
        return self._lm(name, self._shelf())

    def _lm(self, name: str, shelf: Mapping[str, _Shelved]) -> Any:
        shelved = shelf.get(name)
        if shelved is None:
            raise ConfigurationError(
                f"There is no model {name!r} here.{did_you_mean(name, shelf)}",
                key="lm",
                expected=list(shelf),
                actual=name,
                hint="Add it: lab.lms.add('provider/model').",
            )
        with self._lock:
            if shelved.lm is None:
                shelved.lm = make_lm(shelved.model, check=False, **shelved.options)
            return shelved.lm

    def available(self, provider: str | None = None) -> Available:
        """Return the providers that could be asked: those whose key is there and the servers that were configured.

        They are offered, not taken: a model is chosen only where it is in use or was added.

        Args:
            provider: only this one; all its known models are in ``[0].models``.

        Raises:
            ConfigurationError: that one is not available.
        """
        return available(self.keys, provider)

    # --- what is known ----------------------------------------------------------------------------------------

    def facts(self, model: Any = None) -> ModelFacts:
        """Return what is known about a model without calling it; of the one in use where none is named.

        Args:
            model: a name here, ``"provider/model"``, or a ``dspy.LM``.
        """
        if model is None:
            return facts_of(self._current())
        shelved = self._shelf().get(model) if isinstance(model, str) else None
        return facts_of(model) if shelved is None else self._candidate(model, shelved).facts

    def measured(self, model: Any = None) -> Measured:
        """Return how a model did until now; the one in use where none is named."""
        return self.statistics.of(self._model(model))

    def score(self, value: float, model: Any = None, *, name: str = "score") -> None:
        """Take note of how good an answer was, 0 to 1, by the name of the metric; of the model in use where none is named.

        Raises:
            ConfigurationError: it is no such number.
        """
        self.statistics.score(self._model(model), value, name)

    def _model(self, model: Any) -> str:
        if not isinstance(model, str):
            return describe(self._current() if model is None else model)
        shelved = self._shelf().get(model)
        return model if shelved is None else shelved.model

    def observe(self, record: Any) -> None:
        """Take note of a record of the Lab's bus."""
        self._statistics.observe(record)

    def set_model(self, model: str, **facts: Any) -> ModelFacts:
        """Say what is true of a model, in the place of what the tables say, and return what is known then.

        See :func:`~dspex_lab.lms.choice._capabilities.set_model`.
        """
        set_model(model, **facts)
        return self.facts(model)

    def set_price(self, model: str, *, input: float | None, output: float | None = None) -> ModelFacts:  # noqa: A002
        """Say what a model costs, in US dollars per million tokens, and return what is known then; None forgets it."""
        set_price(model, input=input, output=output)
        return self.facts(model)

    # --- choosing ---------------------------------------------------------------------------------------------

    def select(self, wanted: Requirements | None = None, /, **needs: Any) -> Selection:
        """Choose among the models here by what is needed; nothing is called.

        Args:
            needs: see :class:`Requirements`: ``structured``, ``streaming``, ``tools``, ``vision``, ``reasoning``, ``local``
                (True), ``context``, ``price``, ``cost``, ``latency``, ``quality``, ``prefer``, ``exclude``, ``providers``.

        Returns:
            ``.lm`` is the chosen model, ``.order`` the names of it and of those to fall back on, ``.reasons`` says why.

        Raises:
            ConfigurationError: no model has all of it; the message says for each what it lacks. Or a need is none.
        """
        asked = requirements(needs) if wanted is None else wanted
        shelf = self._shelf()
        for key, names in (("exclude", asked.exclude), ("providers", asked.providers)):
            self._check_names(key, names, shelf)
        candidates = [self._candidate(name, shelved) for name, shelved in shelf.items()]
        return select(asked, candidates, lambda name: self._lm(name, shelf))

    def _check_names(self, key: str, names: Iterable[str], shelf: Mapping[str, _Shelved]) -> None:
        """Refuse a name that is mistyped: it would exclude nothing, or everything."""
        for name in names:
            models = {*shelf, *(s.model for s in shelf.values())}
            here = {m.partition("/")[0] for m in models} | (models if key == "exclude" else set())
            if name not in here and not is_provider(name):
                raise ConfigurationError(
                    f"{key}={name!r} names no model here and no provider.{did_you_mean(name, here)}",
                    key=key,
                    expected=sorted(here),
                    actual=name,
                )

    def chain(self, *models: Any) -> list[Any]:
        """Return models to be asked one after the other, each where those before it failed.

        Args:
            models: names here, ``"provider/model"``, ``dspy.LM`` objects, a :class:`Selection` (all of its order), or
                ``"cache"`` (an answer that one of them gave before). Without any: those that :meth:`select` would order.

        Raises:
            LMError: there is no such model, or its key is missing.
        """
        found: list[Any] = []
        shelf = self._shelf()
        for model in models or (self.select(),):
            if isinstance(model, Selection):
                found += model.lms
            elif model == CACHE:
                found.append(CACHE)
            elif isinstance(model, str) and model in shelf:
                found.append(self._lm(model, shelf))
            else:
                found.append(make_lm(model))
        return [lm for place, lm in enumerate(found) if not any(lm is other for other in found[:place])]

    # --- the cache and the prompts ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Any]:
        """Have the model in use answer anew in the block: nothing is read from DSPy's cache, nothing written to it.

        Yields that model. A program whose steps have models of their own keeps those, and their caches.
        """
        import dspy

        lm = self._current().copy(cache=False)
        with dspy.context(lm=lm):
            yield lm

    @property
    def cache(self) -> CacheState:
        """What DSPy's cache holds."""
        return cache_state()

    def switch_cache(self, on: bool) -> CacheState:
        """Switch DSPy's cache on or off for this process, and return how it is now; off keeps what it holds."""
        return switch_cache(on)

    def clear_cache(self) -> CacheState:
        """Remove every answer from DSPy's cache, also on the disk, and return what it held."""
        return clear_cache()

    def prompt(self, call_id: str) -> Prompt:
        """Return the exact prompt of a recorded call, and what came back.

        Raises:
            ConfigurationError: no call of that id was recorded.
        """
        found = self._fetch(call_id)
        if found is None:
            raise ConfigurationError(
                f"No call {call_id!r} was recorded.",
                key="call_id",
                actual=call_id,
                hint="%dspex sql SELECT call_id, step, model, started FROM lm_calls ORDER BY started DESC lists them.",
            )
        return prompt_of(found)

    def last_prompt(self) -> Prompt:
        """Return the exact prompt of the newest recorded call.

        Raises:
            ConfigurationError: none was recorded.
        """
        found = self._fetch(None)
        if found is None:
            raise ConfigurationError("No call of a model was recorded yet.", key="call_id", hint="Run something that asks one.")
        return prompt_of(found)

    # --- showing ----------------------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, ...]]:
        used = describe(self._current())
        return [
            (
                c.name,
                "in use" if used == c.name else "last resort" if c.last_resort else "",
                f"{c.facts.context:,}" if c.facts.context else "unknown",
                price_text(c.facts.price),
                ", ".join(a for a in ABILITIES if getattr(c.facts, a)) or "unknown",
                str(c.measured),
                c.unavailable or {"closed": "ready", "half_open": "tried again", "open": "fails now"}[c.health],
            )
            for c in self
        ]

    def __repr__(self) -> str:
        return "\n".join(" · ".join(part for part in row if part) for row in self._rows())

    def _repr_html_(self) -> str:
        head = ("model", "", "takes tokens", "price", "can", "measured", "state")
        return table(head, self._rows(), "Models of this Lab")
