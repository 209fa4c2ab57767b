'''Signatures: what a step takes and gives, written as text, as a function or as a class.

::

    """Route a customer's message."""
    message: str                           # what the customer wrote
    -> intent: Literal["billing", "card", "transfer"], urgency: float[0..1]

The grammar is DSPy's whole (the same names, order, types and roles for what ``dspy.Signature`` takes), and beyond it

* a leading string as instructions, ``# text`` behind a field as its description, line ends in place of commas;
* defaults that are honoured (``k: int = 3``);
* constraints: ``float[0..1]``, ``int[1..]``, ``list[str][1..5]``, ``str[/regex/]``, ``Annotated[float, Field(gt=0)]``,
  ``x: float = Field(gt=0, default=1, description="…")``;
* types of the notebook anywhere in a type, ``date`` of ``datetime.date``, ``dspy.Image`` and its like.

What differs from DSPy on purpose:

* defaults are kept and must fit (DSPy drops them unread); a field given twice on one side is an error (DSPy keeps one);
* ``*args``, ``**kw``, ``/`` and bare ``*`` are errors (DSPy drops the fields behind or before them), as is ``list[int, str]``;
* no module is imported for a name but ``dspy`` and a few of the standard library (``datetime``, ``decimal``, ``pathlib``, …);
* a class of your own goes before one of ``typing`` that has the same name; ``"->"`` may stand in a string;
* ``dspy.Code["python"]`` has the language ``python`` (DSPy's grammar makes it the tuple ``('python',)``).

From the text the way goes: ``_source`` (tokens) → ``_grammar`` (nodes) → ``_resolve`` (types) → ``_field`` and ``_signature``
→ ``_validate`` (pydantic-core, at the first check; ``_core`` for plain types), ``_dspy``, ``_schema``, ``_html``.

The way back from a JSON schema is ``_from_schema`` over ``_document`` and ``_schema_types``; ``_clash`` says whether what one
step produces can be what another wants.
'''

from ._build import input_field, output_field, signature
from ._clash import why_not
from ._diff import Change, diff
from ._field import MISSING, Field
from ._signature import UNNAMED, Signature

__all__ = ["MISSING", "UNNAMED", "Change", "Field", "Signature", "diff", "input_field", "output_field", "signature", "why_not"]
