"""safetensors of several files with an index, variants, and missing files."""

import json

import numpy as np
import pytest

from jaxgen.interop import read_safetensors, write_safetensors
from tests.interop.test_safetensors import assert_same


def test_several_files_and_their_index(tmp_path):
    rng = np.random.default_rng(0)
    wanted = {f"t{i}": rng.normal(size=(i + 1, 25)).astype(np.float32) for i in range(6)}  # 100 .. 600 bytes
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
    for name in ("../p1.safetensors", "/p1.safetensors", "a/p1.safetensors", "..\\p1.safetensors", "..", "", "p1.bin"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match="'a' is in .* may only name .safetensors files of its own directory"):
            read_safetensors(path)
    for content in ("{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}'):
        index.write_text(content)
        with pytest.raises(ValueError, match=r"is no index of safetensors files"):
            read_safetensors(path)
    for content, message in (("{", "is no JSON"), ("[]", "must hold an object"),
                             ('{"weight_map": {"a": "p1.safetensors", "a": "p2.safetensors"}}', "'a' stands twice")):
        index.write_text(content)
        with pytest.raises(ValueError, match=rf"w\.safetensors\.index\.json .*{message}"):
            read_safetensors(path)


def test_the_index_decides_which_file_a_tensor_is_in(tmp_path):
    """Two files that both have it, one that has another's, and one with more than the index names: each is named."""
    path, index = tmp_path / "w.safetensors", tmp_path / "w.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "p1.safetensors", "b": "p2.safetensors"}}))
    a, b = np.zeros(2), np.ones(3)
    for first, second, message in (
        ({"a": a}, {"a": a + 1, "b": b}, r"p2\.safetensors has the tensor 'a', which .* says is in p1\.safetensors"),
        ({"a": a, "b": b}, {}, r"p1\.safetensors has the tensor 'b', which .* says is in p2\.safetensors"),
        ({"b": b}, {"a": a}, r"p1\.safetensors has the tensor 'b', which .* says is in p2\.safetensors"),
        ({"a": a}, {"b": b, "c": b}, r"p2\.safetensors has the tensor 'c', which .*index\.json does not name"),
        ({"a": a}, {}, r"promises 'b' in p2\.safetensors, which does not have it"),
    ):
        write_safetensors(tmp_path / "p1.safetensors", first)
        write_safetensors(tmp_path / "p2.safetensors", second)
        with pytest.raises(ValueError, match=message):
            read_safetensors(path)
    write_safetensors(tmp_path / "p2.safetensors", {"b": b})
    assert_same(read_safetensors(path, dtype=None), {"a": a, "b": b})


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
    with pytest.raises(FileNotFoundError, match=r"it has w\.fp16\.safetensors; give variant='fp16'$"):
        read_safetensors(path)
    (tmp_path / "w.fp16.safetensors").rename(tmp_path / "v.safetensors")
    with pytest.raises(FileNotFoundError, match=r"it has v\.safetensors; give the path of that file, or rename it"):
        read_safetensors(path)
    (tmp_path / "v.safetensors").rename(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or is no safetensors file"):
        read_safetensors(path)
    with pytest.raises(ValueError, match=r"path must end in \.safetensors, got .*w\.bin"):
        write_safetensors(tmp_path / "w.bin", {})
    with pytest.raises(ValueError, match="shard_bytes .* must be an integer of at least 1, got 0"):
        write_safetensors(path, {}, shard_bytes=0)


def test_variants_are_read_by_their_name(tmp_path):
    """The names of diffusers and transformers, of one file and of several."""
    path, x = tmp_path / "w.safetensors", np.arange(3.0)
    write_safetensors(tmp_path / "w.fp16.safetensors", {"a": x})
    assert_same(read_safetensors(path, dtype=None, variant="fp16"), {"a": x})
    write_safetensors(path, {"a": x + 1})
    assert_same(read_safetensors(path, dtype=None, variant="fp16"), {"a": x})
    for index in ("w.safetensors.index.ema.json", "w.safetensors.ema.index.json"):
        write_safetensors(tmp_path / "w.ema-00001-of-00001.safetensors", {"a": x + 2})
        (tmp_path / index).write_text(json.dumps({"weight_map": {"a": "w.ema-00001-of-00001.safetensors"}}))
        assert_same(read_safetensors(path, dtype=None, variant="ema"), {"a": x + 2})
        path.unlink(missing_ok=True)
        (tmp_path / "w.fp16.safetensors").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError, match=rf"it has {index}; give variant='ema'"):
            read_safetensors(path)
        (tmp_path / index).unlink()
    with pytest.raises(FileNotFoundError, match="one of several files whose index .* fetch that too"):
        read_safetensors(path)
    write_safetensors(tmp_path / "m.safetensors", {"a": x, "b": x}, shard_bytes=24)
    with pytest.raises(FileNotFoundError, match=r"it has the index m\.safetensors\.index\.json; give the path of that"):
        read_safetensors(path)
    with pytest.raises(FileNotFoundError, match=r"no w\.bf16\.safetensors or w\.safetensors\.index\.bf16\.json or"):
        read_safetensors(path, variant="bf16")
    for variant in ("../x", "", 16):
        with pytest.raises(ValueError, match="variant must be a part of a file's name"):
            read_safetensors(path, variant=variant)
    with pytest.raises(ValueError, match="path must end in .safetensors where a variant"):
        read_safetensors(tmp_path / "m.safetensors.index.json", variant="fp16")
