"""The states of a decoding from all masks to all tokens."""

import numpy as np

from jaxgen import tokens as tk
from tests.tokens.waves import EVERY, IDS, KEY, TIMES, waves


@EVERY
def test_a_trajectory_holds_what_shorter_decodings_end_with(name):
    """Each state is what decoding by the first times leaves, with the masks that are left."""
    unmasker = tk.UNMASKERS[name](0.5)

    def logits(tokens, t, cond):
        return waves(tokens, t, None)

    def decoded(times, **options):
        return tk.sample_tokens(KEY, logits, unmasker, times, (4, 6), mask_id=4, sample_ids=IDS, **options)

    tokens, seen = decoded(TIMES, trajectory=True)
    assert seen.shape == (3, 4, 6)
    np.testing.assert_array_equal(seen[1], decoded(TIMES[:3]))
    np.testing.assert_array_equal(seen[-1], tokens)
    assert (seen[0] == 4).any() and not (tokens == 4).any()
