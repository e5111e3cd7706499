"""Judge the samples of a run by class with a classifier that has nothing to do with the model.

    python -m experiments.judge --workdir=runs/digits

A scikit-learn classifier is trained on the run's real training pictures and asked what the samples show: "agreement" is
the share where it says the class that was asked for (its own accuracy on real held-out pictures stands beside it). A
model that was trained on shifted pictures (`config.data.crop`) makes such; all pictures are centred before it looks.
Copies show in the distance to the nearest training picture, compared with that of held-out pictures, and in
judge.png: samples, each above its nearest training picture. Samples that are all alike show in the mean distance of two
pictures of one class, compared with that of held-out pictures.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import flags
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from experiments import command_line
from experiments.conditions import to_condition
from experiments.finite import check_all, finite_images
from experiments.runs import load_split
from experiments.sampling import load_sampler
from jaxgen import show

SHOWN = 20


def main(*, workdir: str, step: int | None, count: int, seed: int, classes, prompt, output: str | None,
         **changes) -> None:
    sampler, loaded, variables = load_sampler(workdir, changes, step=step)
    config = loaded.config
    if not loaded.model.num_classes:
        raise ValueError(f"the run in {workdir} has no classes, so there is nothing to agree with: see "
                         "experiments.sample")
    asked = to_condition(loaded.model, count, classes=classes, prompts=prompt, names=config["class_names"])
    samples = sampler.all(variables, jax.random.key(seed), asked, count, bar=True)
    check_all(finite_images(samples), "samples", "they cannot be judged")
    pictures = show.to_uint8(samples)
    train_set, test_set = load_split(config, config["data"]["train_split"]), load_split(config)

    # MNIST's own pictures are centred by their mass, and a classifier of pixels knows nothing of shifts.
    look = centred if config["data"]["crop"] else _flat
    classifier = make_pipeline(StandardScaler(with_std=False), SVC(C=10.0, gamma="scale"))
    classifier.fit(look(train_set.images()), train_set.labels())
    agrees = classifier.predict(look(pictures)) == asked["classes"]
    neighbours = NearestNeighbors(n_neighbors=1).fit(look(train_set.images()))
    distance, nearest = neighbours.kneighbors(look(pictures))
    real, _ = neighbours.kneighbors(look(test_set.images()))
    result = {
        "step": loaded.step, "samples": count, "agreement": float(agrees.mean()),
        "agreement_by_class": {int(c): float(agrees[asked["classes"] == c].mean()) for c in set(asked["classes"])},
        "classifier_accuracy": float(classifier.score(look(test_set.images()), test_set.labels())),
        "distance_to_training_median": float(np.median(distance)),
        "distance_to_training_least": float(distance.min()),
        "held_out_distance_to_training_median": float(np.median(real)),
        "held_out_distance_to_training_least": float(real.min()),
        "distance_within_class": distance_within_class(look(pictures), asked["classes"]),
        "held_out_distance_within_class": distance_within_class(look(test_set.images()), test_set.labels()),
    }
    path = Path(output) if output else Path(workdir) / "judge.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
    sheet = np.concatenate([pictures[shown], train_set.images()[nearest[shown, 0]]])
    show.save_grid(path.with_suffix(".png"), sheet, columns=len(shown), scale=2)
    for name, value in result.items():
        print(f"{name:38} {value:.5g}" if isinstance(value, float) else f"{name:38} {value}")
    print(f"wrote {path} and {path.with_suffix('.png')}")


def distance_within_class(pictures: np.ndarray, classes: np.ndarray) -> float | None:
    """The mean distance of two pictures of one class, a mean over classes; None where no class has two."""
    means = [pdist(pictures[classes == c]).mean() for c in np.unique(classes) if np.sum(classes == c) > 1]
    return float(np.mean(means)) if means else None


def centred(images: np.ndarray) -> np.ndarray:
    """`_flat` after each picture's centre of mass has been shifted to its middle, by whole pixels."""
    shifted = []
    for image in images:
        mass = image.astype(np.float64).sum(-1) + 1e-9
        shifts = []
        for axis, size in enumerate(mass.shape):
            along = mass.sum(axis=1 - axis)
            shifts.append(round((size - 1) / 2 - float((along * np.arange(size)).sum() / along.sum())))
        shifted.append(np.roll(image, shifts, axis=(0, 1)))
    return _flat(np.stack(shifted))


def _flat(images: np.ndarray) -> np.ndarray:
    """[B, H * W * C] in [0, 1], so that distances are root sums of squares of pixels."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


if __name__ == "__main__":
    OPTIONS = [
        command_line.define_workdir("A run of experiments.diffusion, .latent_diffusion or .token_prior."),
        *command_line.define_sampling(),
        flags.DEFINE_integer("count", 500, "How many samples.", lower_bound=1),
        flags.DEFINE_string("output", None, "The JSON file, and its PNG; judge.json in the run if not given."),
    ]
    command_line.run(lambda: main(**command_line.values(*OPTIONS)))
