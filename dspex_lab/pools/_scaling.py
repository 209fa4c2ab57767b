"""How the wanted pools are made to fit a machine: from numbers to numbers and words, nothing is asked of anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dspex_lab.pools._checks import MINIMUM_MEMORY
from dspex_lab.pools._machine import Machine
from dspex_lab.pools._sizes import MB, written
from dspex_lab.pools._spec import count

#: The part of the machine's memory that all pools together take; the rest is the kernel's and the browser's.
SHARE = 0.75

#: Cores for each worker that computes a neural network without a GPU.
CORES_PER_CPU_WORKER = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pool as it is on a machine that is large enough: workers, bytes for each, and the bytes without which it is of no use;
    whether it computes on GPUs, and the part of what is left that it may take before the pools behind it."""

    workers: int
    memory: int
    least: int = MINIMUM_MEMORY
    gpu: bool = False
    part: float = 1.0


#: In the order in which they take their part.
WANTED: dict[str, Wanted] = {
    "general": Wanted(8, 512 * MB, part=0.5),
    "optimizer": Wanted(2, 4_000 * MB, part=0.5),
    "neural": Wanted(4, 8_000 * MB, least=1_000 * MB, gpu=True),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person set of a pool; None is left to the scaling."""

    workers: int | None = None
    memory: int | None = None
    gpus: tuple[str, ...] | None = None
    per_gpu: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """What a pool gets: workers, bytes for each, what was wanted (None where a person said both), and why it is less."""

    workers: int
    memory: int
    wanted: Wanted | None = None
    why: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """The memory of all of its workers."""
        return self.workers * self.memory


def plan(machine: Machine, asked: Mapping[str, Asked]) -> dict[str, Share]:
    """Return what each pool gets, so that all of them fit when all are up.

    What a person set is kept as it is, whether it fits or not, and is taken off first. Then each of the wanted pools takes its
    part of what is left, but not what those behind it need at least; what it does not need is for them too. None gets less than
    one worker of the least size.

    Args:
        asked: what was set, by pool; of a pool that is not among the wanted ones both numbers.
    """
    shares: dict[str, Share] = {}
    for name, own in asked.items():
        if own.workers is not None and own.memory is not None:
            shares[name] = Share(own.workers, own.memory)
    room = int(machine.memory * SHARE) - sum(share.bytes for share in shares.values())
    left = [name for name in WANTED if name not in shares]
    for at, name in enumerate(left):
        wanted = WANTED[name]
        behind = sum(WANTED[other].least for other in left[at + 1 :])
        share = _share(wanted, asked.get(name, Asked()), machine, max(0, min(int(room * wanted.part), room - behind)))
        shares[name], room = share, room - share.bytes
    return shares


def _share(wanted: Wanted, asked: Asked, machine: Machine, room: int) -> Share:
    memory = wanted.memory if asked.memory is None else asked.memory
    if asked.workers is not None:
        workers, why = asked.workers, []
    else:
        gpus = machine.gpus if asked.gpus is None else asked.gpus
        most, limit = _most(wanted, machine, len(gpus) * asked.per_gpu)
        held = max(1, room // memory)
        workers = min(wanted.workers, most, held)
        why = [limit] if workers == most < wanted.workers else []
        if workers == held < wanted.workers:
            why.append(_full(machine))
    if asked.memory is None and room // workers < memory:
        memory = max(wanted.least, room // workers // MB * MB)
        why = [*why, *([] if _full(machine) in why else [_full(machine)])]
    return Share(workers, memory, wanted, tuple(why))


def _most(wanted: Wanted, machine: Machine, places: int) -> tuple[int, str]:
    """Return how many workers there may be, whatever the memory, and the reason."""
    cores = f"this machine has {machine.cores} core{'s' if machine.cores > 1 else ''}"
    if not wanted.gpu:
        return machine.cores, cores
    if places:
        return places, f"there {'are' if places > 1 else 'is'} {places} place{'s' if places > 1 else ''} on GPUs"
    return max(1, machine.cores // CORES_PER_CPU_WORKER), f"{cores} and no GPU"


def _full(machine: Machine) -> str:
    return f"{written(machine.memory)} of memory hold no more"


def sentence(share: Share, *, where: str, sources: Mapping[str, str], total: int, machine: Machine) -> str:
    """Return how a pool's numbers came about, in one sentence.

    Args:
        where: what it computes on, where that is to be said (``on GPU 0``), else empty.
        sources: which settings were given, by where they are from.
        total: the memory of the workers of all pools.
    """
    told = [f"{keys} from {source}" for source, keys in sources.items()]
    workers, each = count(share.workers), written(share.memory)
    if share.wanted is not None and share.why:
        if share.workers < share.wanted.workers:
            workers = f"{share.workers} of {share.wanted.workers} wanted workers"
        if share.memory < share.wanted.memory:
            each = f"{each} ({written(share.wanted.memory)} wanted)"
    reasons = [*told, *([" and ".join(share.why)] if share.why else [])] or ["as wanted"]
    together, whole = f"all pools together take {written(total)}", written(machine.memory)
    fits = f"{together} of {whole}" if total <= machine.memory else f"{together}, more than this machine's {whole}"
    return f"{workers} of {each}{f' {where}' if where else ''}: {'; '.join([*reasons, fits])}."
