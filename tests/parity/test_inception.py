"""Inception and the rules of resizing against torch-fidelity and PyTorch, with random weights."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
from tests.parity import torchvision_networks  # noqa: E402

with torchvision_networks.provided():
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

from jaxgen.evaluate import extract_all, inception_features  # noqa: E402
from jaxgen.evaluate.resize import resize  # noqa: E402
from jaxgen.interop import load_inception  # noqa: E402
from jaxgen.nn import InceptionV3  # noqa: E402
from tests.interop.test_inception import random_tensors  # noqa: E402

LAYERS = ("64", "192", "768", "2048", "logits_unbiased", "logits")
SIZES = [(32, 32), (37, 51), (299, 299), (301, 300), (640, 427)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A directory with the weights as PyTorch saves them, which their network loads strictly."""
    directory = tmp_path_factory.mktemp("weights")
    tensors = {name: torch.from_numpy(tensor) for name, tensor in random_tensors().items()}
    torch.save(tensors, directory / "random.pth")
    save_file(tensors, directory / "random.safetensors")
    return directory


def photographs(height, width):
    """uint8 [2, height, width, 3]."""
    return np.stack([image[40 : 40 + height, 30 : 30 + width] for image in load_sample_images().images])


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def close(found, wanted, tolerance):
    """By the root of the mean square, since single features may be near 0."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < tolerance * np.sqrt(np.mean(np.square(wanted)))


def test_all_outputs_of_the_network(weights):
    theirs = FeatureExtractorInceptionV3("inception", list(LAYERS), str(weights / "random.pth"))
    images = photographs(299, 299)
    wanted = dict(zip(LAYERS, theirs(to_torch(images)), strict=True))
    params = load_inception(weights / "random.safetensors")
    found = jax.jit(InceptionV3().apply)({"params": params}, (images.astype(np.float32) - 128) / 128)
    for layer in LAYERS:
        result = getattr(found, f"pool{layer}" if layer.isdigit() else layer)
        # The images are told apart by what is compared.
        assert np.std(wanted[layer].numpy(), axis=0).mean() > 1e-2
        close(np.asarray(result), wanted[layer].numpy(), 1e-4)


@pytest.mark.parametrize("size", [(37, 51), (301, 300)])
def test_features_of_bytes_of_any_size(weights, size):
    theirs = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(weights / "random.pth"))
    images = photographs(*size)
    network = inception_features(load_inception(weights / "random.safetensors"), resize="tensorflow")
    for found, wanted in zip(extract_all(network, images), theirs(to_torch(images)), strict=True):
        close(found, wanted.numpy(), 1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_resizing_as_tensorflow_and_as_pytorch(size):
    images = noise(*size)
    x = to_torch(images).float()
    wanted = {"tensorflow": interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False),
              "pytorch": torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)}
    for rule, theirs in wanted.items():
        found = np.asarray(resize(jnp.asarray(images), (299, 299), rule))
        # Of a place among 640 pixels the last bit is 6e-5, and PyTorch's processors do not agree on it.
        tolerance = {"tensorflow": 1e-4, "pytorch": 255 * 6e-5}[rule]
        np.testing.assert_allclose(found, theirs.numpy().transpose(0, 2, 3, 1), atol=tolerance)


def test_the_command_of_the_message_converts(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "a cache"))
    with pytest.raises(FileNotFoundError) as error:
        load_inception()
    fetch, convert = (line.strip() for line in str(error.value).splitlines()[1:])
    published = fetch.rpartition("/")[2]
    fetch = re.sub("curl .*", f"cp {shlex.quote(str(weights / 'random.pth'))} {published}", fetch)
    convert = re.sub(r"\bpython\b", lambda _: shlex.quote(sys.executable), convert)
    subprocess.run(["sh", "-c", f"{fetch} && {convert}"], check=True, capture_output=True)
    jax.tree.map(np.testing.assert_array_equal, load_inception(), load_inception(weights / "random.safetensors"))
