"""Edits: what is kept comes back, what is removed is not known, and an image goes to its noise and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import generate
from jaxgen.generate import editing
from jaxgen.generate.diffusion import decode, encode
from jaxgen.generate.sampler import compiled
from tests.generate.cases import DIFFUSION, IMAGES, KEY, PRIORS, SETTINGS, case, classes, images, sampler
from tests.helpers import compilations

COND, IDS = classes(0, 2), np.arange(2, dtype=np.int32)


def left_half(count=2):
    """True in the left four columns, and in one pixel of a block of which the rest is not kept."""
    keep = np.zeros((count, 8, 8, 1), bool)
    keep[:, :, :4] = True
    keep[:, 0, 7] = True
    return keep


def between(first, last):
    keep = np.zeros((2, 16), bool)
    keep[:, first:last] = True
    return keep


def inpaint(name, x, keep, key=KEY, **options):
    return np.asarray(generate.inpaint(sampler(name), case(name).variables, key, x, keep, COND, resample=2, **options))


@pytest.mark.parametrize("name", IMAGES)
def test_filling_in_draws_what_the_mask_does_not_keep(name):
    x, keep = images(2), left_half()
    result, other = inpaint(name, x, keep), inpaint(name, x, keep, jax.random.key(1))
    assert result.shape == x.shape and np.isfinite(result).all()
    assert np.abs(result - other)[:, :, 6:].max() > 1e-3


def test_kept_pixels_come_back_exactly():
    x, keep = images(2), left_half()
    np.testing.assert_array_equal(inpaint("pixels", x, keep)[keep], np.asarray(x)[keep])


def test_kept_latents_are_those_of_the_hidden_image(monkeypatch):
    model, variables, _ = case("latents")
    x, keep = images(2), left_half()
    monkeypatch.setattr(editing, "decode", lambda model, variables, z: z)
    filled = inpaint("latents", x, keep)
    known = jax.jit(model.to_latents)(variables, generate.hide(x, jnp.asarray(keep)))
    np.testing.assert_allclose(filled[:, :, :2], known[:, :, :2], atol=1e-5)
    assert np.abs(filled[:, :, 2:] - known[:, :, 2:]).max() > 0.01


@pytest.mark.parametrize("name", PRIORS)
def test_kept_tokens_come_back_and_the_others_are_drawn(name):
    _, variables, _ = case(name)
    known, keep = np.arange(32, dtype=np.int32).reshape(2, 16) % 7, between(4, 10)
    _, tokens = generate.sample_token_ids(sampler(name), variables, KEY, IDS, COND, known=known, keep=keep)
    np.testing.assert_array_equal(np.asarray(tokens)[keep], known[keep])
    assert np.any(tokens != known) and int(tokens.max()) < 7


def test_tokens_drawn_before_the_kept_ones_do_not_see_them():
    known = np.random.default_rng(1).integers(0, 7, (2, 16), np.int32)
    sharp = sampler("autoregressive", temperature=0.02)  # random weights say little
    first, second = (
        generate.sample_token_ids(sharp, case("autoregressive").variables, KEY, IDS, COND, known=tokens,
                                  keep=between(6, 10))[1] for tokens in (known, (known + 1) % 7))
    np.testing.assert_array_equal(first[:, :6], second[:, :6])
    assert np.any(first[:, 10:] != second[:, 10:])


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_filled_in_knows_nothing_of_the_removed_pixels(name):
    x, keep = images(2), left_half()
    other = np.where(keep, x, images(2, seed=6))
    np.testing.assert_array_equal(inpaint(name, x, keep), inpaint(name, other, keep))


@pytest.mark.parametrize("name", IMAGES)
def test_a_second_edit_and_other_numbers_need_no_other_program(name):
    inpaint(name, images(2), left_half())
    second = generate.make_sampler(case(name).model, {**SETTINGS[name], "guidance": 3.0})
    key, arguments = jax.random.key(3), (images(2, seed=6), left_half(), COND)
    count = compilations.count(lambda: generate.inpaint(second, case(name).variables, key, *arguments, resample=2))
    assert count == 0


@pytest.mark.parametrize("name", ["latents", *PRIORS])
def test_a_mask_that_keeps_no_whole_block_is_refused(name):
    keep = np.zeros((2, 8, 8, 1), bool)
    keep[:, 3:5, 3:5] = True
    with pytest.raises(ValueError, match="keeps no whole block of 2x2 pixels"):
        inpaint(name, images(2), keep)


@pytest.mark.parametrize("name", DIFFUSION)
def test_image_to_image_changes_more_with_more_strength(name):
    model, variables, _ = case(name)
    x = images(2)
    start = compiled(decode, model)(variables, compiled(encode, model)(variables, x))
    weak, strong = (np.abs(generate.img2img(sampler(name), variables, KEY, x, COND, strength=s) - start).mean()
                    for s in (0.4, 1.0))
    assert weak < strong


def test_noise_leads_back_to_its_image():
    """Of the exact denoiser of N(0, 0.5²), whose path is x(s) = x0 sqrt((0.25 + s²) / 0.25)."""
    model, variables, _ = case("pixels")

    class Exact(type(model)):
        def denoise(self, params, x, sigma, cond=None, *, key=None):
            sigma = jnp.reshape(sigma, (-1, 1, 1, 1))
            return x * 0.25 / (0.25 + sigma**2)

    exact = Exact(network=model.network, sample_shape=model.sample_shape, conditions=model.conditions)
    fine = generate.make_sampler(exact, {"steps": 60})
    x = images(2)
    noise = generate.to_noise(fine, variables, x, COND)
    np.testing.assert_allclose(noise, x * np.sqrt((0.25 + 80.0**2) / 0.25), rtol=0.02)
    np.testing.assert_allclose(generate.from_noise(fine, variables, noise, COND), x, atol=0.01)


@pytest.mark.parametrize("name", DIFFUSION)
def test_interpolations_begin_and_end_at_the_path_of_their_images(name):
    _, variables, shape = case(name)
    x, cond = images(4), classes(0, 1, 2, 2)
    rows = generate.interpolate(sampler(name), variables, x, cond, between=4)
    assert len(rows) == 2 and all(row.shape == (4, *shape) for row in rows)
    noise = generate.to_noise(sampler(name), variables, x, cond)
    first = classes(0, 0, 2, 2)  # both ends in the condition of the first
    ends = generate.from_noise(sampler(name), variables, noise, first)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(np.asarray(row)[[0, 3]], ends[2 * i : 2 * i + 2], atol=2e-3)


def test_noise_is_shown_in_the_visible_range():
    noise = 80.0 * images(2)
    shown = generate.show_noise(sampler("pixels"), case("pixels").variables, noise)
    np.testing.assert_allclose(shown, noise / 240, rtol=1e-5)


def test_strength_out_of_bounds_is_refused():
    with pytest.raises(ValueError, match=r"strength must be in \(0, 1\], got 1.5"):
        generate.img2img(sampler("pixels"), case("pixels").variables, KEY, images(2), COND, strength=1.5)
