"""Sets of images against real ones, for scripts: which network looks at them, and the numbers as files hold them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen import data, evaluate, interop, models, runs

NETWORKS = ("inception", "vgg16")


def feature_network(source: str) -> evaluate.FeatureNetwork:
    """The network that an option names: "inception", "vgg16", or a run or checkpoint of a classifier.

    Raises:
        FileNotFoundError: the weights are not there; says how to get them.
        ValueError: the run has no classifier.
    """
    if source == "inception":
        return evaluate.inception_features(interop.load_inception())
    if source == "vgg16":
        return evaluate.vgg16_features(interop.load_lpips(net="vgg"))
    run = runs.load(source)
    if not isinstance(run.model, models.Classifying):
        raise ValueError(f"--features={source} is a {run.config['model']['name']!r}: give the run of a classifier, or "
                         f"{' or '.join(NETWORKS)}")
    return evaluate.classifier_features(run.model, run.variables, name=f"classifier-{data_name(run)}")


def data_name(run: runs.Run) -> str:
    """The data set that a run was trained on."""
    return run.config["data"]["name"]


def quality(
    source: str, images: np.ndarray, train_set: data.Dataset, held_out: data.Dataset, measures: Sequence[str], *,
    seed: int = 0,
) -> dict[str, Any]:
    """`jaxgen.evaluate.sample_quality` as JSON holds it: each number, its interval as NAME_low and NAME_high, and what
    all of them depend on.
    """
    network = feature_network(source)
    found = evaluate.sample_quality(network, images, train_set, held_out, seed=seed, bar=True,
                                    measures=measures or tuple(evaluate.MEASURES))
    values: dict[str, Any] = {}
    for name, (value, low, high) in found.items():
        values |= {name: value} if np.isnan(low) else {name: value, f"{name}_low": low, f"{name}_high": high}
    return values | {"features": network.name, "features_digest": network.digest,
                     "features_handling": str(network.handling), "training_examples": len(train_set),
                     "held_out_examples": len(held_out)}
