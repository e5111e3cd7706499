"""Files of learned codes against JPEG, WebP, AVIF, JPEG 2000 and JPEG XL: bits on disk at the same quality.

For each checkpoint its own held-out images, each in a file of its own, headers counted; and all of them in one file, as
many images of a kind would be kept. PSNR and LPIPS (VGG16; pixels of images with fewer than 32 a side are repeated for
it) are means over images. The last columns say what a conventional codec takes for the same mean PSNR, and for the same
LPIPS: of all formats that are installed the one that takes least, by straight lines between its settings, or its
coarsest file where even that is better. With --photos the images are the twelve held-out photographs, 768x512, and
the checkpoint must be of colour images.

    python -m experiments.study rate_distortion --checkpoints vqvae_mnist token_prior_autoregressive_mnist
    python -m experiments.study rate_distortion --checkpoints vqvae_photos --photos --record
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common.conventional_codecs import CODECS, compare, curve, front
from experiments.common.machine import describe
from experiments.studies import cells
from jaxgen import codec, interop, runs
from jaxgen.core.checks import check_count
from jaxgen.data import photos

COLUMNS = {
    "checkpoint": ("checkpoint", ""), "kind": ("probabilities", ""), "levels": ("levels", "d"),
    "bytes": ("bytes per image", ".1f"), "bytes_together": ("in one file", ".1f"), "bpp": ("bits per pixel", ".3f"),
    "psnr": ("PSNR", ".2f"), "lpips": ("LPIPS", ".3f"), "psnr_codec": ("least at this PSNR", ""),
    "psnr_bpp": ("takes", ".3f"), "lpips_codec": ("least at this LPIPS", ""), "lpips_bpp": ("takes", ".3f"),
    "encode_seconds": ("encoding s", ".3f"), "decode_seconds": ("decoding s", ".3f"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study rate_distortion`."""
    cells.add_arguments(parser, "runs/rate_distortion")
    parser.add_argument("--checkpoints", nargs="+", required=True, help="runs, or published checkpoints, whose codecs "
                        "were fitted")
    parser.add_argument("--count", type=int, default=100, help="held-out images")
    parser.add_argument("--photos", action="store_true", help="the held-out photographs in place of the run's images")
    parser.add_argument("--lpips", default="vgg", choices=("vgg", "alex"))


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table, draws it, and returns its rows."""
    check_count("--count", args.count, 1)
    lpips, rows, curves = interop.load_lpips(net=args.lpips), [], {}
    print(f"{describe()}\n\n{cells.heading(COLUMNS)}")
    for name in args.checkpoints:
        trained = runs.load(name)
        own = "photographs" if args.photos else trained.config["data"]["name"]
        images = photos.whole("test") if args.photos else trained.dataset().examples()[:args.count]
        if own not in curves:
            curves[own] = conventional(images, lpips)
        for row in of_checkpoint(trained, images, lpips):
            rows.append({"checkpoint": trained.path.name, "data": own, **row, **least(curves[own], row)})
            print(cells.line(rows[-1], COLUMNS), flush=True)
    cells.save(args, "rate_distortion", draw(rows, curves))
    cells.record(args, "rate_distortion", {"images": args.count, "lpips": args.lpips}, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown of recorded rows."""
    return cells.table(rows, COLUMNS)


def conventional(images: np.ndarray, lpips: Any) -> dict[str, list[dict[str, float]]]:
    """The curves of the installed formats."""
    result = {}
    for name, one in CODECS.items():
        if reason := one.lacking():
            print(f"({reason})")
            continue
        result[name] = curve(one, images, lpips=lpips)
    return result


def of_checkpoint(trained: runs.Run, images: np.ndarray, lpips: Any) -> list[dict[str, Any]]:
    """A row for each kind of probabilities, and for each number of levels where the tokenizer has several."""
    rows = []
    for kind in runs.fitted_kinds(trained.path):
        own = trained.codec(kind)
        for levels in range(1 if own.progressive and kind != "prior" else own.planes, own.planes + 1):
            codec.decompress(own, codec.compress(own, images[:1], levels=levels))  # compiles
            started = time.perf_counter()
            files = [codec.compress(own, image[None], levels=levels) for image in images]
            written = time.perf_counter()
            restored = np.concatenate([codec.decompress(own, file) for file in files])
            read = time.perf_counter()
            together = codec.compress(own, images, levels=levels)
            size, pixels = np.mean([len(file) for file in files]), images.shape[1] * images.shape[2]
            measured = compare(images, restored, lpips)
            rows.append({
                "kind": kind, "levels": levels, "bytes": float(size), "bytes_together": len(together) / len(images),
                "bpp": 8 * float(size) / pixels, "psnr": measured["psnr"], "lpips": measured["lpips"],
                "encode_seconds": (written - started) / len(images), "decode_seconds": (read - written) / len(images),
            })
    return rows


def least(curves: Mapping[str, Sequence[Mapping[str, float]]], row: Mapping[str, Any]) -> dict[str, Any]:
    """The format, and its bits per pixel, that takes least for a row's PSNR, and for its LPIPS."""
    found = {}
    for quality, sign in (("psnr", 1), ("lpips", -1)):
        takes = {}
        for name, points in curves.items():
            best = front(points, quality=quality if sign > 0 else f"-{quality}")
            values, rates = [sign * point[quality] for point in best], [point["bpp"] for point in best]
            if values[-1] >= sign * row[quality]:
                takes[name] = float(np.interp(sign * row[quality], values, rates))
        name = min(takes, key=takes.get) if takes else None
        found |= {f"{quality}_codec": name or "none", f"{quality}_bpp": takes.get(name)}
    return found


def draw(rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Any:
    """PSNR and LPIPS over bits per pixel, a row of panels for each data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4 * len(curves)), layout="constrained")
    for (own, formats), line in zip(curves.items(), figure.subplots(len(curves), 2, squeeze=False)):
        for axis, quality in zip(line, ("psnr", "lpips")):
            for name, points in formats.items():
                best = front(points, quality="psnr" if quality == "psnr" else "-lpips")
                axis.plot([point["bpp"] for point in best], [point[quality] for point in best], label=name)
            for kind in dict.fromkeys(row["kind"] for row in rows if row["data"] == own):
                points = [row for row in rows if row["data"] == own and row["kind"] == kind]
                axis.plot([row["bpp"] for row in points], [row[quality] for row in points], "o", label=kind)
            axis.set(xscale="log", xlabel=f"bits per pixel, {own}", ylabel=quality.upper())
            axis.legend(fontsize=7)
    return figure
