"""How arrays, frames, tables and tensors travel: apart from the pickle, the same there, and writable where they were."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.pools._frames import dumps, pack, unpack
from dspex_lab.pools._wire import LARGE, Call, Code, Packed, Pulled, Pulse, Reply, Usage

N = LARGE  # 8-byte numbers: eight times what is large


def there(packed: Packed) -> Any:
    """As it arrives: through Dask's own frames."""
    return unpack(Reply.from_wire(carried(Reply("value", packed).wire())).body)


def carried(wire: Any) -> Any:
    """What Dask's comm makes of a message, frame by frame, with buffers of its own."""
    from distributed.protocol import dumps as to_frames
    from distributed.protocol import loads, to_serialize

    frames = [memoryview(bytearray(frame)) for frame in to_frames({"result": to_serialize(wire)})]
    return loads(frames)["result"]


def test_small_values_are_in_the_pickle() -> None:
    packed = pack({"a": np.arange(10), "b": "text"})
    assert (packed.protocol, packed.buffers, packed.size) == ("inline", [], len(packed.head))
    back = there(packed)
    back["a"][0] = 9  # writable
    assert back["a"].tolist() == [9, *range(1, 10)]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(N, dtype=np.float64),
        np.arange(N, dtype=np.float64).reshape(2, -1).T,
        np.arange(4 * N, dtype=np.float64).reshape(2, -1)[:, ::2],
        np.arange(N).astype("M8[s]")[::3],
        np.zeros(N, dtype=[("a", "i4"), ("b", "f8")]),
        np.arange(N, dtype=">f4"),
    ],
    ids=["flat", "transposed", "gaps", "times", "records", "bigendian"],
)
def test_arrays_travel_apart_and_come_back_writable(array: Any) -> None:
    packed = pack([array, 1])
    assert packed.protocol == "buffers"
    assert len(packed.buffers) == 1
    assert len(packed.head) < 1000
    assert packed.size == len(packed.head) + array.nbytes
    [back, _] = there(packed)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    back[...] = array[...]


def test_an_array_in_one_piece_is_not_copied() -> None:
    array = np.zeros(N)
    [buffer] = pack(array).buffers
    array[0] = 5
    assert np.frombuffer(buffer)[0] == 5


def test_an_array_that_was_read_only_stays_so() -> None:
    array = np.zeros(N)
    array.flags.writeable = False
    back = there(pack(array))
    assert not back.flags.writeable


def test_one_array_twice_is_one_array_at_the_other_end() -> None:
    array = np.zeros(N)
    packed = pack((array, array))
    assert len(packed.buffers) == 1
    one, two = there(packed)
    assert one is two


def frames() -> dict[str, pd.DataFrame]:
    base = pd.DataFrame({"i": np.arange(N), "x": np.linspace(0, 1, N), "f": np.arange(N, dtype="f4")})
    return {
        "numbers": base,
        "strings": pd.DataFrame({"s": [f"order {i}" for i in range(N)], "t": ["x", None] * (N // 2)}),
        "arrow": base.convert_dtypes(dtype_backend="pyarrow"),
        "objects": pd.DataFrame({"o": pd.Series([{"a": i} for i in range(50)] + ["x", None, 3], dtype=object)}),
        "categories": pd.DataFrame({"c": pd.Categorical(["a", "b"] * N)}),
        "times": pd.DataFrame({"t": pd.date_range("2024", periods=N, freq="s", tz="Europe/Paris")}).set_index("t"),
        "slice": base.iloc[10:-10][["x", "i"]],
        "every other": base[["x", "f"]].iloc[::2],
        "columns": pd.concat({"a": base, "b": base}, axis=1),
        "empty": base.iloc[:0],
    }


@pytest.mark.parametrize("kind", sorted(frames()))
def test_frames_come_back_equal_and_can_be_changed(kind: str) -> None:
    frame = frames()[kind]
    packed = pack(frame)
    if kind not in ("empty", "objects"):
        assert packed.protocol == "buffers"
        assert len(packed.head) < LARGE
    back = there(packed)
    pd.testing.assert_frame_equal(back, frame)
    if kind == "numbers":
        back.loc[0, "x"] = 7.0
        assert back["x"].iloc[0] == 7.0
        assert frame["x"].iloc[0] == 0.0


def test_a_slice_takes_only_its_own_rows_along() -> None:
    table = pa.table({"i": range(N), "s": [f"row {i}" for i in range(N)]})
    assert pack(table).size > table.nbytes
    for part in (table.slice(5, 3), table.slice(5, 3).to_batches()[0]):
        packed = pack(part)
        assert packed.size < 3000
        assert there(packed).equals(part)
    strings = pd.Series([f"row {i}" for i in range(N)]).iloc[5:8]
    assert pack(strings).size < 3000


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"i": range(N), "s": [f"row {i}" for i in range(N)]}),
        pa.record_batch({"i": range(N)}),
        pa.table({"d": pa.array(["a", "b"] * N).dictionary_encode(), "l": [[1, 2]] * 2 * N}),
        pa.table({"i": range(N)}).replace_schema_metadata({"made": "by hand"}),
        pa.table({"i": range(N)}).select([]),
        pa.chunked_array([list(range(N)), [1, None]]),
        pa.array(range(N)),
    ],
    ids=["table", "batch", "dictionary", "metadata", "columns of none", "chunked", "array"],
)
def test_arrow_travels_apart(table: Any) -> None:
    packed = pack(table)
    if getattr(table, "num_columns", 1):
        assert packed.protocol == "buffers"
    back = there(packed)
    assert type(back) is type(table)
    assert back.equals(table)
    if isinstance(table, pa.Table):
        assert back.schema.equals(table.schema, check_metadata=True)
        assert back.num_rows == table.num_rows


