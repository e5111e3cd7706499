"""safetensors files: written and read again, by hand-made bytes and by the package; damage."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxgen.interop import read_safetensors, write_safetensors

ROOT = Path(__file__).parents[2]


def tensors():
    x = np.random.default_rng(0).normal(size=(3, 4))
    return {
        "float64": x, "float32": x.astype(np.float32), "float16": x.astype(np.float16),
        "bfloat16": x.astype(ml_dtypes.bfloat16), "jax": jnp.asarray(x, jnp.bfloat16),
        "turned": x.astype(np.float32).T, "steps": x.astype(np.float32)[::2, 1:3],
        "whole": np.arange(5), "small": np.array([1, 255], np.uint8), "truth": np.array([True, False]),
        "one": np.float32(3), "none": np.zeros((0, 2), np.float32),
    }


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        np.testing.assert_array_equal(found[name], np.asarray(tensor), err_msg=name)
        assert found[name].shape == np.shape(tensor), name


def test_tensors_come_back_as_they_were(tmp_path):
    wanted = tensors()
    write_safetensors(tmp_path / "new" / "a.safetensors", wanted)
    assert_same(read_safetensors(tmp_path / "new" / "a.safetensors", dtype=None), wanted)


def test_floats_are_converted_and_nothing_else(tmp_path):
    wanted = tensors()
    write_safetensors(tmp_path / "a.safetensors", wanted)
    for dtype in (jnp.float32, jnp.bfloat16, "float16"):
        found = read_safetensors(tmp_path / "a.safetensors", dtype=dtype)
        for name, tensor in wanted.items():
            kept = name in ("whole", "small", "truth")
            assert found[name].dtype == (tensor.dtype if kept else jnp.dtype(dtype))
            np.testing.assert_array_equal(found[name], np.asarray(tensor).astype(found[name].dtype))
    assert read_safetensors(tmp_path / "a.safetensors")["bfloat16"].dtype == np.float32
    with pytest.raises(ValueError, match="dtype must be a floating-point type, or None .* got int8"):
        read_safetensors(tmp_path / "a.safetensors", dtype="int8")


def test_the_bytes_are_those_of_the_format(tmp_path):
    """A header of JSON after its length, then the tensors row by row; bfloat16 is the upper half of float32."""
    x = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    half = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    upper = (half.view(np.uint32) >> 16).astype(np.uint16)
    header = json.dumps({
        "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "half": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [24, 36]},
    }).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + x.tobytes() + upper.tobytes())
    found = read_safetensors(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["half"], half.reshape(3, 2))

    write_safetensors(tmp_path / "b.safetensors", {"turned": x.T}, metadata={"format": "pt"})
    content = (tmp_path / "b.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert header["turned"]["shape"] == [3, 2] and header["__metadata__"] == {"format": "pt"}
    np.testing.assert_array_equal(np.frombuffer(content[8 + size :], np.float32), x.T.reshape(-1))


def damaged_file(header, content=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + content


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(("content", "message"), [
    (b"", "0 bytes"), (b"\1\0\0", "3 bytes"), (damaged_file({}, length=2**63), "end at byte"),
    (damaged_file(b"{"), "header is no JSON"), (damaged_file(b"[]"), "must hold an object"),
    (damaged_file(b"\xff{}"), "header is no JSON"), (damaged_file({"a": 3}), "tensor 'a' must have dtype, shape"),
    (damaged_file({"a": entry()}, bytes(4)), "end at byte"), (damaged_file({"a": entry()}, bytes(9)), "end at byte"),
    (damaged_file({"a": entry(shape=(3,))}, bytes(8)), r"'a' of dtype F32 and shape \[3\] needs 12 bytes"),
    (damaged_file({"a": entry(shape=(-2,))}, bytes(8)), "shape of tensor 'a' must be a list of whole numbers"),
    (damaged_file({"a": entry(shape=(2.0,))}, bytes(8)), "shape of tensor 'a' must be a list of whole numbers"),
    (damaged_file({"a": entry(shape=(2**62, 2**62))}, bytes(8)), "needs [0-9]+ bytes"),
    (damaged_file({"a": entry(shape=(0, 2**70), offsets=(0, 0))}), "tensor 'a' of shape"),
    (damaged_file({"a": entry(shape=(1,) * 70, offsets=(0, 4))}, bytes(4)), "tensor 'a' of shape"),
    (damaged_file({"a": entry(offsets=(8, 0))}, bytes(8)), "those from 8 to 0"),
    (damaged_file({"a": entry(offsets=(0,))}, bytes(8)), r"must be \[begin, end\]"),
    (damaged_file({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "tensor 'b' overlaps"),
    (damaged_file({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "tensor 'b' does not follow"),
    (damaged_file(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)), "'a' stands twice"),
    (damaged_file({"__metadata__": {"format": 1}}), "__metadata__ must hold strings"),
    (damaged_file({"a": entry("BOOL", (8,))}, bytes(7) + b"\2"), "tensor 'a' is of dtype BOOL and holds the byte 2"),
])
def test_each_kind_of_damage_is_an_error_that_names_the_file_and_the_tensor(content, message, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"w\.safetensors is damaged or is no safetensors file \(.*{message}"):
        read_safetensors(tmp_path / "w.safetensors")


def test_types_that_are_not_read_are_named(tmp_path):
    for dtype in ("F4", "F6_E2M3", "F6_E3M2"):
        (tmp_path / "w.safetensors").write_bytes(damaged_file({"a": entry(dtype)}, bytes(8)))
        with pytest.raises(ValueError, match=rf"w\.safetensors: tensor 'a' has dtype {dtype}, of less than a byte"):
            read_safetensors(tmp_path / "w.safetensors")
    for dtype in ("F128", None, ["F32"]):
        (tmp_path / "w.safetensors").write_bytes(damaged_file({"a": entry(dtype)}, bytes(8)))
        with pytest.raises(ValueError, match=r"w\.safetensors: unknown dtype of tensor 'a' .*'F32'"):
            read_safetensors(tmp_path / "w.safetensors")


def test_float8_has_the_values_of_its_definition(tmp_path):
    """(-1)^s 2^(e - bias) (1 + m), without the 1 and one power higher where e = 0 (Micikevicius et al., 2022)."""
    codes = np.arange(256)
    for dtype, exponent, bias, finite in (("F8_E4M3", 4, 7, codes % 128 < 127), ("F8_E5M2", 5, 15, codes % 128 < 124)):
        e, m = codes % 128 >> 7 - exponent, codes % 2 ** (7 - exponent) / 2 ** (7 - exponent)
        wanted = np.where(codes < 128, 1, -1) * 2.0 ** (np.maximum(e, 1) - bias) * (m + (e > 0))
        content = damaged_file({"a": entry(dtype, (256,), (0, 256))}, codes.astype(np.uint8).tobytes())
        (tmp_path / "w.safetensors").write_bytes(content)
        found = read_safetensors(tmp_path / "w.safetensors")["a"]
        assert found.dtype == np.float32 and not np.any(np.isfinite(found[~finite]))
        np.testing.assert_array_equal(found[finite], wanted[finite])


EVERY_DTYPE = [bool, *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8", "c8", ">f4", ">i8",
               *(getattr(ml_dtypes, name) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu",
                                                       "float8_e4m3fnuz", "float8_e5m2fnuz"))]
LAYOUTS = {"rows": lambda x: x, "columns": np.asfortranarray, "turned": lambda x: x.T, "backwards": lambda x: x[::-1],
           "steps": lambda x: x[::2, 1::2], "repeated": lambda x: np.broadcast_to(x[:1], (2, *x.shape))}


def test_every_dtype_and_layout_in_memory_comes_back_and_is_what_the_package_reads(tmp_path):
    x = 1 + np.arange(12).reshape(3, 4)
    wanted = {f"{np.dtype(dtype)} {layout}": change(x.astype(dtype)) for dtype in EVERY_DTYPE
              for layout, change in LAYOUTS.items()}
    write_safetensors(tmp_path / "w.safetensors", wanted)
    assert_same(read_safetensors(tmp_path / "w.safetensors", dtype=None),
                {name: tensor.astype(tensor.dtype.newbyteorder("<")) for name, tensor in wanted.items()})
    by_the_package = dict(safetensors.deserialize((tmp_path / "w.safetensors").read_bytes()))
    for name, tensor in wanted.items():
        if ">" not in name:
            assert bytes(by_the_package[name]["data"]) == tensor.tobytes()
    safetensors.numpy.save_file({"x": x}, tmp_path / "p.safetensors", metadata={"a": "b"})
    assert_same(read_safetensors(tmp_path / "p.safetensors"), {"x": x})


def test_what_the_format_cannot_hold_is_named_before_anything_is_written(tmp_path):
    x, path = np.zeros(3), tmp_path / "new" / "w.safetensors"
    for dtype in (complex, "O", "U3", "M8[s]", ml_dtypes.int4, ml_dtypes.float8_e3m4):
        with pytest.raises(ValueError, match=r"tensor 'b' has dtype .*cannot hold: cast it"):
            write_safetensors(path, {"a": x, "b": x.astype(dtype)})
    for name in (3, "__metadata__"):
        with pytest.raises(ValueError, match="a tensor's name must be a string"):
            write_safetensors(path, {name: x})
    with pytest.raises(ValueError, match="metadata must hold strings"):
        write_safetensors(path, {"a": x}, metadata={"steps": 3})
    assert not path.parent.exists()
    write_safetensors(path, {"a": x, "b": x}, shard_bytes=np.int64(24))
    assert len(list(path.parent.iterdir())) == 3


def test_importing_loads_no_other_framework():
    heavy = ("torch", "diffusers", "optax", "orbax", "tensorflow", "grain")
    code = f"import sys, jaxgen.interop; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []
