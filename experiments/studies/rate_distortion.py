"""Files of learned codes against JPEG, WebP, AVIF, JPEG 2000 and JPEG XL: bits on disk at the same quality.

For each checkpoint its own held-out images, each in a file of its own, headers counted, and payloads without; and all
of them in one file, as many images of a kind would be kept. PSNR, SSIM (MS-SSIM of images with 161 pixels a side and
more) and LPIPS (pixels of images with fewer than 32 a side are repeated for it) are means over images. Other columns
say what a conventional codec takes for the same mean PSNR, and for the same LPIPS: of all formats that are installed
the one that takes least, by straight lines between its settings, or its coarsest file where even that is better.

A tokenizer with several levels has a curve, of which BD-rates say how many percent more bits it takes than each format
over the qualities that both have (of LPIPS the negative is the quality). Curves are their points without those that
others beat, four at least. A page in the study's directory shows some images beside each other in as many bytes. With
--photos the images are the twelve held-out photographs, 768x512, and the checkpoint must be of colour images.

    python -m experiments.study rate_distortion --checkpoints vqvae_mnist token_prior_autoregressive_mnist
    python -m experiments.study rate_distortion --checkpoints runs/vqgan_photos --photos --record
"""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL

from experiments.common.conventional_codecs import CODECS, compare, curve, front, rates_and_qualities, signed
from experiments.common.machine import describe
from experiments.studies import cells, equal_bytes
from jaxgen import codec, interop, metrics, runs
from jaxgen.codec.file_format import read_chunk
from jaxgen.core.checks import check_count
from jaxgen.core.digest import digest
from jaxgen.data import photos

