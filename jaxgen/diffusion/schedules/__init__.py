"""Noise schedules, continuous and discrete, and conversions between what networks predict."""

from jaxgen.core.dataclass import register_dataclass
from jaxgen.diffusion.schedules.base import MAX_RATIO, Schedule
from jaxgen.diffusion.schedules.continuous import edm, flow, sigmoid, trigonometric
from jaxgen.diffusion.schedules.conversions import convert, from_pair, to_pair
from jaxgen.diffusion.schedules.discrete import (
    Discrete,
    cosine,
    discretize,
    from_alphas_cumprod,
    from_betas,
    linear,
    rescale_zero_terminal_snr,
    scaled_linear,
)

__all__ = [
    "MAX_RATIO", "Discrete", "Schedule", "convert", "cosine", "discretize", "edm", "flow", "from_alphas_cumprod",
    "from_betas", "from_pair", "linear", "register_dataclass", "rescale_zero_terminal_snr", "scaled_linear", "sigmoid",
    "to_pair", "trigonometric",
]
