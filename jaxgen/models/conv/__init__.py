"""The convolution that every model calls: one function, its transpose and a Linen layer."""

from jaxgen.models.conv.function import conv, conv_transpose
from jaxgen.models.conv.layer import Conv

__all__ = ["Conv", "conv", "conv_transpose"]
