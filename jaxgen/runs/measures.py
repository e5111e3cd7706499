"""What is measured of a run: its held-out data, its samples by class, and its samples as a set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import evaluate, interop
from jaxgen.evaluate import Estimate, FeatureNetwork
from jaxgen.models import Classifying
from jaxgen.runs.run import Run, load

NETWORKS = ("inception", "vgg16")
# Of published checkpoints: no kernel distance and no scores, whose intervals are wide at the numbers of a small card.
PUBLISHED = ("frechet", "neighbours", "authenticity")


def measure(run: Run, evaluation: Mapping[str, Any], *, bar: bool = False) -> dict[str, float]:
    """The numbers of an evaluation of `jaxgen.evaluate.reproduction`.

    Args:
        run: of `load`.
        evaluation: {"split": ...}, for what `Run.evaluate` measures of it; {"samples": N, "seed": ..., "settings":
            {...}}, for what `Run.judge` says of N samples, and with "features", a name that `feature_network` takes,
            for what `compare_samples` says of them too, by weights of the "features_digest".
        bar: shows progress on a terminal.
    """
    if "samples" not in evaluation:
        return run.evaluate(run.dataset(evaluation["split"]), bar=bar)
    network = feature_network(evaluation["features"]) if evaluation.get("features") else None
    wanted = evaluation.get("features_digest")
    if network and wanted and network.digest != wanted:
        raise ValueError(f"features={evaluation['features']} has weights {network.digest[:12]}, and the numbers were "
                         f"measured with {wanted[:12]}: take those, or publish again")
    images, judgement = run.judge(evaluation["samples"], seed=evaluation["seed"], bar=bar, **evaluation["settings"])
    if not network:
        return judgement.values
    found = compare_samples(run, images, network, measures=PUBLISHED, seed=evaluation["seed"], bar=bar)
    return judgement.values | {name: estimate.value for name, estimate in found.items()}


def compare_samples(
    run: Run, images: np.ndarray, network: FeatureNetwork, *, measures: Sequence[str] = tuple(evaluate.MEASURES),
    seed: int = 0, bar: bool = False,
) -> dict[str, Estimate]:
    """`jaxgen.evaluate.sample_quality` of a run's samples next to its training and its held-out images.

    Samples are centred first where `Run.samples_off_centre`.

    Args:
        run: of `load`.
        images: uint8 [N, H, W, C].
        network: of `feature_network`, say.
        measures: keys of `jaxgen.evaluate.MEASURES`.
        seed: of subsets and resamples.
        bar: shows progress on a terminal.
    """
    own = run.config["data"]
    return evaluate.sample_quality(network, evaluate.centre(images) if run.samples_off_centre else images,
                                   run.dataset(own["train_split"]), run.dataset(), measures=measures, seed=seed,
                                   bar=bar)


def load_classifier(argument: str, source: str | Path, *others: str) -> Run:
    """`load` of a run that must be a classifier's.

    Args:
        argument: for the error.
        source: its directory, or the name of a checkpoint.
        *others: what else could be given, for the error.

    Raises:
        ValueError: it trained another model.
    """
    run = load(source)
    if not isinstance(run.model, Classifying):
        raise ValueError(f"{argument}={source} is a {run.config['model']['name']!r}: give the run of a classifier"
                         f"{''.join(f', or {other}' for other in others)}")
    return run


def feature_network(source: str) -> FeatureNetwork:
    """A network by a word: "inception", "vgg16", or the directory or the checkpoint's name of a classifier.

    Raises:
        FileNotFoundError: the weights are not there; says how to get them.
        ValueError: the run has no classifier.
    """
    if source == "inception":
        return evaluate.inception_features(interop.load_inception())
    if source == "vgg16":
        return evaluate.vgg16_features(interop.load_lpips(net="vgg"))
    run = load_classifier("features", source, *NETWORKS)
    return evaluate.classifier_features(run.model, run.variables, name=f"classifier-{run.config['data']['name']}")
