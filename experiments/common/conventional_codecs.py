"""The codecs that people use, as a table: images to files at a quality and back, and their curves.

    for name, codec in CODECS.items():
        points = curve(codec, images)

Images are uint8 [H, W, C], grey or RGB, of 1x1 pixels and more. What a name stands for:

- "jpeg": chroma at half size (4:2:0). Of Pillow's baseline and progressive files, both with Huffman tables of their
  own, whichever is smaller: they hold the same pixels. "jpeg_444" has chroma at full size.
- "webp": method 6, the slowest; chroma is always at half size.
- "avif", "avif_444": speed 6 of 10, 4:2:0 and 4:4:4; grey images are stored without chroma.
- "jpeg2000": the irreversible wavelet and colour transform, a codestream without a JP2 container and with a comment of
  one letter, the shortest that Pillow writes. A quality is the PSNR aimed at.
- "jpeg_xl": effort 7, the default; a codestream without a container.
- LOSSLESS: "png" (the slowest search), "webp_lossless", "jpeg2000_lossless", "jpeg_xl_lossless".

No codec is better at all rates with one kind of chroma: "jpeg" wins at few bits, "jpeg_444" at many, sooner in drawings
than in photographs. `front` of both curves takes the better at each rate.
"""

import functools
import importlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, features

from experiments.common import containers
from jaxgen import metrics
from jaxgen.core.batches import in_batches
from jaxgen.core.pixels import bytes_to_floats
from jaxgen.evaluate.reconstruction import EXACT, SMALLEST_SSIM
from jaxgen.losses import LpipsParams

SMALLEST_MS_SSIM = 161  # pixels along a side: five scales of SSIM's window
SMALLEST_LPIPS = 32  # pixels along a side
PIXELS = 2**20  # that are compared at a time
JXL_MODULE = "pillow_jxl"


@dataclass(frozen=True)
class Codec:
    """A format of Pillow with its settings.

    Attributes:
        format: Pillow's name.
        feature: what Pillow must have been built with, by its name in `PIL.features`; None for the plug-in's.
        options: (quality, the image is grey) -> keyword options of `Image.save`, one dict or more: the smallest file
            counts.
        payload: the bytes of a file without headers; its docstring in `containers` says what is left in.
        qualities: from the coarsest to the finest; (None,) of a lossless codec.
    """

    format: str
    feature: str | None
    options: Callable[[float | None, bool], Sequence[Mapping[str, Any]]]
    payload: Callable[[bytes], bytes]
    qualities: tuple[float | None, ...] = (None,)

    def encode(self, image: np.ndarray, quality: float | None) -> bytes:
        """The file of an image.

        Args:
            image: uint8 [H, W, C], C = 1 or 3.
            quality: one of the format's scale, such as those of `qualities`.

        Raises:
            ValueError: another array.
            ImportError: the installation lacks the format.
        """
        self.require()
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
            raise ValueError(f"image must be uint8 [H, W, C] with 1 or 3 channels, got {image.dtype} {image.shape}")
        grey = image.shape[2] == 1
        source, files = Image.fromarray(image[..., 0] if grey else image), []
        for options in self.options(quality, grey):
            file = io.BytesIO()
            source.save(file, self.format, **options)
            files.append(file.getvalue())
        return min(files, key=len)

    def decode(self, data: bytes, channels: int) -> np.ndarray:
        """uint8 [H, W, channels]. Not all formats say that an image was grey, so that the caller does.

        Raises:
            ImportError: the installation lacks the format.
        """
        self.require()
        image = np.asarray(Image.open(io.BytesIO(data), formats=[self.format]).convert("L" if channels == 1 else "RGB"))
        return image.reshape(*image.shape[:2], channels)

    def lacking(self) -> str | None:
        """Why this installation has no such codec, for a user; None where it has."""
        if self.feature is None:
            return None if importlib.util.find_spec(JXL_MODULE) else (
                "JPEG XL needs pillow-jxl-plugin, which is not installed: pip install '.[jxl]'")
        return None if features.check(self.feature) else (
            f"this Pillow was built without {self.format}: pip install --upgrade pillow")

    def require(self) -> None:
        """Raises ImportError with the reason where the codec is lacking; loads the plug-in where it is one's."""
        if reason := self.lacking():
            raise ImportError(reason)
        if self.feature is None:
            importlib.import_module(JXL_MODULE)  # registers itself with Pillow


