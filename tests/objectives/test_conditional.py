"""The objectives of diffusion models and of token priors, against loops in NumPy, and on many devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.core.types import Variables
from jaxgen.diffusion import edm_weighting, log_normal_sigmas, sample_noise, stratified_times
from jaxgen.objectives import (
    Conditions,
    autoregressive_prior_loss,
    diffusion_loss,
    latent_diffusion_loss,
    masked_prior_loss,
    maskgit_prior_loss,
)

KEY = jax.random.key(3)
LABELS = jnp.arange(16) % 4
IMAGES = jax.random.uniform(jax.random.key(1), (16, 4, 4, 1), minval=-1)
TOKENS = jax.random.randint(jax.random.key(2), (16, 6), 0, 5)
NONE, MASK = 9, 5
STATE = {"scale": 1.3}


def null(count):
    return {"classes": jnp.full((count,), NONE)}


def denoise(params, x, sigma, cond, *, key):
    """A denoiser that tells in its answer which condition it saw."""
    return params * x / (1 + sigma[:, None, None, None]) + 0.01 * cond["classes"][:, None, None, None]


def logits(params, tokens, t, cond):
    wide = jax.nn.one_hot(tokens, 5) * params + t[:, None, None] * jnp.arange(5)
    return wide + 0.1 * cond["classes"][:, None, None] * jnp.arange(5)[::-1]


def following(params, tokens, cond):
    """Logits that know the token before, and tell which condition they saw."""
    before = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    return jax.nn.one_hot(before, 5) * params + 0.1 * cond["classes"][:, None, None] * jnp.arange(5)[::-1]


CONDITIONS = Conditions({"classes": "label"}, null, drop=0.3)
diffusion = partial(diffusion_loss, denoise=denoise, draw_sigmas=log_normal_sigmas, weighting=edm_weighting(),
                    conditions=CONDITIONS)
prior = partial(masked_prior_loss, logits=logits, mask_id=MASK, conditions=CONDITIONS)


def to_latents(variables, x, *, key, sample_ids):
    """Half the image's size, and a draw that each example has by itself."""
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (2, 2, 1)))(sample_ids)
    return variables.state["scale"] * x[:, ::2, ::2] + 0.5 * noise


latent = partial(latent_diffusion_loss, to_latents=to_latents, **diffusion.keywords)
autoregressive = partial(autoregressive_prior_loss, logits=following, conditions=CONDITIONS)
maskgit = partial(maskgit_prior_loss, **prior.keywords)
BATCH = {"image": IMAGES, "tokens": TOKENS, "label": LABELS}


def dropped(key):
    return np.where(jax.random.bernoulli(key, 0.3, (16,)), NONE, LABELS)


def test_diffusion_loss_is_the_weighted_error_of_each_example_with_its_own_draws():
    loss, (metrics, state) = diffusion(jnp.float32(0.9), {"kept": 1}, BATCH, KEY)
    level_key, noise_key, drop_key, _ = jax.random.split(KEY, 4)
    sigma, classes = np.asarray(log_normal_sigmas(level_key, 16), np.float64), dropped(drop_key)
    assert NONE in classes and len(set(classes)) == 5
    noise = np.asarray(sample_noise(noise_key, (4, 4, 1), jnp.arange(16), 0), np.float64)
    errors = []
    for i in range(16):
        x0 = np.asarray(IMAGES[i], np.float64)
        answer = 0.9 * (x0 + sigma[i] * noise[i]) / (1 + sigma[i]) + 0.01 * classes[i]
        weight = (sigma[i] ** 2 + 0.25) / (sigma[i] * 0.5) ** 2
        errors.append(weight * np.mean((answer - x0) ** 2))
    assert loss == pytest.approx(np.mean(errors), rel=1e-5)
    order = np.argsort(sigma)
    assert metrics["loss_low_noise"] == pytest.approx(np.mean(np.array(errors)[order[:8]]), rel=1e-5)
    assert metrics["loss_high_noise"] == pytest.approx(np.mean(np.array(errors)[order[8:]]), rel=1e-5)
    assert state == {"kept": 1}


def test_latent_loss_is_that_of_the_latents_through_which_no_gradient_goes():
    latent_key, loss_key = jax.random.split(KEY)
    state = {"scale": jnp.float32(1.3)}
    z = to_latents(Variables({}, state), IMAGES, key=latent_key, sample_ids=jnp.arange(16))
    expected = diffusion(jnp.float32(0.9), {}, {**BATCH, "image": z}, loss_key)[0]
    loss, (_, kept) = latent(jnp.float32(0.9), state, BATCH, KEY)
    assert loss == pytest.approx(float(expected), rel=1e-6) and kept is state
    gradient = jax.grad(lambda state: latent(jnp.float32(0.9), state, BATCH, KEY)[0])(state)
    assert gradient["scale"] == 0
    with pytest.raises(ValueError, match="must have an entry 'image'"):
        latent(jnp.float32(0.9), state, {"label": LABELS}, KEY)


