"""The convolution that every model and LPIPS call: functions of arrays. Its Linen layer is `jaxgen.nn.Conv`."""

from jaxgen.conv.function import conv

__all__ = ["conv"]
