"""Calls of an LM with less on the way, and the same in every effect.

``lm(messages=…)`` of DSPy 3.4 reads the messages into a request by the rules of a foreign API, and ``lm.acall`` goes
through threads. Here the request of plain texts is made at once, and DSPy's own execution does the rest: cache (the same
keys), retries, errors, usage, history. Our recording surrounds it as it does every LM call. Whatever is not of the
plainest kind goes the ordinary way: an engine that DSPy chooses, a subclass, callbacks, several candidates, DSPy's
streaming, images, feedback on an earlier answer, a model that others stand in for, a fresh run.
"""

from __future__ import annotations

import asyncio
import functools
import types
from typing import TYPE_CHECKING, Any

from dspex_lab.lms.calls._asking import current_recorder
from dspex_lab.lms.calls._feedback import current_feedback
from dspex_lab.lms.calls._recording import recorded

if TYPE_CHECKING:
    from dspy.clients.execution import CallResult, PreparedCall
    from dspy.lm15 import Config, Message, Request

#: What an LM object could carry that changes how it is called.
_OVERRIDES = frozenset({"forward", "aforward", "__call__", "acall", "_cache_responses"})
#: Settings that choose another way, several answers, or another request than these messages'.
_ELSEWHERE = frozenset({"request", "prompt", "messages", "model", "prompt_cache", "n"})


class DirectCalls:
    """The quick transport of native predictors (``native.Transport``). Thread-safe; holds nothing."""

    def call(self, lm: Any, messages: list[dict[str, Any]], config: dict[str, Any]) -> list[Any]:
        """Return what ``lm(messages=messages, **config)`` does, with the same effects."""
        dspy = _dspy()
        call = _prepared(lm, messages, config, asynchronous=False)
        if call is None:
            with dspy.adapter_message_call(lm, messages):
                outputs: list[Any] = lm(messages=messages, **config)
            return outputs
        with recorded(lm, (), {"messages": messages}) as asked:
            result = _from_memory(lm, call, False) or dspy.execution.execute(lm, call)
            outputs = dspy.execution.finalize(lm, call.told, result)
            if asked is not None and asked.live is not None:
                asked.live.finish(outputs)
        return outputs

    async def acall(self, lm: Any, messages: list[dict[str, Any]], config: dict[str, Any]) -> list[Any]:
        """Return what ``await lm.acall(messages=messages, **config)`` does, with the same effects."""
        dspy = _dspy()
        call = _prepared(lm, messages, config, asynchronous=True)
        if call is None:
            with dspy.adapter_message_call(lm, messages):
                outputs: list[Any] = await lm.acall(messages=messages, **config)
            return outputs
        with recorded(lm, (), {"messages": messages}) as asked:
            result = _from_memory(lm, call, True) or await _aexecute(lm, call)
            outputs = dspy.execution.finalize(lm, call.told, result)
            if asked is not None and asked.live is not None:
                asked.live.finish(outputs)
        return outputs


@functools.cache
def _dspy() -> Any:
    """Return what is needed of DSPy; it is loaded here, on the first call."""
    import dspy
    from dspy import lm15
    from dspy.clients import _deprecation, backend_selection, cache, call_result, execution

    return types.SimpleNamespace(
        module=dspy,
        Cache=cache.Cache,
        CACHE_FORMAT=call_result.CACHE_FORMAT,
        CallResult=call_result.CallResult,
        LM=dspy.LM,
        settings=dspy.settings,
        execution=execution,
        adapter_message_call=_deprecation.adapter_message_call,
        CLIENT_KEYS=backend_selection.CLIENT_KEYS,
        LM15Error=lm15.LM15Error,
        Message=lm15.Message,
        Request=lm15.Request,
        TextPart=lm15.TextPart,
    )