def _jpeg(subsampling: str) -> Codec:
    return Codec("JPEG", "jpg", lambda quality, grey: [
        {"quality": quality, "optimize": True, "subsampling": subsampling, "progressive": progressive}
        for progressive in (False, True)
    ], containers.jpeg_scans, (1, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95))


def _avif(subsampling: str) -> Codec:
    return Codec("AVIF", "avif", lambda quality, grey: [
        {"quality": quality, "speed": 6, "subsampling": "4:0:0" if grey else subsampling}
    ], containers.avif_media, (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95))


def _jpeg2000(qualities: tuple[float | None, ...], **options: Any) -> Codec:
    def all_options(quality, grey):
        aim = {} if quality is None else {"quality_mode": "dB", "quality_layers": [quality]}
        return [{"no_jp2": True, "comment": " ", "mct": int(not grey), **aim, **options}]

    return Codec("JPEG2000", "jpg_2000", all_options, containers.jpeg2000_tiles, qualities)


CODECS = {
    "jpeg": _jpeg("4:2:0"),
    "jpeg_444": _jpeg("4:4:4"),
    "webp": Codec("WEBP", "webp", lambda quality, grey: [{"quality": quality, "method": 6}], containers.webp_frame,
                  (0, 0.5, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)),
    "avif": _avif("4:2:0"),
    "avif_444": _avif("4:4:4"),
    "jpeg2000": _jpeg2000((18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 40, 44), irreversible=True),
    "jpeg_xl": Codec("JXL", None, lambda quality, grey: [{"quality": quality, "effort": 7}],
                     containers.jpeg_xl_codestream, (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)),
}
LOSSLESS = {
    "png": Codec("PNG", "zlib", lambda quality, grey: [{"optimize": True}], containers.png_data),
    "webp_lossless": Codec("WEBP", "webp", lambda quality, grey: [{"lossless": True, "quality": 100, "method": 6}],
                           containers.webp_frame),
    "jpeg2000_lossless": _jpeg2000((None,)),
    "jpeg_xl_lossless": Codec("JXL", None, lambda quality, grey: [{"lossless": True, "effort": 7}],
                              containers.jpeg_xl_codestream),
}


def curve(
    codec: Codec, images: Sequence[np.ndarray], qualities: Sequence[float | None] | None = None,
    lpips: LpipsParams | None = None,
) -> list[dict[str, float | None]]:
    """What a codec makes of a set of images at each quality.

    Args:
        codec: of `CODECS` or `LOSSLESS`.
        images: uint8 [H, W, C] each, of any sizes.
        qualities: None for the codec's own.
        lpips: see `compare`.

    Returns:
        For each quality a dict: "quality"; "bpp", bits per pixel of the whole files, and "payload_bpp", of their
        payloads; what `compare` measures; "encode_seconds" and "decode_seconds" per image. All are means over images.
        What Pillow itself adds to the times, and for JPEG the second of two files, is in.

    Raises:
        ValueError: no images, or one that is none.
        ImportError: the installation lacks the codec.
    """
    codec.require()
    points = []
    for quality in codec.qualities if qualities is None else qualities:
        start = perf_counter()
        files = [codec.encode(image, quality) for image in images]
        between = perf_counter()
        restored = [codec.decode(file, image.shape[2]) for file, image in zip(files, images)]
        end = perf_counter()
        sizes = [[8 * len(content) / (image.shape[0] * image.shape[1]) for content in (file, codec.payload(file))]
                 for file, image in zip(files, images)]
        measured = compare(images, restored, lpips)
        bpp, payload_bpp = np.mean(sizes, axis=0).tolist()
        points.append({"quality": quality, "bpp": bpp, "payload_bpp": payload_bpp, **measured,
                       "encode_seconds": (between - start) / len(images),
                       "decode_seconds": (end - between) / len(images)})
    return points


