"""Publish a trained run: its weights in half precision, what was measured of them, and a model card.

    python -m experiments.publish --workdir=runs/digits --name=diffusion_mnist
    python -m experiments.publish --workdir=runs/digits --name=digits --folder=my/checkpoints --samples=2000
    python -m experiments.publish --workdir=runs/prior --name=token_prior_mnist --first_stage=vqvae_mnist
    python -m experiments.sample --checkpoint=diffusion_mnist
    python -m experiments.reproduce diffusion_mnist

It makes `experiments/checkpoints/NAME` with config.json, model.safetensors, reproduce.json, README.md and, where the
model makes images, samples.png. All numbers are of the weights as they are written, on held-out data and of --samples=N
samples by class. Settings of sampling that are given become the checkpoint's own. A card's last part, on intended use
and limits, is for you to write: it stays when the same name is published again. $JAXGEN_CHECKPOINTS is another place of
the checkpoints.

A model that was trained over a published first stage, by its name, leaves that one's weights where they are. One that
was trained over a run which was published later does so by --first_stage=NAME. Others hold their first stage, and so
do those with --first_stage= (nothing).
"""

from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import command_line, results
from jaxgen import runs
from jaxgen.runs import published

LIMIT = 5_000_000  # bytes of the weights: directories of the repository stay about this small


def main(*, workdir: str, checkpoint_step: int | None, name: str, folder: str | None, dtype: str, split: str | None,
         samples: int, seed: int, features: str | None, first_stage: str | None, max_bytes: int,
         settings: dict[str, Any]) -> None:
    if Path(name).name != name or name.startswith((".", "~")):
        raise ValueError(f"--name={name} must be a bare name, such as diffusion_mnist: --folder says where it goes")
    run = runs.load(workdir, step=checkpoint_step)
    if settings:
        run = run.with_sampling(**settings)
    place = runs.shipped_folder() if folder is None else runs.expand(folder)
    evaluations = published.default_evaluations(run, split=split, samples=samples, seed=seed, features=features)
    result = runs.publish(run, place / name, dtype=dtype, evaluations=evaluations, first_stage=first_stage,
                          max_bytes=max_bytes, bar=True)
    for file in sorted(result.path.iterdir()):
        print(f"wrote {file}: {file.stat().st_size:,} bytes")
    print(f"next: write what it is for, and its limits, at the end of {result.path / 'README.md'}")
    if result.path.parent == results.CHECKPOINTS:
        print("and python -m experiments.results, which brings its numbers into the documentation")


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_workdir("The directory of a trained run."),
        command_line.define_checkpoint_step(),
        flags.DEFINE_string("name", None, "The checkpoint's name.", required=True),
        command_line.define_path("folder", None, "The folder of checkpoints; experiments/checkpoints by default."),
        flags.DEFINE_enum("dtype", "float16", ["float16", "bfloat16", "float32"], "What weights are rounded to."),
        flags.DEFINE_string("split", None, "The part of the held-out data that the model's own measures are of, such "
                            "as test[:500]; all by default."),
        flags.DEFINE_integer("samples", published.SAMPLES, "How many samples by class are judged; 0: none.",
                             lower_bound=0),
        flags.DEFINE_integer("seed", 0, "Seed of the samples' noise."),
        flags.DEFINE_string("features", None, "Whose features compare samples with real images as sets: a checkpoint "
                            "of a classifier by name, vgg16 or inception; none by default."),
        flags.DEFINE_string("first_stage", None, "The published checkpoint whose weights are those of the run's first "
                            "stage, which are then not written again; the one that the run names by default; empty to "
                            "write them in any case."),
        flags.DEFINE_integer("max_bytes", LIMIT, "How large the weights' file may be.", lower_bound=1),
    ]
    SETTINGS = command_line.define_sampling()
    command_line.run(lambda: main(**command_line.values(*OPTIONS), settings=command_line.passed(*SETTINGS)))
