"""Inception's weights from safetensors, and what messages say where they do not fit or are not there."""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxgen.interop import inception_from_tensors, load_inception, write_safetensors
from jaxgen.nn import InceptionV3

# Some of the published file's names and shapes.
PUBLISHED = {
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3), "Conv2d_1a_3x3.bn.running_var": (32,),
    "Conv2d_4a_3x3.conv.weight": (192, 80, 3, 3), "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1), "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
    "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7), "Mixed_6e.branch7x7dbl_2.conv.weight": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3), "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1), "Mixed_7c.branch_pool.bn.bias": (192,),
    "fc.weight": (1008, 2048), "fc.bias": (1008,),
}
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var", "bias": "bias"}


def random_tensors(seed=0):
    """A state dict whose activations neither vanish nor explode, with statistics that are not those of a new network.

    PyTorch's layouts: tests of parity load it into the network of another library, which wants each name and shape.
    """
    rng = np.random.default_rng(seed)
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    shapes = traverse_util.flatten_dict(jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"])
    result = {}
    for path, leaf in shapes.items():
        shape = tuple(leaf.shape[axis] for axis in {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(leaf.shape)])
        if path[-1] == "kernel":
            values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif path[-1] in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0, 0.2, shape)
        result[".".join([*path[:-1], LEAVES[path[-1]]])] = values.astype(np.float32)
    return result


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


def test_names_and_shapes_are_the_published_ones(tensors):
    assert {name: tensors[name].shape for name in PUBLISHED} == PUBLISHED
    assert len(tensors) == 94 * 5 + 2  # convolutions, each with four vectors of its normalization; the last layer


def test_kernels_are_transposed_and_the_rest_is_renamed(tensors, tmp_path):
    counted = {**tensors, "Mixed_5b.branch1x1.bn.num_batches_tracked": np.array(7)}
    write_safetensors(tmp_path / "inception.safetensors", counted)
    params = load_inception(tmp_path / "inception.safetensors")
    block = params["Mixed_6b"]["branch7x7_2"]
    for i, o, u in ((0, 1, 2), (127, 5, 6)):
        assert block["conv"]["kernel"][0, u, i, o] == tensors["Mixed_6b.branch7x7_2.conv.weight"][o, i, 0, u]
    for ours, theirs in (("scale", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("var", "running_var")):
        np.testing.assert_array_equal(block["bn"][ours], tensors[f"Mixed_6b.branch7x7_2.bn.{theirs}"])
    np.testing.assert_array_equal(params["fc"]["kernel"], tensors["fc.weight"].T)
    np.testing.assert_array_equal(params["fc"]["bias"], tensors["fc.bias"])


def test_tensors_that_do_not_fit_are_named(tensors):
    less = {name: tensor for name, tensor in tensors.items() if name != "Mixed_7c.branch_pool.bn.running_mean"}
    of_torchvision = {"AuxLogits.fc.weight": np.zeros((1000, 768), np.float32),
                      "fc.bias": np.zeros(1000, np.float32)}
    with pytest.raises(ValueError, match=r"here does not fit the Inception network of the FID: "
                                         r"missing: Mixed_7c\.branch_pool\.bn\.running_mean \[192\]; "
                                         r"unexpected: AuxLogits\.fc\.weight \[1000, 768\]; "
                                         r"wrong shape: fc\.bias \(found \[1000\], wanted \[1008\]\)"):
        inception_from_tensors({**less, **of_torchvision}, source="here")


def test_without_weights_the_message_has_the_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    place = re.escape(str(tmp_path / "inception"))
    with pytest.raises(FileNotFoundError, match=rf"(?s)no Inception weights at {place}.*curl .*6726825d\.pth.*save_"):
        load_inception()
    with pytest.raises(FileNotFoundError, match=r"(?s)no Inception weights at .*own\.safetensors.*curl"):
        load_inception(tmp_path / "own.safetensors")
    (tmp_path / "own.pth").touch()
    with pytest.raises(ValueError, match=r"(?s)own\.pth holds pickled weights, which are not read .*curl"):
        load_inception(tmp_path / "own.pth")
