"""What a variable may be: each domain checks and casts values, describes itself as JSON, and says how it is searched."""

from dspex_lab.variables.domains._base import domain_from
from dspex_lab.variables.domains._choices import Bool, Choice
from dspex_lab.variables.domains._demos import Demos
from dspex_lab.variables.domains._named import AdapterChoice, LMChoice, ModuleChoice
from dspex_lab.variables.domains._numbers import Float, Int
from dspex_lab.variables.domains._plain import Plain
from dspex_lab.variables.domains._tensor import Tensor
from dspex_lab.variables.domains._text import Text

__all__ = [
    "AdapterChoice",
    "Bool",
    "Choice",
    "Demos",
    "Float",
    "Int",
    "LMChoice",
    "ModuleChoice",
    "Plain",
    "Tensor",
    "Text",
    "domain_from",
]
