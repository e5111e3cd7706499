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


def loop_ms_ssim(x, y, window, sigma):
    """Wang et al.'s definition of two grey images in [0, 1], position by position."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    value = 1.0
    for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y = ([[np.mean([image[min(2 * i + a, len(image) - 1)][min(2 * j + b, len(image[0]) - 1)]
                               for a in (0, 1) for b in (0, 1)]) for j in range((len(image[0]) + 1) // 2)]
                     for i in range((len(image) + 1) // 2)] for image in (x, y))
        terms = []
        for i in range(len(x) - window + 1):
            for j in range(len(x[0]) - window + 1):
                a, b = (np.array([row[j:j + window] for row in image[i:i + window]]) for image in (x, y))
                mean_a, mean_b = np.sum(weights * a), np.sum(weights * b)
                var_a, var_b = np.sum(weights * (a - mean_a) ** 2), np.sum(weights * (b - mean_b) ** 2)
                term = (2 * np.sum(weights * (a - mean_a) * (b - mean_b)) + 0.03**2) / (var_a + var_b + 0.03**2)
                if scale == 4:
                    term *= (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
                terms.append(term)
        value *= max(np.mean(terms), 0) ** power
    return value


def test_ms_ssim_is_the_mean_over_channels_of_a_loop_also_with_odd_sides():
    noise = np.random.default_rng(3).normal(size=(2, 53, 58, 2))
    x = np.clip(0.5 + 0.2 * noise + 0.2 * np.sin(np.arange(58) / 9)[:, None], 0, 1)
    y = np.clip(x + np.array([0.05, 0.5])[:, None, None, None] * np.roll(noise, 7, axis=2), 0, 1)
    y[0] = np.clip(y[0] - 0.3, 0, 1)  # darker
    y[1, ..., 1] = 1 - x[1, ..., 1]  # structures below 0
    wanted = [np.mean([loop_ms_ssim(x[b, ..., c], y[b, ..., c], 4, 1.2) for c in range(2)]) for b in range(2)]
    found = jax.jit(lambda x, y: metrics.ms_ssim(2 * x - 1, 2 * y - 1, window=4, sigma=1.2))(x, y)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_ms_ssim_names_the_least_size():
    x = np.zeros((1, 161, 161, 1), np.float32)
    np.testing.assert_allclose(jax.jit(metrics.ms_ssim)(x, x), 1, atol=1e-6)
    with pytest.raises(ValueError, match="images of 160x161 are too small .* window=11: they must be 161x161 at least"):
        metrics.ms_ssim(x[:, 1:], x[:, 1:])
