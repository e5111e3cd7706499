"""Samples that are not finite, as a model makes them far outside of its settings: said, and never shown as black ones.

What is finite is written and the others are left blank; a script says how many they are, and ends with exit status 1.
Of samples that are whole numbers, such as text, those with a -1, which could not be drawn, count as not finite.
"""

import numpy as np

ADVICE = "Take another checkpoint, or where samples are guided a lower guidance"


def finite_images(samples: np.ndarray) -> np.ndarray:
    """[B] which of the samples [B, ...] have no number that is NaN or infinite, or below 0 among whole ones.

    Example:
        >>> import numpy as np
        >>> finite_images(np.array([[[[0.5]]], [[[np.nan]]]])).tolist()
        [True, False]
    """
    samples = np.asarray(samples)
    flat = samples.reshape(len(samples), -1)
    if samples.dtype.kind in "iu":
        return (flat >= 0).all(axis=1)
    return np.isfinite(flat.astype(np.float32)).all(axis=1)


def blank(images: np.ndarray, finite: np.ndarray) -> np.ndarray:
    """Images [..., B, H, W, C] in [-1, 1], white where they are not `finite` [B], as an empty place of a sheet is."""
    return np.where(finite[:, None, None, None], images, np.asarray(1, images.dtype))


def check_any(finite: np.ndarray, what: str) -> None:
    """Raises ValueError where none is finite, so that nothing is written."""
    if not finite.any():
        raise ValueError(f"none of the {len(finite)} {what} is finite: nothing was written. {ADVICE}")


def check_all(finite: np.ndarray, what: str, written: str = "blank") -> None:
    """Raises ValueError where some are not finite; `written` says what became of them."""
    wrong = np.flatnonzero(~finite)
    if wrong.size:
        raise ValueError(f"{wrong.size} of {len(finite)} {what} are not finite (NaN or infinite), the first is number "
                         f"{wrong[0]}: {written}. {ADVICE}")