def test_what_arrow_ipc_cannot_say_travels_all_the_same() -> None:
    keys = pa.array([0, 1]).cast(pa.int8())
    inner = pa.DictionaryArray.from_arrays(keys, pa.array(["a", "b"]))
    nested = pa.DictionaryArray.from_arrays(pa.array([1, 0]).cast(pa.int8()), pa.StructArray.from_arrays([inner], names=["x"]))
    table = pa.table({"n": pa.chunked_array([nested, nested])})
    assert there(pack(table)).num_rows == 4


torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(N, dtype=torch.float32),
        torch.arange(N, dtype=torch.float32).reshape(2, -1).T,
        torch.ones(N, dtype=torch.bfloat16),
        torch.ones(N, dtype=torch.bool),
        torch.ones(N, dtype=torch.complex64).conj(),
        torch.zeros(()),
        torch.zeros((3, 0, 2), dtype=torch.int8),
        torch.ones(3, requires_grad=True),
    ],
    ids=lambda t: f"{t.dtype} {tuple(t.shape)}",
)
def test_tensors_travel_apart(tensor: Any) -> None:
    packed = pack({"t": tensor})
    assert packed.protocol == ("buffers" if tensor.numel() >= N else "inline")
    assert not packed.note
    back = there(packed)["t"]
    assert back.dtype == tensor.dtype
    assert back.requires_grad == tensor.requires_grad
    assert torch.equal(back, tensor)
    with torch.no_grad():
        back.zero_()  # writable


def test_a_tensor_takes_only_its_own_bytes_along() -> None:
    assert pack(torch.zeros(10 * N)[:4]).size < 1000


def test_models_and_special_tensors_travel_too() -> None:
    module = torch.nn.Linear(300, 300)
    packed = pack(module)
    assert len(packed.buffers) == 1  # the bias is small
    assert torch.equal(there(packed).weight, module.weight)
    assert isinstance(there(packed).weight, torch.nn.Parameter)
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(there(pack(sparse)).to_dense(), torch.eye(3))
    named = torch.ones(2)
    named.label = "kept"
    assert there(pack(named)).label == "kept"
    assert there(pack(torch.empty(2, device="meta"))).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_tensors_are_brought_to_the_cpu_and_that_is_said() -> None:
    tensor = torch.arange(N, device="cuda")
    packed = pack({"t": tensor, "p": torch.nn.Linear(3, 3).cuda()})
    assert packed.note == "tensors of cuda:0 were brought to the CPU"
    back = there(packed)["t"]
    assert back.device.type == "cpu"
    assert torch.equal(back, tensor.cpu())


def test_what_was_brought_to_the_cpu_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from dspex_lab.pools._carry import decode

    packed = pack(1)
    packed.note = "tensors of cuda:0 were brought to the CPU"
    assert decode(Reply("value", packed), pool="p", worker="p-0", label="embed") == 1
    assert "The result of embed from pool 'p': tensors of cuda:0 were brought to the CPU." in caplog.text


def test_what_has_not_travelled_is_copied() -> None:
    """A fake pool runs calls in this process: they must not touch their caller's arrays."""
    array, fixed = np.zeros(N), np.zeros(N)
    fixed.flags.writeable = False
    back, same = unpack(pack((array, fixed)))
    back[0] = 5
    assert array[0] == 0
    assert np.shares_memory(same, fixed)  # nobody can write to it


