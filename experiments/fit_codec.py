"""Fit the probabilities with which a model's tokens are compressed, and say what each kind takes of held-out images.

    python -m experiments.fit_codec --workdir=runs/a
    python -m experiments.fit_codec --checkpoint=token_prior_mnist --images=4500

They are written to codec.npz in the run's directory, once for everybody: files name them by their digest. The kinds are
`static`, a table for each index map; `context`, counts of the codes nearby, which learn while they code; and of a token
prior `prior`, its network in whole numbers. Bytes are those of one file of all the held-out images, header included.
"""

import time

from absl import flags

from experiments.common import command_line
from jaxgen import codec, runs

ROW = "{:>8} {:>14} {:>16} {:>14} {:>14}"


def main(*, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, images: int | None,
         count: int) -> None:
    run = runs.load(workdir if checkpoint is None else checkpoint, step=checkpoint_step)
    path = run.fit_codec(images)
    print(f"wrote {path}: {path.stat().st_size} bytes")
    held_out = run.dataset().examples()[:count]
    print(f"{len(held_out)} held-out images of {run.config['data']['name']}, in one file")
    print(ROW.format("kind", "bytes/image", "bits per pixel", "encoding s", "decoding s"))
    for kind in runs.fitted_kinds(run.path):
        own = run.codec(kind)
        codec.compress(own, held_out)  # compiles
        started = time.monotonic()
        data = codec.compress(own, held_out)
        written = time.monotonic()
        restored = codec.decompress(own, data)
        read = time.monotonic()
        if not (restored == codec.reconstruct(own, held_out)).all():
            raise RuntimeError(f"{kind}: a file does not give back its reconstructions: please report this")
        pixels = held_out.shape[0] * held_out.shape[1] * held_out.shape[2]
        print(ROW.format(kind, f"{len(data) / len(held_out):.2f}", f"{8 * len(data) / pixels:.4f}",
                         f"{written - started:.2f}", f"{read - written:.2f}"), flush=True)


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("The directory of a trained run."),
        flags.DEFINE_integer("images", None, "Training images that they are fitted on; all by default.", lower_bound=2),
        flags.DEFINE_integer("count", 500, "Held-out images to measure.", lower_bound=1),
    ]
    command_line.run(lambda: main(**command_line.values(*OPTIONS)))
