"""Edits: what is kept comes back, what is removed is not known, and an image goes to its noise and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion, generate
from tests.generate.cases import DIFFUSION, IMAGES, KEY, PRIORS, case, classes, images, sampler
from tests.helpers import compilations

COND = classes(0, 2)


def left_half(count=2):
    """True in the left four columns, and in one pixel of a block of which the rest is not kept."""
    keep = np.zeros((count, 8, 8, 1), bool)
    keep[:, :, :4] = True
    keep[:, 0, 7] = True
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


def test_kept_latents_are_those_of_the_hidden_image():
    model, variables, _ = case("latents")
    x, keep = images(2), left_half()
    seen = {}
    original = type(model).from_latents

    def watch(self, variables, z):
        jax.debug.callback(lambda z: seen.update(z=np.asarray(z)), z)
        return original(self, variables, z)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "from_latents", watch)
        fresh = generate.make_sampler(type(model)(model=model.model, autoencoder=model.autoencoder), {"steps": 3})
        generate.inpaint(fresh, variables, KEY, x, keep, COND, resample=2)
        jax.effects_barrier()
    known = jax.jit(model.to_latents)(variables, generate.hide(x, jnp.asarray(keep)))
    np.testing.assert_allclose(seen["z"][:, :, :2], known[:, :, :2], atol=1e-5)
    assert np.abs(seen["z"][:, :, 2:] - known[:, :, 2:]).max() > 0.01


@pytest.mark.parametrize("name", PRIORS)
def test_kept_tokens_come_back_and_the_others_are_drawn(name):
    _, variables, _ = case(name)
    known = jnp.arange(32).reshape(2, 16) % 7
    keep = jnp.zeros((2, 16), bool).at[:, 4:10].set(True)
    _, tokens = generate.sample_token_ids(sampler(name), variables, KEY, jnp.arange(2), COND, known=known, keep=keep)
    np.testing.assert_array_equal(np.asarray(tokens)[keep], known[keep])
    assert np.any(tokens != known) and int(tokens.max()) < 7


def test_tokens_drawn_before_the_kept_ones_do_not_see_them():
    known = jax.random.randint(jax.random.key(1), (2, 16), 0, 7)
    keep = jnp.zeros((2, 16), bool).at[:, 6:10].set(True)
    sharp = sampler("autoregressive", temperature=0.02)  # random weights say little
    first, second = (generate.sample_token_ids(sharp, case("autoregressive").variables, KEY, jnp.arange(2), COND,
                                               known=tokens, keep=keep)[1] for tokens in (known, (known + 1) % 7))
    np.testing.assert_array_equal(first[:, :6], second[:, :6])
    assert np.any(first[:, 10:] != second[:, 10:])


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_filled_in_knows_nothing_of_the_removed_pixels(name):
    x, keep = images(2), left_half()
    other = np.where(keep, x, images(2, seed=6))
    np.testing.assert_array_equal(inpaint(name, x, keep), inpaint(name, other, keep))


@pytest.mark.parametrize("name", IMAGES)
def test_a_second_edit_and_other_numbers_need_no_other_program(name):
    model, variables, _ = case(name)
    settings = {"steps": 3} if name != "autoregressive" else {}
    first, second = (generate.make_sampler(model, {**settings, "guidance": g}) for g in (2.0, 3.0))
    arguments = (images(2), left_half(), COND)
    generate.inpaint(first, variables, KEY, *arguments)
    count = compilations.count(lambda: generate.inpaint(second, variables, jax.random.key(3), *arguments))
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
    start = model.from_latents(variables, model.to_latents(variables, x)) if name == "latents" else x
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
    rows = generate.interpolate(sampler(name), variables, x, cond, between=3)
    assert len(rows) == 2 and all(row.shape == (3, *shape) for row in rows)
    noise = generate.to_noise(sampler(name), variables, x, cond)
    first = classes(0, 0, 2, 2)  # both ends in the condition of the first
    ends = generate.from_noise(sampler(name), variables, noise, first)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(row[jnp.array([0, 2])], ends[2 * i : 2 * i + 2], atol=2e-3)


def test_noise_is_shown_in_the_visible_range():
    noise = 80.0 * jax.random.normal(KEY, (2, 8, 8, 1))
    shown = generate.show_noise(sampler("pixels"), case("pixels").variables, noise)
    np.testing.assert_allclose(shown, noise / 240, rtol=1e-5)


def test_strength_out_of_bounds_is_refused():
    with pytest.raises(ValueError, match=r"strength must be in \(0, 1\], got 1.5"):
        generate.img2img(sampler("pixels"), case("pixels").variables, KEY, images(2), COND, strength=1.5)


def test_slerp_between_two_noises_keeps_their_norm():
    a, b = images(2)
    a, b = a / jnp.linalg.norm(a), b / jnp.linalg.norm(b)
    middle = diffusion.slerp(a[None], b[None], jnp.array([0.5]))
    assert float(jnp.linalg.norm(middle)) == pytest.approx(1, abs=1e-4)
