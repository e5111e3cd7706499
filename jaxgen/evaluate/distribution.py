"""How a set of samples compares with real images, in the features of a network that is always named.

The Fréchet and the kernel distance are taken to the training images, as is usual for FID, next to what held-out images
have. A Fréchet distance falls with the count: where there are more samples than held-out images, or fewer, it is also
given for as many of both. Precision, recall, density and coverage are against held-out images, as many of both as there
are, so that a copied training set is no perfect model. All numbers depend on the counts, which belong to them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxgen import metrics
from jaxgen.core.checks import choose
from jaxgen.data import Dataset
from jaxgen.evaluate.features import BATCH, INCEPTION, FeatureNetwork, Features, distance_name, extract_all
from jaxgen.evaluate.reference import Reference, reference_statistics

SUBSET = 1000
SPLITS = 10
# Neighbours: 3 are usual for precision and recall, 5 for density and coverage.
NEAR, DENSE = 3, 5
LEAST = DENSE + 1  # samples
OF_HELD_OUT = "_held_out_of_"  # between a Fréchet distance's name and the count of held-out images that it is of
T = TypeVar("T")


class Estimate(NamedTuple):
    """A number, and its interval of 95% for other samples of the same model; NaN where none is known."""

    value: float
    low: float
    high: float


class Sets(NamedTuple):
    """Features of what is compared, and what measures need to know of them."""

    network: FeatureNetwork
    samples: Features
    train: Reference
    held_out: np.ndarray
    resamples: int
    seed: int


def _frechet(sets: Sets) -> dict[str, Estimate]:
    name, distance = distance_name(sets.network), metrics.frechet_to(sets.train.moments())
    features = sets.samples.features
    low, high = metrics.bootstrap_interval(distance, features, resamples=sets.resamples, centred=True, seed=sets.seed)
    result = {name: Estimate(distance(features), low, high)}
    samples, held_out = _as_many(sets)
    if len(samples) < len(features):
        result[f"{name}_of_{len(samples)}"] = _alone(distance(samples))
    return result | {f"{name}{OF_HELD_OUT}{len(held_out)}": _alone(distance(held_out))}


def frechet_of_as_many(found: Mapping[str, T], name: str) -> tuple[T, T]:
    """(the Fréchet distance of samples, that of as many held-out images), as "frechet" of `sample_quality` gave them.

    Where there are more samples than held-out images it is that of as many as these.

    Args:
        found: by the names of `sample_quality`.
        name: of the distance, see `distance_name`.

    Example:
        >>> frechet_of_as_many({"FID": 3.0, "FID_of_500": 4.0, "FID_held_out_of_500": 2.0}, "FID")
        (4.0, 2.0)
    """
    held_out = next(key for key in found if key.startswith(name + OF_HELD_OUT))
    return found.get(held_out.replace("_held_out", ""), found[name]), found[held_out]


def _frechet_infinity(sets: Sets) -> dict[str, Estimate]:
    value = metrics.frechet_distance_infinity(sets.samples.features, sets.train.moments(), seed=sets.seed)
    return {f"{distance_name(sets.network)}_infinity": _alone(value)}


def _kernel(sets: Sets) -> dict[str, Estimate]:
    name = "KID" if sets.network.name == INCEPTION else f"KD-{sets.network.name}"
    result = {}
    for suffix, features in (("", sets.samples.features), ("_held_out", sets.held_out)):
        size = min(SUBSET, len(features), len(sets.train.features))
        # The std over subsets, which overlap, is not the mean's error.
        mean, _ = metrics.kernel_distance(features, sets.train.features, subset_size=size, seed=sets.seed)
        result[name + suffix] = _alone(mean)
    return result


def _inception_score(sets: Sets) -> dict[str, Estimate]:
    if sets.samples.logits is None:
        return {}
    name = "IS" if sets.network.name == INCEPTION else f"IS-{sets.network.name}"
    splits = min(SPLITS, len(sets.samples.logits))
    mean, std = metrics.inception_score(sets.samples.logits, splits=splits, seed=sets.seed)
    error = 2 * std / np.sqrt(splits)
    return {name: Estimate(mean, mean - error, mean + error)}


def _neighbours(sets: Sets) -> dict[str, Estimate]:
    generated, real = _as_many(sets)
    near, dense = (metrics.precision_recall_density_coverage(real, generated, k=k) for k in (NEAR, DENSE))
    interval = metrics.binomial_interval(round(near.precision * len(generated)), len(generated))
    return {"precision": Estimate(near.precision, *interval), "recall": _alone(near.recall),
            "density": _alone(dense.density), "coverage": _alone(dense.coverage)}


def _authenticity(sets: Sets) -> dict[str, Estimate]:
    found = metrics.authenticity(sets.samples.features, sets.train.features, sets.held_out)
    count = len(sets.samples.features)
    shares = {"closer_than_held_out": found.closer, "authentic": found.authentic}
    result = {name: Estimate(share, *metrics.binomial_interval(round(share * count), count))
              for name, share in shares.items()}
    return result | {"nearest_distance_ratio": _alone(found.ratio)}


def _as_many(sets: Sets) -> tuple[np.ndarray, np.ndarray]:
    """As many features of samples as of held-out images, drawn at random where there are more."""
    count, draw = min(len(sets.samples.features), len(sets.held_out)), np.random.default_rng(sets.seed)
    return tuple(x[np.sort(draw.permutation(len(x))[:count])] for x in (sets.samples.features, sets.held_out))


def _alone(value: float) -> Estimate:
    return Estimate(float(value), float("nan"), float("nan"))


MEASURES: dict[str, Callable[[Sets], dict[str, Estimate]]] = {
    "frechet": _frechet, "frechet_infinity": _frechet_infinity, "kernel": _kernel, "inception_score": _inception_score,
    "neighbours": _neighbours, "authenticity": _authenticity,
}


def sample_quality(
    network: FeatureNetwork, samples: Any, train_set: Dataset, held_out: Dataset, *,
    measures: Sequence[str] = tuple(MEASURES), resamples: int = 200, seed: int = 0, batch_size: int = BATCH,
    bar: bool = False,
) -> dict[str, Estimate]:
    """Measures of samples against real images, by name; distances bear the network's name, "FD-classifier".

    Args:
        network: of `inception_features`, `classifier_features`, `vgg16_features`.
        samples: uint8 [N, H, W, C], a data set, or an iterable of batches.
        train_set: what the model was trained on, or the reference that a published number was measured with.
        held_out: other real images of the same distribution.
        measures: keys of `MEASURES`.
        resamples: of the Fréchet distance's interval.
        seed: of subsets and resamples.
        batch_size: images at a time.
        bar: shows progress on a terminal.

    Returns:
        {name: (value, low, high)}: "frechet" gives the distance and that of N held-out images, "..._held_out_of_N" (and
        "..._of_N", that of as many samples, where there are more); "neighbours" precision,
        recall, density and coverage; "authenticity" the share of samples that are closer to a training image than the
        median held-out image is (one half of a model that copies nothing), the share farther from their nearest
        training image than that one is from its own, and the ratio of the median distances. Of a network without
        logits there is no inception score.

    Raises:
        ValueError: an unknown measure, or fewer than LEAST samples.
    """
    for measure in measures:
        choose("measures", measure, MEASURES)
    found = extract_all(network, samples, batch_size=batch_size, bar=bar)
    if len(found.features) < LEAST:
        raise ValueError(f"samples must be {LEAST} at least, got {len(found.features)}: they are compared as a set")
    train, other = (reference_statistics(network, dataset, batch_size=batch_size, bar=bar)
                    for dataset in (train_set, held_out))
    sets = Sets(network, found, train, other.features, resamples, seed)
    result = {}
    for measure in dict.fromkeys(measures):
        result |= MEASURES[measure](sets)
    return result
