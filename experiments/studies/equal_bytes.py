"""A page of images beside what codecs make of them in as many bytes."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common.conventional_codecs import CODECS, Codec, compare
from jaxgen.losses import LpipsParams
from jaxgen.show.page import page, section, tiles

BETWEEN = 12  # qualities that are tried between two of a format's own
FRACTIONS = ("WEBP", "JPEG2000")  # formats whose qualities need not be whole numbers
WIDTH = 256  # to which small images are enlarged, in pixels


def largest_within(codec: Codec, image: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """What a format makes of an image in at most `size` bytes, and the bytes; its coarsest file where none is so small.

    Args:
        codec: a format.
        image: uint8 [H, W, C].
        size: in bytes.
    """
    files = {quality: codec.encode(image, quality) for quality in codec.qualities}
    small = {quality: file for quality, file in files.items() if len(file) <= size}
    best = max(small.values(), key=len) if small else min(files.values(), key=len)
    low, high = (sorted(own) for own in (small, files.keys() - small.keys()))
    if low and high:
        for quality in np.linspace(low[-1], high[0], BETWEEN)[1:-1]:
            file = codec.encode(image, float(quality) if codec.format in FRACTIONS else round(float(quality)))
            best = file if len(best) < len(file) <= size else best
    return codec.decode(best, image.shape[2]), len(best)


def of_images(images: Sequence[np.ndarray], ours: Mapping[str, Sequence[tuple[np.ndarray, int]]], lpips: LpipsParams
              ) -> str:
    """The HTML of each image, of what ours gives back, and of each installed format's file of at most as many bytes.

    Args:
        images: uint8 [H, W, C].
        ours: by name, for each image what came back and the bytes that it took; formats get those of the first name.
        lpips: see `experiments.common.conventional_codecs.compare`.
    """
    lines = []
    for i, image in enumerate(images):
        made = {name: each[i] for name, each in ours.items()}
        size = next(iter(made.values()))[1]
        made |= {name: largest_within(codec, image, size) for name, codec in CODECS.items() if not codec.lacking()}
        shown, names, captions = [image], ["original"], [f"original, {image.shape[1]}x{image.shape[0]}"]
        for name, (restored, taken) in made.items():
            quality = compare([image], [restored], lpips)
            shown.append(restored)
            names.append(name)
            captions.append(f"{name}: {taken} bytes{'' if taken <= size or name in ours else ', its fewest'}, "
                            f"{quality['psnr']:.1f} dB, LPIPS {quality['lpips']:.3f}")
        lines.append(tiles(shown, captions, names, scale=max(1, WIDTH // image.shape[1])))
    return "\n".join(lines)


def html(parts: Mapping[str, str]) -> str:
    """The page of several data sets' parts by name."""
    body = "".join(section(f"part{i}", name, part) for i, (name, part) in enumerate(parts.items()))
    title = "Images in as many bytes"
    return page(title, f"<header><h1>{title}</h1><p class=soft>Of each format the finest file with no more bytes than "
                       f"the learned codec's, headers counted; where it has none so small, its smallest.</p></header>"
                       f"{body}")