COLUMNS = {
    "checkpoint": ("checkpoint", ""), "kind": ("probabilities", ""), "levels": ("levels", "d"),
    "bytes": ("bytes per image", ".1f"), "bytes_together": ("in one file", ".1f"), "bpp": ("bits per pixel", ".3f"),
    "payload_bpp": ("payload", ".3f"), "psnr": ("PSNR", ".2f"), "ssim": ("SSIM", ".3f"), "lpips": ("LPIPS", ".3f"),
    "psnr_codec": ("least at this PSNR", ""), "psnr_bpp": ("takes", ".3f"),
    "psnr_payload_codec": ("least payload", ""), "psnr_payload_bpp": ("takes", ".3f"),
    "lpips_codec": ("least at this LPIPS", ""), "lpips_bpp": ("takes", ".3f"),
    "encode_seconds": ("encoding s", ".3f"), "decode_seconds": ("decoding s", ".3f"),
}
QUALITIES = ("psnr", "-lpips")  # columns, with "-" where less is better
BD = {
    "checkpoint": ("checkpoint", ""), "kind": ("probabilities", ""), "codec": ("BD-rate against", ""),
    "bd_psnr": ("at equal PSNR", "+.0f"), "bd_lpips": ("at equal LPIPS", "+.0f"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study rate_distortion`."""
    cells.add_arguments(parser, "runs/rate_distortion")
    parser.add_argument("--checkpoints", nargs="+", required=True, help="runs, or published checkpoints, whose codecs "
                        "were fitted")
    parser.add_argument("--count", type=int, default=100, help="held-out images; default: %(default)s")
    parser.add_argument("--photos", action="store_true", help="the held-out photographs in place of the run's images")
    parser.add_argument("--shown", type=int, default=3, help="images of each checkpoint on the page; default: "
                        "%(default)s")
    parser.add_argument("--lpips", default="vgg", choices=("vgg", "alex"), help="the network of LPIPS; default: "
                        "%(default)s")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the tables, draws them, writes the page, and returns the rows."""
    check_count("--count", args.count, 1)
    check_count("--shown", args.shown, 0)
    lpips, rows, curves, parts, counts = interop.load_lpips(net=args.lpips), [], {}, {}, {}
    print(f"{describe()}\n\n{cells.heading(COLUMNS)}")
    for name in args.checkpoints:
        trained = runs.load(name)
        data = "photographs" if args.photos else trained.config["data"]["name"]
        images = (photos.whole("test") if args.photos else trained.dataset().examples())[:args.count]
        data += f" {images.shape[1]}x{images.shape[2]}"
        if data not in curves:
            formats = {name: one.qualities for name, one in CODECS.items() if not one.lacking()}
            asked = {"data": digest(images), "lpips": args.lpips, "formats": formats, "pillow": PIL.__version__}
            measure = functools.partial(conventional, images, lpips)
            curves[data] = cells.once(args.workdir / f"{data}.json", asked, measure)
        own, counts[data] = [], len(images)
        for row in of_checkpoint(trained, images, lpips):
            own.append({"checkpoint": trained.path.name, "data": data, **row, **least(curves[data], row)})
            print(cells.line(own[-1], COLUMNS), flush=True)
        rows += own + bd_rates(own, curves[data])
        parts[f"{trained.path.name}, {data}"] = equal_bytes.of_images(
            images[:args.shown], given_back(trained, images[:args.shown]), lpips)
    print(f"\n{table(rows)}")
    page = args.workdir / f"equal_bytes{'_photos' * args.photos}.html"
    page.write_text(equal_bytes.html(parts), encoding="utf-8")
    print(f"wrote {page}")
    cells.save(args, f"rate_distortion{'_photos' * args.photos}", draw([row for row in rows if "bpp" in row], curves))
    cells.record(args, "rate_distortion", {"images": counts, "lpips": args.lpips}, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown of recorded rows: of files, and of BD-rates if there are any."""
    compared = [row for row in rows if "codec" in row]
    tables = [cells.table([row for row in rows if "bpp" in row], COLUMNS)]
    return "\n\n".join(tables + [cells.table(compared, BD)] * bool(compared))


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
        for levels in levels_of(own):
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
                "bpp": 8 * float(size) / pixels, "payload_bpp": 8 * np.mean(list(map(payload_bytes, files))) / pixels,
                "ssim": measured.get("ms_ssim", measured.get("ssim")), "psnr": measured["psnr"],
                "lpips": measured["lpips"],
                "encode_seconds": (written - started) / len(images), "decode_seconds": (read - written) / len(images),
            })
    return rows


def levels_of(own: codec.Codec) -> list[int]:
    """How many index maps a file may keep: all, or where they are coarse to fine and coded one by one, the first."""
    try:
        own.probabilities.chunks(1)
    except ValueError:  # all together
        return [own.planes]
    return list(range(1, own.planes + 1)) if own.progressive else [own.planes]


def given_back(trained: runs.Run, images: np.ndarray) -> dict[str, list[tuple[np.ndarray, int]]]:
    """What the strongest probabilities' files give back and their bytes, with all levels and with half of them."""
    own, result = trained.codec(runs.fitted_kinds(trained.path)[-1]), {}
    possible = levels_of(own)
    for levels in dict.fromkeys((possible[-1], possible[len(possible) // 2])):
        files = [codec.compress(own, image[None], levels=levels) for image in images]
        result[f"{trained.path.name}, {levels} of {own.planes} levels"] = [
            (codec.decompress(own, file)[0], len(file)) for file in files]
    return result


def bd_rates(rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[Mapping[str, float]]]
             ) -> list[dict[str, Any]]:
    """Of each kind of probabilities with a curve against each format; None where the qualities have none in common."""
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        points = [row for row in rows if row["kind"] == kind]
        for name, theirs in curves.items():
            values = {f"bd_{signed(quality)[1]}": _bd_rate(points, theirs, quality) for quality in QUALITIES}
            if any(value is not None for value in values.values()):
                found.append({"checkpoint": points[0]["checkpoint"], "kind": kind, "codec": name, **values})
    return found


def _bd_rate(ours, theirs, quality):
    try:
        own, other = (rates_and_qualities(points, quality=quality) for points in (ours, theirs))
        return metrics.bd_rate(*own, *other)
    except ValueError:  # too few points, or none in common
        return None


def payload_bytes(data: bytes) -> int:
    """The bytes of a file's chunks without their lengths and sums, and without the header."""
    (header, start), total = codec.read_header(data), 0
    while (chunk := read_chunk(data, start, tables=header.inexact)) is not None:
        total, start = total + len(chunk.payload), chunk.end
    return total


def least(curves: Mapping[str, Sequence[Mapping[str, float]]], row: Mapping[str, Any]) -> dict[str, Any]:
    """The format, and its bits per pixel, that takes least for a row's PSNR, in whole files and payloads, and LPIPS."""
    found = {}
    for name, quality, rate in (("psnr", "psnr", "bpp"), ("psnr_payload", "psnr", "payload_bpp"),
                                ("lpips", "-lpips", "bpp")):
        sign, column = signed(quality)
        takes = {}
        for own, points in curves.items():
            rates, values = rates_and_qualities(points, rate, quality)
            if values[-1] >= sign * row[column]:
                takes[own] = float(np.interp(sign * row[column], values, rates))
        best = min(takes, key=takes.get) if takes else None
        found |= {f"{name}_codec": best or "none", f"{name}_bpp": takes.get(best)}
    return found


def draw(rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Any:
    """PSNR and LPIPS over bits per pixel, a row of panels for each data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4 * len(curves)), layout="constrained")
    for (own, formats), line in zip(curves.items(), figure.subplots(len(curves), 2, squeeze=False)):
        for axis, better in zip(line, QUALITIES):
            quality = signed(better)[1]
            for name, points in formats.items():
                best = front(points, quality=better)
                axis.plot([point["bpp"] for point in best], [point[quality] for point in best], label=name)
            for kind in dict.fromkeys(row["kind"] for row in rows if row["data"] == own):
                points = [row for row in rows if row["data"] == own and row["kind"] == kind]
                axis.plot([row["bpp"] for row in points], [row[quality] for row in points], "o", label=kind)
            axis.set(xscale="log", xlabel=f"bits per pixel, {own}", ylabel=quality.upper())
            axis.legend(fontsize=7)
    return figure
