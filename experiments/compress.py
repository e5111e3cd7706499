"""Compress images with a trained tokenizer.

    python -m experiments.compress --checkpoint=vqvae_emoji32 in.png out.jxg
    python -m experiments.compress --workdir=runs/a my/images my/compressed
    python -m experiments.compress --checkpoint=vqvae_emoji32 --lossless in.png out.jxg
    python -m experiments.decompress out.jxg back.png

Images of any size, grey or in colour; transparency is kept bit for bit, and with --lossless all of the image. Each file
is read back before it is written, and PSNR is of what it gives, of colours without transparency. A tokenizer suits
images of the kind that it was trained on. `experiments.fit_codec` comes first for a run of your own.
"""

import time

from absl import flags
from tqdm import tqdm

from experiments.common import command_line
from experiments.common.codec_files import IMAGES, pairs, read_pixels
from jaxgen import codec, metrics, runs
from jaxgen.runs.run_codec import FLOAT, KINDS

ROW = "{:40.40} {:>11} {:>9} {:>9} {:>8} {:>8}"


def main(*words: str, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None,
         probabilities: str | None, levels: int | None, lossless: bool, tile: int, overlap: int) -> None:
    if len(words) != 2:
        raise ValueError(f"give what is compressed and where it goes, in.png out{codec.SUFFIX} or two folders; got "
                         f"{len(words)} words")
    run = runs.load(workdir if checkpoint is None else checkpoint, step=checkpoint_step)
    kinds = [kind for kind in runs.fitted_kinds(run.path) if kind != FLOAT]
    own = run.codec(probabilities or (kinds[-1] if kinds else "context"))
    options = {"levels": levels, "tile": tile, "overlap": overlap}
    files, total, pixels = pairs(words[0], words[1], IMAGES, codec.SUFFIX), 0, 0
    print(ROW.format("file", "size", "bytes", "bits/px", "PSNR", "seconds"))
    for source, target in tqdm(files, unit="image", disable=None, leave=False):
        image = read_pixels(source)
        started = time.monotonic()
        data = codec.compress(own, image, lossless=lossless, **options)
        took = time.monotonic() - started
        restored = codec.decompress(own, data)
        target.write_bytes(data)
        colours = 3 if image.shape[3] > 2 else 1  # of transparency nothing is lost
        pair = image[..., :colours], restored[..., :colours]
        (psnr,), (height, width) = metrics.psnr(*pair, value_range=(0, 255)).tolist(), image.shape[1:3]
        tqdm.write(ROW.format(source.name, f"{width}x{height}", len(data), f"{8 * len(data) / (height * width):.3f}",
                              f"{psnr:.2f}", f"{took:.2f}"))
        total, pixels = total + len(data), pixels + height * width
    print(f"wrote {len(files)} to {words[1]}: {total} bytes, {8 * total / pixels:.4f} bits per pixel")


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("The directory of a trained run."),
        flags.DEFINE_enum("probabilities", None, list(KINDS), "Of the tokens; the best of whole "
                          "numbers that was fitted by default."),
        flags.DEFINE_integer("levels", None, "Index maps to keep, the coarse ones first; all by default. Residual "
                             "quantizers only.", lower_bound=1),
        flags.DEFINE_bool("lossless", False, "Keep the image bit for bit."),
        flags.DEFINE_integer("tile", codec.TILE, "The longest side that is coded in one piece.", lower_bound=1),
        flags.DEFINE_integer("overlap", codec.OVERLAP, "Pixels that neighbouring tiles share.", lower_bound=0),
    ]
    command_line.run(lambda *words: main(*words, **command_line.values(*OPTIONS)), names=True)
