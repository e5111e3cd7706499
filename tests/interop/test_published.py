"""The configurations of published models, and the number of parameters that their papers and files have."""

import jax
import pytest

from jaxgen.interop.diffusers.unet_config import complete, unet_arguments
from jaxgen.interop.diffusers.unet_weights import expected_params
from jaxgen.nn.unet import UNet


def types(way, *kinds):
    return [f"{kind}{way}Block2D" for kind in kinds]


OLD = {
    "_diffusers_version": "0.0.4", "act_fn": "silu", "center_input_sample": False, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_num_groups": 32,
}
DDPM = {
    **OLD, "_class_name": "UNet2DModel", "attention_head_dim": None, "downsample_padding": 0, "flip_sin_to_cos": False,
    "freq_shift": 1, "norm_eps": 1e-6, "time_embedding_type": "positional", "in_channels": 3, "out_channels": 3,
}
LATENT = {**OLD, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5}
PUBLISHED = {
    "ddpm-cifar10-32": (35_746_307, {
        **DDPM, "sample_size": 32, "block_out_channels": [128, 256, 256, 256],
        "down_block_types": types("Down", "", "Attn", "", ""), "up_block_types": types("Up", "", "", "Attn", ""),
    }),
    "ddpm-celebahq-256": (113_673_219, {
        **DDPM, "sample_size": 256, "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": types("Down", "", "", "", "", "Attn", ""),
        "up_block_types": types("Up", "", "Attn", "", "", "", ""),
    }),
    "ldm-celebahq-256": (274_056_163, {
        **LATENT, "_class_name": "UNet2DModel", "sample_size": 64, "attention_head_dim": 32, "in_channels": 3,
        "out_channels": 3, "block_out_channels": [224, 448, 672, 896],
        "down_block_types": types("Down", "", "Attn", "Attn", "Attn"),
        "up_block_types": types("Up", "Attn", "Attn", "Attn", ""),
    }),
    "stable-diffusion-v1-5": (859_520_964, {
        **LATENT, "_class_name": "UNet2DConditionModel", "sample_size": 64, "attention_head_dim": 8, "in_channels": 4,
        "out_channels": 4, "cross_attention_dim": 768, "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": types("Down", *["CrossAttn"] * 3, ""),
        "up_block_types": types("Up", "", *["CrossAttn"] * 3),
    }),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_have_their_number_of_parameters(name):
    count, config = PUBLISHED[name]
    arguments, inputs = unet_arguments(complete(config))
    shapes = expected_params(UNet(**arguments), inputs)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    ddpm = name.startswith("ddpm")
    assert (arguments["symmetric_downsample"], arguments["flip_sin_to_cos"]) == (not ddpm, not ddpm)
    assert (arguments["frequency_shift"], arguments["norm_epsilon"]) == ((1, 1e-6) if ddpm else (0, 1e-5))
    assert arguments["head_dim"] == {"ldm-celebahq-256": 32}.get(name)
    assert arguments["heads"] == ((8,) * 4 if "stable" in name else (1,) * len(arguments["channels"]))
