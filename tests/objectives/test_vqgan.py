from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import GanLoss, hinge, l1, l2, lecam_init, vanilla
from jaxgen.objectives import vqgan_discriminator_loss, vqgan_generator_loss
from tests.helpers import gan

KEY = jax.random.key(0)
FIXED = {"discriminator_params": gan.discriminator_params(), "step": jnp.int32(7), "forward": gan.forward,
         "discriminate": gan.discriminate}


def perceptual(x, y):
    return jnp.mean(jnp.abs(x**2 - y**2), (1, 2, 3))


def terms(p, x):
    """(nll, the generator's hinge loss), each by a pass of its own."""
    x_r = gan.generate(p, x)
    nll = jnp.mean(jnp.abs(x - x_r)) + 0.3 * jnp.mean(jnp.abs(x**2 - x_r**2))
    return nll, -jnp.mean(gan.discriminate(gan.discriminator_params(), x_r))


def reference(p, x, adaptive=True):
    """Gradients and weight of the two-pass computation, the values of its terms, and the reconstruction."""
    (nll, adversarial, quantizer), values, x_r = passes(p, x)
    last = [g["decoder"]["conv_out"]["kernel"] for g in (nll, adversarial)]
    weight = 0.5 * (gan.norm(last[0]) / (gan.norm(last[1]) + 1e-4) if adaptive else 1.0)
    return jax.tree.map(lambda a, b, c: a + weight * b + c, nll, adversarial, quantizer), weight, values, x_r


@jax.jit
def passes(p, x):
    """Gradients and values of the three terms, and the reconstruction."""
    losses = (lambda p: terms(p, x)[0], lambda p: terms(p, x)[1], lambda p: gan.commitment(p, x))
    return [jax.grad(loss)(p) for loss in losses], [loss(p) for loss in losses], gan.generate(p, x)


@pytest.mark.parametrize("adaptive", [True, False])
def test_gradients_are_those_of_separate_passes_and_the_weight_is_its_definition(adaptive):
    x = gan.batch()["image"]
    p = gan.params()
    last_layer = {} if adaptive else {"last_layer": None}
    loss_fn = partial(vqgan_generator_loss, **FIXED, perceptual=perceptual, perceptual_weight=0.3, gan_weight=0.5,
                      **last_layer)
    (loss, (metrics, state, x_r)), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
        p, jnp.int32(3), {"image": x}, KEY)
    expected, weight, (nll, adversarial, commitment), wanted_x_r = reference(p, x, adaptive)
    chex.assert_trees_all_close(grads, expected, rtol=2e-5, atol=1e-6)
    assert float(metrics["gan_weight"]) == pytest.approx(weight, rel=1e-5)
    assert float(loss) == pytest.approx(float(nll + weight * adversarial + commitment), rel=1e-5)
    assert float(metrics["adversarial"]) == pytest.approx(float(adversarial), rel=1e-5)
    np.testing.assert_allclose(x_r, wanted_x_r, rtol=1e-5)
    assert state == 4


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


@pytest.mark.parametrize("path", [("decoder", 0, "kernel"), ("decoder", 1, 0, 1), ("decoder", 1)])
def test_the_last_layer_may_stand_in_lists_tuples_and_fields(path):
    """The same network in other containers: the weight is the one of the dict's kernel, or of kernel and bias."""
    p, x = gan.params(), gan.batch()["image"]
    last = Layer(**p["decoder"]["conv_out"])
    tree = {"decoder": [last, ((p["encoder"]["kernel"], last.kernel),)], "encoder": p["encoder"]}
    if path == ("decoder", 1):
        tree["decoder"][1] = tuple(last)

    def as_dict(tree):
        part = tree["decoder"][1] if path == ("decoder", 1) else (
            tree["decoder"][1][0][1] if path[1] else tree["decoder"][0].kernel, last.bias)
        return {"encoder": tree["encoder"], "decoder": {"conv_out": dict(zip(("kernel", "bias"), part))}}

    def forward(variables, x, **options):
        return gan.forward(variables._replace(params=as_dict(variables.params)), x, **options)

    names = ("decoder", "conv_out") if path == ("decoder", 1) else ("decoder", "conv_out", "kernel")
    @jax.jit
    def weights(tree, p, x):
        cases = ((forward, tree, path), (gan.forward, p, names))
        return [vqgan_generator_loss(params, 0, {"image": x}, KEY, **{**FIXED, "forward": f}, last_layer=where)[1][0][
            "gan_weight"] for f, params, where in cases]

    np.testing.assert_allclose(*weights(tree, p, x), rtol=1e-5)
    with pytest.raises(ValueError, match=r"last_layer=\('decoder', 5\) is no path .* below \('decoder',\) is \[0, 1\]"):
        vqgan_generator_loss(tree, 0, {"image": x}, KEY, **FIXED, last_layer=("decoder", 5))


