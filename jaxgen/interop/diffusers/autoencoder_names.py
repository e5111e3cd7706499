"""The parameters of `jaxgen.models`' autoencoders under the names of diffusers and of taming-transformers.

"encoder/down1_block0/norm1/norm/scale" is "encoder.down_blocks.1.resnets.0.norm1.weight" in diffusers and
"encoder.down.1.block.0.norm1.weight" in taming-transformers.
"""

import re

from jaxgen.interop.diffusers.unet_weights import OLD_NAMES
from jaxgen.interop.state_dict import LEAVES, Layout, Path

ATTENTION = ("query", "key", "value", "out")
# Applied in this order. A norm's parameters lie in a module "norm" of its own here.
SHARED = (
    (r"\.norm\.(weight|bias)$", r".\1"),
    (r"^encoder\.quant_conv", "quant_conv"),
    (r"^decoder\.post_quant_conv", "post_quant_conv"),
    (r"^quantizer\.codebook", "quantize.embedding.weight"),
)
DIFFUSERS = (
    *SHARED,
    (r"(attention\d*)\.norm\.", r"\1.group_norm."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.(down|up)(\d+)_block(\d+)\.", r".\1_blocks.\2.resnets.\3."),
    (r"\.(down|up)(\d+)_attention(\d+)\.", r".\1_blocks.\2.attentions.\3."),
    (r"\.(down|up)(\d+)_(down|up)sample\.", r".\1_blocks.\2.\3samplers.0."),
    (r"\.middle\.block(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
    (r"\.middle\.attention\.", ".mid_block.attentions.0."),
    (r"\.skip\.", ".conv_shortcut."),
    (r"\.query\.", ".to_q."), (r"\.key\.", ".to_k."), (r"\.value\.", ".to_v."), (r"\.out\.", ".to_out.0."),
)
TAMING = (
    *SHARED,
    (r"\.(down|up)(\d+)_block(\d+)\.", r".\1.\2.block.\3."),
    (r"\.(down|up)(\d+)_attention(\d+)\.", r".\1.\2.attn.\3."),
    (r"\.(down|up)(\d+)_((?:down|up)sample)\.", r".\1.\2.\3."),
    (r"\.middle\.block(\d)\.", r".mid.block_\1."),
    (r"\.middle\.attention\.", ".mid.attn_1."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.query\.", ".q."), (r"\.key\.", ".k."), (r"\.value\.", ".v."), (r"\.out\.", ".proj_out."),
)


def diffusers_layout(levels: int) -> Layout:
    """That of VQModel and AutoencoderKL with so many levels, which diffusers counts in the order of computation."""

    def name(path: Path) -> str:
        reversed_up = re.sub(r"^up(\d+)", lambda m: f"up{levels - 1 - int(m[1])}", path[1])
        return _renamed((path[0], reversed_up, *path[2:]), DIFFUSERS)

    return Layout("the autoencoder", name, OLD_NAMES)


def taming_layout() -> Layout:
    """That of taming-transformers' VQModel, whose attention is made of 1x1 convolutions."""
    return Layout("the VQGAN", lambda path: _renamed(path, TAMING), {}, lambda path: path[-2] in ATTENTION)


def _renamed(path: Path, rules) -> str:
    name = ".".join((*path[:-1], LEAVES.get(path[-1], path[-1])))
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
