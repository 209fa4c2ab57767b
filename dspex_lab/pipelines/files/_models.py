"""Language models in a file: a name, or a name with settings; never an address, a key or an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex_lab.lms import OFFLINE_MODEL, make_lm
from dspex_lab.pipelines.files._nodes import Node

if TYPE_CHECKING:
    from dspex_lab.pipelines.files._loader import Loader
    from dspex_lab.pipelines.files._writer import Writer

#: Settings of calls that a file may hold.
SETTINGS = frozenset(
    [
        "temperature",
        "max_tokens",
        "max_completion_tokens",
        "top_p",
        "top_k",
        "n",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "reasoning_effort",
        "cache",
        "num_retries",
        "model_type",
        "rollout_id",
        "logprobs",
        "top_logprobs",
        "response_format",
        "timeout",
    ]
)
#: What would send prompts, or a key, to where the file's author wants them.
_WHERE = frozenset(
    [
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "headers",
        "extra_headers",
        "custom_llm_provider",
        "model_list",
        "engine",
    ]
)


def write_lm(lm: Any, writer: Writer) -> Any:
    """Return the name of a model, a mapping with its settings, or a reference where a file cannot hold it."""
    if isinstance(lm, str):
        return lm
    import dspy

    if lm.model == OFFLINE_MODEL and type(lm) is dspy.LM:
        return "offline"
    try:
        state = lm.dump_state() if type(lm) is dspy.LM else {"engine": lm}
    except TypeError:  # its engine has none
        return writer.reference(lm, f"{writer.path}_lm")
    plain = {k: v for k, v in state.items() if k not in ("model", "api_key", "_dspy_lm_class", "lm_class") and v is not None}
    usual = dspy.LM(lm.model).dump_state() if type(lm) is dspy.LM and not _WHERE & plain.keys() else {}
    told = {k: v for k, v in plain.items() if k not in usual or usual[k] != v}
    if told.keys() - SETTINGS:
        return writer.reference(lm, f"{writer.path}_lm")
    return {"model": lm.model, **told} if told else lm.model


def read_lm(node: Node, loader: Loader) -> Any:
    """Return what a file says of a model.

    Raises:
        PipelineError: it is no model, or says where a model is.
    """
    if isinstance(node.value, str):
        return loader.allowed.objects.get(node.value, node.value)
    if not isinstance(node.value, dict):
        raise loader.document.error(node, f"lm is {node.kind}, not a model.", "Write lm: openai/gpt-5-mini")
    model = node.value.get("model")
    if model is None or not isinstance(model.value, str):
        raise loader.document.error(node, "lm says no model.", "Write lm: {model: openai/gpt-5-mini, temperature: 0.2}")
    for key, value in node.value.items():
        if key in _WHERE:
            raise loader.document.error(
                node.keys[key],
                f"a file may not say {key!r}: it would send prompts and keys where the file's author wants them.",
                'Make the model yourself and hand it in: functions={"my_lm": dspy.LM(...)}, and write lm: my_lm',
            )
        if key != "model":
            loader.setting(key, node.keys[key], value)
    options = {k: v.plain() for k, v in node.value.items() if k != "model"}
    try:
        return make_lm(model.value, check=False, **options)
    except Exception as error:
        raise loader.document.error(model, f"there is no such model: {error}", cause=error) from error
