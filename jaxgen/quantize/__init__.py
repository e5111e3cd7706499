"""Vector quantizers as pairs of pure functions; imports jax only.

    quantizer = vq(512, ema_decay=0.99)
    variables = quantizer.init(key, dim)
    output, state = quantizer.apply(variables, z, train=True)
"""

from jaxgen.quantize.estimators import rotation, straight_through
from jaxgen.quantize.fsq import fsq, fsq_indices
from jaxgen.quantize.nearest import nearest
from jaxgen.quantize.types import QuantizeOutput, Quantizer, Variables
from jaxgen.quantize.usage import CodebookUsage, usage, usage_of
from jaxgen.quantize.vq import vq

__all__ = [
    "CodebookUsage", "QuantizeOutput", "Quantizer", "Variables", "fsq", "fsq_indices", "nearest", "rotation",
    "straight_through", "usage", "usage_of", "vq",
]
