"""What a pool has where nobody said otherwise, besides its size."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dspex_lab.pools._devices import cpu_sentence
from dspex_lab.pools._machine import Machine
from dspex_lab.pools._scaling import WANTED, Share
from dspex_lab.pools._spec import PRELOAD, PoolSpec, Recycle

log = logging.getLogger("dspex_lab")

#: What a neural worker has imported too, where it is installed.
NEURAL_PRELOAD = ("torch", "dspex_lab.lms.engines._local_preload")

#: Calls that one neural worker takes at once: it computes them as a batch.
NEURAL_THREADS = 8

#: The part of its memory that an idle worker may keep for itself; the rest is its next call's.
KEPT = 0.75

_said: set[str] = set()


def fill(
    name: str, share: Share, values: Mapping[tuple[str, ...], Any], machine: Machine, writable: tuple[str, ...]
) -> dict[str, Any]:
    """Return all settings of a pool: those in ``values``, and for the others the default.

    Args:
        values: by the way to the setting.
        writable: folders that all pools share.
    """
    said = {keys[0]: value for keys, value in values.items() if len(keys) == 1}
    gpu = name in WANTED and WANTED[name].gpu
    made: dict[str, Any] = {**said, "workers": share.workers, "memory": share.memory}
    made.setdefault("gpus", machine.gpus if gpu else ())
    made.setdefault("workers_per_gpu", 1)
    folders = [*made.get("writable", ()), *writable]
    if gpu:
        made.setdefault("threads", NEURAL_THREADS)
        made.setdefault("preload", (*PRELOAD, *(m for m in NEURAL_PRELOAD if importlib.util.find_spec(m) is not None)))
        folders += model_folders(os.environ)
        if not made["gpus"]:
            cores = str(max(1, machine.cores // share.workers))
            made["environment"] = {"OMP_NUM_THREADS": cores, **made.get("environment", {})}
    made["writable"] = tuple(dict.fromkeys(folders))
    # A neural worker keeps its models, and is not to load them again after every call.
    kept = None if gpu else int(share.memory * KEPT)
    limits = {"memory": kept, **{keys[1]: value for keys, value in values.items() if len(keys) == 2}}
    made["recycle"] = Recycle(**limits)
    return made


def say_what_computes(spec: PoolSpec) -> None:
    """Say, once a process, that a pool which is meant for GPUs computes on the CPU."""
    meant = spec.name in WANTED and WANTED[spec.name].gpu
    sentence = cpu_sentence(spec.name, spec.workers, spec.gpus, spec.workers_per_gpu) if meant else None
    if sentence is not None and sentence not in _said:
        _said.add(sentence)
        log.warning("%s", sentence)


def model_folders(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the folders where Hugging Face and torch keep what they fetched, as their own documentation has them
    (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables, ``torch.hub``)."""
    cache = Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    named = [environment.get(key) for key in ("HF_HUB_CACHE", "HF_XET_CACHE", "SENTENCE_TRANSFORMERS_HOME", "TRITON_CACHE_DIR")]
    found = [environment.get("HF_HOME") or cache / "huggingface", environment.get("TORCH_HOME") or cache / "torch", *named]
    for folder in found:
        path = Path(os.path.abspath(os.path.expanduser(folder))) if folder else None
        if path is not None and path != path.parent:
            yield str(path)