leaves = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(
        lambda n, kind: np.arange(n).astype(kind), st.sampled_from([0, 3, N]), st.sampled_from(["i8", "f4", "u1", "M8[ns]"])
    ),
    st.builds(lambda n: np.arange(2 * n).reshape(2, -1)[:, ::2], st.sampled_from([2, N])),
    st.builds(lambda n: pd.DataFrame({"a": range(n), "s": [str(i) for i in range(n)]}), st.sampled_from([0, 2, N // 4])),
    st.builds(lambda n: pa.table({"a": range(n)}), st.sampled_from([0, 2, N])),
    st.builds(lambda n: torch.arange(n), st.sampled_from([0, 2, N])),
)
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other) and other.flags.writeable
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one.equals(other)) if hasattr(one, "equals") else bool(one == other)


@given(nested)
def test_nested_values_come_back_as_they_were(value: Any) -> None:
    packed = pack(value)
    assert packed.size == len(packed.head) + sum(b.nbytes for b in packed.buffers)
    assert all(b.nbytes >= LARGE for b in packed.buffers)
    assert same(value, there(packed))


# ---- on the wire ---------------------------------------------------------------------------------------------------


def test_a_small_call_and_its_reply_are_plain_bytes() -> None:
    call = Call("7", "digest", None, pack((1,)), "label", streams=True, cpu=2.0)
    wire = call.wire()
    assert isinstance(wire, bytes)
    assert Call.from_wire(wire) == call
    reply = Reply("value", pack(3), Usage(0.5, 10, None))
    assert isinstance(reply.wire(), bytes)
    assert Reply.from_wire(carried(reply.wire())) == reply
    pulled = Pulled([pack(1), pack(2)], done=True)
    assert Pulled.from_wire(carried(pulled.wire())) == pulled
    pulse = Pulse(1, None, 2.0, 3)
    assert Pulse.from_wire(carried(pulse.wire())) == pulse


def test_a_large_call_is_frames_of_its_own() -> None:
    from distributed.protocol import dumps as to_frames
    from distributed.protocol import loads

    array, text = np.arange(N), "x" * 2 * LARGE
    code = Code(dumps(text), ["/a"], {"<cell>": "x = 1"}, {"K": "<cell>"}, (b"s", "d"))
    call = Call("7", "digest", code, pack((array, text)))
    parts = to_frames({"args": [call.wire()]})
    assert any(getattr(part, "nbytes", 0) == array.nbytes and np.shares_memory(np.asarray(part), array) for part in parts)
    back = Call.from_wire(loads([memoryview(bytearray(part)) for part in parts])["args"][0])
    assert back.code is not None
    assert unpack(Packed(back.code.function)) == text
    assert (back.code.folders, back.code.sources, back.code.classes, back.code.serializers) == (
        ["/a"],
        {"<cell>": "x = 1"},
        {"K": "<cell>"},
        (b"s", "d"),
    )
    got, words = unpack(back.arguments)
    assert words == text
    got += 1  # writable
    assert got[0] == 1


def test_dask_compresses_only_between_machines_and_what_shrinks() -> None:
    """What the docstring of ``_wire`` says; zlib stands for the compressors that may not be installed."""
    import dask
    from distributed.comm.core import Comm
    from distributed.protocol.compression import maybe_compress

    assert dask.config.get("distributed.comm.compression") is False
    with dask.config.set({"distributed.comm.compression": "zlib"}):
        for same_host, expected in ((True, None), (False, "zlib")):
            comm: Any = type("C", (), {"same_host": same_host})()
            info = Comm.handshake_info(comm)
            assert info["compression"] == expected
    noise = np.random.default_rng(0).bytes(200_000)
    assert maybe_compress(b"a" * 9_999, compression="zlib")[0] is None
    assert maybe_compress(b"a" * 200_000, compression="zlib")[0] == "zlib"
    assert maybe_compress(noise, compression="zlib")[0] is None
    assert maybe_compress(b"a" * 200_000, compression=None)[0] is None


def test_pickles_of_frames_have_nothing_large_in_them() -> None:
    import pickle

    wire = Reply("value", pack(np.arange(N))).wire()
    buffers: list[Any] = []
    with io.BytesIO() as file:
        pickle.Pickler(file, 5, buffer_callback=buffers.append).dump(wire)
        assert len(file.getvalue()) < 200
    assert len(buffers) == 2
