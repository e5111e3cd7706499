"""The exact likelihood of the probability-flow equation, and the variational bound."""

from jaxgen.diffusion.likelihood.bound import Bound, variational_bound
from jaxgen.diffusion.likelihood.ode import BITS_OFFSET_127_5, BITS_OFFSET_256, bits_per_dim, log_prob

__all__ = [
    "BITS_OFFSET_127_5", "BITS_OFFSET_256", "Bound", "bits_per_dim", "log_prob", "variational_bound",
]
