"""`image_folder`: the pictures in a user's own folder, flat or with a subfolder for each class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxgen.data import fingerprint

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
TEST_FRACTION = 0.1


def find_pictures(root: Path) -> list[Path]:
    """All pictures under `root`, in order of their path; hidden files and folders are left out."""
    if not root.is_dir():
        raise FileNotFoundError(f"folder={str(root)!r} is not a folder: pass the folder that holds the pictures")
    found = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not found:
        raise FileNotFoundError(f"folder={str(root)!r} holds no picture ({', '.join(SUFFIXES)})")
    return found


def class_of(root: Path, path: Path) -> str | None:
    """The first folder under `root`, or None for a picture that lies in `root` itself."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else None


def split_pictures(files: list[Path]) -> dict[str, list[Path]]:
    """About one in ten to the test, by content, so that copies of a picture lie on one side; neither side is empty."""
    place = {file: fingerprint.fraction(file.read_bytes()) for file in files}
    lowest, highest = min(place.values()), max(place.values())
    bound = min(max(TEST_FRACTION, lowest), highest)
    test = [file for file in files if place[file] <= bound and (place[file] < highest)]
    chosen = set(test)
    return {"train": [file for file in files if file not in chosen], "test": test}


def read_picture(path: Path, size: int) -> Any:
    """The central square of a picture, upright, RGB, `size` x `size`, antialiased, as a Pillow image."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the picture {path}: {error}. Remove it or replace it") from error
    # Transparent pixels hold any colour: white is what they look like on paper.
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture)
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    square = flat.convert("RGB").crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS)


@dataclass
class FolderConfig(tfds.core.BuilderConfig):
    """The folder, the size in pixels and the names of the classes (none for a flat folder)."""

    folder: str = ""
    size: int = 64
    classes: tuple[str, ...] = ()


class ImageFolder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures of a folder, cut to the central square and brought to one size. About a tenth are the test."""

    name = "image_folder"
    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def open(
        cls, *, data_dir: os.PathLike, image_size: int | None = None, folder: str | os.PathLike | None = None
    ) -> "ImageFolder":
        """The builder for a folder and a size (64 by default). A folder whose files changed is prepared anew."""
        if folder is None:
            raise ValueError("image_folder needs folder=, the path of the folder that holds the pictures")
        root = Path(folder).expanduser().resolve()
        files = find_pictures(root)
        names = {class_of(root, file) for file in files}
        if None in names and len(names) > 1:
            flat = next(file for file in files if class_of(root, file) is None)
            raise ValueError(
                f"folder={str(root)!r} mixes pictures ({flat.name}) and subfolders of pictures: put every picture "
                "in the subfolder of its class, or all in one folder"
            )
        size = 64 if image_size is None else image_size
        digest = fingerprint.of_files(root, files, str(root))
        classes = tuple(sorted(names - {None}))
        config = FolderConfig(name=f"{size}px_{digest}", folder=str(root), size=size, classes=classes)
        return cls(data_dir=os.fspath(data_dir), config=config)

    def _info(self) -> tfds.core.DatasetInfo:
        size, classes = self.builder_config.size, self.builder_config.classes
        features = {"image": tfds.features.Image(shape=(size, size, 3), encoding_format="png")}
        if classes:
            features["label"] = tfds.features.ClassLabel(names=list(classes))
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        splits = split_pictures(find_pictures(Path(self.builder_config.folder)))
        return {split: self._generate_examples(files) for split, files in splits.items() if files}

    def _generate_examples(self, files: list[Path]) -> Iterator[tuple[int, dict]]:
        root = Path(self.builder_config.folder)
        for i, file in enumerate(files):
            example = {"image": read_picture(file, self.builder_config.size)}
            if self.builder_config.classes:
                example["label"] = class_of(root, file)
            yield i, example
