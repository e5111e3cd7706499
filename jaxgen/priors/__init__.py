"""Priors over tokens: losses and decoding loops, for any network. Imports jax only.

    tokens = autoregressive_sample(key, next_fn, cache, (8, 256), top_p=0.95)      # one after the other, with a cache
    tokens = masked_decode(key, logits_fn, (8, 256), mask_id=1024, steps=12)       # many at a time, the surest first

Masked diffusion over tokens is in `jaxgen.diffusion`; known tokens are given in the same way everywhere.
"""

from jaxgen.priors.autoregressive import (
    NextFn,
    autoregressive_loss,
    autoregressive_sample,
    guide,
    token_nats,
)
from jaxgen.priors.draw import draw_tokens, filter_logits
from jaxgen.priors.masked import masked_counts, masked_decode, masked_loss, masking_schedule, timed_by_masks

__all__ = [
    "NextFn", "autoregressive_loss", "autoregressive_sample", "draw_tokens", "filter_logits", "guide", "masked_counts",
    "masked_decode", "masked_loss", "masking_schedule", "timed_by_masks", "token_nats",
]
