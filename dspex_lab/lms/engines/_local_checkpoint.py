"""Which weights a local model has, on which device, and how they are read: nothing of a checkpoint is executed."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dspex_lab.lms._hub import is_offline
from dspex_lab.lms.engines._local_errors import bad_model, is_out_of_memory, one_line, out_of_memory

log = logging.getLogger("dspex_lab")

_said_cpu = False


@dataclass(frozen=True)
class Checkpoint:
    """Which weights, and where.

    Args:
        path: a folder of this machine, or a name on the hub.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: ``"auto"`` (the checkpoint's own; float32 on a CPU), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        revision: the hub's branch, tag or commit; None for the default one.
        offline: nothing is asked of the hub; ``HF_HUB_OFFLINE`` says so too.
        mark: changes when the files of a folder do; see :func:`mark_of`.
    """

    path: str
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    offline: bool = field(default=False, compare=False)
    mark: str = ""


def mark_of(path: str | Path, revision: str | None) -> str:
    """Return what changes when the files of a folder do, by their names, sizes and times; a name's revision else."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return revision or "main"
    files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".json", ".jinja", ".model") and f.is_file())
    told = "|".join(f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def resolved(torch: Any, checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its device and path as they are."""
    from dspy.lm15 import ConfigurationError

    path, device, dtype = checkpoint.path, checkpoint.device, checkpoint.dtype
    folder = Path(path).expanduser()
    if folder.exists():
        path = str(folder.resolve())
    elif folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise bad_model(path, "there is no such folder.")
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(kind for kind, there in kinds.items() if there)
        if device == "cpu":
            _say_cpu()
    kind, _, number = device.partition(":")
    if not kinds.get(kind) or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        there = [name for name, present in kinds.items() if present]
        raise ConfigurationError(f"There is no device {device!r} for a local model here; there is {', '.join(there)}.")
    if dtype == "auto" and kind == "cpu":
        dtype = "float32"  # half precision is slow on most CPUs, and not there for all operations
    return replace(checkpoint, path=path, device=device, dtype=dtype, mark=mark_of(path, checkpoint.revision))


def _say_cpu() -> None:
    global _said_cpu
    if not _said_cpu:
        _said_cpu = True
        log.warning("local models run on the CPU: torch sees no GPU (said once)")


def read(torch: Any, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Return tokenizer and weights. Nothing of the checkpoint is executed: no pickles, no code of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = checkpoint.path
    how = {
        "trust_remote_code": False,
        "revision": checkpoint.revision or "main",
        "local_files_only": checkpoint.offline or is_offline() or Path(name).exists(),
    }
    dtype = "auto" if checkpoint.dtype == "auto" else getattr(torch, checkpoint.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **how)
        weights: Any = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, dtype=dtype, **how)
        weights = weights.to(checkpoint.device).eval()
    except Exception as problem:  # the library raises what its many parts raise
        if is_out_of_memory(problem):
            raise out_of_memory(f"the model {name!r}", checkpoint.device, problem) from problem
        raise bad_model(name, f"{one_line(problem)} {_remedy(problem, how['local_files_only'])}".strip()) from problem
    return tokenizer, weights


def _remedy(problem: BaseException, offline: Any) -> str:
    words = str(problem)
    if "trust_remote_code" in words:
        return "It brings code of its own, which is never run here. Take a model that transformers knows."
    if "safetensors" in words:
        return "Only safetensors are read: other formats can run code. Convert it with save_pretrained()."
    if offline and not isinstance(problem, MemoryError):
        return "Nothing was asked of the hub (HF_HUB_OFFLINE, or a folder)."
    return ""
