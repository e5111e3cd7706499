"""U-Nets of diffusers with random weights, and what they and ours give for the same inputs.

Every tensor is drawn again, norms too, since what starts at 1 or 0 hides a wrong place.
"""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch


def draw(shape, generator):
    """Kernels, [out, ...], that keep the size of what passes, or small vectors."""
    values = torch.randn(shape, generator=generator)
    return values / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3 * values


def randomise(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = draw(parameter.shape, generator)
            parameter.copy_(drawn + 1 if "norm" in name and name.endswith("weight") else drawn)
    return model.eval()


# A norm over single channels would take out what the time embedding adds to them.
SMALL = {"sample_size": 16, "block_out_channels": (32, 64), "norm_num_groups": 8}


def unconditional(**config):
    return randomise(diffusers.UNet2DModel(**{**SMALL, **config}))


def conditional(**config):
    return randomise(diffusers.UNet2DConditionModel(**{**SMALL, "cross_attention_dim": 24, **config}))


def blocks(way, *kinds):
    """("Down", "", "Attn") gives ("DownBlock2D", "AttnDownBlock2D"); "Resnet" gives "ResnetDownsampleBlock2D"."""
    sample = {"Resnet": "sample"}
    return tuple(f"{kind}{way}{sample.get(kind, '')}Block2D" for kind in kinds)


def inputs(model, size):
    height, width = size if isinstance(size, tuple) else (size, size)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, model.config.in_channels, height, width, generator=generator)
    # Where the time is a noise level, theirs divides the output by it.
    return x, torch.tensor([0.5, 3.0] if model.config.time_embedding_type == "fourier" else [3.0, 700.0])


def theirs(model, x, time, **condition):
    """Their output, as NHWC."""
    with torch.no_grad():
        return model(x, time, **condition).sample.permute(0, 2, 3, 1).numpy()


def ours(loaded, x, time, **condition):
    x = jnp.asarray(x.permute(0, 2, 3, 1).numpy())
    condition = {name: jnp.asarray(value.numpy()) for name, value in condition.items()}
    apply = jax.jit(lambda params, x, time: loaded.model.apply({"params": params}, x, time, **condition))
    return np.asarray(apply(loaded.params, x, jnp.asarray(time.numpy())))


def context():
    return torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(2))


TINY = {"block_out_channels": (32,), "down_block_types": blocks("Down", "Attn"), "up_block_types": blocks("Up", "Attn"),
        "layers_per_block": 1}
PLAIN = {"down_block_types": blocks("Down", "", ""), "up_block_types": blocks("Up", "", ""), "layers_per_block": 1}
