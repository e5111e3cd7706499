"""Masks of text and masks that do not fit: what filling in takes for every kind of model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import generate, models
from jaxgen.nn import encode_text
from tests.generate import cases
from tests.helpers.parameters import drawn

KEY = jax.random.key(0)
NETWORK = {"features": 16, "depth": 1, "heads": 2}
TEXT = {"name": "token_prior", "shape": (6,), "network": NETWORK, "tokenizer": {"name": "bytes"}}
DESCRIPTIONS = {**cases.DESCRIPTIONS, "masked text": TEXT, "autoregressive text": {**TEXT, "kind": "autoregressive"}}
TEXTS = ("masked text", "autoregressive text")


@functools.cache
def sampler(name):
    return generate.make_sampler(models.build(**DESCRIPTIONS[name]), {"steps": 2} if name == "masked text" else {})


@functools.cache
def variables(name):
    return drawn(sampler(name).model, (6,))


def inpaint(name, x, keep):
    of_text = variables(name) if name in TEXTS else None
    return np.asarray(generate.inpaint(sampler(name), of_text, KEY, x, keep, {}, resample=1))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("batch", [1, 2])
def test_kept_bytes_of_text_come_back_and_the_others_are_drawn(name, batch):
    x = jnp.asarray(encode_text(["kitten", "walrus"], 6))
    keep = np.array([True, False, False, True, True, False])[None, :, None].repeat(batch, axis=0)
    result = inpaint(name, x, keep)
    kept = np.broadcast_to(keep[..., 0], x.shape)
    np.testing.assert_array_equal(result[kept], np.asarray(x)[kept])
    assert result.dtype == np.int32 and result.shape == (2, 6) and (result != x).any() and result.min() >= 0


@pytest.mark.parametrize("name", TEXTS)
def test_filled_in_text_knows_nothing_of_the_removed_bytes(name):
    keep = np.array([True, True, False, False, True, True])[None, :, None]
    results = [inpaint(name, jnp.asarray(encode_text([text] * 2, 6)), keep) for text in ("kitten", "kioben", "kiaben")]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_whole_numbers_that_are_not_kept_become_0():
    keep = np.array([[[True], [False], [True]]])
    result = generate.hide(jnp.array([[5, 6, 7]]), jnp.asarray(keep))
    assert result.tolist() == [[5, 0, 7]] and result.dtype == jnp.int32


@pytest.mark.parametrize("name", ["pixels", "latents", "masked"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_mask_that_is_not_boolean_is_refused(name, dtype):
    with pytest.raises(ValueError, match=f"keep must be boolean.*got dtype {np.dtype(dtype)}"):
        inpaint(name, np.zeros((2, 8, 8, 1), np.float32), np.ones((2, 8, 8, 1), dtype))


@pytest.mark.parametrize(("name", "x", "keep"), [
    ("pixels", (2, 8, 8, 1), (2, 8, 4, 1)), ("pixels", (2, 8, 8, 1), (8, 8, 1)), ("masked", (2, 8, 8, 1), (2, 8, 8)),
    ("masked", (2, 8, 8, 1), (2, 8, 8, 1, 1)),
    ("latents", (2, 8, 8, 1), (3, 8, 8, 1)), ("masked text", (2, 6), (2, 6)), ("masked text", (2, 6), (2, 5, 1)),
])
def test_a_mask_of_another_shape_is_refused_with_both_shapes(name, x, keep):
    values = np.zeros(x, np.int32 if len(x) == 2 else np.float32)
    with pytest.raises(ValueError) as error:
        inpaint(name, values, np.ones(keep, bool))
    assert f"keep of shape {keep} does not fit x of shape {x}" in str(error.value)
