"""Two tokens whose joint distribution, and so every conditional, is known; and how many masks a network sees."""

import jax
import jax.numpy as jnp
import numpy as np

# Two tokens out of three values; 3 is the mask.
JOINT = np.array([[0.30, 0.02, 0.08], [0.05, 0.25, 0.05], [0.01, 0.04, 0.20]])
MASK_ID = 3


def exact_logits(tokens, t, cond):
    """log p(x_i | what is visible) for both positions, by cases."""
    joint = jnp.asarray(JOINT, jnp.float32)
    a, b = tokens[:, 0], tokens[:, 1]
    of_a = jnp.where((b == MASK_ID)[:, None], joint.sum(1), joint.T[jnp.minimum(b, 2)])
    of_b = jnp.where((a == MASK_ID)[:, None], joint.sum(0), joint[jnp.minimum(a, 2)])
    return jnp.log(jnp.stack([of_a, of_b], axis=1))


def ancestral_shares(remask, steps):
    """The distribution of both tokens after ancestral steps from masks with alpha(t) = 1 - t, state by state."""
    p = np.zeros((4, 4))
    p[MASK_ID, MASK_ID] = 1
    for t, s in zip(np.arange(steps, 0, -1) / steps, np.arange(steps - 1, -1, -1) / steps, strict=True):
        r = remask * min(1, s / (1 - t)) if t < 1 else 0
        shown, after = (1 - s - (1 - r) * (1 - t)) / t, np.zeros((4, 4))
        for a, b in np.ndindex(4, 4):
            moves = []
            for token, of_token in ((a, JOINT.sum(1) if b == MASK_ID else JOINT[:, b]),
                                    (b, JOINT.sum(0) if a == MASK_ID else JOINT[a])):
                stays = np.append(shown * of_token / of_token.sum(), 1 - shown) if token == MASK_ID else (
                    (1 - r) * np.eye(4)[token] + r * np.eye(4)[MASK_ID])
                moves.append(stays)
            after += p[a, b] * np.outer(*moves)
        p = after
    return p[:3, :3]


def watched(counts, mask_id, logits_fn):
    """The network, and how many masks it sees at each call, in the list `counts`."""

    def function(tokens, t, cond):
        jax.debug.callback(lambda x: counts.append((np.asarray(x) == mask_id).sum(1)), tokens, ordered=True)
        return logits_fn(tokens, t, cond)

    return function
