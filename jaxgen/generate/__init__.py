"""Samples and edits: (model, settings) -> pure (variables, key, ids, cond) -> samples.

    sampler = make_sampler(model, {"steps": 18, "guidance": 2.0})
    images = sample(sampler, variables, jax.random.key(0), model.conditions.parse(16), 16)
"""

from collections.abc import Mapping
from typing import Any

from jaxgen.core.extras import extra

with extra("models"):
    import flax  # noqa: F401

from jaxgen.generate.diffusion import diffusion_sampler, guided, make_sigmas
from jaxgen.generate.editing import from_noise, img2img, inpaint, interpolate, show_noise, to_noise
from jaxgen.generate.finite import blank, check_all, check_any, finite_images
from jaxgen.generate.masks import hide, kept_positions
from jaxgen.generate.sampler import Sampler, sample, sample_batches
from jaxgen.generate.tokens import sample_token_ids, token_sampler, token_trajectory
from jaxgen.models import Denoising, TokenGenerating
from jaxgen.models.base import Model

SAMPLERS = ((Denoising, diffusion_sampler), (TokenGenerating, token_sampler))


def make_sampler(model: Model, settings: Mapping[str, Any] | None = None) -> Sampler:
    """The sampler of a model, by what it can do.

    Args:
        model: `Denoising` or `TokenGenerating`.
        settings: solver, steps, guidance, ...; the rest are defaults.

    Raises:
        ValueError: the model does not sample, or a setting does not apply to it.

    Example:
        >>> from jaxgen.models import build
        >>> model = build("diffusion", shape=(8, 8, 1), network={"name": "unet", "channels": (8,), "down": ("plain",)})
        >>> make_sampler(model, {"solver": "euler", "steps": 4}).work.evaluations()
        4
    """
    for able, make in SAMPLERS:
        if isinstance(model, able):
            return make(model, settings or {})
    raise ValueError(f"a {type(model).__name__} has no samples of its own: it is neither a diffusion model, with "
                     "denoise, nor a token prior, with model and from_tokens")


__all__ = [
    "Sampler", "blank", "check_all", "check_any", "diffusion_sampler", "finite_images", "from_noise", "guided", "hide",
    "img2img", "inpaint", "interpolate", "kept_positions", "make_sampler", "make_sigmas", "sample", "sample_batches",
    "sample_token_ids", "show_noise", "to_noise", "token_sampler",
    "token_trajectory",
]
