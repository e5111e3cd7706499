"""Evaluators: (variables, dataset) -> {name: number}. `make_evaluator(model)` measures all that a model can do.

Sets of images are compared by the features of a network: `sample_quality(inception_features(params), images, train_set,
held_out)`. Those of the real images lie in a cache, `reference_statistics(network, dataset)`.
"""

from collections.abc import Callable
from typing import Any

from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.base import Evaluator, each_example, summed
from jaxgen.evaluate.classification import classification, perceptual_distance
from jaxgen.evaluate.distribution import MEASURES, Estimate, frechet_of_as_many, sample_quality
from jaxgen.evaluate.efficiency import peak_memory, program_cost
from jaxgen.evaluate.energy import energy_counters
from jaxgen.evaluate.features import (
    FeatureNetwork,
    Features,
    Handling,
    classifier_features,
    distance_name,
    extract,
    extract_all,
    inception_features,
    vgg16_features,
)
from jaxgen.evaluate.likelihood import bits_per_dim, bits_per_token, latent_errors
from jaxgen.evaluate.reconstruction import find_lpips, left_out, reconstruction
from jaxgen.evaluate.reference import (
    Reference,
    ReferenceKey,
    read_reference,
    read_statistics,
    reference_key,
    reference_statistics,
    write_reference,
    write_statistics,
)
from jaxgen.evaluate.reproduction import (
    Number,
    Reproduced,
    numbers_of,
    read_reproduction,
    reproduce,
    tolerance_of,
    write_reproduction,
)
from jaxgen.evaluate.samples import Judgement, centre, judge, nearest_images
from jaxgen.models import Autoencoder, Classifying, Denoising, Reconstructing, SecondStage, TokenGenerating
from jaxgen.models.base import Model

# What a model can do, and what measures it; a model may do several things.
EVALUATORS: tuple[tuple[Callable[[Model], bool], Callable[..., Evaluator]], ...] = (
    (lambda model: isinstance(model, Reconstructing), reconstruction),
    (lambda model: isinstance(model, Classifying), classification),
    (lambda model: isinstance(model, TokenGenerating), bits_per_token),
    (lambda model: isinstance(model, Denoising) and isinstance(model, Autoencoder), latent_errors),
    (lambda model: isinstance(model, Denoising) and not isinstance(model, Autoencoder), bits_per_dim),
)


def make_evaluator(model: Model, *, lpips: Any = None, bar: bool = False) -> Evaluator:
    """All that can be measured of a model; of one made over a first stage, what can be measured of that too.

    Args:
        model: any.
        lpips: LPIPS's parameters, for reconstructions.
        bar: shows progress on a terminal.

    Raises:
        ValueError: nothing can be measured of the model.
    """
    own = _evaluators(model, lpips, bar)
    if not own and not isinstance(model, SecondStage):
        raise ValueError(f"nothing can be measured of a {type(model).__name__}: it has none of the methods that "
                         "jaxgen.models.base lists")
    first = None

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        nonlocal first
        result = {}
        if isinstance(model, SecondStage):
            stage, its_variables = model.first_stage(variables)
            if first is None:
                first = _evaluators(stage, lpips, bar)
            for evaluator in first:
                result |= evaluator(its_variables, dataset)
        for evaluator in own:
            result |= evaluator(variables, dataset)
        return result

    return evaluate


def _evaluators(model: Model, lpips: Any, bar: bool) -> list[Evaluator]:
    """Those of the model itself."""
    return [make(model, bar=bar, **({"lpips": lpips} if make is reconstruction else {}))
            for applies, make in EVALUATORS if applies(model)]


__all__ = [
    "MEASURES",
    "Estimate",
    "Evaluator",
    "FeatureNetwork",
    "Features",
    "Handling",
    "Judgement",
    "Number",
    "Reference",
    "ReferenceKey",
    "Reproduced",
    "bits_per_dim",
    "bits_per_token",
    "centre",
    "classification",
    "classifier_features",
    "distance_name",
    "each_example",
    "energy_counters",
    "extract",
    "extract_all",
    "find_lpips",
    "frechet_of_as_many",
    "inception_features",
    "judge",
    "latent_errors",
    "left_out",
    "make_evaluator",
    "nearest_images",
    "numbers_of",
    "peak_memory",
    "perceptual_distance",
    "program_cost",
    "read_reference",
    "read_reproduction",
    "read_statistics",
    "reconstruction",
    "reference_key",
    "reference_statistics",
    "reproduce",
    "sample_quality",
    "summed",
    "tolerance_of",
    "vgg16_features",
    "write_reference",
    "write_reproduction",
    "write_statistics",
]
