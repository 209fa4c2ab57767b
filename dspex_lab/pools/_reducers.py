"""How arrays, tables and tensors are taken apart, so that their bytes travel out of band (PEP 574).

NumPy and pandas do that by themselves, for arrays that lie in one piece; here is what they do not. What pandas keeps as
Python objects (a column of ``object``) is pickled object by object; columns of pandas' ``str`` and of Arrow types travel as
Arrow's buffers.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

from dspex_lab.pools._serializers import REGISTRY

#: Bytes of an array from which a copy in one piece pays.
_WORTH = 64 * 1024


@REGISTRY.reduces("numpy.ndarray")
def _array(array: Any) -> Any:
    """An array with gaps (``a[::2]``) is copied into one piece, and times travel as the numbers that they are: NumPy would copy
    both into the pickle."""
    if array.nbytes < _WORTH or array.dtype.hasobject:
        return NotImplemented
    whole = array if array.flags.forc else array.copy(order="K")
    if array.dtype.kind in "mM":
        return _read_times, (whole.view("i8"), array.dtype)
    return NotImplemented if whole is array else whole.__reduce_ex__(5)


def _read_times(numbers: Any, dtype: Any) -> Any:
    return numbers.view(dtype)


@REGISTRY.reduces("pyarrow.lib.Table", "pyarrow.lib.RecordBatch")
def _table(table: Any) -> Any:
    """An Arrow table travels as an Arrow IPC stream: a slice takes only its own rows along."""
    pa = sys.modules["pyarrow"]
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write(table)
    except pa.ArrowNotImplementedError:  # what IPC cannot say, Arrow's own pickling can
        return NotImplemented
    return _read_table, (pickle.PickleBuffer(sink.getvalue()), type(table).__name__ == "RecordBatch")


def _read_table(stream: Any, batch: bool) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return reader.read_next_batch() if batch else reader.read_all()


@REGISTRY.reduces("torch.Tensor")
def _tensor(tensor: Any) -> Any:
    """A plain tensor travels as its own bytes; torch would pickle all of its storage, in the pickle. One on another device is
    brought to the CPU: a worker need not have that device."""
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.__dict__ or tensor._backward_hooks or tensor.is_meta:
        return NotImplemented
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else b""
    return _read_tensor, (pickle.PickleBuffer(data), plain.dtype, tuple(plain.shape), tensor.requires_grad)


def _read_tensor(data: Any, dtype: Any, shape: tuple[int, ...], requires_grad: bool) -> Any:
    import torch

    view = memoryview(data)
    if not view.nbytes:
        tensor = torch.empty(shape, dtype=dtype)
    else:
        tensor = torch.frombuffer(bytearray(view) if view.readonly else view, dtype=dtype).reshape(shape)
    return tensor.requires_grad_() if requires_grad else tensor
