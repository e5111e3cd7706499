"""The samples of a model by class, judged by a classifier that has nothing to do with the model.

A scikit-learn classifier is trained on real training images and asked what the samples show. Copies show in the
distance to the nearest training image, compared with that of held-out images; samples that are all alike in the mean
distance of two images of one class.
"""

import math
from typing import NamedTuple

import numpy as np

from jaxgen import metrics
from jaxgen.core.extras import extra
from jaxgen.data import Dataset

LEARNED, HELD_OUT = 5000, 2000  # the time that a support vector machine takes grows with their square


class Judgement(NamedTuple):
    """What `judge` returns."""

    values: dict[str, float]
    by_class: dict[int, float]
    nearest: np.ndarray  # [B] of each sample the nearest training image
    counts: dict[str, int]  # {"judge_learned", "judge_held_out"}: the real images that were looked at


def judge(
    samples: np.ndarray, classes: np.ndarray, train_set: Dataset, test_set: Dataset, *, centre: bool = False
) -> Judgement:
    """Compares samples with real images.

    Args:
        samples: uint8 [B, H, W, C].
        classes: [B] the classes that were asked for.
        train_set, test_set: real images with labels.
        centre: shift each image's centre of mass to its middle before it is looked at, for models that were trained on
            shifted images of a set whose own are centred so.

    Returns:
        "agreement", the share where the classifier says the class that was asked for, and by class; its own accuracy on
        held-out images; distances (root sums of squares of pixels in [0, 1]). The classifier learns from `LEARNED`
        training images at most, and `HELD_OUT` held-out ones at most are looked at, evenly spaced: how many is in the
        counts. Distances are to all training images.
    """
    with extra("experiments"):
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

    look = centred if centre else flat
    real, labels = look(train_set.examples()), train_set.labels()
    other, drawn = evenly(len(test_set), HELD_OUT), look(samples)
    held_out, held_out_labels = look(test_set.examples()[other]), test_set.labels()[other]
    # Pixels of MNIST's own images are centred by their mass, and a classifier of pixels knows nothing of shifts.
    classifier = make_pipeline(StandardScaler(with_std=False), SVC(C=10.0, gamma="scale"))
    learned = evenly(len(real), LEARNED)
    classifier.fit(real[learned], labels[learned])
    agrees = classifier.predict(drawn) == classes
    distance, nearest = nearest_of(real, drawn)
    of_held_out, _ = nearest_of(real, held_out)
    values = {
        "agreement": agrees.mean(), "classifier_accuracy": classifier.score(held_out, held_out_labels),
        "distance_to_training_median": np.median(distance), "distance_to_training_least": distance.min(),
        "held_out_distance_to_training_median": np.median(of_held_out),
        "held_out_distance_to_training_least": of_held_out.min(),
        "distance_within_class": distance_within_class(drawn, classes),
        "held_out_distance_within_class": distance_within_class(held_out, held_out_labels),
    }
    by_class = {int(c): float(agrees[classes == c].mean()) for c in np.unique(classes)}
    counts = {"judge_learned": len(learned), "judge_held_out": len(other)}
    return Judgement({name: float(value) for name, value in values.items()}, by_class, nearest, counts)


def evenly(count: int, most: int) -> np.ndarray:
    """`most` of `count` indices, evenly spaced; all where there are no more.

    Example:
        >>> evenly(5, 10).tolist(), evenly(10, 4).tolist()
        ([0, 1, 2, 3, 4], [0, 2, 5, 7])
    """
    return np.arange(min(count, most)) * count // min(count, most)


def nearest_images(
    images: np.ndarray, real: np.ndarray, *, centre: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(distances [B] to the nearest real image, root sums of squares of pixels in [0, 1]; which one it is [B]).

    Args:
        images: uint8 [B, H, W, C].
        real: uint8 [N, H, W, C].
        centre: see `judge`.
    """
    look = centred if centre else flat
    return nearest_of(look(real), look(images))


def nearest_of(real: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distances [B], indices [B]) of the nearest of `real` [N, D] to each vector [B, D]."""
    distance, nearest = metrics.nearest_neighbours(vectors, real)
    return distance[:, 0], nearest[:, 0]


def distance_within_class(images: np.ndarray, classes: np.ndarray) -> float:
    """The mean distance of two images [B, D] of one class, a mean over classes; NaN where no class has two."""
    from scipy.spatial.distance import pdist

    means = [pdist(images[classes == c]).mean() for c in np.unique(classes) if np.sum(classes == c) > 1]
    return float(np.mean(means)) if means else float("nan")


def centred(images: np.ndarray) -> np.ndarray:
    """`flat` of `centre`."""
    return flat(centre(images))


def centre(images: np.ndarray) -> np.ndarray:
    """Images [B, H, W, C] shifted by whole pixels so that their centre of mass comes to H / 2 and W / 2.

    MNIST's own images were made so, which hardly changes one of them.
    """
    shifted = []
    for image in images:
        mass = image.astype(np.float64).sum(-1)
        if not mass.any():
            shifted.append(image)
            continue
        shifts = []
        for axis, size in enumerate(mass.shape):
            middle = float(mass.sum(axis=1 - axis) @ np.arange(size)) / mass.sum()
            # Half a pixel is always rounded up, so that a shifted image comes to where the image does.
            shifts.append(math.floor(size / 2 - middle + 0.5))
        shifted.append(np.roll(image, shifts, axis=(0, 1)))
    return np.stack(shifted)


def flat(images: np.ndarray) -> np.ndarray:
    """[B, H * W * C] in [0, 1], so that distances are root sums of squares of pixels."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