def test_the_generator_runs_once():
    calls = []

    def forward(*args, **kwargs):
        calls.append(1)
        return gan.forward(*args, **kwargs)

    jax.make_jaxpr(jax.grad(partial(vqgan_generator_loss, **{**FIXED, "forward": forward}), has_aux=True))(
        gan.params(), jnp.int32(0), gan.batch(), KEY)
    assert len(calls) == 1


def test_before_its_start_the_adversarial_term_has_no_gradient_and_then_it_rises():
    p, x = gan.params(), gan.batch()["image"]

    @partial(jax.jit, static_argnums=1)
    def run(step, ramp_steps=0):
        loss_fn = partial(vqgan_generator_loss, **{**FIXED, "step": step}, start=10, ramp_steps=ramp_steps)
        return jax.grad(loss_fn, has_aux=True)(p, jnp.int32(0), {"image": x}, KEY)

    before, (metrics, *_) = run(9)
    plain = jax.jit(jax.grad(lambda p: jnp.mean(l1(x, gan.generate(p, x))) + gan.commitment(p, x)))(p)
    chex.assert_trees_all_close(before, plain, rtol=1e-5, atol=1e-7)
    assert metrics["gan_weight"] == 0
    full, quarter = run(10)[1][0]["gan_weight"], run(10, ramp_steps=3)[1][0]["gan_weight"]
    assert full > 0 and float(quarter / full) == pytest.approx(1 / 4)


def test_four_devices_take_the_weight_and_the_gradients_of_one():
    p, batch = gan.params(), gan.batch()
    loss_fn = partial(vqgan_generator_loss, **FIXED, reconstruction=l2)

    def local(images):
        grads, (metrics, *_) = jax.grad(partial(loss_fn, axis_name="devices"), has_aux=True)(
            p, jnp.int32(0), {"image": images}, KEY)
        return jax.lax.pmean(grads, "devices"), metrics["gan_weight"]

    # The second half of the images is fainter, so that each device would weigh for itself differently.
    images = np.asarray(batch["image"]) * np.float32([1] * 4 + [0.1] * 4)[:, None, None, None]
    grads, (metrics, *_) = jax.jit(jax.grad(loss_fn, has_aux=True))(p, jnp.int32(0), {"image": images}, KEY)
    split, weights = jax.pmap(local, axis_name="devices", devices=jax.devices()[:4])(
        images.reshape(4, 2, *gan.SHAPE))
    np.testing.assert_allclose(weights, np.full(4, metrics["gan_weight"]), rtol=1e-5)
    chex.assert_trees_all_close(jax.tree.map(lambda g: np.asarray(g)[0], split), grads, rtol=2e-5, atol=1e-6)


def test_the_discriminator_sees_augmented_images_through_which_the_gradient_flows():
    x, p = gan.batch()["image"], gan.params()
    loss_fn = partial(vqgan_generator_loss, **FIXED, augment=lambda key, images: 3 * images, last_layer=None,
                      reconstruction=lambda x, y: jnp.zeros(x.shape[0]))
    grads, _ = jax.jit(jax.grad(loss_fn, has_aux=True))(p, jnp.int32(0), {"image": x}, KEY)

    def plain(p):
        return -jnp.mean(gan.discriminate(gan.discriminator_params(), 3 * gan.generate(p, x))) + gan.commitment(p, x)

    expected = jax.jit(jax.grad(plain))(p)
    chex.assert_trees_all_close(grads, expected, rtol=1e-5, atol=1e-7)


