"""How many masks MaskGIT leaves, and what it tells the network of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import tokens as tk
from jaxgen.diffusion import cfg
from tests.tokens.joint import watched

KEY = jax.random.key(17)


def test_maskgits_cosine_schedule_has_its_pinned_counts():
    counts, keep = [], np.stack([np.zeros(256, bool), np.arange(256) >= 10])
    flat = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4))  # noqa: E731
    jax.jit(lambda: tk.sample_tokens(KEY, watched(counts, 4, flat), tk.maskgit(), tk.mask_times(12), (2, 256),
                                     mask_id=4, known=np.zeros((2, 256), int), keep=keep))()
    jax.effects_barrier()
    seen = np.array(counts)
    assert seen[:, 0].tolist() == [256, 253, 247, 236, 221, 203, 181, 155, 128, 97, 66, 33]
    assert seen[:, 1].tolist() == [10] + [9] * 11
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        tk.maskgit(schedule="cosin")


@pytest.mark.parametrize("guided", [False, True])
def test_maskgit_leaves_as_many_masks_as_scheduled_gives_the_network_their_share_and_keeps_known_tokens(guided):
    counts, times = [], []

    def logits_fn(tokens, t, cond):
        one = slice(None, None, 2 if guided else None)
        jax.debug.callback(lambda x, t: (counts.append((np.asarray(x) == 5).sum(1)), times.append(np.asarray(t))),
                           tokens[one], t[one])
        wide = jnp.broadcast_to(jnp.arange(16)[:, None] % 5 == jnp.arange(5), (*tokens.shape, 5))
        return 6.0 * wide * (1.0 if cond is None else cond[:, None, None])

    known, keep = np.full((3, 16), 4), np.zeros((3, 16), bool)
    keep[0, ::3] = True
    function, cond = (cfg(2.0, 0.0)(logits_fn), np.ones(3, np.float32)) if guided else (logits_fn, None)
    tokens = jax.jit(lambda key: tk.sample_tokens(
        key, function, tk.maskgit(), tk.mask_times(6), (3, 16), mask_id=5, known=known, keep=keep, cond=cond))(KEY)
    tokens = np.asarray(tokens)
    jax.effects_barrier()
    unknown = np.array([10, 16, 16])
    wanted = np.floor(16 * np.cos(np.pi / 2 * np.arange(1, 6) / 6))
    np.testing.assert_array_equal(counts, [unknown, *np.maximum(1, np.minimum(unknown - 1, wanted[:, None]))])
    np.testing.assert_allclose(times, np.array(counts) / 16, rtol=1e-6)
    assert (tokens[0, ::3] == 4).all() and (tokens < 5).all()
    agree = np.mean((tokens == np.arange(16) % 5)[~keep])
    assert agree > 0.9  # the network is sure
