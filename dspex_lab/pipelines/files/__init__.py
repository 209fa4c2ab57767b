'''Pipelines as YAML files, and as plain Python.

A file::

    name: support
    description: Route a customer's message and answer it.
    variables: {tone: friendly}            # inputs that a run need not bring
    presets:                               # settings by name; the one called "default" is every step's that names none
      default: {timeout: 20}
      careful: {lm: anthropic/claude-sonnet-4-5, retries: 2, config: {temperature: 0}}
    steps:
      message: {type: native, function: normalise, replaces: true}
      triage:
        type: chain_of_thought
        preset: careful
        signature: |
          """Route a customer's message."""
          message: str
          -> intent: Literal["billing", "card", "transfer"], urgency: float[0..1]
      reply:
        type: when
        condition: urgency > 0.8
        then: {type: predict, signature: "message, intent -> escalation", lm: openai/gpt-5-mini}
        otherwise: "Answer in a {{ tone }} tone: {{ message }}"

A step is a mapping, or in short a function's name, or a template with ``{{ fields }}``. What all steps may have: ``type preset
condition lm timeout retries (or retry_count) idempotent cache batch{size, window} on_error fallback pool replaces outputs
name description``. ``condition`` makes it a ``when``. A ``fallback`` is ``{function: NAME}`` or the values of its fields.

=================  =====================================================================================================
type               its keys (those with * must be there)
=================  =====================================================================================================
native             function*
predict,           signature* (text, or ``{name, text}``), demos, config
chain_of_thought
operation          operation*, and as for predict
dspy               module* (Predict, ChainOfThought, ReAct, or a name that is handed in), signature, demos, config; tools and
                   max_iters of ReAct; predictors (place → signature, demos, config, lm), compiled
lm                 template* (a text, or a list of texts, ``{file: PATH}`` and ``{field: NAME}``), system, returns (a type, or
                   a mapping of types), output, config
retrieve           source* (a name, or ``{server: ADDRESS}``), query, k, output, scores, longest
code               code* (the field that holds the program, run in the sandbox), signature (its variables and what it gives)
                   or variables, limits{seconds, memory}
parallel           steps*
when               condition*, then*, otherwise
switch             on*, cases* (value → step), default
each               field*, do*, item, concurrency
loop               do*, until or while*, limit
assert, suggest    do*, check*, message, attempts, on
pipeline           pipeline* (as the file itself, without presets) or file* (a path in the same folder or below)
compute            values* (field → expression)
transform          field*, keep, make, sort, descending, limit
=================  =====================================================================================================

Conditions and expressions are in the language of :class:`dspex_lab.native.Condition`; a condition may also be ``{function:
NAME}``, ``{all: [...]}``, ``{any: [...]}`` or ``{not: ...}``. Types and signatures are in the grammar of signatures.

**What a file may do.** It is hostile until the caller says otherwise. It names functions, types, modules, indexes and models
that are handed in (``load_pipeline(..., functions={"normalise": normalise})``), or ``module:name`` of a module the caller
allowed (``modules=["mypackage.steps"]``). It cannot import, cannot say where a model or its key is, cannot make a module that
runs model-written code, cannot reach a file outside its folder or a retrieval server that is not on this machine.

**YAML.** The core schema of YAML 1.2: ``no``, ``on``, ``yes``, ``1:30`` and ``2024-01-01`` are texts, and only ``true`` and
``false`` are booleans; a key is a text as it stands. Files are written so that readers of YAML 1.1 see the same. Anchors,
aliases, tags, merge keys, duplicate keys and further documents are refused, as are over 2,000,000 characters, 100,000 values or
a depth of 60.

**Kinds of your own** are written and read where they have ``dump(item, writer) -> dict`` (plain data; ``writer.step``,
``writer.reference``, ``writer.signature``, ``writer.type`` and ``writer.value`` make parts of it) and ``load(step) -> target``
(``step.text``, ``number``, ``flag``, ``value``, ``reference``, ``signature``, ``step`` and ``steps`` read a key; one that is
never asked for is refused as unknown).
'''

from __future__ import annotations

from dspex_lab.pipelines.files._arguments import read_fields
from dspex_lab.pipelines.files._compute import compute
from dspex_lab.pipelines.files._load import handed_in, load_pipeline, to_yaml, write_file
from dspex_lab.pipelines.files._python import to_python
from dspex_lab.pipelines.files._reader import StepReader
from dspex_lab.pipelines.files._same import same
from dspex_lab.pipelines.files._save import save
from dspex_lab.pipelines.files._schema import SCHEMA
from dspex_lab.pipelines.files._transform import transform
from dspex_lab.pipelines.files._writer import Writer

__all__ = [
    "SCHEMA",
    "StepReader",
    "Writer",
    "compute",
    "handed_in",
    "load_pipeline",
    "read_fields",
    "same",
    "save",
    "to_python",
    "to_yaml",
    "transform",
    "write_file",
]
