"""LPIPS and its weights against the package of its authors: random features, the published heads."""

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
    reference = pytest.importorskip("lpips")

import jax  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from scipy import ndimage  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

from jaxgen import losses  # noqa: E402
from jaxgen.interop import load_lpips  # noqa: E402

NETS = ("vgg", "alex")


def build(net):
    """Their module with random features and the heads that the package brings."""
    torch.manual_seed(0)
    return reference.LPIPS(net=net, pnet_rand=True, verbose=False)


def converted(module, path, net):
    save_file({name: t.contiguous() for name, t in module.state_dict().items() if not name.startswith("lins.")}, path)
    return load_lpips(path, net=net)


def photographs():
    """[4, 2, 64, 96, 3] two photographs, each next to a noisy and a blurred version, a shifted one, and each other."""
    china, flower = (image[150:214, 200:296] / 127.5 - 1 for image in load_sample_images().images)
    noisy = np.clip(china + np.random.default_rng(0).normal(0, 0.1, china.shape), -1, 1)
    blurred = ndimage.gaussian_filter(china, (1.5, 1.5, 0))
    pairs = [(china, noisy), (china, blurred), (flower, np.roll(flower, 3, axis=1)), (china, flower)]
    return np.asarray(pairs, np.float32)


def noise():
    return np.random.default_rng(0).uniform(-1, 1, (4, 2, 64, 64, 3)).astype(np.float32)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("pairs", [noise, photographs])
@pytest.mark.parametrize("net", NETS)
def test_distances_and_gradients(net, pairs, tmp_path):
    module, pairs = build(net), pairs()
    params = converted(module, tmp_path / f"{net}.safetensors", net)
    x, y = pairs[:, 0], pairs[:, 1]
    variable = to_torch(y).requires_grad_()
    theirs = module(to_torch(x), variable)[:, 0, 0, 0]
    theirs.sum().backward()

    def distance(y, x, params):  # all of it arguments, for constants would be folded at length
        found = losses.lpips(params, x, y)
        return found.sum(), found

    gradient, ours = jax.jit(jax.grad(distance, has_aux=True))(y, x, params)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-4)
    expected = variable.grad.numpy().transpose(0, 2, 3, 1)
    # In the norm, because rounding decides here and there which side of a ReLU or a maximum is taken.
    assert np.linalg.norm(gradient - expected) < 1e-2 * np.linalg.norm(expected)


@pytest.mark.parametrize("net", NETS)
def test_features(net, tmp_path):
    module, images = build(net), photographs()[:, 0]
    params = converted(module, tmp_path / f"{net}.safetensors", net)
    with torch.no_grad():
        theirs = module.net(module.scaling_layer(to_torch(images)))
    for found, wanted in zip(losses.lpips_features(params, images), theirs, strict=True):
        wanted = wanted.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.skipif(not torchvision_networks.AVAILABLE, reason="the command imports torchvision")
@pytest.mark.parametrize("net", NETS)
def test_the_command_of_the_message_converts(net, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "a cache"))
    with pytest.raises(FileNotFoundError) as error:
        load_lpips(net=net)
    command = next(line.strip() for line in str(error.value).splitlines() if "import lpips" in line)
    # Random features, because the trained ones would be downloaded.
    command = command.replace(f"net='{net}'", f"net='{net}', pnet_rand=True")
    command = re.sub(r"\bpython\b", lambda _: shlex.quote(sys.executable), command)
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    heads = [head.model[-1].weight.detach().numpy().ravel() for head in build(net).lins]
    for found, wanted in zip(load_lpips(net=net).weights, heads, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("net", NETS)
def test_the_published_weights(net):
    """Heads as the authors published them; distances that grow with the damage."""
    try:
        params = load_lpips(net=net)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for found, wanted in zip(params.weights, build(net).lins, strict=True):
        np.testing.assert_allclose(found, wanted.model[-1].weight.detach().numpy().ravel(), rtol=1e-6)
    china = photographs()[0, 0]
    noise = np.random.default_rng(0).normal(size=china.shape)
    worse = np.stack([china + scale * noise for scale in (0, 0.05, 0.2, 0.5)]).astype(np.float32)
    distances = losses.lpips(params, np.broadcast_to(china, worse.shape), worse)
    assert distances[0] == 0 and np.all(np.diff(distances) > 1e-3)
