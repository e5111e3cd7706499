"""A codebook to look at: each code as the decoder shows it, how often it is used, and which codes are alike."""

import math

import numpy as np
from jaxtyping import Float, Int, UInt8

BAR = 3  # pixels of the bar below a code, and of the gap below that
INK, TRACK = 40, 225  # grey of a bar, and of the place where it could be longer


def principal_plane(vectors: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K 2"]:
    """The coordinates of vectors along their two principal axes, centred; a second axis of zeros where D is 1.

    Each axis points where its largest component is positive, so that the image does not depend on the machine.

    Args:
        vectors: K of at least 1, finite.

    Raises:
        ValueError: another shape, or a vector that is not finite.

    Example:
        >>> principal_plane(np.array([[0.0, 3.0], [0.0, 1.0], [0.0, 2.0]])).round(6)[:, 0].tolist()
        [1.0, -1.0, 0.0]

    Reference: Pearson, "On lines and planes of closest fit to systems of points in space", 1901
    """
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite [K, D] with K >= 1, got shape {list(vectors.shape)}")
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    places = centred @ axes.T
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def code_sheet(
    patches: UInt8[np.ndarray, "K H W C"], counts: Int[np.ndarray, "K"], *, columns: int | None = None, scale: int = 1
) -> UInt8[np.ndarray, "height width C"]:
    """Codes on one sheet, most used first; the bar below each is the square root of its use, of the most used one's.

    Args:
        patches: of each code what the decoder makes of it.
        counts: how often each occurs.
        columns: codes in a row; None for a sheet about twice as wide as high.
        scale: pixels for each pixel of a patch, which leaves room for short bars.

    Raises:
        ValueError: not a count for each patch.
    """
    count, height, width, channels = patches.shape
    if counts.shape != (count,):
        raise ValueError(f"counts must be [{count}], one for each patch, got {list(counts.shape)}")
    columns = min(count, math.ceil(math.sqrt(2 * count)) if columns is None else columns)
    height, width = height * scale, width * scale
    down, right = height + 2 * BAR, width + BAR
    sheet = np.full((math.ceil(count / columns) * down + BAR, columns * right + BAR, channels), 255, np.uint8)
    lengths = np.round(width * np.sqrt(counts / max(counts.max(), 1))).astype(int)
    for place, code in enumerate(np.argsort(-counts, kind="stable")):
        top, left = BAR + place // columns * down, BAR + place % columns * right
        sheet[top : top + height, left : left + width] = patches[code].repeat(scale, 0).repeat(scale, 1)
        bar = sheet[top + height : top + height + BAR, left : left + width]
        bar[:, :], bar[:, : max(lengths[code], int(counts[code] > 0))] = TRACK, INK
    return sheet


def code_plane(
    patches: UInt8[np.ndarray, "K H W C"], places: Float[np.ndarray, "K 2"], counts: Int[np.ndarray, "K"], *,
    width: int = 900, height: int = 600,
) -> UInt8[np.ndarray, "height width C"]:
    """Codes at their places in a plane, such as `principal_plane`; the more often one is used, the nearer to the eye.

    Args:
        patches: of each code what the decoder makes of it.
        places: coordinates; the image spans what they span, along each axis by itself, the second one upwards.
        counts: how often each occurs; what does not is faint.
        width, height: of the image.
    """
    sheet = np.full((height, width, patches.shape[-1]), 255, np.uint8)
    span = np.maximum(np.ptp(places, axis=0), 1e-12)
    free = np.array([width - patches.shape[2] - 2, height - patches.shape[1] - 2])
    corners = np.round((places - places.min(axis=0)) / span * free).astype(int) + 1
    corners[:, 1] = free[1] + 2 - corners[:, 1]
    for code in np.argsort(counts, kind="stable"):
        patch = patches[code] if counts[code] else (patches[code] // 4 + 191).astype(np.uint8)
        left, top = corners[code]
        sheet[top - 1 : top + patch.shape[0] + 1, left - 1 : left + patch.shape[1] + 1] = 200  # a thin frame
        sheet[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return sheet
