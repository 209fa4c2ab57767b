"""``NativePredict`` and ``NativeCoT``: a signature answered by a model with no DSPy module or adapter in the way.

Signature → compiled prompt (:mod:`._prompt`) → engine → parser (:mod:`._answer`). Prompts, demonstrations, answers,
second tries and errors are those of ``dspy.Predict`` and ``dspy.ChainOfThought`` under ``ChatAdapter`` and
``JSONAdapter`` of DSPy 3.4.1, so a program that was optimized in DSPy runs here unchanged. What cannot be kept is
refused by :func:`supports` and :func:`adapter_in_force`; DSPy's modules then do the work.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from dspex_lab.errors import ConfigurationError
from dspex_lab.native._answer import AnswerReader
from dspex_lab.native._convert import Convertible, as_dspy, chain_signature, check_plain, dumped, loaded
from dspex_lab.native._prompt import CompiledPrompt, Message
from dspex_lab.native._style import STYLES, Style, adapter_in_force, response_format
from dspex_lab.native._transport import Transport, current_transport

logger = logging.getLogger(__name__)

_TOOL_SETTINGS = ("tools", "tool_choice", "parallel_tool_calls")


@functools.cache
def _dspy() -> Any:
    """Return what each call needs of DSPy; it is loaded here."""
    import dspy
    from dspy.clients.call_context import adapter_fallback_scope

    return types.SimpleNamespace(
        BaseLM=dspy.BaseLM,
        settings=dspy.settings,
        AdapterParseError=dspy.utils.exceptions.AdapterParseError,
        adapter_fallback_scope=adapter_fallback_scope,
    )


class _Ask(NamedTuple):
    lm: Any
    messages: list[Message]
    config: dict[str, Any]


#: A question to put, or a function to run first that may be slow (it looks up what a model can do).
_Need: TypeAlias = _Ask | Callable[[], Any]
_Answers: TypeAlias = Generator[_Need, Any, dict[str, Any]]


class NativePredict:
    """Answers a signature with one call of a model. Thread-safe; can be pickled (without API keys and histories).

    It is no ``dspy.Module``: optimizers do not see it, nothing is added to DSPy's trace, and callbacks are told of the
    LM call alone. Optimize with DSPy and take over the result with :meth:`from_dspy`.

    Args:
        signature: a signature of this package, a ``dspy.Signature`` class, or its string.
        demos: demonstrations (``dspy.Example`` or dict), copied now; later changes of the list do not matter.
        config: settings of each LM call (``temperature``, ``rollout_id``, …).
        adapter: ``"chat"`` or ``"json"``; None is what ``dspy.settings.adapter`` says at each call.
        lm: the model; None is ``dspy.settings.lm`` at each call.
        transport: how it is called; None is the one of :func:`use_transport`.

    Raises:
        ConfigurationError: the signature has a field that only DSPy can fill (see :func:`supports`), or the adapter is
            unknown.
    """

    #: The name of the DSPy module that does the same.
    stands_for: ClassVar[str] = "Predict"

    def __init__(
        self,
        signature: Convertible,
        *,
        demos: Iterable[Any] = (),
        config: Mapping[str, Any] | None = None,
        adapter: Literal["chat", "json"] | None = None,
        lm: Any = None,
        transport: Transport | None = None,
    ) -> None:
        if adapter is not None and adapter not in STYLES:
            raise ConfigurationError(
                f"adapter={adapter!r} is unknown.", key="adapter", expected=[*STYLES, None], actual=adapter
            )
        self._fill(self._prepared(as_dspy(signature)), demos, config or {}, adapter, lm, transport)

    def _prepared(self, signature: Any) -> Any:
        return signature

    def _fill(
        self,
        signature: Any,
        demos: Iterable[Any],
        config: Mapping[str, Any],
        adapter: Literal["chat", "json"] | None,
        lm: Any,
        transport: Transport | None = None,
    ) -> None:
        from dspy import Reasoning

        self.signature, self.demos, self.config = signature, tuple(demos), dict(config)
        self.adapter, self.lm, self.transport = adapter, lm, transport
        fields = self.signature.input_fields
        self._defaults = {n: f.default for n, f in fields.items() if not f.is_required() and f.default_factory is None}
        self._wanted = frozenset(fields)
        self._reasoning = [n for n, f in self.signature.output_fields.items() if f.annotation is Reasoning]
        self._made: dict[Any, tuple[CompiledPrompt, AnswerReader]] = {}
        self._formats: dict[Any, Any] = {}

    def __call__(self, /, **inputs: Any) -> dict[str, Any]:
        """Return the output fields.

        Args:
            inputs: the input fields. One with a default may be left out; others that are missing, and those the
                signature does not know, are told of in the log and left out of the prompt, as DSPy does.

        Raises:
            dspy.utils.exceptions.AdapterParseError: the answer cannot be read, nor that to the second try in JSON.
            ConfigurationError: there is no model, or the adapter in force has no equal here.
        """
        transport = self.transport or current_transport[0]
        with _dspy().adapter_fallback_scope() as progress:
            work = self._work(inputs, progress)
            try:
                need = next(work)
                while True:
                    need = work.send(transport.call(*need) if isinstance(need, _Ask) else need())
            except StopIteration as done:
                answer: dict[str, Any] = done.value
                return answer

    async def acall(self, /, **inputs: Any) -> dict[str, Any]:
        """Return the output fields without blocking the event loop; as :meth:`__call__` in all else."""
        transport = self.transport or current_transport[0]
        with _dspy().adapter_fallback_scope() as progress:
            work = self._work(inputs, progress)
            try:
                need = next(work)
                while True:
                    if isinstance(need, _Ask):
                        need = work.send(await transport.acall(*need))
                    else:
                        need = work.send(await asyncio.to_thread(need))
            except StopIteration as done:
                answer: dict[str, Any] = done.value
                return answer

    def _work(self, inputs: dict[str, Any], progress: Any) -> _Answers:
        lm, style = self._surroundings()
        config = self._settings(lm)
        inputs = self._checked(inputs)
        try:
            return (yield from self._try(lm, style, config, inputs))
        except _dspy().AdapterParseError:
            if not style.json_fallback or progress.emitted:
                raise
        # As DSPy: the same settings, which the first try may have added to, and the same switch for tools.
        return (yield from self._try(lm, Style("json", style.native_calls, False), config, inputs))

    def _surroundings(self) -> tuple[Any, Style]:
        dspy = _dspy()
        settings = dspy.settings
        lm = self.lm if self.lm is not None else settings.lm
        if not isinstance(lm, dspy.BaseLM):
            raise ConfigurationError(
                "There is no model to ask." if lm is None else f"The model is {type(lm).__name__}, not a dspy.LM.",
                key="lm",
                expected="a dspy.LM",
                actual=lm,
                hint="Give one: dspy.configure(lm=dspy.LM('openai/gpt-5-mini')), or lab.use('offline').",
            )
        style = STYLES[self.adapter] if self.adapter else adapter_in_force(settings.adapter)
        if isinstance(style, str):
            raise ConfigurationError(
                f"The adapter in force cannot be used natively: {style}.",
                key="adapter",
                expected=["ChatAdapter", "JSONAdapter"],
                actual=type(settings.adapter).__name__,
                hint=f"Give adapter='chat' or 'json', or run dspy.{self.stands_for}.",
            )
        return lm, style

    def _settings(self, lm: Any) -> dict[str, Any]:
        config, defaults = dict(self.config), lm.kwargs
        count = config.get("n") or defaults.get("n") or defaults.get("num_generations") or 1
        temperature = config.get("temperature") or defaults.get("temperature")
        if (temperature is None or temperature <= 0.15) and count > 1:
            config["temperature"] = 0.7
        return config

    def _checked(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs.keys() == self._wanted:
            return inputs
        inputs = {**self._defaults, **inputs}
        if unknown := [name for name in inputs if name not in self._wanted]:
            logger.warning("The signature has no input %s; it has %s.", unknown, sorted(self._wanted))
        from dspy.adapters.utils import annotation_allows_none

        fields = self.signature.input_fields
        if missing := [n for n, f in fields.items() if n not in inputs and not annotation_allows_none(f.annotation)]:
            logger.warning("Input %s was not given; the prompt goes without.", missing)
        return inputs

    def _try(self, lm: Any, style: Style, config: dict[str, Any], inputs: dict[str, Any]) -> _Answers:
        if style.form == "json":
            yield from self._looked_up(lm, config, lambda: self._choose_format(lm, config, style.native_calls))
        if not style.native_calls:
            for key in _TOOL_SETTINGS:
                config.pop(key, None)
        left_out: frozenset[str] = frozenset()
        if self._reasoning:
            left_out = yield from self._looked_up(lm, config, lambda: self._native_reasoning(lm, config))
        prompt, reader = self._compiled(style, left_out)
        messages = prompt.messages(inputs)
        if config.get("parallel_tool_calls") is not None:
            config.setdefault("tool_choice", "auto")
        outputs = yield _Ask(lm, messages, config)
        # Every candidate is read, also those not asked for here: one that cannot be read fails the call, as in DSPy.
        candidates = [reader.read(output) for output in outputs]
        return candidates[0]

    def _looked_up(self, lm: Any, config: dict[str, Any], look: Callable[[], Any]) -> Generator[_Need, Any, Any]:
        """Run ``look`` where what the model can do is known at once, or where it may take its time."""
        from dspy.clients.capabilities import planning_scope

        def scoped() -> Any:
            with planning_scope(lm, config):
                return look()

        if isinstance(getattr(lm, "engine", None), str):
            return (yield scoped)
        return scoped()

    def _choose_format(self, lm: Any, config: dict[str, Any], native_calls: bool) -> None:
        """Ask for JSON by the model's own means, where it has some (``json_adapter.py: _prepare_response_format``)."""
        if "response_format" not in lm.supported_params:
            return
        schema = lm.supports_response_schema
        key = (bool(schema), native_calls)
        if key not in self._formats:
            # DSPy's adapter says which; the class it makes is kept, for making it takes milliseconds.
            self._formats[key] = response_format(self.signature, native_calls, bool(schema))
        chosen = self._formats[key]
        config["response_format"] = dict(chosen) if isinstance(chosen, dict) else chosen

    def _native_reasoning(self, lm: Any, config: dict[str, Any]) -> frozenset[str]:
        """Turn on the model's own reasoning for fields of that type; return those it then fills beside its text."""
        from dspy import Reasoning

        signature = self.signature
        for name in self._reasoning:
            signature = Reasoning.adapt_to_native_lm_feature(signature, name, lm, config)
        return frozenset(self._reasoning) - frozenset(signature.output_fields)

    def _compiled(self, style: Style, left_out: frozenset[str]) -> tuple[CompiledPrompt, AnswerReader]:
        key = (style.form, style.native_calls, left_out)
        made = self._made.get(key)
        if made is None:
            asked = self.signature
            for name in left_out:
                asked = asked.delete(name)
            prompt = CompiledPrompt(asked, self.demos, style.form, style.native_calls)
            made = self._made[key] = (prompt, AnswerReader(asked, style.form, self.signature))
        return made

    @classmethod
    def from_dspy(cls, module: Any, *, adapter: Literal["chat", "json"] | None = None) -> NativePredict:
        """Return the native form of a ``dspy.Predict`` or ``dspy.ChainOfThought``: its signature, demos, config and LM.

        Raises:
            ConfigurationError: the module does more than these two do, or is of another kind than this class.
        """
        predictor, kind = check_plain(module)
        made_by = NativeCoT if kind == "ChainOfThought" else NativePredict
        if cls is not NativePredict and not issubclass(made_by, cls):
            raise ConfigurationError(
                f"{cls.__name__} does not stand for dspy.{kind}.", key="module", expected=cls.stands_for, actual=kind
            )
        # A copy, so that what is done to the list of the module afterwards does not reach this one.
        demos = [d.copy() if hasattr(d, "copy") else d for d in predictor.demos]
        return made_by._of(predictor.signature, demos, predictor.config, adapter, predictor.lm)

    @classmethod
    def _of(cls, signature: Any, demos: Iterable[Any], config: Mapping[str, Any], adapter: Any, lm: Any) -> NativePredict:
        """Return one whose signature is taken as it stands."""
        made = cls.__new__(cls)
        made._fill(as_dspy(signature), demos, config, adapter, lm)
        return made

    def to_dspy(self) -> Any:
        """Return a new ``dspy.Predict`` that does the same."""
        import dspy

        made = dspy.Predict(self.signature, **self.config)
        made.demos, made.lm = list(self.demos), self.lm
        return made

    def dump_state(self) -> dict[str, Any]:
        """Return what DSPy's module of the same state dumps: demonstrations, signature, LM without its key."""
        state: dict[str, Any] = self.to_dspy().dump_state()
        return state

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> NativePredict:
        """Take over a state that this class or DSPy's module dumped, and return self.

        Args:
            state: as JSON gives it back. It may replace the instructions and the descriptions of fields.
            allow_unsafe_lm_state: see ``dspy.Predict.load_state``; only for files you trust.

        Raises:
            ConfigurationError: the state is of a signature with other fields.
        """
        self._take(self.to_dspy(), state, allow_unsafe_lm_state)
        return self

    def _take(self, module: Any, state: Mapping[str, Any], allow: bool) -> None:
        said = len(state["signature"]["fields"])
        if said != len(self.signature.fields):
            raise ConfigurationError(
                f"The state is of a signature with {said} fields; this one has {len(self.signature.fields)}.",
                key="state",
                expected=list(self.signature.fields),
                actual=[f.get("prefix") for f in state["signature"]["fields"]],
            )
        module.load_state(dict(state), allow_unsafe_lm_state=allow)
        self._fill(module.signature, module.demos, self.config, self.adapter, module.lm, self.transport)

    def __getstate__(self) -> dict[str, Any]:
        return dumped(self.signature, self.demos, self.config, self.adapter, self.lm, self.transport)

    def __setstate__(self, state: dict[str, Any]) -> None:
        signature, lm = loaded(state)
        self._fill(signature, state["demos"], state["config"], state["adapter"], lm, state["transport"])

    def __repr__(self) -> str:
        fields = f"{', '.join(self.signature.input_fields)} -> {', '.join(self.signature.output_fields)}"
        return f"{type(self).__name__}({fields!r}, demos={len(self.demos)})"


class NativeCoT(NativePredict):
    """:class:`NativePredict` that reasons step by step first, as ``dspy.ChainOfThought`` does.

    ``reasoning`` is its first output.
    """

    stands_for: ClassVar[str] = "ChainOfThought"

    def _prepared(self, signature: Any) -> Any:
        return chain_signature(signature)

    def to_dspy(self) -> Any:
        """Return a new ``dspy.ChainOfThought`` that does the same."""
        import dspy

        made = dspy.ChainOfThought(self.signature.delete("reasoning"))
        made.predict = super().to_dspy()
        return made

    def _take(self, module: Any, state: Mapping[str, Any], allow: bool) -> None:
        super()._take(module.predict, state.get("predict", state), allow)
