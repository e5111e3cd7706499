"""Image metrics against torchmetrics."""

import importlib
import importlib.util
import logging
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from jaxgen import metrics  # noqa: E402

spec = importlib.util.find_spec("torchmetrics")
if spec is None:
    pytest.skip("torchmetrics is not installed", allow_module_level=True)
# The package's own file imports torch-fidelity where it is installed, and that torchvision; its functions need neither.
package = importlib.util.module_from_spec(spec)
package._logger = logging.getLogger("torchmetrics")
with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "torchmetrics", package)
    theirs = importlib.import_module("torchmetrics.functional.image")

BORDER = 5  # pixels around a window's middle
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def pair(height, width, channels):
    """Smooth bytes, and the same with noise from little to much."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width] / 12
    waves = [np.sin(rows * a + columns * b + c) for a, b, c in rng.uniform(0.2, 2, (3 * channels, 3))]
    x = 127.5 + 120 * np.stack(waves, -1).reshape(3, height, width, channels)
    noise = rng.normal(0, [[[[3]]], [[[20]]], [[[70]]]], x.shape)
    return tuple(np.clip(np.round(image), 0, 255).astype(np.uint8) for image in (x, x + noise))


def tensors(x, y):
    return tuple(torch.from_numpy(image).permute(0, 3, 1, 2).float() for image in (y, x))


def similarity(x, y):
    """Their SSIM at each position, [B, C, H, W], and the second factor's mean; both over whole windows only.

    Their own mean of the first takes in the border, where a window reaches over the edge and the image is reflected.
    """
    options = {"data_range": 255.0, "reduction": "none"}
    _, everywhere = theirs.structural_similarity_index_measure(x, y, return_full_image=True, **options)
    _, structure = theirs.structural_similarity_index_measure(x, y, return_contrast_sensitivity=True, **options)
    return everywhere[..., BORDER:-BORDER, BORDER:-BORDER], structure


@pytest.mark.parametrize("shape", [(40, 33, 3), (28, 28, 1)])
def test_psnr_and_ssim(shape):
    x, y = pair(*shape)
    expected = theirs.peak_signal_noise_ratio(*tensors(x, y), data_range=255.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(metrics.psnr(x, y, value_range=(0, 255)), expected, rtol=1e-5)
    expected = similarity(*tensors(x, y))[0].mean((1, 2, 3))
    np.testing.assert_allclose(metrics.ssim(x, y, value_range=(0, 255)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(176, 192, 1), (192, 176, 3)])
def test_ms_ssim_is_the_product_over_their_scales(shape):
    """By channel, as they take the mean over channels before the product; the border as above."""
    x, y = pair(*shape)
    channels = []
    for channel in range(shape[2]):
        images, total = tensors(x[..., channel : channel + 1], y[..., channel : channel + 1]), 1.0
        for scale, weight in enumerate(WEIGHTS):
            images = tuple(map(torch.nn.functional.avg_pool2d, images, (2, 2))) if scale else images
            whole, structure = similarity(*images)
            total = total * (whole.mean((1, 2, 3)) if scale == len(WEIGHTS) - 1 else structure).relu() ** weight
        channels.append(total)
    found = metrics.ms_ssim(x, y, value_range=(0, 255))
    np.testing.assert_allclose(found, torch.stack(channels).mean(0), atol=1e-4)
