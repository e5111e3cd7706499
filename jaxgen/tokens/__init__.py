"""Models of tokens: corruption, losses and decoding loops, for any network. Imports jax only.

    tokens = sample_tokens(key, logits_fn, maskgit(), mask_times(12), (8, 256), mask_id=1024)   # many at a time
    tokens = autoregressive_sample(key, next_fn, cache, (8, 256), top_p=0.95)                   # one after the other

Networks of tokens from masks: `logits_fn(tokens [B, N], t [B], cond) -> logits [B, N, K]`, t = 1 with all masks. Known
tokens are given in the same way everywhere: `known` [B, N] and `keep` [B, N], True keeps.
"""

from jaxgen.tokens.autoregressive import NextFn, autoregressive_sample, guide
from jaxgen.tokens.contract import LogitsFn, timed_by_masks
from jaxgen.tokens.corrupt import mask_tokens
from jaxgen.tokens.draw import draw_tokens, filter_logits
from jaxgen.tokens.losses import (
    autoregressive_loss,
    coarse_to_fine_loss,
    masked_diffusion_loss,
    maskgit_loss,
    token_nats,
)
from jaxgen.tokens.schedules import MaskSchedule, cosine_masking, mask_times, masking_schedule, polynomial_masking
from jaxgen.tokens.unmask import UNMASKERS, Decoding, ProposeFn, Unmasker, ancestral, confidence, maskgit, sample_tokens

# Schedules and corruption
__all__ = ["MaskSchedule", "cosine_masking", "mask_times", "mask_tokens", "masking_schedule", "polynomial_masking"]
# Losses
__all__ += ["autoregressive_loss", "coarse_to_fine_loss", "masked_diffusion_loss", "maskgit_loss", "token_nats"]
# Draws from logits
__all__ += ["draw_tokens", "filter_logits"]
# Decoding many tokens at a time
__all__ += ["UNMASKERS", "Decoding", "LogitsFn", "ProposeFn", "Unmasker", "ancestral", "confidence", "maskgit",
            "sample_tokens", "timed_by_masks"]
# Decoding one token after the other
__all__ += ["NextFn", "autoregressive_sample", "guide"]
