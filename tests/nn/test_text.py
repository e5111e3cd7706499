import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.text import TextEncoder, encode_text

KEY = jax.random.key(0)
TEXTS = ["a red cat", "", "dog", "god"]
MODULE = TextEncoder(features=16, depth=2, heads=2)


APPLY = jax.jit(MODULE.apply)


def variables():
    """Random values in the shapes of the parameters."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(MODULE.init, KEY, encode_text(TEXTS, 9))
    return jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(leaf.dtype), shapes)


def test_tokens_are_bytes_plus_one_then_zeros():
    tokens = encode_text(["Hi\x00", "", "ÿ€"], 6)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, [
        [0x48 + 1, 0x69 + 1, 1, 0, 0, 0], [0] * 6, [0xC3 + 1, 0xBF + 1, 0xE2 + 1, 0x82 + 1, 0xAC + 1, 0],
    ])


def test_truncation_keeps_the_most_whole_characters_that_fit():
    text = "aé€😀日本z"
    for length in range(1, len(text.encode()) + 3):
        row = encode_text([text], length)[0]
        kept = bytes(int(token) - 1 for token in row if token).decode()  # raises where a character is cut
        fitting = max(n for n in range(len(text) + 1) if len(text[:n].encode()) <= length)
        assert kept == text[:fitting]


def test_features_do_not_depend_on_padding_or_on_the_other_texts():
    params, tokens = variables(), encode_text(TEXTS, 9)
    features, mask = jax.device_get(APPLY(params, tokens))
    assert features.shape == (4, 9, 16)
    lengths = [9, 1, 3, 3]  # the empty text has one position to attend to
    np.testing.assert_array_equal(mask, np.arange(9) < np.array(lengths)[:, None])
    padded, alone = jax.device_get(jax.jit(lambda params, longer, tokens: (
        MODULE.apply(params, longer)[0], jax.vmap(lambda t: MODULE.apply(params, t[None])[0][0])(tokens)))(
            params, encode_text(TEXTS, 14), tokens))
    for i, length in enumerate(lengths):
        chex.assert_trees_all_close(padded[i, :length], features[i, :length], atol=1e-5)
    chex.assert_trees_all_close(alone, features, atol=1e-5)


def test_the_empty_text_is_finite_and_learned_and_the_order_of_bytes_matters():
    tokens = encode_text(TEXTS, 3)

    @jax.jit
    def run(params):
        features, pull = jax.vjp(lambda params: MODULE.apply(params, tokens)[0], params)
        return features, pull(jnp.zeros_like(features).at[1, 0, 0].set(1.0))[0]

    features, gradient = jax.device_get(run(variables()))
    assert np.isfinite(features).all()
    used = np.any(gradient["params"]["tokens"]["embedding"] != 0, axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(used), [0])
    assert np.abs(features[2, 0] - features[1, 0]).max() > 0.1
    # "dog" and "god" hold the same bytes: only positions tell their middles apart.
    assert np.abs(features[2, 1] - features[3, 1]).max() > 1e-3


def test_bfloat16_agrees_with_float32():
    params, tokens = variables(), encode_text(TEXTS, 9)
    features, _ = APPLY(params, tokens)
    half = TextEncoder(features=16, depth=2, heads=2, dtype=jnp.bfloat16)
    result = np.asarray(jax.jit(half.apply)(params, tokens)[0])
    assert result.dtype == jnp.bfloat16
    assert np.abs(np.float32(result) - features).max() < 0.05 * np.abs(features).max()


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"the one text 'cat': use \[text\]"):
        encode_text("cat", 4)
    with pytest.raises(ValueError, match="length must be an integer of at least 1, got 0"):
        encode_text(["cat"], 0)
    with pytest.raises(ValueError, match=r"shape \[B, L\], got \(4,\)"):
        MODULE.init(KEY, encode_text(["cat"], 4)[0])
