"""Decompress what `experiments.compress` wrote.

    python -m experiments.decompress out.jxg back.png
    python -m experiments.decompress my/compressed my/images --ending=.webp
    python -m experiments.decompress --workdir=runs/a out.jxg back.png

A file names its codec, which is looked for among the published checkpoints; --workdir is for one of a run of your own.
A file that is cut off gives a coarser image where its tokenizer has levels. --conceal makes up what is lost, by a
masked prior, and says so. Of a folder the files that can be read are written; the exit status is 1 where one cannot.
"""

import time
import warnings

from absl import flags
from tqdm import tqdm

from experiments.common import command_line
from experiments.common.codec_files import IMAGES, pairs, write_pixels
from jaxgen import codec, runs

ROW = "{:40.40} {:>8} {:>11} {:>8}  {}"


def main(*words: str, workdir: str | None, ending: str, conceal: bool, lossless: bool) -> None:
    if len(words) != 2:
        raise ValueError(f"give what is decompressed and where it goes, in{codec.SUFFIX} out.png or two folders; got "
                         f"{len(words)} words")
    if ending not in IMAGES:
        raise ValueError(f"--ending={ending} must be one of {', '.join(IMAGES)}")
    files, codecs, failed = pairs(words[0], words[1], (codec.SUFFIX,), ending), {}, []
    print(ROW.format("file", "images", "size", "seconds", ""))
    for source, target in tqdm(files, unit="file", disable=None, leave=False):
        started = time.monotonic()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", codec.DamageWarning)
            try:
                data = source.read_bytes()
                name = codec.read_header(data)[0].digest
                if name not in codecs:
                    codecs[name] = runs.codec_of(name, workdir)
                decoded = codec.decode(codecs[name], data, conceal=conceal, lossless=lossless)
            except (codec.FileError, FileNotFoundError) as error:
                causes = dict.fromkeys(str(warning.message) for warning in told)
                failed.append("; ".join([f"{source}: {error}", *causes]))
                continue
        took = time.monotonic() - started
        notes = [str(warning.message) for warning in told]
        if decoded.concealed.any():
            notes.append(f"made up: images {', '.join(map(str, decoded.concealed.nonzero()[0]))}")
        list(write_pixels(target, decoded.images))
        count, height, width = decoded.images.shape[:3]
        tqdm.write(ROW.format(source.name, count, f"{width}x{height}", f"{took:.2f}", "; ".join(notes)))
    if failed:
        raise codec.FileError("\n".join([f"{len(failed)} of {len(files)} files could not be read", *failed]))
    print(f"wrote {words[1]}")


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_path("workdir", None, "The run whose codec wrote the files; looked for among the published "
                                 "checkpoints by default."),
        flags.DEFINE_string("ending", ".png", "Of the images of a folder."),
        flags.DEFINE_bool("conceal", False, "Make up what is lost of a damaged file, by a masked prior."),
        flags.DEFINE_bool("lossless", True, "The original where the file holds it; --nolossless: the reconstruction."),
    ]
    command_line.run(lambda *words: main(*words, **command_line.values(*OPTIONS)), names=True)
