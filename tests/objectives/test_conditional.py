"""The objectives of diffusion models and of token priors, against loops in NumPy, and on many devices."""

from functools import cache, partial

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
LABELS = np.arange(16, dtype=np.int32) % 4
IMAGES = np.random.default_rng(1).uniform(-1, 1, (16, 4, 4, 1)).astype(np.float32)
TOKENS = np.random.default_rng(2).integers(0, 5, (16, 6), np.int32)
NONE, MASK = 9, 5
W, STATE = np.float32(0.9), {"scale": 1.3}


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


LOSSES = dict(diffusion=diffusion, prior=prior, maskgit=maskgit, autoregressive=autoregressive, latent=latent)


@cache
def of_one_device(name):
    """{"trained": ((loss, (metrics, state)), gradient), "measured": loss, "kept": loss without drops}."""
    loss_fn, plain = LOSSES[name], {"label_smoothing": 0.0} if name == "maskgit" else {}

    @jax.jit
    def run(params, batch):
        return {"trained": jax.value_and_grad(loss_fn, has_aux=True)(params, STATE, batch, KEY),
                "measured": loss_fn(params, STATE, batch, KEY, train=False)[0],
                "kept": loss_fn(params, STATE, batch, KEY, conditions=CONDITIONS._replace(drop=0.0), **plain)[0]}

    return run(W, BATCH)


@jax.jit
def draws(key):
    """What the objectives draw of the parts of their key."""
    level_key, noise_key, drop_key, _ = jax.random.split(key, 4)
    time_key, mask_key, last_key = jax.random.split(key, 3)
    ids = jnp.arange(16)
    return {"sigma": log_normal_sigmas(level_key, 16), "noise": sample_noise(noise_key, (4, 4, 1), ids, 0),
            "dropped": dropped(drop_key), "t": stratified_times(time_key, 16), "dropped_last": dropped(last_key),
            "masks": jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(mask_key, i), (6,)))(ids),
            "dropped_at_once": dropped(key)}


def dropped(key):
    return jnp.where(jax.random.bernoulli(key, 0.3, (16,)), NONE, LABELS)


def drawn():
    return jax.tree.map(lambda a: np.asarray(a, np.float64), draws(KEY))


def test_diffusion_loss_is_the_weighted_error_of_each_example_with_its_own_draws():
    loss, (metrics, state) = of_one_device("diffusion")["trained"][0]
    sigma, classes, noise = (drawn()[name] for name in ("sigma", "dropped", "noise"))
    assert NONE in classes and len(set(classes)) == 5
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
    assert state == STATE


def test_latent_loss_is_that_of_the_latents_through_which_no_gradient_goes():
    @jax.jit
    def both(state):
        latent_key, loss_key = jax.random.split(KEY)
        z = to_latents(Variables({}, state), IMAGES, key=latent_key, sample_ids=jnp.arange(16))
        expected = diffusion(W, {}, {**BATCH, "image": z}, loss_key)[0]
        of_latents, gradient = jax.value_and_grad(lambda state: latent(W, state, BATCH, KEY)[0])(state)
        return expected, of_latents, gradient

    expected, loss, gradient = both({"scale": 1.3})
    assert loss == pytest.approx(float(expected), rel=1e-6) and gradient["scale"] == 0
    assert of_one_device("latent")["trained"][0][1][1] == STATE
    with pytest.raises(ValueError, match="must have an entry 'image'"):
        latent(W, STATE, {"label": LABELS}, KEY)


def test_prior_loss_is_the_weighted_cross_entropy_of_masked_tokens_per_token():
    loss, (metrics, _) = of_one_device("prior")["trained"][0]
    t, classes, masks = (drawn()[name] for name in ("t", "dropped_last", "masks"))
    total = 0.0
    for i in range(16):
        hidden = masks[i] >= 1 - t[i]
        for j in np.flatnonzero(hidden):
            scores = t[i] * np.arange(5) + 0.1 * classes[i] * np.arange(5)[::-1]  # a mask's own row of one_hot is 0
            total += (np.log(np.exp(scores).sum()) - scores[int(TOKENS[i, j])]) / t[i]
    assert loss == pytest.approx(total / (16 * 6), rel=1e-5)
    assert metrics["bits_per_token"] == pytest.approx(float(loss) / np.log(2), rel=1e-6)


def test_maskgits_loss_is_the_smoothed_cross_entropy_of_masked_tokens_a_mean_of_each_sequence():
    loss, (metrics, state) = of_one_device("maskgit")["trained"][0]
    r, classes, masks = (drawn()[name] for name in ("t", "dropped_last", "masks"))
    total = 0.0
    for i in range(16):
        hidden = np.argsort(masks[i])[: max(1, int(np.ceil(6 * np.cos(np.pi * r[i] / 2))))]
        # The network's time is the share of masks, and a mask's own row of one_hot is 0.
        scores = len(hidden) / 6 * np.arange(5) + 0.1 * classes[i] * np.arange(5)[::-1]
        log_p = scores - np.log(np.exp(scores).sum())
        total += np.mean([-0.9 * log_p[int(TOKENS[i, j])] - 0.1 * log_p.mean() for j in hidden])
    assert loss == pytest.approx(total / 16, rel=1e-5) and metrics["loss"] == loss and state == STATE