class _Call:
    """One call as ``dspy.clients.execution`` takes it (``PreparedCall``), its request made when an engine is asked.

    Args:
        told: the call as DSPy prepares it: what cache and history know it by.
    """

    prompt = None
    n = 1
    managed = True

    def __init__(self, told: PreparedCall) -> None:
        self.told = told
        self._request: Request | None = None
        self._known = False
        self.messages, self.kwargs, self.legacy, self.cache = told.messages, told.kwargs, told.legacy, told.cache

    def key(self, lm: Any, asynchronous: bool) -> Any:
        """Return what the cache knows the call by: the messages, as everywhere in DSPy."""
        return self.told.key(lm, asynchronous)

    @property
    def request(self) -> Request | None:
        """Return the request; None where DSPy is to make it, or to refuse it in its own words."""
        if not self._known:
            self._request, self._known = self._make(), True
        return self._request

    def _make(self) -> Request | None:
        dspy = _dspy()
        settings = dict(self.legacy)
        model, messages = settings.pop("model"), settings.pop("messages")
        roles = [message["role"] for message in messages]
        begin = 1 if roles[0] == "system" else 0
        if len(roles) == begin or not {*roles[begin:]} <= {"user", "assistant"}:
            return None
        try:
            config, tools = _options(model, settings)
            texts = [(message["role"], message["content"]) for message in messages]
            # Demonstrations are the same in every call; the last message never is.
            turns = (*(_remembered(*turn) for turn in texts[begin:-1]), _message(*texts[-1]))
            system = texts[0][1] if begin else None
            made: Request = _copied(_prototype(), model=model, messages=turns, system=system, tools=tools, config=config)
        except (dspy.LM15Error, TypeError, ValueError):
            return None
        return made


def _prepared(lm: Any, messages: list[dict[str, Any]], config: dict[str, Any], asynchronous: bool) -> _Call | None:
    """Return the call (``execution.py: prepare``), None where it must go the ordinary way."""
    dspy = _dspy()
    if not messages or not _is_plain(lm, asynchronous):
        return None
    merged = {**lm.kwargs, **config}
    merged.pop("cache", None)
    if not (_ELSEWHERE.isdisjoint(merged) and dspy.CLIENT_KEYS.isdisjoint(merged)):
        return None
    for message in messages:
        if len(message) != 2 or not _is_text(message["content"]):
            return None
    rollout = merged.get("rollout_id")
    if rollout is None:
        merged.pop("rollout_id", None)
    else:
        lm._warn_zero_temp_rollout(merged.get("temperature"), rollout)
    legacy = {"model": lm.model, "messages": messages, **merged}
    cache = config.get("cache", lm.cache)
    return _Call(dspy.execution.PreparedCall(None, messages, dict(config), legacy, None, cache, 1, True))


def _is_text(content: Any) -> bool:
    """Say whether ``content`` is text that can be sent; DSPy refuses lone surrogates."""
    if type(content) is not str or not content:
        return False
    if content.isascii():
        return True
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(lm: Any, asynchronous: bool) -> bool:
    dspy = _dspy()
    if type(lm) is not dspy.LM or lm.model_type != "chat" or lm.callbacks or not _OVERRIDES.isdisjoint(vars(lm)):
        return False
    engine = lm._async_engine_spec if asynchronous else lm._engine_spec
    if engine is None or isinstance(engine, str) or hasattr(engine, "complete_legacy"):
        return False
    method = dspy.LM.acall if asynchronous else dspy.LM.__call__
    # Somebody's instrumentation of the class must not be passed by.
    if type(method) is not types.FunctionType or method.__module__ != "dspy.clients.base_lm":
        return False
    if dspy.settings.callbacks or dspy.settings.send_stream is not None or current_feedback() is not None:
        return False
    recorder = current_recorder()
    return recorder is None or recorder.terms.usual(lm)


def _copied(made: Any, **changes: Any) -> Any:
    """Return a frozen dataclass with other values, which the caller has checked: its own checks are not run again."""
    new = object.__new__(type(made))
    for name in made.__dataclass_fields__:
        object.__setattr__(new, name, changes[name] if name in changes else getattr(made, name))
    return new


@functools.cache
def _prototype(role: str = "user") -> Any:
    """Return a request whose only message is of that role."""
    dspy = _dspy()
    return dspy.Request(model="-", messages=(dspy.Message(role=role, parts=(dspy.TextPart(text="-"),)),))


