"""Images that are not finite, as a model makes them far outside of its settings: said, and never shown as black ones.

A script writes what is finite and leaves the others blank, says how many they are, and ends with exit status 1. Where
none is finite it writes nothing.
"""

import numpy as np


def finite_images(images: np.ndarray) -> np.ndarray:
    """[B] which of the images [B, H, W, C] have no number that is NaN or infinite."""
    return np.isfinite(np.asarray(images, np.float32)).all(axis=(1, 2, 3))


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


ADVICE = "Take another checkpoint with --step, or where samples are guided a lower --guidance"
