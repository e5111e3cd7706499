"""Adversarial training of an autoencoder, where its configuration asks for it."""

from collections.abc import Callable

from ml_collections import ConfigDict

from experiments.common.training import axis_name
from jaxgen import models, objectives
from jaxgen.core.checks import check_count, check_not_negative, choose


def forward_of(model: models.Reconstructing, config: ConfigDict) -> Callable:
    """`model.forward`; with `config.robust.epsilon` above 0 that of images perturbed against the model.

    Raises:
        ValueError: a value of `config.robust` is wrong, or the model has no such target.
    """
    robust = config.robust
    check_not_negative("config.robust.epsilon", robust.epsilon)
    check_count("config.robust.steps", robust.steps)
    if not robust.epsilon:
        return model.forward
    targets = {"reconstruction": lambda variables, x: model.forward(variables, x)[0]}
    if isinstance(model, models.Autoencoder):
        targets["latents"] = model.to_latents
    elif robust.target == "latents":
        raise ValueError(f"config.robust.target='latents', but a {type(model).__name__} has several maps of them: give "
                         "--config.robust.target=reconstruction")
    response = choose("config.robust.target", robust.target, targets)
    return objectives.robust_forward(model.forward, response, epsilon=robust.epsilon, steps=robust.steps,
                                     axis_name=axis_name(config))