def linear(p, x):
    return jnp.sum(p["w"] * x, axis=(1, 2, 3))


def test_discriminator_loss_with_r1_and_lecam_is_its_definition():
    rng = np.random.default_rng(5)
    real, fake = (rng.uniform(-1, 1, size=(6, *gan.SHAPE)).astype(np.float32) for _ in range(2))
    w = rng.normal(size=gan.SHAPE).astype(np.float32)
    pair = GanLoss(hinge().generator, vanilla().discriminator)
    loss_fn = partial(vqgan_discriminator_loss, discriminate=linear, gan=pair, r1_weight=0.2, r1_every=4,
                      lecam_weight=0.05, lecam_decay=0.9)
    run = jax.jit(lambda step: loss_fn({"w": w}, lecam_init(), {"image": real}, fake, KEY, step=step))
    loss, (_, state) = run(7)
    d_real, d_fake = (np.sum(w * images, (1, 2, 3), dtype=np.float64) for images in (real, fake))
    plain = np.mean(np.log1p(np.exp(-d_real)) + np.log1p(np.exp(d_fake))) / 2
    ema_real, ema_fake = 0.1 * d_real.mean(), 0.1 * d_fake.mean()
    bound = np.mean(np.maximum(d_real - ema_fake, 0) ** 2 + np.maximum(ema_real - d_fake, 0) ** 2)
    assert float(loss) == pytest.approx(plain + 0.1 * 4 * np.sum(w.astype(np.float64) ** 2) + 0.05 * bound, rel=1e-5)
    np.testing.assert_allclose([state.real, state.fake], [ema_real, ema_fake], rtol=1e-5)
    assert run(8)[1][0]["r1"] == 0


def test_the_gradient_penalty_between_real_and_fake_images_is_the_one_for_the_whole_batch_on_every_device():
    """With D(x) = sum(w x²) / 2 the gradient at u real + (1 - u) fake is w times it; u is drawn for each example."""
    rng = np.random.default_rng(6)
    real, fake = (rng.uniform(-1, 1, size=(4, *gan.SHAPE)).astype(np.float32) for _ in range(2))
    w = rng.normal(size=gan.SHAPE).astype(np.float32)

    def quadratic(p, x):
        return jnp.sum(p["w"] * x ** 2, axis=(1, 2, 3)) / 2

    def measured(real, fake, axis_name=None):
        loss, (metrics, _) = vqgan_discriminator_loss(
            {"w": w}, lecam_init(), {"image": real}, fake, KEY, step=jnp.int32(0), discriminate=quadratic,
            gradient_penalty_weight=10.0, axis_name=axis_name)
        return loss - metrics["discriminator"], metrics["gradient_penalty"]

    added, penalty = jax.jit(measured)(real, fake)
    assert float(added) == pytest.approx(10 * float(penalty), rel=1e-4)
    shares = np.linspace(0, 1, 2001)[:, None]
    slopes = np.stack([np.linalg.norm((w * (shares[..., None, None] * r + (1 - shares[..., None, None]) * f)).reshape(
        2001, -1), axis=1) for r, f in zip(real, fake)])
    bounds = np.stack([((slopes - 1) ** 2).min(1), ((slopes - 1) ** 2).max(1)])
    assert bounds[0].mean() < float(penalty) < bounds[1].mean()
    halves = jax.pmap(partial(measured, axis_name="devices"), axis_name="devices", devices=jax.devices()[:2])(
        real.reshape(2, 2, *gan.SHAPE), fake.reshape(2, 2, *gan.SHAPE))
    assert np.mean(halves[1]) == pytest.approx(float(penalty), rel=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"no path in params: below \('decoder',\) is \['conv_out'\]"):
        vqgan_generator_loss(gan.params(), 0, gan.batch(), KEY, **FIXED, last_layer=("decoder", "conv_in", "kernel"))
    with pytest.raises(ValueError, match="image"):
        vqgan_generator_loss(gan.params(), 0, {"pixels": 0}, KEY, **FIXED)
    with pytest.raises(ValueError, match="image"):
        vqgan_discriminator_loss({}, lecam_init(), {}, jnp.zeros(1), KEY, step=0, discriminate=linear)
