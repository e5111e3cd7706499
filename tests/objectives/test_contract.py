"""Every whole-model objective keeps one contract, in one table: jit, shard_map, float64 mode, bfloat16, bytes, names.

A case is `function(w, batch, axis_name, **options) -> loss []`, in which w stands for the parameters of a network.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen import losses, objectives
from jaxgen.core.types import Variables
from jaxgen.diffusion import edm_weighting, log_normal_sigmas
from jaxgen.quantize import QuantizeOutput

B, CODES = 4, 5
KEY = jax.random.key(0)
W = {"layers": [{"kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)},
                {"kernel": np.linspace(0.2, 1.5, 6, dtype=np.float32).reshape(3, 2)}]}
LAST = ("layers", 1, "kernel")


def autoencode(variables, x, *, train=True, key=None):
    first, last = (layer["kernel"] for layer in variables.params["layers"])
    h = jnp.tanh(x @ first.astype(x.dtype))
    output = QuantizeOutput(h, jnp.zeros(h.shape[:-1], jnp.int32), {"commitment": jnp.sum(h**2, -1)})
    return h @ last.astype(x.dtype), output, variables.state


def discriminate(params, x):
    return jnp.tanh(x * params["layers"][1]["kernel"][0].reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype))[..., 0]


def denoise(params, x, sigma, cond, *, key):
    return (autoencode(Variables(params, {}), x)[0] / (1 + sigma.reshape(-1, 1, 1))).astype(x.dtype)


def logits(params, tokens, *rest):
    scale = jnp.sum(params["layers"][0]["kernel"][1])
    return jax.nn.one_hot(tokens, CODES, dtype=jnp.float32) + scale * jnp.arange(CODES, dtype=jnp.float32)[None, None]


def classify(variables, x):
    return jnp.sum(autoencode(variables, x)[0], axis=1)


def made(batch):
    """What a generator made of the batch's images, under whichever name they stand."""
    return -0.5 * next(batch[name] for name in ("image", "sound") if name in batch)


diffusion = {"denoise": denoise, "draw_sigmas": log_normal_sigmas, "weighting": edm_weighting()}
EXAMPLE = {
    "vqvae_loss": lambda w, batch, axis, **options: objectives.vqvae_loss(
        w, {}, batch, None, forward=autoencode, num_codes=CODES, axis_name=axis, **options),
    "vqvae_loss of robust_forward": lambda w, batch, axis, **options: objectives.vqvae_loss(
        w, {}, batch, KEY, axis_name=axis, **options, forward=objectives.robust_forward(
            autoencode, lambda variables, x: autoencode(variables, x)[0], epsilon=0.1, steps=2, axis_name=axis)),
    "vqgan_generator_loss": lambda w, batch, axis, **options: objectives.vqgan_generator_loss(
        w, {}, batch, KEY, discriminator_params=W, step=jnp.int32(3), forward=autoencode, discriminate=discriminate,
        last_layer=LAST, axis_name=axis, **options),
    "vqgan_discriminator_loss": lambda w, batch, axis, **options: objectives.vqgan_discriminator_loss(
        w, losses.lecam_init(), batch, made(batch), KEY, step=jnp.int32(3), discriminate=discriminate,
        r1_weight=1.0, r1_every=4, gradient_penalty_weight=1.0, lecam_weight=0.1, axis_name=axis, **options),
    "classifier_loss": lambda w, batch, axis, **options: objectives.classifier_loss(
        w, {}, batch, None, logits=classify, **options),
    "diffusion_loss": lambda w, batch, axis, **options: objectives.diffusion_loss(
        w, {}, batch, KEY, **diffusion, axis_name=axis, **options),
    "latent_diffusion_loss": lambda w, batch, axis, **options: objectives.latent_diffusion_loss(
        w, {}, batch, KEY, to_latents=lambda variables, x, *, key, sample_ids: 2 * x, **diffusion, axis_name=axis,
        **options),
}
TOKENS = {
    "masked_prior_loss": lambda w, batch, axis, **options: objectives.masked_prior_loss(
        w, {}, batch, KEY, logits=logits, mask_id=CODES, axis_name=axis, **options),
    "maskgit_prior_loss": lambda w, batch, axis, **options: objectives.maskgit_prior_loss(
        w, {}, batch, KEY, logits=logits, mask_id=CODES, axis_name=axis, **options),
    "coarse_to_fine_prior_loss": lambda w, batch, axis, **options: objectives.coarse_to_fine_prior_loss(
        w, {}, batch, KEY, logits=logits, mask_id=CODES, levels=2, axis_name=axis, **options),
    "autoregressive_prior_loss": lambda w, batch, axis, **options: objectives.autoregressive_prior_loss(
        w, {}, batch, KEY, logits=logits, axis_name=axis, **options),
}
CASES = EXAMPLE | TOKENS
every_objective = pytest.mark.parametrize("name", CASES)