def test_prior_loss_is_the_weighted_cross_entropy_of_masked_tokens_per_token():
    loss, (metrics, _) = prior(jnp.float32(0.7), {}, BATCH, KEY)
    time_key, mask_key, drop_key = jax.random.split(KEY, 3)
    t, classes = np.asarray(stratified_times(time_key, 16), np.float64), dropped(drop_key)
    total = 0.0
    for i in range(16):
        hidden = np.asarray(jax.random.uniform(jax.random.fold_in(mask_key, i), (6,))) >= 1 - t[i]
        for j in np.flatnonzero(hidden):
            scores = t[i] * np.arange(5) + 0.1 * classes[i] * np.arange(5)[::-1]  # a mask's own row of one_hot is 0
            total += (np.log(np.exp(scores).sum()) - scores[int(TOKENS[i, j])]) / t[i]
    assert loss == pytest.approx(total / (16 * 6), rel=1e-5)
    assert metrics["bits_per_token"] == pytest.approx(float(loss) / np.log(2), rel=1e-6)


def test_maskgits_loss_is_the_smoothed_cross_entropy_of_masked_tokens_a_mean_of_each_sequence():
    loss, (metrics, state) = maskgit(jnp.float32(0.7), {"kept": 1}, BATCH, KEY)
    time_key, mask_key, drop_key = jax.random.split(KEY, 3)
    r, classes = np.asarray(stratified_times(time_key, 16), np.float64), dropped(drop_key)
    total = 0.0
    for i in range(16):
        share, draws = np.cos(np.pi * r[i] / 2), np.asarray(jax.random.uniform(jax.random.fold_in(mask_key, i), (6,)))
        hidden = np.argsort(draws)[: max(1, int(np.ceil(6 * share)))]
        # The network's time is the share of masks, and a mask's own row of one_hot is 0.
        scores = len(hidden) / 6 * np.arange(5) + 0.1 * classes[i] * np.arange(5)[::-1]
        log_p = scores - np.log(np.exp(scores).sum())
        total += np.mean([-0.9 * log_p[int(TOKENS[i, j])] - 0.1 * log_p.mean() for j in hidden])
    assert loss == pytest.approx(total / 16, rel=1e-5) and metrics["loss"] == loss and state == {"kept": 1}


def test_with_the_linear_schedule_maskgits_loss_is_the_bound_in_expectation():
    """Of logits that depend on what is visible; 60,000 draws of masks in one batch of equal sequences."""
    n = 60_000
    batch = {"tokens": jnp.tile(TOKENS[:1], (n, 1))}

    def seeing(params, tokens, t, cond):
        return jnp.sum(jax.nn.one_hot(tokens, 6), axis=1, keepdims=True)[..., :5] * 0.7 + jnp.zeros((1, 6, 1))

    bound = jax.jit(partial(masked_prior_loss, logits=seeing, mask_id=MASK))({}, {}, batch, KEY)[0]
    options = {"logits": seeing, "mask_id": MASK, "label_smoothing": 0.0}
    linear, cosine = (jax.jit(partial(maskgit_prior_loss, schedule=name, **options))({}, {}, batch, KEY)[0]
                      for name in ("linear", "cosine"))
    assert linear == pytest.approx(float(bound), rel=0.01) and abs(cosine - bound) > 0.02 * bound


def test_autoregressive_prior_loss_is_the_cross_entropy_of_each_token_per_token():
    loss, (metrics, state) = autoregressive(jnp.float32(0.7), {"kept": 1}, BATCH, KEY)
    classes, total = dropped(KEY), 0.0
    assert NONE in classes and len(set(classes)) == 5
    for i in range(16):
        before = 0
        for token in np.asarray(TOKENS[i]):
            scores = 0.7 * (np.arange(5) == before) + 0.1 * classes[i] * np.arange(5)[::-1]
            total += np.log(np.exp(scores).sum()) - scores[token]
            before = token
    assert loss == pytest.approx(total / (16 * 6), rel=1e-5)
    assert metrics["bits_per_token"] == pytest.approx(float(loss) / np.log(2), rel=1e-6) and state == {"kept": 1}


@pytest.mark.parametrize("loss_fn", [diffusion, prior, maskgit, autoregressive, latent],
                         ids=["diffusion", "prior", "maskgit", "autoregressive", "latent"])
@pytest.mark.parametrize("devices", [2, 8])
def test_many_devices_compute_the_loss_of_one(loss_fn, devices):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("devices",))

    def mapped(params, batch):
        return jax.lax.pmean(loss_fn(params, STATE, batch, KEY, axis_name="devices")[0], "devices")

    def whole(params, batch):
        return loss_fn(params, STATE, batch, KEY)[0]

    parts = jax.shard_map(mapped, mesh=mesh, in_specs=(P(), P("devices")), out_specs=P())
    actual, expected = (jax.jit(jax.value_and_grad(f))(jnp.float32(0.9), BATCH) for f in (parts, whole))
    np.testing.assert_allclose(actual, expected, rtol=2e-5)


