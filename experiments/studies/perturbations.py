"""Changes that an image meets on its way to a tokenizer: pure functions of bytes, uint8 [N, H, W, C] in and out."""

import io

import numpy as np
from scipy import ndimage


def noise(images: np.ndarray, std: float, seed: int = 0) -> np.ndarray:
    """Gaussian noise of a std in [0, 1], where white is 1; the same for the same seed."""
    drawn = np.random.default_rng(seed).normal(0, 255 * std, images.shape)
    return _to_bytes(images + drawn)


def shift(images: np.ndarray, pixels: int) -> np.ndarray:
    """To the right; the left column is repeated."""
    return np.pad(images, ((0, 0), (0, 0), (pixels, 0), (0, 0)), mode="edge")[:, :, : images.shape[2]]


def blur(images: np.ndarray, std: float) -> np.ndarray:
    """A Gaussian kernel of a std in pixels, cut at four of them; the border is repeated."""
    return _to_bytes(ndimage.gaussian_filter(images.astype(np.float64), (0, std, std, 0), mode="nearest"))


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Written by Pillow as JPEG of a quality from 1 to 95 and read back.

    Raises:
        ValueError: the images are neither grey nor colour.
    """
    from PIL import Image

    if images.shape[3] not in (1, 3):
        raise ValueError(f"images have {images.shape[3]} channels: JPEG takes grey or colour ones, 1 or 3")

    def through_file(image):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    return np.stack([through_file(image) for image in images])


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
