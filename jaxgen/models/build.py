"""Models from plain values: what a run's config.json holds, turned back into a model.

Names are looked up in the fixed tables of this package, and in those that a caller passes, and nowhere else, so that a
configuration from outside can run no code. Each family's file says what its description holds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn

from jaxgen.core.checks import choose
from jaxgen.core.types import AxisName
from jaxgen.models.base import Model
from jaxgen.models.bytes import ByteTokenizer
from jaxgen.models.classifier import Classifier
from jaxgen.models.description import call, check_description, make_network
from jaxgen.models.diffusion import DiffusionModel
from jaxgen.models.kl_autoencoder import KLAutoencoder
from jaxgen.models.latent_diffusion import LatentDiffusion
from jaxgen.models.parts import with_own_quantizers
from jaxgen.models.token_prior import TokenPrior
from jaxgen.models.vqvae import VQVAE
from jaxgen.models.vqvae2 import VQVAE2
from jaxgen.nn.discriminator import PatchDiscriminator, StyleDiscriminator

MODELS = {
    "vqvae": VQVAE, "vqvae2": VQVAE2, "kl_autoencoder": KLAutoencoder, "bytes": ByteTokenizer,
    "diffusion": DiffusionModel, "latent_diffusion": LatentDiffusion, "token_prior": TokenPrior,
    "classifier": Classifier,
}
FIRST_STAGES = ("autoencoder", "tokenizer")  # arguments of a description that describe another model
DISCRIMINATORS = {"patch": PatchDiscriminator, "style": StyleDiscriminator}


def build(
    name: str, *, axis_name: AxisName = None, quantizers: Mapping[str, Callable] | None = None, **description: Any
) -> Model:
    """A model by name from plain values.

    Args:
        name: a key of `MODELS`.
        axis_name: mapped axis of devices, for what reduces over the batch.
        quantizers: functions of your own that return quantizers, by the names that descriptions have for them.
        **description: the family's own, see its `from_description`; a first stage is a description too.

    Raises:
        ValueError: an unknown name or argument; the message has the nearest one.

    Example:
        >>> model = build("vqvae", latent_channels=2, example_channels=1, quantizer={"name": "fsq", "levels": [8, 5]})
        >>> type(model).__name__, model.num_tokens
        ('VQVAE', 40)
    """
    make = choose("model", name, MODELS).from_description
    if quantizers:
        description = with_own_quantizers(description, quantizers, axis_name)
    stages = {argument: build(**check_description(argument, value))
              for argument, value in description.items() if argument in FIRST_STAGES}
    return call(f"model {name!r}", make, {**description, **stages, "axis_name": axis_name})


def build_discriminator(
    name: str, *, dtype: str | None = None, axis_name: AxisName = None, **arguments: Any
) -> nn.Module:
    """A discriminator by name, for example `build_discriminator("patch", layers=2)`.

    Args:
        name: a key of `DISCRIMINATORS`: "patch" gives logits [B, h, w, 1], "style" [B].
        dtype: computing dtype, for example "bfloat16"; None computes in the parameters'.
        axis_name: mapped axis of devices, for what reduces over the batch.
        **arguments: the network's own keyword arguments.

    Returns:
        A Linen module; its variables are {"params": ...} only.

    Raises:
        ValueError: an unknown name or keyword argument; the message has the nearest one.
    """
    return make_network(choose("discriminator", name, DISCRIMINATORS), {"axis_name": axis_name}, arguments, dtype)
