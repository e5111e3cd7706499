"""`image_folder`: the images in a user's own folder, flat or with a subfolder for each class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxgen.data import fingerprint
from jaxgen.data.image_file import UnreadableImageError, read_image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
TEST_FRACTION = 0.1
SHOWN = 3  # of the files that cannot be read
ADVICE = "Remove it, replace it, or leave out all such files with the option skip_unreadable=True"


def find_images(root: Path) -> list[Path]:
    """All images under `root`, in order of their path; links are followed, hidden files and folders left out.

    Raises:
        FileNotFoundError: `root` is no folder, holds no image, or a link to a folder that does not exist.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"folder={str(root)!r} is not a folder: pass the folder that holds the images")
    found = sorted(_walk(root, frozenset()))
    if not found:
        raise FileNotFoundError(f"folder={str(root)!r} holds no image ({', '.join(SUFFIXES)})")
    return found


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The images in and under a folder; `above` are the folders on the way to it, so that a link to one ends there."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, above | {(status.st_dev, status.st_ino)})
        elif path.is_symlink() and not path.suffix and not path.exists():
            raise FileNotFoundError(f"{path} is a link to a folder that does not exist: mend it or remove it")
        # A link to no file is an image that cannot be read, not one to leave out without a word.
        elif path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink()):
            yield path


def class_of(root: Path, path: Path) -> str | None:
    """The first folder under `root`, or None for an image that lies in `root` itself."""
    parts = path.relative_to(root).parts
    # The file system's bytes, whatever the locale; those that are not UTF-8 show as \xe9.
    return os.fsencode(parts[0]).decode("utf-8", "backslashreplace") if len(parts) > 1 else None


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:  # a link to nothing, or no permission
        raise UnreadableImageError(f"cannot read the image {file}: {error.strerror}. {ADVICE}") from error


def split_images(files: list[Path]) -> dict[str, list[Path]]:
    """About one in ten to the test, by content, so that copies of an image lie on one side; neither side is empty."""
    place = {file: fingerprint.fraction(_read_bytes(file)) for file in files}
    lowest, highest = min(place.values()), max(place.values())
    bound = min(max(TEST_FRACTION, lowest), highest)
    test = [file for file in files if place[file] <= bound and (place[file] < highest)]
    chosen = set(test)
    return {"train": [file for file in files if file not in chosen], "test": test}


def read_square(path: Path, size: int) -> Any:
    """The central square of an image, as `read_image` gives it, `size` x `size`, antialiased, as a Pillow image."""
    from PIL import Image

    image = read_image(path)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS)


def sort_out(files: list[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The files that can be read, and what is wrong with the others. Reads every one."""
    readable, wrong = [], {}
    for file in files:
        try:
            read_image(file)
            readable.append(file)
        except UnreadableImageError as error:
            wrong[file] = str(error)
    return readable, wrong


@dataclass
class FolderConfig(tfds.core.BuilderConfig):
    """The folder, the size in pixels, the names of the classes (none for a flat folder), what of damaged files."""

    folder: str = ""
    size: int = 64
    classes: tuple[str, ...] = ()
    skip_unreadable: bool = False


class ImageFolder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images of a folder, cut to the central square and brought to one size. About a tenth are the test."""

    name = "image_folder"
    VERSION = tfds.core.Version("2.0.0")  # 1.0.0 clipped images of 16 bits

    @classmethod
    def open(
        cls,
        *,
        data_dir: os.PathLike,
        image_size: int | None = None,
        folder: str | os.PathLike | None = None,
        skip_unreadable: bool = False,
    ) -> "ImageFolder":
        """The builder for a folder and a size (64 by default). A folder whose files changed is prepared again.

        `skip_unreadable` leaves out the files that cannot be read, which takes reading each twice, and `load` warns
        with their number; otherwise the first one is an error.
        """
        if not folder:  # an empty name would be the current directory
            raise ValueError("image_folder needs folder=, the path of the folder that holds the images")
        root = Path(os.path.expanduser(folder)).resolve()
        files = find_images(root)
        names = {class_of(root, file) for file in files}
        if None in names and len(names) > 1:
            flat = next(file for file in files if class_of(root, file) is None)
            raise ValueError(
                f"folder={str(root)!r} mixes images ({flat.name}) and subfolders of images: put every image "
                "in the subfolder of its class, or all in one folder"
            )
        size = 64 if image_size is None else image_size
        skip = bool(skip_unreadable)
        digest = fingerprint.of_files(root, files, str(root), skip)
        classes = tuple(sorted(names - {None}))
        config = FolderConfig(
            name=f"{size}px_{digest}", folder=str(root), size=size, classes=classes, skip_unreadable=skip
        )
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
            metadata=tfds.core.MetadataDict(),  # "left_out": what `load` says of unreadable files
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        root = Path(self.builder_config.folder)
        files = find_images(root)
        if self.builder_config.skip_unreadable:
            readable, wrong = sort_out(files)
            if wrong:
                shown = ", ".join(str(file.relative_to(root)) for file in list(wrong)[:SHOWN])
                shown += ", ..." * (len(wrong) > SHOWN) + f"; the first: {next(iter(wrong.values()))}"
                self.info.metadata["left_out"] = f"left out {len(wrong)} of {len(files)} images: {shown}"
            if not readable:
                raise ValueError(self.info.metadata["left_out"])
            files = readable
        splits = split_images(files)
        return {split: self._generate_examples(files) for split, files in splits.items() if files}

    def _generate_examples(self, files: list[Path]) -> Iterator[tuple[int, dict]]:
        root = Path(self.builder_config.folder)
        for i, file in enumerate(files):
            try:
                example = {"image": read_square(file, self.builder_config.size)}
            except UnreadableImageError as error:
                raise UnreadableImageError(f"{error}. {ADVICE}") from error
            if self.builder_config.classes:
                example["label"] = class_of(root, file)
            yield i, example
