"""`fashion_mnist`: 70,000 images of clothes from the four IDX files, as Debian packages them."""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxgen.data import fingerprint

DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PREFIXES = {"train": "train", "test": "t10k"}


def _find(folder: Path) -> dict[str, Path]:
    """The four files, compressed or not, by "train-images" and so on."""
    found, missing = {}, []
    for prefix in PREFIXES.values():
        for kind in ("images-idx3", "labels-idx1"):
            plain = folder / f"{prefix}-{kind}-ubyte"
            packed = plain.with_name(plain.name + ".gz")
            path = next((path for path in (packed, plain) if path.is_file()), None)
            if path is None:
                missing.append(packed.name)
            else:
                found[f"{prefix}-{kind.split('-')[0]}"] = path
    if missing:
        dotted = sorted(path.name for path in folder.glob("*.idx?-ubyte*"))  # as some archives call them
        hint = f"rename {dotted[0]} to {dotted[0].replace('.idx', '-idx')}, and so on; or " if dotted else ""
        raise FileNotFoundError(
            f"fashion_mnist: folder={str(folder)!r} lacks {', '.join(missing)}: {hint}install the Debian or Ubuntu "
            "package dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or pass folder= with the "
            "place of the four IDX files, or let TFDS download its own copy (this needs TensorFlow, once): python -m "
            'pip install tensorflow && python -c "import tensorflow_datasets as tfds; '
            "tfds.builder('fashion_mnist').download_and_prepare(file_format='array_record')\""
        )
    return found


def read_idx(path: Path) -> np.ndarray:
    """Reads a file of unsigned bytes in the IDX format (0, 0, 8, dimensions, sizes as big-endian uint32, values).

    Args:
        path: compressed (".gz") or not.

    Returns:
        uint8 array.

    Raises:
        ValueError: naming the file, if it is not such a file or is cut off.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).tolist()
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape))
    if values.size != math.prod(shape):  # of Python's integers, which do not overflow
        raise ValueError(f"{path} is damaged: its header promises {math.prod(shape)} values, it holds {values.size}")
    try:
        return values.reshape(shape)
    except ValueError as error:  # more dimensions, or longer ones next to one of 0, than NumPy has
        raise ValueError(f"{path} is damaged: its header promises the shape {shape}") from error


@dataclass
class FashionConfig(tfds.core.BuilderConfig):
    """The folder of the IDX files."""

    folder: str = ""


class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Fashion-MNIST: 60,000 images for training and 10,000 for testing, in 10 classes (Xiao et al., 2017)."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def open(
        cls, *, data_dir: os.PathLike, image_size: int | None = None, folder: str | os.PathLike = DEFAULT_FOLDER
    ) -> "FashionMnist":
        """The builder for the IDX files in `folder`; `image_size` is left to the reader."""
        root = Path(os.path.expanduser(folder))
        files = sorted(_find(root).values())
        config = FashionConfig(name=f"local_{fingerprint.of_files(root, files)}", folder=str(root))
        return cls(data_dir=os.fspath(data_dir), config=config)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        files = _find(Path(self.builder_config.folder))
        return {
            split: self._generate_examples(files[f"{prefix}-images"], files[f"{prefix}-labels"])
            for split, prefix in PREFIXES.items()
        }

    def _generate_examples(self, images_file: Path, labels_file: Path) -> Iterator[tuple[int, dict]]:
        from PIL import Image

        images, labels = read_idx(images_file), read_idx(labels_file)
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{images_file} holds {list(images.shape)} and {labels_file} {list(labels.shape)}: "
                "expected [N, 28, 28] images and [N] labels"
            )
        if labels.size and labels.max() >= len(CLASS_NAMES):
            raise ValueError(
                f"{labels_file} holds the label {labels.max()}, but Fashion-MNIST's are 0 to {len(CLASS_NAMES) - 1}: "
                "save another set, such as EMNIST, as a folder of images for each class and load it as image_folder"
            )
        for i, (image, label) in enumerate(zip(images, labels)):
            yield i, {"image": Image.fromarray(image), "label": int(label)}
