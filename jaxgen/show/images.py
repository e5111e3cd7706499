"""Many images on one sheet."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image as File

from jaxgen.core.pixels import floats_to_bytes
from jaxgen.data.kinds import Image, Kind, Video
from jaxgen.data.spec import Spec


def to_uint8(images: Float[Array, "... H W C"] | UInt8[Array, "... H W C"]) -> UInt8[np.ndarray, "... H W C"]:
    """round((x + 1) 127.5), clipped to 0..255; uint8 images are left as they are.

    Args:
        images: floats in [-1, 1], or uint8.

    Raises:
        TypeError: another dtype.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f" and images.dtype.name != "bfloat16":
        raise TypeError(f"images must be uint8, or floats in [-1, 1], got {images.dtype}")
    images = np.nan_to_num(images.astype(np.float32), nan=-1.0)
    return floats_to_bytes(images)


def make_grid(
    images: Float[Array, "B H W C"] | UInt8[Array, "B H W C"], *, columns: int | None = None, padding: int = 2
) -> UInt8[np.ndarray, "height width C"]:
    """Images side by side in reading order, with a white frame of `padding` pixels.

    Args:
        images: floats in [-1, 1] or uint8; C is 1 (grey), 3 (colour) or 4 (with opacity).
        columns: images in a row; None for a sheet about as wide as high.
        padding: pixels between images and around them.

    Returns:
        uint8 [rows (H + padding) + padding, columns (W + padding) + padding, C]; empty places are white.

    Raises:
        ValueError: the shape is not [B, H, W, C] with B at least 1 and C of 1, 3 or 4; or columns is below 1.
    """
    images = to_uint8(images)
    if images.ndim != 4 or images.shape[0] < 1 or images.shape[-1] not in (1, 3, 4):
        raise ValueError(f"images must be [B, H, W, C] with B >= 1 and C of 1, 3 or 4, got {list(images.shape)}")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    count, height, width, channels = images.shape
    columns = min(count, math.ceil(math.sqrt(count)) if columns is None else columns)
    rows = math.ceil(count / columns)
    down, right = height + padding, width + padding
    sheet = np.full((rows * down + padding, columns * right + padding, channels), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = padding + i // columns * down, padding + i % columns * right
        sheet[top : top + height, left : left + width] = image
    return sheet


def scaled_to_show(images: Float[Array, "B H W C"]) -> Float[np.ndarray, "B H W C"]:
    """Images with noise, each divided by the 99th percentile of its sizes where that is above 1, to be seen as grey.

    Example:
        >>> scaled_to_show(np.array([8.0, 0.5]).reshape(2, 1, 1, 1)).ravel().tolist()
        [1.0, 0.5]
    """
    images = np.asarray(images)
    return images / np.maximum(1.0, np.quantile(np.abs(images), 0.99, axis=(1, 2, 3), keepdims=True))


def grid(
    kind: Kind | Spec, examples: Any, *, columns: int | None = None, padding: int = 2
) -> UInt8[np.ndarray, "height width C"]:
    """Examples on one sheet: images in reading order, or each video's frames in a row of its own.

    Args:
        kind: `Image` or `Video`, or a spec whose examples are.
        examples: [B, *kind.shape], floats in [-1, 1] or uint8.
        columns: images in a row, see `make_grid`; a video's row has all its frames.
        padding: see `make_grid`.

    Raises:
        ValueError: the kind cannot be shown, or the examples have another shape.

    Example:
        >>> grid(Video((3, 4, 4, 1)), np.zeros((2, 3, 4, 4, 1), np.uint8)).shape
        (14, 20, 1)
    """
    kind = kind[kind.example] if isinstance(kind, Spec) else kind
    if not isinstance(kind, Image | Video):
        raise ValueError(f"kind must be Image or Video to be shown on a sheet, got {kind}")
    if np.shape(examples)[1:] != kind.shape:
        raise ValueError(f"examples must be [B, {', '.join(map(str, kind.shape))}], got {list(np.shape(examples))}")
    if isinstance(kind, Video):
        if columns is not None:
            raise ValueError(f"columns={columns} is of images: a video's row has all its frames, so leave it out")
        examples, columns = np.asarray(examples).reshape(-1, *kind.shape[1:]), kind.shape[0]
    return make_grid(examples, columns=columns, padding=padding)


def save_grid(
    path: str | Path,
    images: Float[Array, "B H W C"] | UInt8[Array, "B H W C"],
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int = 1,
) -> Path:
    """Writes `make_grid` as an image file; the folder is made if need be.

    Args:
        path: the format follows from its ending, for example ".png".
        images: see `make_grid`.
        columns: see `make_grid`.
        padding: see `make_grid`.
        scale: each pixel becomes scale x scale pixels, for small images on large screens.

    Returns:
        The path.

    Raises:
        ValueError: see `make_grid`.
    """
    sheet = make_grid(images, columns=columns, padding=padding)
    sheet = sheet.repeat(scale, 0).repeat(scale, 1)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    File.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet).save(path)
    return path