def test_with_the_linear_schedule_maskgits_loss_is_the_bound_in_expectation():
    """Of logits that depend on what is visible; 60,000 draws of masks in one batch of equal sequences."""
    n = 60_000
    tokens = np.tile(TOKENS[:1], (n, 1))

    def seeing(params, tokens, t, cond):
        return jnp.sum(jax.nn.one_hot(tokens, 6), axis=1, keepdims=True)[..., :5] * 0.7 + jnp.zeros((1, 6, 1))

    @jax.jit
    def losses(tokens):
        arguments, options = ({}, {}, {"tokens": tokens}, KEY), {"logits": seeing, "mask_id": MASK}
        of_maskgit = (maskgit_prior_loss(*arguments, schedule=name, label_smoothing=0.0, **options)[0]
                      for name in ("linear", "cosine"))
        return masked_prior_loss(*arguments, **options)[0], *of_maskgit

    bound, linear, cosine = losses(tokens)
    assert linear == pytest.approx(float(bound), rel=0.01) and abs(cosine - bound) > 0.02 * bound


def test_autoregressive_prior_loss_is_the_cross_entropy_of_each_token_per_token():
    loss, (metrics, state) = of_one_device("autoregressive")["trained"][0]
    classes, total = drawn()["dropped_at_once"], 0.0
    assert NONE in classes and len(set(classes)) == 5
    for i in range(16):
        before = 0
        for token in np.asarray(TOKENS[i]):
            scores = 0.9 * (np.arange(5) == before) + 0.1 * classes[i] * np.arange(5)[::-1]
            total += np.log(np.exp(scores).sum()) - scores[token]
            before = token
    assert loss == pytest.approx(total / (16 * 6), rel=1e-5)
    assert metrics["bits_per_token"] == pytest.approx(float(loss) / np.log(2), rel=1e-6) and state == STATE


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_many_devices_compute_the_loss_of_one_and_the_halves_by_noise_of_the_global_batch(name, count):
    mesh = Mesh(np.array(jax.devices()[:count]), ("devices",))

    def mapped(params, batch):
        loss, (metrics, _) = LOSSES[name](params, STATE, batch, KEY, axis_name="devices")
        return jax.lax.pmean((loss, metrics), "devices")

    parts = jax.shard_map(mapped, mesh=mesh, in_specs=(P(), P("devices")), out_specs=P())
    actual = jax.jit(jax.value_and_grad(parts, has_aux=True))(W, BATCH)
    (loss, (metrics, _)), gradient = of_one_device(name)["trained"]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5), actual, ((loss, metrics), gradient))
    assert name not in ("diffusion", "latent") or {"loss_low_noise", "loss_high_noise"} < set(metrics)


def test_both_halves_by_noise_of_one_example_are_its_loss():
    one = jax.jit(diffusion)(W, STATE, {name: value[:1] for name, value in BATCH.items()}, KEY)[1][0]
    np.testing.assert_allclose([one["loss_low_noise"], one["loss_high_noise"]], one["loss"], rtol=1e-6)


@pytest.mark.parametrize("name", ["diffusion", "prior", "maskgit", "autoregressive"])
def test_a_measurement_drops_no_condition_and_smooths_no_label(name):
    result = of_one_device(name)
    assert result["measured"] == result["kept"]
    assert result["measured"] != pytest.approx(float(result["trained"][0][0]), rel=1e-4)


def test_a_measurement_hands_out_no_key_for_dropout():
    keys = []

    def watched(params, x, sigma, cond, *, key):
        keys.append(key)
        return x

    jax.eval_shape(lambda batch: diffusion(W, {}, batch, KEY, denoise=watched, train=False)[0], BATCH)
    assert keys == [None]


def test_a_model_without_conditions_gets_none():
    seen = []

    def plain(params, x, sigma, cond, *, key):
        seen.append(cond)
        return x

    without = Conditions({}, lambda count: {})  # as a model without conditions has them
    for conditions in (None, without):
        jax.eval_shape(lambda x, conditions=conditions: diffusion_loss(
            {}, {}, {"image": x}, KEY, denoise=plain, draw_sigmas=log_normal_sigmas, weighting=edm_weighting(),
            conditions=conditions), IMAGES)
    assert seen == [None, None]


def test_latents_are_of_the_parameters_and_the_state():
    """What makes the latents may be trained weights of either kind; no gradient goes through them."""
    def both(variables, x, *, key, sample_ids):
        return variables.params * variables.state["scale"] * x

    @jax.jit
    def compared(params, state):
        batch = {**BATCH, "image": 0.9 * 1.3 * IMAGES}
        return (jax.value_and_grad(lambda p: latent(p, state, BATCH, KEY, to_latents=both)[0])(params),
                jax.value_and_grad(lambda p: diffusion(p, {}, batch, jax.random.split(KEY)[1])[0])(params))

    np.testing.assert_allclose(*compared(W, {"scale": 1.3}), rtol=1e-5)


def test_conditions_of_several_entries_and_axes_are_dropped_together():
    """A text [B, L] and its length [B], replaced in the same examples."""
    batch = {"caption": np.ones((16, 3), np.int32), "size": np.full(16, 3), "image": IMAGES}
    conditions = Conditions({"text": "caption", "length": "size"},
                            lambda count: {"text": jnp.zeros((count, 3), jnp.int32), "length": jnp.zeros(count, int)},
                            drop=0.5)

    @jax.jit
    def seen(batch):
        conds = []

        def watched(params, x, sigma, cond, *, key):
            conds.append(cond)
            return x

        diffusion({}, {}, batch, KEY, denoise=watched, conditions=conditions)
        return conds[0]

    text, length = (np.asarray(seen(batch)[name]) for name in ("text", "length"))
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