def compare(
    images: Sequence[np.ndarray], restored: Sequence[np.ndarray], lpips: LpipsParams | None = None
) -> dict[str, float]:
    """Quality of what came back: means over images, for a codec of any kind.

    Args:
        images: uint8 [H, W, C] each, of any sizes.
        restored: the same shapes.
        lpips: its parameters, for "lpips". Grey is repeated, and so are the pixels of images with fewer than 32 a side.

    Returns:
        "psnr" [dB], where an image that came back exactly counts as 100; "ms_ssim" where all images have 161 pixels a
        side and more, else "ssim" where they have 11; "lpips".

    Raises:
        ValueError: no images, or another number or shape of the restored ones.
    """
    shapes = [np.shape(image) for image in images]
    if not shapes:
        raise ValueError("images must have one at least, got none")
    if shapes != (others := [np.shape(image) for image in restored]):
        wrong = next((pair for pair in zip(shapes, others) if pair[0] != pair[1]), (len(shapes), len(others)))
        raise ValueError(f"restored must have the shapes of images, {wrong[0]}, got {wrong[1]}")
    smallest = min(min(shape[:2]) for shape in shapes)
    structure = "ms_ssim" if smallest >= SMALLEST_MS_SSIM else "ssim" if smallest >= SMALLEST_SSIM else None
    values = []
    for shape in dict.fromkeys(shapes):
        pair = [np.stack([image for image in part if image.shape == shape]) for part in (images, restored)]
        values.append(in_batches(lambda pair: _measured(lpips, structure, *pair), pair,
                                 max(1, PIXELS // (shape[0] * shape[1]))))
    names = ("psnr", *filter(None, [structure]), *(["lpips"] if lpips is not None else []))
    return dict(zip(names, np.concatenate(values).mean(axis=0, dtype=np.float64).tolist()))


@functools.partial(jax.jit, static_argnums=1)
def _measured(lpips: LpipsParams | None, structure: str | None, x: jax.Array, y: jax.Array) -> jax.Array:
    """[B, measures]."""
    columns = [jnp.minimum(metrics.psnr(x, y, value_range=(0, 255)), EXACT)]
    if structure is not None:
        columns.append(getattr(metrics, structure)(x, y, value_range=(0, 255)))
    if lpips is not None:
        times = -(-SMALLEST_LPIPS // min(x.shape[1:3]))
        colour = (x.shape[0], times * x.shape[1], times * x.shape[2], 3)
        large = (part.repeat(times, axis=1).repeat(times, axis=2) for part in (x, y))
        columns.append(metrics.lpips(lpips, *(jnp.broadcast_to(bytes_to_floats(part), colour) for part in large)))
    return jnp.stack(columns, axis=1)


def front(points: Sequence[Mapping[str, float]], rate: str = "bpp", quality: str = "psnr") -> list[Mapping[str, float]]:
    """The points that no other one beats, with at most its rate and at least its quality; by ascending rate.

    Of the curves of one format with several settings it is what the format can do: `front(a + b)`. Its points have no
    two equal qualities, as `jaxgen.metrics.bd_rate` wants them.

    Args:
        points: as of `curve`.
        rate: "bpp" or "payload_bpp".
        quality: a column, with "-" before it where less is better.
    """
    sign, column = signed(quality)
    kept, best = [], -np.inf
    for point in sorted(points, key=lambda point: (point[rate], -sign * point[column])):
        if sign * point[column] > best:
            kept.append(point)
            best = sign * point[column]
    return kept


def rates_and_qualities(
    points: Sequence[Mapping[str, float]], rate: str = "bpp", quality: str = "psnr"
) -> tuple[list[float], list[float]]:
    """The rates of a `front`, and its qualities, negative where less is better: both ascend."""
    sign, column = signed(quality)
    best = front(points, rate, quality)
    return [point[rate] for point in best], [sign * point[column] for point in best]


def signed(quality: str) -> tuple[int, str]:
    """(-1 where less is better, the column) of a column with "-" before it, else (1, the column)."""
    return (-1, quality[1:]) if quality.startswith("-") else (1, quality)
