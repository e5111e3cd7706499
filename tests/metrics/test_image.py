"""Image metrics against scikit-image, closed forms and their definitions."""

import functools

import jax
import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from jaxgen import metrics

X = np.random.default_rng(1).integers(0, 256, (3, 24, 20, 3)).astype(np.uint8)
NOISE = np.random.default_rng(2).normal(0, [[[[2]]], [[[20]]], [[[80]]]], X.shape)  # less to more
Y = np.clip(X + NOISE, 0, 255).astype(np.uint8)


METRICS = {"mse": metrics.mse, "psnr": metrics.psnr, "ssim": metrics.ssim}


@functools.cache
def measured():
    """What the metrics say of bytes, of floats, of floats one by one under `vmap`, and of equal images; one program."""

    @jax.jit
    def run(of_bytes, of_floats):
        x, y = of_floats
        return {name: {
            "bytes": metric(*of_bytes, value_range=(0, 255)), "floats": metric(x, y),
            "vmap": jax.vmap(metric)(x[:, None], y[:, None])[:, 0],
            "equal": metric(of_bytes[0], of_bytes[0], value_range=(0, 255)),
        } for name, metric in METRICS.items()}

    return jax.device_get(run((X, Y), (np.float32(X / 127.5 - 1), np.float32(Y / 127.5 - 1))))


def of_scikit_image(name, x, y):
    if name == "mse":
        return mean_squared_error(x / 255, y / 255)
    if name == "psnr":
        return peak_signal_noise_ratio(x, y)
    return structural_similarity(x, y, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False,
                                 sigma=1.5, data_range=255)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_bytes_equal_scikit_image(name):
    expected = np.float32([of_scikit_image(name, x, y) for x, y in zip(X, Y, strict=True)])
    np.testing.assert_allclose(measured()[name]["bytes"], expected, **({"atol": 1e-5} if name == "ssim" else
                                                                       {"rtol": 1e-5}))


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_the_same_for_images_in_minus_one_to_one_and_under_vmap(name):
    of = measured()[name]
    np.testing.assert_allclose(of["floats"], of["bytes"], atol=2e-5)
    np.testing.assert_allclose(of["vmap"], of["floats"], rtol=1e-4)


@pytest.mark.parametrize("name", METRICS)
def test_without_jit_a_metric_says_the_same(name):
    result = METRICS[name](X, Y, value_range=(0, 255))
    np.testing.assert_allclose(result, measured()[name]["bytes"], rtol=1e-5)


def test_equal_images_have_ssim_one_and_infinite_psnr():
    np.testing.assert_allclose(measured()["ssim"]["equal"], np.ones(3, np.float32), atol=1e-6)
    assert np.all(np.isinf(measured()["psnr"]["equal"]))


def test_bad_shapes_and_ranges_are_named():
    with pytest.raises(ValueError, match=r"value_range .* got \(1, 1\)"):
        metrics.mse(X, Y, value_range=(1, 1))
    with pytest.raises(ValueError, match=r"\(3, 24, 20, 3\) and \(3, 24, 20, 2\)"):
        metrics.psnr(X, Y[..., :2])
    with pytest.raises(ValueError, match=r"window=11 is larger than the images \(8x20\)"):
        metrics.ssim(X[:, :8], Y[:, :8], value_range=(0, 255))


def test_bytes_need_their_range():
    for metric in (metrics.mse, metrics.psnr, metrics.ssim):
        for x, y in ((X, Y), (X, np.float32(Y)), (np.float32(X), Y), (X.astype(int), Y.astype(int))):
            with pytest.raises(ValueError, match=r"whole numbers .*value_range=\(0, 255\) for bytes, .*to_float"):
                metric(x, y)


def test_mse_and_psnr_of_videos_are_means_over_all_their_entries():
    x, y = np.float32(X / 127.5 - 1)[:, :6].reshape(3, 2, 3, 20, 3), np.float32(Y / 127.5 - 1)[:, :6].reshape(
        3, 2, 3, 20, 3)
    error = ((x - y).astype(np.float64) ** 2 / 4).reshape(3, -1).mean(1)
    mse, psnr = jax.jit(lambda x, y: (metrics.mse(x, y), metrics.psnr(x, y)))(x, y)
    np.testing.assert_allclose(mse, error, rtol=1e-5)
    np.testing.assert_allclose(psnr, -10 * np.log10(error), rtol=1e-5)
    with pytest.raises(ValueError, match=r"x and y must be \[B, H, W, C\], got \(3, 2, 3, 20, 3\)"):
        metrics.ssim(x, y)
