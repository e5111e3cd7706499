"""Networks of whole numbers as priors code with them: written at once, read token by token, in any batch."""

import numpy as np
import pytest

from jaxgen.codec import float_transformer
from jaxgen.codec.networks import IntegerMasked, IntegerNext, integer_masked, integer_next
from jaxgen.codec.prior import Autoregressive, Masked, halton_groups
from jaxgen.codec.tables import GRID
from tests.helpers.codec import round_trip, same_tables
from tests.helpers.transformers import CODES, LENGTH, float_network, integer_network

HEIGHT, WIDTH = 3, 4


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 3, 8)])
def test_an_autoregressive_prior_reads_token_by_token_what_it_wrote_at_once(shape):
    model = Autoregressive(network=IntegerNext(network=integer_network("causal")), num_codes=(CODES,),
                           block=(HEIGHT, WIDTH))
    plane = np.random.default_rng(0).integers(0, CODES, shape)
    (found,), data, writer, reader = round_trip(model, (0,), [plane])
    np.testing.assert_array_equal(found, plane)
    assert same_tables(writer, reader) and len(writer.tables) == LENGTH
    assert len(data) <= writer.bits / 8 * 1.001 + 8


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 3, 8)])
def test_a_masked_prior_of_two_levels_reads_what_it_wrote(shape):
    network, params, _ = float_network("masked of two levels")
    known = [np.arange(2 * LENGTH) < 4 * step for step in range(6)]
    tokens = np.random.default_rng(2).integers(0, CODES, (4, 2 * LENGTH))
    own = integer_masked(params, tokens, [None] * 6, known, heads=network.heads)
    model = Masked(network=own, num_codes=(CODES,) * 2, groups=halton_groups(HEIGHT, WIDTH, 3))
    planes = list(np.random.default_rng(1).integers(0, CODES, (2, *shape)))
    for i, plane in enumerate(planes):
        (found,), _, writer, reader = round_trip(model, (i,), planes)
        np.testing.assert_array_equal(found, plane)
        assert same_tables(writer, reader) and len(writer.tables) == 3


def test_logits_do_not_depend_on_the_other_sequences_of_a_batch():
    tokens = np.random.default_rng(2).integers(0, CODES, (5, LENGTH))
    causal, masked = IntegerNext(network=integer_network("causal")), IntegerMasked(network=integer_network("masked"))
    known = np.arange(LENGTH) < 5
    for of in (causal.all, lambda own: masked.logits(own, known, 0)):
        whole = of(tokens)
        assert whole.shape == (5, LENGTH, CODES)
        for i in (0, 4):
            np.testing.assert_array_equal(of(tokens[i:i + 1]), whole[i:i + 1])


def test_tokens_that_are_not_known_are_masks():
    masked, known = IntegerMasked(network=integer_network("masked")), np.arange(LENGTH) % 2 == 0
    tokens = np.random.default_rng(3).integers(0, CODES, (2, LENGTH))
    other = np.where(known, tokens, 0)
    np.testing.assert_array_equal(masked.logits(tokens, known, 0), masked.logits(other, known, 0))
    assert not np.array_equal(masked.logits(tokens, known, 0), masked.logits(tokens, ~known, 0))


def test_levels_of_an_autoregressive_prior_have_codes_of_their_own():
    """A network of 2 x 5 tokens that reads the levels of a place one after the other."""
    network, params, _ = float_network("causal")
    params = {**params, "tokens0": {"embedding": params["tokens0"]["embedding"][:10]}}
    tokens = np.random.default_rng(4).integers(0, 5, (6, LENGTH))
    own = integer_next(params, tokens, None, heads=network.heads, levels=2)
    expected = float_transformer.forward(params, (tokens + 5 * (np.arange(LENGTH) % 2))[..., None], None,
                                         heads=network.heads, causal=True)
    assert np.abs(own.all(tokens) / GRID - expected).max() < 0.2 * expected.std()
    state, last = own.start(6, LENGTH), np.zeros(6, int)
    for index in range(4):
        logits, state = own.next(state, last, index)
        np.testing.assert_array_equal(logits, own.all(tokens)[:, index])
        last = tokens[:, index]


def test_ranges_of_a_masked_network_are_of_each_steps_masks_and_condition():
    network, params, conditions = float_network("masked with time and classes")
    tokens = np.random.default_rng(5).integers(0, CODES, (8, LENGTH))
    known = [np.zeros(LENGTH, bool), np.arange(LENGTH) < 6]
    own = integer_masked(params, tokens, conditions, known, heads=network.heads)
    for step in range(2):
        seen = np.where(known[step], tokens, CODES)[..., None]
        expected = float_transformer.forward(params, seen, conditions[step], heads=network.heads, causal=False)
        assert np.abs(own.logits(tokens, known[step], step) / GRID - expected).max() < 0.2 * expected.std()


def test_the_digest_is_of_the_weights_and_sizes():
    digests = {IntegerNext(network=integer_network("causal")).digest,
               IntegerNext(network=integer_network("causal"), levels=2).digest,
               IntegerNext(network=integer_network("causal with classes")).digest,
               IntegerMasked(network=integer_network("masked")).digest}
    assert len(digests) == 4 and IntegerNext(network=integer_network("causal")).digest in digests
