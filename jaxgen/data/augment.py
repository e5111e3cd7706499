"""Augmentations of whole uint8 batches in NumPy; the random draws come in as arrays."""

import numpy as np


def flip(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mirrors left and right where the mask is true: `y[b, h, w] = x[b, h, W - 1 - w]`.

    Args:
        images: `[B, H, W, C]`, or videos `[B, frames, H, W, C]`, of which all frames are mirrored alike.
        mask: `[B]` bool.

    Returns:
        The shape of `images`.
    """
    chosen = np.asarray(mask, bool).reshape(-1, *[1] * (images.ndim - 1))
    return np.where(chosen, images[..., ::-1, :], images)


def crop(images: np.ndarray, offsets: np.ndarray, padding: int) -> np.ndarray:
    """Cuts the original size out of the image padded by reflection: `y[b, h, w] = padded[b, h + dy_b, w + dx_b]`.

    Args:
        images: `[B, H, W, C]`, or videos `[B, frames, H, W, C]`, of which all frames are cut at the same place.
        offsets: `[B, 2]` integers (dy, dx) in `[0, 2 * padding]`; `padding` is the middle, which changes nothing.
        padding: pixels added on each side, less than H and W.

    Returns:
        The shape of `images`.
    """
    *leading, height, width, channels = images.shape
    frames = images.reshape(leading[0], -1, height, width, channels)
    sides = (padding, padding)
    padded = np.pad(frames, ((0, 0), (0, 0), sides, sides, (0, 0)), mode="reflect")
    rows = (offsets[:, 0, None] + np.arange(height))[:, None, :, None]
    columns = (offsets[:, 1, None] + np.arange(width))[:, None, None, :]
    example, frame = np.ogrid[: frames.shape[0], : frames.shape[1]]
    return padded[example[..., None, None], frame[..., None, None], rows, columns].reshape(images.shape)
