"""Diffusion transformer (Peebles & Xie, "Scalable diffusion models with transformers", 2023)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxgen.nn.blocks import depth_to_space, space_to_depth
from jaxgen.nn.checks import check_attributes
from jaxgen.nn.embeddings import Condition, grid_positions
from jaxgen.nn.transformer import OutputLayer, TransformerBlock


class DiT(nn.Module):
    """An image or latents, cut into patches, through a transformer that time and class modulate (adaLN-Zero).

        tokens = dense(patches(x)) + fixed positions;  blocks(tokens, condition);  patches^-1(output layer)

    Every block starts as the identity and the result as zero.

    Attributes:
        out_channels: channels of the result; None: those of x.
        patch_size: pixels along a side of a patch; must divide height and width.
        features: size of the residual stream; must be a multiple of 4.
        depth: number of blocks.
        heads: attention heads; must divide features.
        mlp_ratio: see `TransformerBlock`.
        num_classes: 0 for none; otherwise the class `num_classes` is "no class".
        time_scale: multiplies time before its embedding; 1000 for times in [0, 1].
        qk_norm: see `Attention`.
        remat: compute each block again in the backward pass instead of keeping its activations.
        dtype: computing dtype (for example bfloat16); None computes in the parameters' dtype.
        param_dtype: dtype of the parameters.
    """

    out_channels: int | None = None
    patch_size: int = 2
    features: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    num_classes: int = 0
    time_scale: float = 1.0
    qk_norm: bool = False
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_attributes(self, num_classes=0)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        time: Float[Array, "B"],
        *,
        classes: Int[Array, "B"] | None = None,
        context: Float[Array, "B M E"] | None = None,
        context_mask: Bool[Array, "B M"] | None = None,
    ) -> Float[Array, "B H W out_channels"]:
        """The network's prediction.

        Args:
            x: [B, H, W, C].
            time: [B] what `time_scale` multiplies.
            classes: [B] classes 0 .. num_classes, the last being "no class"; None: no class.
            context: [B, M, E] features, such as a text's, that every block attends to; give them to both init and
                apply, or to neither. The attention to them is zero at first.
            context_mask: [B, M] True where the context may be attended to.

        Returns:
            [B, H, W, out_channels] float32 (or wider).

        Raises:
            ValueError: `patch_size` does not divide the image, classes are given where num_classes is 0, or
                context at only one of init and apply.
        """
        block0 = self.get_variable("params", "block0", {})
        if not self.is_initializing() and ("cross_attention" in block0) != (context is not None):
            given = "None" if context is None else "given"
            raise ValueError(f"context is {given}, and was not so at init: give it to both init and apply, or neither")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        patches = space_to_depth(x, self.patch_size)
        batch, height, width, _ = patches.shape
        tokens = nn.Dense(self.features, name="patches", **types)(patches.reshape(batch, height * width, -1))
        tokens = tokens + grid_positions(height, width, self.features).astype(tokens.dtype)
        condition = Condition(self.features, self.num_classes, self.time_scale, name="condition", **types)(
            batch, time, classes
        )
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        for i in range(self.depth):
            tokens, _ = block(self.heads, self.mlp_ratio, qk_norm=self.qk_norm, name=f"block{i}", **types)(
                tokens, condition, context, context_mask=context_mask
            )
        channels = self.out_channels or x.shape[-1]
        patches = OutputLayer(self.patch_size**2 * channels, nn.initializers.zeros_init(), name="out", **types)(
            tokens, condition
        )
        return depth_to_space(patches.reshape(batch, height, width, -1), self.patch_size)