def _message(role: str, content: str) -> Message:
    """Return a message; ``content`` is text of at least one character."""
    like = _prototype(role).messages[0]
    made: Message = _copied(like, parts=(_copied(like.parts[0], text=content),))
    return made


_remembered = functools.lru_cache(maxsize=2048)(_message)

_known_options: dict[Any, tuple[Config, tuple[Any, ...]]] = {}


def _options(model: str, settings: dict[str, Any]) -> tuple[Config, tuple[Any, ...]]:
    """Return configuration and tools of a request with these settings, as DSPy reads them; kept for the next call."""
    key = (model, _frozen(settings))
    found = _known_options.get(key)
    if found is None:
        execution = _dspy().execution
        body = {"model": model, "messages": [{"role": "user", "content": "-"}], **settings}
        request = execution._canonical(execution.PreparedCall(None, None, {}, body, None, False, 1, True))
        if len(_known_options) >= 512:
            _known_options.clear()
        found = _known_options[key] = (request.config, request.tools)
    return found


def _frozen(value: Any) -> Any:
    """Return ``value`` as a key; 1, 1.0 and True are three. Raises TypeError for what cannot be one."""
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return (type(value), *map(_frozen, value))
    hash(value)
    return (type(value), value)


def _from_memory(lm: Any, call: _Call, asynchronous: bool) -> CallResult | None:
    """Return a plain text that DSPy's memory cache holds, as ``execution.py: _cached`` does, without copying it first."""
    dspy = _dspy()
    cache = dspy.module.cache
    if not call.cache or type(cache) is not dspy.Cache or not cache.enable_memory_cache:
        return None
    try:
        key = cache.cache_key(call.key(lm, asynchronous), dspy.execution.IGNORED_CACHE_KEYS)
    except Exception:
        # What cannot be a key is not cached; DSPy says so in its log. As wide as its own: the key is made by the classes of
        # what the call was given (``model_dump``, ``model_json_schema``), which are the user's and may raise anything.
        return None
    with cache._lock:
        record = cache.memory_cache.get(key)
    if not isinstance(record, dict) or record.get("_dspy_format") != dspy.CACHE_FORMAT or not _holds_text(record):
        return None
    details = dict(record.get("cost_details") or {})
    found: CallResult = dspy.CallResult.load({**record, "cost_details": details})
    return found


def _holds_text(record: dict[str, Any]) -> bool:
    """Say whether nothing of a cached record could be changed through what is made of it."""
    if len(record["responses"]) != 1 or not all(type(output) is str for output in record["outputs"]):
        return False
    response = record["responses"][0]
    if not response.keys() <= {"id", "model", "message", "finish_reason", "usage"}:
        return False
    if not all(part.keys() == {"type", "text"} for part in response["message"]["parts"]):
        return False
    return not any(isinstance(value, dict | list) for value in (record.get("cost_details") or {}).values())


async def _aexecute(lm: Any, call: _Call) -> CallResult:
    """Return what ``execution.py: aexecute`` does, without its threads where nothing can block.

    They look up the price of a call, which an engine of one's own has none of, and read the cache on the disk.
    """
    execution = _dspy().execution
    if call.cache:
        found: CallResult = await execution.aexecute(lm, call)
        return found
    backend, request, provider = execution._engine(lm, call, True)
    results: list[CallResult] = []
    try:
        for attempt in range(lm.num_retries + 1):
            state = execution._Attempt()
            try:
                with execution.error_boundary(lm.model, provider=provider, unexpected=True):
                    await execution._aattempt(lm, call, backend, request, provider, state, results)
                break
            except Exception as error:
                if not execution._retryable(state, error, attempt, lm.num_retries):
                    raise
                await asyncio.sleep(execution._delay(error, attempt))
        execution._price_result(lm, state.result, state.response, provider, request)
        return results[0]
    except BaseException as error:
        execution._hint_responses_api(lm, error)
        execution._account_failed_call(lm, results, error)
        raise
