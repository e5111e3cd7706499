"""Vector quantizers as pairs of pure functions; imports jax only.

    quantizer = vq(512, ema_decay=0.99)
    variables = quantizer.init(key, dim)
    output, state = quantizer.apply(variables, z, train=True)

For padded sequences, `apply(..., valid=mask)` leaves vectors out of the state, the losses and all statistics.
Quantizers with equal settings are equal, and can be pickled.

Quantizers: `vq`, `fsq`, `lfq`, `gumbel`, `simvq`. Combinators: `residual`, `grouped`, `projected`, and for training
`noisy`, `dropout`; they compose.
"""

from jaxgen.core.types import Variables
from jaxgen.quantize.apply import apply_quantizer
from jaxgen.quantize.estimators import rotation, straight_through
from jaxgen.quantize.fsq import fsq, fsq_indices
from jaxgen.quantize.grouped import grouped
from jaxgen.quantize.gumbel import gumbel
from jaxgen.quantize.lfq import lfq
from jaxgen.quantize.nearest import nearest
from jaxgen.quantize.projected import projected
from jaxgen.quantize.regularized import dropout, noisy
from jaxgen.quantize.residual import residual
from jaxgen.quantize.simvq import simvq
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.usage import CodebookUsage, usage, usage_of
from jaxgen.quantize.vq import vq

__all__ = [
    "CodebookUsage", "QuantizeOutput", "Quantizer", "Variables", "apply_quantizer", "dropout", "fsq", "fsq_indices",
    "grouped", "gumbel", "lfq", "nearest", "noisy", "projected", "residual", "rotation", "simvq", "straight_through",
    "usage", "usage_of", "vq",
]
