"""What compress and decompress read and write: one file or a folder of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.codec import SUFFIX
from jaxgen.data.image_file import decode
from jaxgen.runs.directory import expand

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def pairs(source: str, target: str, kinds: tuple[str, ...], ending: str) -> list[tuple[Path, Path]]:
    """(what is read, what is written) of a file, or of all files of these kinds in a folder.

    Args:
        source, target: both files, or both folders.
        kinds: endings that are read.
        ending: of what is written.

    Raises:
        ValueError: nothing to read, a target of another kind, or two files that would become one.
    """
    source, target = expand(source), expand(target)
    if not source.exists():
        raise ValueError(f"{source} does not exist: give a file, or a folder of {', '.join(kinds[:3])}")
    if source.is_file():
        if target.suffix.lower() not in ((ending,) if ending == SUFFIX else IMAGES):
            raise ValueError(f"{target} must end in {ending}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return [(source, target)]
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in kinds)
    if not files:
        raise ValueError(f"{source} holds no file that ends in {', '.join(kinds)}")
    if target.is_file():
        raise ValueError(f"{target} is a file, and {source} a folder: give a folder for what is made of it")
    made = [target / path.relative_to(source).with_suffix(ending) for path in files]
    if twice := [path for path in set(made) if made.count(path) > 1]:
        raise ValueError(f"two files of {source} would become {twice[0]}: rename one")
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
    return list(zip(files, made))


def read_pixels(path: Path) -> np.ndarray:
    """uint8 [1, H, W, C] of an image file: grey stays grey, and transparency is kept."""
    image = decode(path, str(path))
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[2] >= 3 and (values[..., 0] == values[..., 1]).all() and (values[..., 0] == values[..., 2]).all():
        values = values[..., [0, *range(3, values.shape[2])]]
    return values[None]


def write_pixels(path: Path, images: np.ndarray) -> Iterator[Path]:
    """Image files of uint8 [N, H, W, C]: one takes the name itself, several get numbers."""
    for i, image in enumerate(images):
        own = path if len(images) == 1 else path.with_stem(f"{path.stem}-{i:05d}")
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image, MODES[image.shape[2]]).save(own)
        yield own
