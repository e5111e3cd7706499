"""36 photographs out of three Debian packages: which they are, 24 for training and 12 held out, and in which size."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxgen.core.checks import check_count, choose
from jaxgen.data.image_file import read_image
from jaxgen.data.resize import centre_crop

DEFAULT_FOLDER = Path("/usr/share")
HEIGHT, WIDTH = 512, 768  # of whole photographs, the size of the Kodak set's


@dataclass(frozen=True)
class Package:
    """Photographs of one package.

    Attributes:
        path: of a photograph under /usr/share, with {} for its name.
        licence: as /usr/share/doc/PACKAGE/copyright has it.
        train: names of photographs to train on.
        test: names of held-out ones.
    """

    path: str
    licence: str
    train: tuple[str, ...]
    test: tuple[str, ...]


# What is alike lies on one side: to train on are all flowers in close-up, dandelions, blades and leaves of green, lakes
# in fog, and the lamp and clock of one room; held out are the mountains. The two in portrait format and those of fewer
# than 2.5 times the pixels of a whole photograph along a side are to train on, so that held-out ones need not be turned
# and are shrunk enough to lose the traces of JPEG.
PACKAGES = {
    "lomiri-wallpapers-16.04": Package(
        "backgrounds/{}.jpg",
        "CC BY 4.0 or CC BY-SA 4.0, one of them CC0 1.0",
        train=(
            "Picture_0B_by_freespace", "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "free_by_Peter_Nerlich",
            "friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich", "life_by_Aitzol_Berasategi",
            "seeding_by_Clements_Engelhardt",
        ),
        test=(
            "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "aitzgorri_by_Aitzol_Berasategi",
            "picosdeeuropa_by_Aitzol_Berasategi", "sunset_by_Aitzol_Berasategi",
        ),
    ),
    "mate-backgrounds": Package(
        "backgrounds/mate/nature/{}.jpg",
        "GPL 2 or later",
        train=(
            "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "RainDrops", "TwoWings", "Wood", "YellowFlower",
        ),
        test=("Aqua", "LadyBird", "Storm"),
    ),
    "plasma-workspace-wallpapers": Package(
        "wallpapers/{}/contents/images/2560x1600.jpg",
        "GPL 2 or later",
        train=("BytheWater", "ColdRipple", "DarkestHour", "Grey", "Kite", "OneStandsOut", "summer_1am"),
        test=("ColorfulCups", "EveningGlow", "FallenLeaf", "Path"),
    ),
}  # fmt: skip
LICENCE = "; ".join(f"{package.licence} ({name})" for name, package in PACKAGES.items())


def find_photos(folder: str | os.PathLike = DEFAULT_FOLDER) -> dict[str, list[Path]]:
    """The files of the splits "train" and "test".

    Args:
        folder: where the packages' files lie.

    Raises:
        FileNotFoundError: photographs are missing; names the packages and the command that installs them.
    """
    root = Path(os.path.expanduser(folder))
    found: dict[str, list[Path]] = {"train": [], "test": []}
    lacking = []
    for name, package in PACKAGES.items():
        files = {split: [root / package.path.format(photo) for photo in getattr(package, split)] for split in found}
        missing = [file for split in found for file in files[split] if not file.is_file()]
        if missing:
            first = missing[0].relative_to(root).as_posix()
            lacking.append(f"{len(missing)} of {sum(map(len, files.values()))} photographs of {name} ({first}, ...)")
        for split in found:
            found[split] += files[split]
    if lacking:
        names = " ".join(PACKAGES)
        raise FileNotFoundError(
            f"debian_photos: folder={str(root)!r} lacks {', '.join(lacking)}: install the packages of Debian 12 "
            f"(apt-get install --no-install-recommends {names}), or unpack them anywhere (apt-get download {names}; "
            "dpkg -x FILE PLACE for each file) and pass folder=PLACE/usr/share"
        )
    return found


def _whole(file: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(read_image(file), (WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _halved(file: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.scale(read_image(file), 0.5, Image.Resampling.LANCZOS))


def whole(split: str = "test", folder: str | os.PathLike = DEFAULT_FOLDER) -> np.ndarray:
    """Whole photographs: the largest middle part of three to two, shrunk by a Lanczos filter with antialiasing.

    Args:
        split: "test", the 12 held-out ones, or "train", the 24 others, two of which have portrait format and lose much.
        folder: where the packages' files lie.

    Returns:
        `[N, 512, 768, 3]` uint8.

    Raises:
        ValueError: another split, or a damaged file, by its name.
        FileNotFoundError: photographs are missing; names the packages and the command that installs them.
    """
    return np.stack([_whole(file) for file in choose("split", split, find_photos(folder))])


def check_size(size: int) -> int:
    """The side of square crops in pixels, if every photograph has one."""
    if check_count("image_size", size) > HEIGHT:
        raise ValueError(f"image_size={size} must be at most {HEIGHT}, the height of a held-out photograph")
    return size


def crops(split: str, file: Path, size: int) -> np.ndarray:
    """Squares side by side out of the middle of one photograph, no pixel twice.

    One to train on is halved by a Lanczos filter first; a held-out one is that of `whole`.

    Args:
        split: "train" or "test".
        file: of the photograph.
        size: side of a square in pixels.

    Returns:
        `[N, size, size, 3]` uint8, row by row.
    """
    image = {"train": _halved, "test": _whole}[split](file)
    rows, columns = image.shape[0] // size, image.shape[1] // size
    tiles = centre_crop(image, rows * size, columns * size).reshape(rows, size, columns, size, 3)
    return tiles.swapaxes(1, 2).reshape(-1, size, size, 3)
