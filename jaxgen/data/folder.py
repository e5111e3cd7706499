"""A folder of a user's own images, for a model that takes them in one size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgen.data.dataset import Dataset

MODES = {1: "L", 3: "RGB"}


def read_folder(folder: str | Path, example_shape: Sequence[int]) -> Dataset:
    """A folder's images, cut to the central square, in the size and colour that a model takes.

    Args:
        folder: with image files.
        example_shape: [H, W, C] of the model's images.

    Raises:
        ValueError: the model takes neither grey nor RGB images, or a file is damaged.
        FileNotFoundError: there is no such folder, or no image in it.
    """
    from jaxgen.data.builders.image_folder import find_images, read_square  # a builder needs TFDS

    size, _, channels = example_shape
    if channels not in MODES:
        raise ValueError(f"a folder of images needs a model of grey or RGB images, but this one takes {channels} "
                         "channels")
    folder = Path(folder)
    images = [np.asarray(read_square(file, size).convert(MODES[channels])) for file in find_images(folder)]
    return Dataset.from_arrays(np.stack(images).reshape(-1, *example_shape), name=folder.name, split="all")
