import json
import struct
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxgen.interop import read_safetensors, write_safetensors

RNG = np.random.default_rng(0)
ROOT = Path(__file__).parents[2]


def tensors():
    x = RNG.normal(size=(3, 4))
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
    x = RNG.normal(size=(2, 3)).astype(np.float32)
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


def test_several_files_and_their_index(tmp_path):
    wanted = {f"t{i}": RNG.normal(size=(i + 1, 25)).astype(np.float32) for i in range(6)}  # 100 .. 600 bytes
    path, index = tmp_path / "w.safetensors", tmp_path / "w.safetensors.index.json"
    write_safetensors(path, wanted)
    write_safetensors(path, wanted, shard_bytes=650)
    assert not path.exists()
    content = json.loads(index.read_text())
    files = [content["weight_map"][name] for name in wanted]
    first, second, third, fourth = (f"w-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4))
    assert files == [first, first, first, second, third, fourth]  # 100 + 200 + 300, 400, 500, 600
    assert content["metadata"]["total_size"] == 2100
    assert set(read_safetensors(tmp_path / second)) == {"t3"}
    for name in (path, index):
        assert_same(read_safetensors(name), wanted)
    changed = {**wanted, "t0": wanted["t0"] + 1}
    write_safetensors(path, changed)
    assert_same(read_safetensors(path), changed)
    assert not index.exists()


def test_an_index_that_does_not_fit_its_files_is_an_error(tmp_path):
    path, index = tmp_path / "w.safetensors", tmp_path / "w.safetensors.index.json"
    write_safetensors(tmp_path / "p1.safetensors", {"a": np.zeros(2)})
    index.write_text(json.dumps({"weight_map": {"a": "p1.safetensors", "b": "p1.safetensors"}}))
    with pytest.raises(ValueError, match=r"promises 'b' in p1\.safetensors, which does not have it"):
        read_safetensors(path)
    index.write_text(json.dumps({"weight_map": {"a": "p1.safetensors", "b": "p2.safetensors"}}))
    with pytest.raises(FileNotFoundError, match=r"names p2\.safetensors, which is not in"):
        read_safetensors(path)
    index.write_text(json.dumps({"weight_map": {"a": "../p1.safetensors"}}))
    with pytest.raises(ValueError, match="outside its own directory"):
        read_safetensors(path)
    for content in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(content)
        with pytest.raises(ValueError, match=r"is no index of safetensors files"):
            read_safetensors(path)


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no w\.safetensors or w\.safetensors\.index\.json.*it has no files"):
        read_safetensors(path)
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        read_safetensors(tmp_path / "nowhere" / "w.safetensors")
    (tmp_path / "w.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"it has w\.bin, pickled weights.*Convert.*python -c \"import torch"):
        read_safetensors(path)
    write_safetensors(tmp_path / "w.fp16.safetensors", {"a": np.zeros(3)})
    with pytest.raises(FileNotFoundError, match=r"it has w\.fp16\.safetensors; rename that file"):
        read_safetensors(path)
    (tmp_path / "w.fp16.safetensors").rename(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or is no safetensors file"):
        read_safetensors(path)
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got .*w\.bin"):
        write_safetensors(tmp_path / "w.bin", {})
    with pytest.raises(ValueError, match="shard_bytes must be at least 1"):
        write_safetensors(path, {}, shard_bytes=0)


def test_importing_loads_no_other_framework():
    heavy = ("torch", "diffusers", "optax", "orbax", "tensorflow", "grain")
    code = f"import sys, jaxgen.interop; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []
