"""Show what a trained autoencoder makes of held-out images, or of yours.

    python -m experiments.reconstruct --workdir=runs/a
    python -m experiments.reconstruct --workdir=runs/a --count=64 --split=train --output=train.png
    python -m experiments.reconstruct --workdir=runs/a --images=my/images
    python -m experiments.reconstruct --checkpoint=vqvae_mnist

Each row of originals stands above the row of their reconstructions. Of a latent diffusion model or a token prior they
are those of its first stage, better than which no sample can be.
"""


from absl import flags

from experiments.common import command_line
from experiments.common.outputs import check_output
from experiments.common.trained import load_trained
from experiments.common.watching import reconstructed_pairs
from jaxgen import data, generate, show

DEFAULT_COUNT = 32


def main(*, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, split: str | None,
         images: str | None, count: int | None, scale: int, output: str | None) -> None:
    run, folder = load_trained(workdir, checkpoint, checkpoint_step)
    pairs_of = reconstructed_pairs(run.model)
    dataset = run.dataset(split) if images is None else data.read_folder(images, run.example_shape)
    path = check_output("--output", output,
                        folder / f"reconstructions-{dataset.split}-step{run.step:08d}.png")
    count = min(DEFAULT_COUNT, len(dataset)) if count is None else count
    if not 1 <= count <= len(dataset):
        raise ValueError(f"--count={count} must lie between 1 and the {len(dataset)} images of {dataset.name}")
    pairs, columns = pairs_of(run.variables, dataset, count)
    finite = generate.finite_images(pairs)
    restored = finite.reshape(-1, 2, columns)[:, 1].ravel()  # below each row of originals
    generate.check_any(restored, "reconstructions")
    show.save_grid(path, generate.blank(pairs, finite), columns=columns, scale=scale)
    print(f"wrote {path}: {count} images of {dataset.name}/{dataset.split} at step {run.step}")
    generate.check_all(restored, "reconstructions", f"they are blank in {path}")


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("The directory of a trained run."),
        flags.DEFINE_string("split", None, "The split to show; the run's held-out split by default."),
        command_line.define_path("images", None, "A folder of your own images instead of the run's data."),
        flags.DEFINE_integer("count", None, "How many images; 32, or all if there are fewer."),
        flags.DEFINE_integer("scale", 2, "Enlargement of each pixel.", lower_bound=1),
        command_line.define_path("output", None, "The image file; reconstructions-SPLIT-stepN.png in the run by "
                                 "default."),
    ]
    command_line.run(lambda: main(**command_line.values(*OPTIONS)))