def draw():
    rng = np.random.default_rng(0)
    return {"image": rng.uniform(-1, 1, (B, 6, 2)).astype(np.float32), "label": np.arange(B, dtype=np.int32) % 2,
            "tokens": rng.integers(0, CODES, (B, 6)).astype(np.int32)}


def measure(name, w, batch, axis=None, **options):
    """(loss, gradients), means over all devices."""

    def loss_fn(w):
        loss = CASES[name](w, batch, axis, **options)[0]
        return loss if axis is None else jax.lax.pmean(loss, axis)

    return jax.value_and_grad(loss_fn)(w)


@cache
def compiled(name):
    return jax.jit(partial(measure, name))


@cache
def expected(name):
    return compiled(name)(W, draw())


@every_objective
def test_devices_under_shard_map_and_an_entry_of_another_name_give_the_loss_and_gradients_of_one(name):
    mesh, old = Mesh(np.array(jax.devices()[:2]), ("d",)), "tokens" if name in TOKENS else "image"
    batch = {("sound" if key == old else key): value for key, value in draw().items()}
    run = jax.jit(jax.shard_map(partial(measure, name, axis="d", entry="sound"), mesh=mesh, in_specs=(P(), P("d")),
                                out_specs=P()))
    loss, gradients = expected(name)
    assert loss.shape == () and loss.dtype == jnp.float32 and np.isfinite(loss)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), run(W, batch), (loss, gradients))
    with pytest.raises(ValueError, match=rf"batch must have an entry '{old}', got .*'sound'"):
        CASES[name](W, batch, None)


@every_objective
def test_float64_mode_changes_no_type_and_ranks_are_promoted_nowhere(name):
    wanted = str(jax.eval_shape(partial(measure, name), W, draw()))
    with jax.enable_x64(True):
        assert str(jax.eval_shape(partial(measure, name), W, draw())) == wanted
    with jax.numpy_rank_promotion("raise"):
        assert str(jax.eval_shape(partial(measure, name), W, draw())) == wanted


@pytest.mark.parametrize("name", EXAMPLE)
def test_bfloat16_is_close_by_and_nan_is_seen(name):
    loss, _ = expected(name)
    narrow, gradients = compiled(name)(W, draw() | {"image": jnp.asarray(draw()["image"], jnp.bfloat16)})
    assert narrow.dtype == jnp.float32 and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    # These draw noise, shares and starts in the data's dtype.
    if not any(word in name for word in ("diffusion", "discriminator", "robust")):
        assert float(narrow) == pytest.approx(float(loss), rel=0.05)
    batch = draw()
    batch["image"][1, 2] = np.nan
    assert np.isnan(compiled(name)(W, batch)[0])


@pytest.mark.parametrize("name", EXAMPLE)
def test_bytes_are_refused_by_name_with_the_way_to_convert_them(name):
    batch = draw() | {"image": np.zeros((B, 6, 2), np.uint8)}
    with pytest.raises(ValueError, match=r"batch\['image'\] must hold floating-point .* uint8: .*jaxgen.data.to_float"):
        CASES[name](W, batch, None)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_that_are_no_integers_are_refused_by_name(name):
    with pytest.raises(ValueError, match=r"batch\['tokens'\] must be whole numbers, got dtype float32"):
        CASES[name](W, draw() | {"tokens": np.zeros((B, 6), np.float32)}, None)
