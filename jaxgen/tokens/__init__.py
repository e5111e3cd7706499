"""Models of tokens: corruption, losses and decoding loops, for any network. Imports jax only.

    tokens = autoregressive_sample(key, next_fn, cache, (8, 256), top_p=0.95)      # one after the other, with a cache
    tokens = masked_decode(key, logits_fn, (8, 256), mask_id=1024, steps=12)       # the most confident first

Known tokens are given in the same way everywhere.
"""

from jaxgen.tokens.autoregressive import NextFn, autoregressive_loss, autoregressive_sample, guide, token_nats
from jaxgen.tokens.draw import draw_tokens, filter_logits
from jaxgen.tokens.masked import MaskSchedule, cosine_masking, mask_tokens, masked_diffusion_loss, polynomial_masking
from jaxgen.tokens.masked_sample import confidence_sample, mask_times, masked_sample
from jaxgen.tokens.maskgit import masked_counts, masked_decode, masked_loss, masking_schedule, timed_by_masks

__all__ = [
    "MaskSchedule", "NextFn", "autoregressive_loss", "autoregressive_sample", "confidence_sample", "cosine_masking",
    "draw_tokens", "filter_logits", "guide", "mask_times", "mask_tokens", "masked_counts", "masked_decode",
    "masked_diffusion_loss", "masked_loss", "masked_sample", "masking_schedule", "polynomial_masking",
    "timed_by_masks", "token_nats",
]
