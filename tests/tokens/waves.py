"""A network of six tokens of four values, and the four sequences and three steps that it decodes in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import tokens as tk

KEY = jax.random.key(17)
IDS = np.array([7, 3, 0, 9], np.int32)
TIMES = np.float32([1, 2 / 3, 1 / 3, 0])
EVERY = pytest.mark.parametrize("name", tk.UNMASKERS)


def waves(tokens, t, shift):
    """Logits of six tokens of four values, 4 the mask, which depend on all of their arguments."""
    shift = t if shift is None else t + shift
    return jnp.sin(jnp.arange(6.0)[:, None] * 1.7 + tokens[..., None] + jnp.arange(4.0) * shift[:, None, None]) * 3
