"""Show what a trained autoencoder makes of held-out pictures, or of yours.

    python -m experiments.reconstruct --workdir=runs/a
    python -m experiments.reconstruct --workdir=runs/a --count=64 --split=train --output=train.png
    python -m experiments.reconstruct --workdir=runs/a --images=my/pictures

Each row of originals stands above the row of their reconstructions. Of a latent diffusion model they are those of its
autoencoder, better than which no sample can be.
"""

from pathlib import Path

from absl import flags

from experiments import command_line
from experiments.finite import blank, check_all, check_any, finite_images
from experiments.reconstruction import Reconstructor
from experiments.runs import load_run, load_split, read_folder
from jaxgen import show
from jaxgen.core.types import Variables
from jaxgen.models import Classifier, DiffusionModel, LatentDiffusion, TokenPrior

DEFAULT_COUNT = 32


def main(
    workdir: str, step: int | None, split: str | None, images: str | None, count: int | None, scale: int,
    output: str | None,
) -> None:
    loaded, variables = load_run(workdir, step)
    if isinstance(loaded.model, (Classifier, DiffusionModel, TokenPrior)):
        raise ValueError(f"the run in {workdir} trained a {loaded.config['model']['name']!r}, which has no codes of "
                         "its own: give the run of an autoencoder, or see experiments.sample and experiments.edit")
    model = loaded.model
    if isinstance(model, LatentDiffusion):
        model, variables = model.autoencoder, Variables(*variables.state["autoencoder"])
    if images is None:
        dataset = load_split(loaded.config, split)
    else:
        dataset = read_folder(Path(images), loaded.config["image_shape"])
    count = min(DEFAULT_COUNT, len(dataset)) if count is None else count
    if not 1 <= count <= len(dataset):
        raise ValueError(f"--count={count} must lie between 1 and the {len(dataset)} pictures of {dataset.name}")
    pairs, columns = Reconstructor(model).pairs(variables, dataset, count)
    finite = finite_images(pairs)
    restored = finite.reshape(-1, 2, columns)[:, 1].ravel()  # below each row of originals
    check_any(restored, "reconstructions")
    path = Path(output) if output else Path(workdir) / f"reconstructions-{dataset.split}.png"
    show.save_grid(path, blank(pairs, finite), columns=columns, scale=scale)
    print(f"wrote {path}: {count} pictures of {dataset.name}/{dataset.split} at step {loaded.step}")
    check_all(restored, "reconstructions", f"they are blank in {path}")


if __name__ == "__main__":
    WORKDIR = command_line.define_workdir("The directory of a trained run.")
    SPLIT = flags.DEFINE_string("split", None, "The split to show; the run's held-out split if not given.")
    IMAGES = flags.DEFINE_string("images", None, "A folder of your own pictures instead of the run's data.")
    STEP = command_line.define_step()
    COUNT = flags.DEFINE_integer("count", None, "How many pictures; 32, or all if there are fewer.")
    SCALE = flags.DEFINE_integer("scale", 2, "Enlargement of each pixel.")
    OUTPUT = flags.DEFINE_string("output", None, "The PNG file; reconstructions-SPLIT.png in the run if not given.")
    command_line.run(
        lambda: main(WORKDIR.value, STEP.value, SPLIT.value, IMAGES.value, COUNT.value, SCALE.value, OUTPUT.value)
    )
