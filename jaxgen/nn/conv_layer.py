"""The Linen layer around `conv`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from jaxgen.conv.function import Padding, conv, pair


class Conv(nn.Module):
    """A convolution with bias; its parameters are named and laid out as those of `flax.linen.Conv`.

    Attributes:
        features: output channels.
        kernel_size: rows and columns of the kernel, or one int for both.
        strides: step of the window, in pixels.
        padding: "SAME", "VALID", an int, or ((top, bottom), (left, right)) in pixels.
        dilation: distance between the kernel's taps, in pixels.
        dtype: computing dtype; None takes the common one of input and parameters.
    """

    features: int
    kernel_size: int | Sequence[int] = (3, 3)
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    dilation: int | Sequence[int] = 1
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W Cin"]) -> Float[Array, "B h w features"]:
        size = pair("kernel_size", self.kernel_size)
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, strides=self.strides, padding=self.padding, dilation=self.dilation)
        return y if bias is None else y + bias
