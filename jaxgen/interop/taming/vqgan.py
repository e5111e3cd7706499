"""VQGANs of taming-transformers, from a state dict saved as safetensors; the sizes are read off its tensors."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxgen.core.types import Variables
from jaxgen.interop.diffusers.autoencoder import computing_types, expected_params
from jaxgen.interop.diffusers.autoencoder_config import split_widths
from jaxgen.interop.diffusers.autoencoder_names import taming_layout
from jaxgen.interop.diffusers.files import naming
from jaxgen.interop.quantizer import published_vq
from jaxgen.interop.safetensors import read_safetensors
from jaxgen.interop.state_dict import SHOWN, to_params
from jaxgen.models.vqvae import VQVAE
from jaxgen.nn.autoencoder import Decoder, Encoder

USED = "quantize.used"


class LoadedVQGAN(NamedTuple):
    """What `load_taming_vqgan` gives."""

    model: VQVAE
    variables: Variables  # state {}
    used: Int[Array, "n"] | None  # the codes that its priors know, for `to_used` and `from_used`; None for all


def load_taming_vqgan(
    path: str | Path, *, dtype: Any = None, beta: float = 0.25, legacy: bool = True
) -> LoadedVQGAN:
    """A VQGAN of taming-transformers (Esser, Rombach & Ommer, "Taming transformers", 2021).

        model, variables, used = load_taming_vqgan("vqgan_imagenet_f16_1024.safetensors")
        codes = model.to_tokens(variables, x)

    The file holds the state dict (of a Lightning checkpoint, its entry "state_dict"), under taming's own names. What
    belongs to training, `loss.*`, is left out. `model.to_tokens` gives codes of the whole codebook, whether a prior
    renumbers them or not.

    Args:
        path: `name.safetensors`, or the index of several.
        dtype: of parameters and computation, for example bfloat16; None for float32. The codebook stays float32.
        beta: of the loss, where the model goes on training.
        legacy: weigh the codebook's term by beta and not the commitment, see `published_vq`; taming's default.

    Returns:
        `LoadedVQGAN(model, variables, used)`; the parameters are on the default device.

    Raises:
        FileNotFoundError: the file is missing; says how to convert pickled weights.
        ValueError: the tensors are not such a VQGAN's; names them and both shapes.
    """
    source = str(path)
    tensors = {n: t for n, t in read_safetensors(path, dtype=None).items() if not n.startswith("loss.")}
    used = tensors.pop(USED, None)
    shape = _shapes(tensors)
    types = computing_types(dtype)
    with naming(source):
        num_codes, dim = shape("quantize.embedding.weight", 2)
        encoder = Encoder(latent_channels=dim, z_channels=shape("encoder.conv_out.weight", 4)[0],
                          **_network(tensors, shape, "encoder.mid", "encoder.down"), **types)
        decoder = Decoder(image_channels=shape("decoder.conv_out.weight", 4)[0],
                          z_channels=shape("post_quant_conv.weight", 4)[0],
                          **_network(tensors, shape, "decoder.mid", "decoder.up"), **types)
        quantizer = published_vq(num_codes, beta=beta, legacy=legacy)
        model = VQVAE(encoder=encoder, decoder=decoder, quantizer=quantizer)
        expected = expected_params(model, decoder.image_channels)
    params = to_params(tensors, expected, source, taming_layout())
    return LoadedVQGAN(model, Variables(params, {}), None if used is None else _checked(used, num_codes, source))


def _shapes(tensors: Mapping[str, np.ndarray]) -> Callable[[str, int], tuple[int, ...]]:
    """A function (name, rank) -> shape that refuses a tensor that is missing, empty or of another rank."""

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors:
            beginning = name.split(".")[0]
            near = [other for other in sorted(tensors) if other.split(".")[0] == beginning][:SHOWN]
            raise ValueError(f"no VQGAN of taming-transformers: it has no {name}; of the names that begin "
                             f"with {beginning!r} it has {near or 'none'}")
        if tensors[name].ndim != rank or not tensors[name].size:
            raise ValueError(f"no VQGAN of taming-transformers: {name} must have {rank} axes, got shape "
                             f"{list(tensors[name].shape)}, and none may have length 0")
        return tensors[name].shape

    return shape


def _network(tensors: Mapping[str, np.ndarray], shape: Callable, middle: str, levels: str) -> dict[str, Any]:
    """Arguments of `Encoder` or `Decoder`, from the names and shapes of the tensors under these two beginnings."""

    def numbers(beginning: str) -> int:
        matches = (re.match(rf"{re.escape(beginning)}\.(\d+)\.", name) for name in tensors)
        return len({match[1] for match in matches if match}) or 1

    count = numbers(levels)
    channels, multipliers = split_widths(shape(f"{levels}.{i}.block.0.conv1.weight", 4)[0] for i in range(count))
    return {
        "channels": channels, "multipliers": multipliers, "num_res_blocks": numbers(f"{levels}.0.block"),
        "attention_levels": tuple(i for i in range(count) if f"{levels}.{i}.attn.0.q.weight" in tensors),
        "middle_attention": f"{middle}.attn_1.q.weight" in tensors,
    }


def _checked(used: np.ndarray, num_codes: int, source: str) -> Array:
    if used.ndim != 1 or not np.issubdtype(used.dtype, np.integer) or not used.size:
        raise ValueError(f"{source}: {USED} must hold a list of codes, got {used.dtype} {list(used.shape)}")
    low, high = used.min(), used.max()
    if low < 0 or high >= num_codes:
        raise ValueError(f"{source}: {USED} must hold codes from 0 to {num_codes - 1}, got {low} to {high}")
    return jnp.asarray(used, jnp.int32)
