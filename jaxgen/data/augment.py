"""Augmentations of whole uint8 batches in NumPy; the random draws come in as arrays."""

import numpy as np


def flip(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mirrors left and right where the mask is true: `y[b, h, w] = x[b, h, W - 1 - w]`.

    Args:
        images: `[B, H, W, C]`.
        mask: `[B]` bool.

    Returns:
        `[B, H, W, C]`.
    """
    return np.where(np.asarray(mask, bool)[:, None, None, None], images[:, :, ::-1], images)


def crop(images: np.ndarray, offsets: np.ndarray, padding: int) -> np.ndarray:
    """Cuts the original size out of the image padded by reflection: `y[b, h, w] = padded[b, h + dy_b, w + dx_b]`.

    Args:
        images: `[B, H, W, C]`.
        offsets: `[B, 2]` integers (dy, dx) in `[0, 2 * padding]`; `padding` is the middle, which changes nothing.
        padding: pixels added on each side, less than H and W.

    Returns:
        `[B, H, W, C]`.
    """
    _, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")
    rows = offsets[:, 0, None] + np.arange(height)
    columns = offsets[:, 1, None] + np.arange(width)
    return padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