def test_halves_by_noise_are_those_of_the_global_batch():
    mesh = Mesh(np.array(jax.devices()[:4]), ("devices",))

    def mapped(params, batch):
        return jax.lax.pmean(diffusion(params, {}, batch, KEY, axis_name="devices")[1][0], "devices")

    parts = jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=(P(), P("devices")), out_specs=P()))
    actual, expected = parts(jnp.float32(0.9), BATCH), diffusion(jnp.float32(0.9), {}, BATCH, KEY)[1][0]
    for name in ("loss_low_noise", "loss_high_noise"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=2e-5)
    one = diffusion(jnp.float32(0.9), {}, {name: value[:1] for name, value in BATCH.items()}, KEY)[1][0]
    np.testing.assert_allclose([one["loss_low_noise"], one["loss_high_noise"]], one["loss"], rtol=1e-6)


def test_a_measurement_drops_no_condition_and_hands_out_no_key_for_dropout():
    keys = []

    def watched(params, x, sigma, cond, *, key):
        keys.append(key)
        return denoise(params, x, sigma, cond, key=key)

    measured = diffusion(jnp.float32(0.9), {}, BATCH, KEY, denoise=watched, train=False)[0]
    kept = diffusion(jnp.float32(0.9), {}, BATCH, KEY, conditions=CONDITIONS._replace(drop=0.0))[0]
    assert keys == [None] and measured == kept != diffusion(jnp.float32(0.9), {}, BATCH, KEY)[0]
    for loss_fn in (prior, autoregressive):
        measured, kept, trained = (loss_fn(jnp.float32(0.7), {}, BATCH, KEY, **options)[0]
                                   for options in ({"train": False}, {"conditions": CONDITIONS._replace(drop=0.0)}, {}))
        assert measured == kept != trained
    measured = maskgit(jnp.float32(0.7), {}, BATCH, KEY, train=False)[0]
    kept = maskgit(jnp.float32(0.7), {}, BATCH, KEY, conditions=CONDITIONS._replace(drop=0.0), label_smoothing=0.0)[0]
    assert measured == kept


def test_a_model_without_conditions_gets_none():
    seen = []

    def plain(params, x, sigma, cond, *, key):
        seen.append(cond)
        return x

    diffusion_loss({}, {}, {"image": IMAGES}, KEY, denoise=plain, draw_sigmas=log_normal_sigmas,
                   weighting=edm_weighting())
    assert seen == [None]
    without = Conditions({}, lambda count: {})  # as a model without conditions has them
    diffusion_loss({}, {}, {"image": IMAGES}, KEY, denoise=plain, draw_sigmas=log_normal_sigmas,
                   weighting=edm_weighting(), conditions=without)
    assert seen == [None, None]


def test_latents_are_of_the_parameters_and_the_state():
    """What makes the latents may be trained weights of either kind; no gradient goes through them."""
    def both(variables, x, *, key, sample_ids):
        return variables.params * variables.state["scale"] * x

    state = {"scale": jnp.float32(1.3)}
    loss, gradient = jax.value_and_grad(lambda p: latent(p, state, BATCH, KEY, to_latents=both)[0])(jnp.float32(0.9))
    z = 0.9 * 1.3 * IMAGES
    expected, of_the_rest = jax.value_and_grad(lambda p: diffusion(p, {}, {**BATCH, "image": z},
                                                                   jax.random.split(KEY)[1])[0])(jnp.float32(0.9))
    np.testing.assert_allclose((loss, gradient), (expected, of_the_rest), rtol=1e-5)


def test_conditions_of_several_entries_and_axes_are_dropped_together():
    """A text [B, L] and its length [B], replaced in the same examples."""
    batch = {"caption": jnp.ones((16, 3), jnp.int32), "size": jnp.full(16, 3), "image": IMAGES}
    conditions = Conditions({"text": "caption", "length": "size"},
                            lambda count: {"text": jnp.zeros((count, 3), jnp.int32), "length": jnp.zeros(count, int)},
                            drop=0.5)
    seen = []

    def watched(params, x, sigma, cond, *, key):
        seen.append(cond)
        return x

    diffusion({}, {}, batch, KEY, denoise=watched, conditions=conditions)
    text, length = np.asarray(seen[0]["text"]), np.asarray(seen[0]["length"])
    np.testing.assert_array_equal(text, np.where(length[:, None] == 0, 0, 1) * np.ones((1, 3), int))
    assert set(length) == {0, 3}


def test_what_the_batch_lacks_is_named():
    with pytest.raises(ValueError, match=r"entry 'label', got \['image'\]"):
        diffusion({}, {}, {"image": IMAGES}, KEY)
    with pytest.raises(ValueError, match="entry 'image'"):
        diffusion({}, {}, {"tokens": TOKENS}, KEY)
    with pytest.raises(ValueError, match=r"conditions.drop must be a fraction in \[0, 1\], got 1.5"):
        diffusion({}, {}, BATCH, KEY, conditions=CONDITIONS._replace(drop=1.5))
    with pytest.raises(TypeError, match="null"):
        Conditions({"classes": "label"})
    for loss_fn in (prior, maskgit, autoregressive):
        with pytest.raises(ValueError, match="entry 'tokens'"):
            loss_fn({}, {}, {"image": IMAGES}, KEY)
