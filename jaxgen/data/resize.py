"""Cropping and resizing single uint8 images."""

import numpy as np

from jaxgen.core.extras import extra


def centre_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cuts the central `height` x `width` out of an image `[H, W, C]`; the odd pixel stays at the bottom and right."""
    full_height, full_width = image.shape[:2]
    if height > full_height or width > full_width:
        raise ValueError(f"cannot crop {height}x{width} out of an image of {full_height}x{full_width} pixels")
    top, left = (full_height - height) // 2, (full_width - width) // 2
    return image[top : top + height, left : left + width]


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes an image `[H, W, C]` to `[size, size, C]`, antialiased.

    By a whole factor down each pixel is the mean of the area it covers; by others a triangle filter as wide as the
    step between pixels; up, bicubic.

    Args:
        image: `[H, W, C]` uint8.
        size: pixels.

    Returns:
        `[size, size, C]` uint8.
    """
    with extra("data"):
        from PIL import Image

    height, width, channels = image.shape
    if height % size == 0 and width % size == 0:
        method = Image.Resampling.BOX
    elif height > size:
        method = Image.Resampling.BILINEAR
    else:
        method = Image.Resampling.BICUBIC
    if channels not in (1, 3, 4):
        raise ValueError(f"cannot resize an image with {channels} channels: expected 1, 3 or 4")
    pillow = Image.fromarray(image[..., 0] if channels == 1 else image)
    return np.asarray(pillow.resize((size, size), method)).reshape(size, size, channels)
