"""`debian_photos`: square crops of 36 photographs out of three Debian packages."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxgen.data import fingerprint, photos


@dataclass
class PhotosConfig(tfds.core.BuilderConfig):
    """Where the packages' files lie, and the side of the crops in pixels."""

    folder: str = ""
    size: int = 64


class DebianPhotos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Crops of photographs, side by side: train from 24, shrunk to half their size, test from 12 others at 768x512.

    Crops of all photographs are mixed, so that a part such as "test[:100]" has some of each.
    """

    name = "debian_photos"
    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def open(
        cls,
        *,
        data_dir: os.PathLike,
        image_size: int | None = None,
        folder: str | os.PathLike = photos.DEFAULT_FOLDER,
    ) -> "DebianPhotos":
        """The builder for crops of a size (64 by default) and the folder under which the packages' files lie."""
        size = photos.check_size(64 if image_size is None else image_size)
        root = Path(os.path.expanduser(folder))
        files = photos.find_photos(root)
        name = f"{size}px_{fingerprint.of_files(root, files['train'] + files['test'])}"
        return cls(data_dir=os.fspath(data_dir), config=PhotosConfig(name=name, folder=str(root), size=size))

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(size, size, 3), encoding_format="png")}
            ),
            license=photos.LICENCE,
        )  # TFDS orders the examples by a hash of their keys, as is its default

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        found = photos.find_photos(self.builder_config.folder)
        return {split: self._generate_examples(split, files) for split, files in found.items()}

    def _generate_examples(self, split: str, files: list[Path]) -> Iterator[tuple[str, dict]]:
        # Pillow images, since TFDS hands arrays to TensorFlow for encoding.
        from PIL import Image

        for i, file in enumerate(files):
            for j, crop in enumerate(photos.crops(split, file, self.builder_config.size)):
                yield f"{i}/{j}", {"image": Image.fromarray(crop)}
