"""Variables: typed, bounded, observed, versioned parameters of a system, and who may write which of them when.

``lab.variables`` is a :class:`Space`. The way of a commit:

    Space.commit → Leases.check → Values.plan (versions, casts, what is derived, what counts, constraints; pure) →
    Journal.write → Values.apply → Observers.tell (outside the lock, in the order of versions)
"""

from dspex_lab.variables._entry import New
from dspex_lab.variables._feasible import Feasibility
from dspex_lab.variables._frozen import Frozen
from dspex_lab.variables._history import MemoryJournal
from dspex_lab.variables._lease import Lease
from dspex_lab.variables._lease_table import Ended, Held, LeaseStatus
from dspex_lab.variables._protocols import (
    Author,
    Change,
    Commit,
    CommitObserver,
    Definition,
    Domain,
    Journal,
    Knob,
    Snapshot,
    Who,
)
from dspex_lab.variables._remote import Channel
from dspex_lab.variables._remote_owner import NameTaken, Served, serve_space
from dspex_lab.variables._remote_space import RemoteSpace
from dspex_lab.variables._show import History, value_words
from dspex_lab.variables._space import Space
from dspex_lab.variables._variable import Variable
from dspex_lab.variables._watch import Watch
from dspex_lab.variables.domains import (
    AdapterChoice,
    Bool,
    Choice,
    Demos,
    Float,
    Int,
    LMChoice,
    ModuleChoice,
    Plain,
    Tensor,
    Text,
    domain_from,
)
from dspex_lab.variables.expose import Exposure, knobs

__all__ = [
    "AdapterChoice",
    "Author",
    "Bool",
    "Change",
    "Channel",
    "Choice",
    "Commit",
    "CommitObserver",
    "Definition",
    "Demos",
    "Domain",
    "Ended",
    "Exposure",
    "Feasibility",
    "Float",
    "Frozen",
    "Held",
    "History",
    "Int",
    "Journal",
    "Knob",
    "LMChoice",
    "Lease",
    "LeaseStatus",
    "MemoryJournal",
    "ModuleChoice",
    "NameTaken",
    "New",
    "Plain",
    "RemoteSpace",
    "Served",
    "Snapshot",
    "Space",
    "Tensor",
    "Text",
    "Variable",
    "Watch",
    "Who",
    "domain_from",
    "knobs",
    "serve_space",
    "value_words",
]
