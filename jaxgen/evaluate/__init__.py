"""Evaluators: (variables, dataset) -> {name: number}. `make_evaluator(model)` measures all that a model can do."""

from collections.abc import Callable
from typing import Any

from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.base import Evaluator, each_example, summed
from jaxgen.evaluate.classification import classification, perceptual_distance
from jaxgen.evaluate.likelihood import bits_per_dim, bits_per_token, latent_errors
from jaxgen.evaluate.reconstruction import find_lpips, left_out, reconstruction
from jaxgen.evaluate.samples import Judgement, judge, nearest_images
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
    "Evaluator", "Judgement", "bits_per_dim", "bits_per_token", "classification", "each_example", "find_lpips", "judge",
    "latent_errors", "left_out", "make_evaluator", "nearest_images", "perceptual_distance", "reconstruction", "summed",
]
