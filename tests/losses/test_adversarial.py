"""GAN losses, penalties, balance and augmentation against pinned values, NumPy and their own definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen import losses

REAL, FAKE = np.float32([0.3]), np.float32([-0.2])
SOFTPLUS = lambda v: np.log1p(np.exp(v))  # noqa: E731


@pytest.mark.parametrize(("name", "discriminator", "generator"), [
    ("hinge", 0.75, 0.2), ("vanilla", 0.576247, -SOFTPLUS(-0.2)),
    ("non_saturating", SOFTPLUS(-0.3) + SOFTPLUS(-0.2), SOFTPLUS(0.2)),
    ("least_squares", (0.49 + 0.04) / 2, 1.44 / 2), ("wasserstein", -0.5, 0.2),
    ("vqgan_vanilla", 0.576247, 0.2),
])
def test_losses_have_their_values_and_the_right_signs(name, discriminator, generator):
    loss = losses.GAN_LOSSES[name]()

    @jax.jit
    def run(real, fake):
        slopes = jax.grad(lambda r, f: loss.discriminator(r, f)[0], (0, 1))(real, -fake)
        return loss.discriminator(real, fake), jax.value_and_grad(lambda f: loss.generator(f)[0])(fake), slopes

    value, (of_generator, slope), (real, fake) = jax.device_get(run(REAL, FAKE))
    assert value[0] == pytest.approx(discriminator, abs=2e-6)
    assert of_generator == pytest.approx(generator, abs=1e-6)
    # Real logits are pushed up and fake ones down by the discriminator, fake ones up by the generator.
    assert real[0] < 0 < fake[0] and slope[0] < 0


def test_patches_are_averaged_per_example_in_float32():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5, 1)).astype(jnp.bfloat16)
    result = jax.jit(losses.hinge().discriminator)(logits, -logits)
    wide = np.asarray(logits, np.float64)
    expected = np.maximum(0, 1 - wide).mean((1, 2, 3))  # both halves are the same here
    assert result.shape == (3,) and result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5)


IMAGES = np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32)
KEY = jax.random.key(0)


def shares(key):
    """The share of the real image in each of four mixtures, by the rule that its key is of its place."""
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(jnp.arange(4))


def quadratic(x):
    """D(x) = 1/2 sum x², as two patches: its gradient is x."""
    half = jnp.sum(x**2, axis=(1, 2, 3)) / 2
    return jnp.stack([half - 1, half + 1], axis=1)


def test_r1_is_the_squared_norm_of_the_input_gradient_and_has_a_gradient_itself():
    def penalty(w):
        values = losses.r1(lambda x: w * quadratic(x), IMAGES)
        return jnp.sum(values), values

    values, slope = jax.device_get(jax.jit(lambda: (penalty(1.0)[1], jax.grad(penalty, has_aux=True)(3.0)[0]))())
    np.testing.assert_allclose(values, np.sum(IMAGES**2, axis=(1, 2, 3)), rtol=1e-5)
    assert slope == pytest.approx(2 * 3 * np.sum(IMAGES**2), rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 2, 3, 2, 2), (4, 7, 3), (4, 5)])  # volumes, signals, vectors
def test_penalties_of_data_of_any_rank_are_those_of_each_examples_own_entries(shape):
    """With D(x) = a |x|² / 2 the slope at x is a x; at u x + (1 - u) (-x) it is a (2 u - 1) x."""
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    squares = np.sum(np.float64(x).reshape(4, -1) ** 2, axis=1)

    def discriminator(x):
        return 3 * jnp.sum(x.reshape(len(x), -1) ** 2, axis=1) / 2

    r1, found, share = jax.device_get(jax.jit(lambda key, x: (
        losses.r1(discriminator, x), losses.gradient_penalty(key, discriminator, x, -x), shares(key)))(KEY, x))
    np.testing.assert_allclose(r1, 9 * squares, rtol=1e-5)
    np.testing.assert_allclose(found, (3 * np.abs(2 * share - 1) * np.sqrt(squares) - 1) ** 2, rtol=1e-3)


def test_penalties_of_shared_data_are_those_of_each_devices_own_discriminator():
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    run = jax.jit(jax.shard_map(lambda w, x: losses.r1(lambda x: w * quadratic(x), x)[None], mesh=mesh,
                                in_specs=(P("d"), P()), out_specs=P("d")))
    squares = np.sum(IMAGES**2, axis=(1, 2, 3))
    np.testing.assert_allclose(run(np.float32([2, 3]), IMAGES), [4 * squares, 9 * squares], rtol=1e-5)


def test_nan_is_seen_in_the_gradient_penalty():
    images = IMAGES.copy()
    images[2, 0, 0, 0] = np.nan
    found = jax.jit(losses.gradient_penalty, static_argnums=1)(KEY, quadratic, images, -IMAGES)
    assert np.isnan(found).tolist() == [False, False, True, False]


def test_a_lazy_penalty_counts_every_times_and_is_not_computed_between():
    calls = []

    def penalty():
        jax.debug.callback(lambda: calls.append(1))
        return losses.r1(quadratic, IMAGES)

    lazy = jax.jit(lambda step: losses.lazy(step, 4, penalty))
    values = jax.device_get([lazy(step) for step in range(8)])
    jax.effects_barrier()
    assert len(calls) == 2
    np.testing.assert_allclose(np.mean(values, axis=0), np.sum(IMAGES**2, axis=(1, 2, 3)), rtol=1e-5)


def test_the_gradient_penalty_lies_between_the_images_and_is_finite_at_zero():
    linear = lambda x: x @ jnp.array([3.0, 4.0])  # noqa: E731  its gradient per pixel, over 9 mean logits

    @jax.jit
    def run(key):
        zero = jax.grad(lambda w: jnp.sum(losses.gradient_penalty(key, lambda x: w * linear(x), IMAGES, IMAGES)))(0.0)
        at = losses.gradient_penalty(key, quadratic, np.ones_like(IMAGES), np.zeros_like(IMAGES))
        return losses.gradient_penalty(key, linear, IMAGES, -IMAGES), at, shares(key), zero

    found, at, share, zero = jax.device_get(run(KEY))
    np.testing.assert_allclose(found, np.full(4, (np.sqrt(9 * 25) / 9 - 1) ** 2), rtol=1e-5)
    np.testing.assert_allclose(at, (share * np.sqrt(18) - 1) ** 2, rtol=1e-4)
    assert np.isfinite(zero)


def test_lecam_follows_its_averages_on_one_device_and_on_many():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(1, 1, (5, 8)), rng.normal(-1, 1, (5, 8))
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    state, ema_real, ema_fake = losses.lecam_init(), 0.0, 0.0
    mapped = jax.jit(jax.shard_map(partial(losses.lecam, decay=0.9, axis_name="d"), mesh=mesh,
                                   in_specs=(P(), P("d"), P("d")), out_specs=(P("d"), P())))
    single, divided = jax.jit(partial(losses.lecam, decay=0.9)), state
    for r, f in zip(real, fake):
        penalty, state = single(state, np.float32(r), np.float32(f))
        parts, divided = mapped(divided, np.float32(r), np.float32(f))
        ema_real, ema_fake = 0.9 * ema_real + 0.1 * r.mean(), 0.9 * ema_fake + 0.1 * f.mean()
        expected = np.maximum(0, r - ema_fake) ** 2 + np.maximum(0, ema_real - f) ** 2
        np.testing.assert_allclose(penalty, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-6)


def test_lecams_averages_leave_out_what_is_not_finite_and_keep_their_types():
    real, fake, nothing = np.float32([[1, np.nan, 3], [np.inf, -1, -5], [np.nan] * 3])
    run = jax.jit(lambda state, *logits: losses.lecam(state, *logits, decay=np.float64(0.5)))
    penalty, state = jax.device_get(run(losses.lecam_init(), real, fake))
    np.testing.assert_allclose(state, [0.5 * 2, 0.5 * -3], rtol=1e-6)
    np.testing.assert_allclose(penalty[2], (3 + 1.5) ** 2 + (1 + 5) ** 2, rtol=1e-6)
    assert not np.isfinite(penalty[1]) and np.isfinite(penalty[2])
    np.testing.assert_array_equal(run(state, nothing, nothing)[1], state)
    with jax.enable_x64(True):
        step = lambda state, logits: losses.lecam(state, logits, -logits)[::-1]  # noqa: E731
        state, _ = jax.eval_shape(lambda s, x: jax.lax.scan(step, s, x), state, np.ones((2, 3), np.float64))
    assert [leaf.dtype for leaf in state] == [jnp.float32] * 2


def test_the_adaptive_weight_has_its_pinned_values_bounds_and_no_gradient():
    zeros, weight = np.zeros(3, np.float32), losses.adaptive_weight

    @jax.jit
    def run():
        trees = weight({"a": np.float32([0.03]), "b": np.float32([0.04])}, zeros)
        values = weight(np.float32([0.03, 0.04]), np.float32([0.01])), trees, weight(zeros + 10, zeros)
        return values, jax.grad(lambda g: weight(g, g))(zeros + 1)

    values, slope = run()
    assert values == pytest.approx((4.950495, 500, 1e4)) and float(values[2]) == 1e4
    assert slope.tolist() == [0, 0, 0]


def test_the_adaptive_weight_of_many_devices_is_that_of_the_whole_batch():
    nll, gan = np.random.default_rng(1).normal(size=(2, 4, 6)).astype(np.float32)
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    mapped = jax.shard_map(partial(losses.adaptive_weight, axis_name="d"), mesh=mesh, in_specs=(P("d"), P("d")),
                           out_specs=P())
    expected = np.linalg.norm(nll.mean(0)) / (np.linalg.norm(gan.mean(0)) + 1e-4)
    assert jax.jit(mapped)(nll, gan) == pytest.approx(expected, rel=1e-5)
    mean_of_norms = np.mean(np.linalg.norm(nll, axis=1) / (np.linalg.norm(gan, axis=1) + 1e-4))
    assert abs(mean_of_norms - expected) > 0.01


def test_a_ramp_is_zero_before_its_start_and_one_after_its_length():
    assert [float(losses.ramp(step, 3)) for step in range(6)] == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose([losses.ramp(step, 3, 4) for step in range(9)], [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1],
                               rtol=1e-6)


def test_augmentations_are_what_they_say_and_let_gradients_through():
    images = np.random.default_rng(2).uniform(-1, 1, (64, 16, 16, 3)).astype(np.float32)

    @jax.jit
    def run(key, images):
        each = [losses.diffaugment(key, images, policy=(name,)) for name in ("translation", "cutout", "color")]
        return *each, jax.grad(lambda x: jnp.sum(losses.diffaugment(key, x) ** 2))(images)

    moved, cut, colour, slope = jax.device_get(run(jax.random.key(3), images))
    shifts = set()
    for x, y in zip(images, moved):
        fits = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                expected = np.zeros_like(x)
                expected[max(dy, 0) : 16 + min(dy, 0), max(dx, 0) : 16 + min(dx, 0)] = (
                    x[max(-dy, 0) : 16 - max(dy, 0), max(-dx, 0) : 16 - max(dx, 0)])
                fits += [(dy, dx)] * bool(np.array_equal(expected, y))
        assert len(fits) == 1
        shifts |= set(fits)
    assert {s for s, _ in shifts} == {s for _, s in shifts} == {-2, -1, 0, 1, 2}
    missing = (cut == 0).all(-1).sum((1, 2))
    assert missing.max() == 64 and missing.min() < 64 and ((cut == 0) | (cut == images)).all()
    change = colour.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert np.abs(change).max() <= 0.5 and np.std(change) == pytest.approx(np.sqrt(1 / 12), rel=0.3)
    assert np.isfinite(slope).all() and np.mean(slope != 0) > 0.5
    for policy in (("cutuot",), "color,cutuot"):
        with pytest.raises(ValueError, match="'cutuot'.* Did you mean 'cutout'"):
            losses.diffaugment(KEY, images, policy=policy)


def test_the_policy_may_be_a_string_with_commas_as_in_the_paper():
    images = np.random.default_rng(2).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)

    @jax.jit
    def run(key, images):
        def augment(**options):
            return losses.diffaugment(key, images, **options)

        return ((augment(policy="color, translation,cutout"), augment()),
                (augment(policy="cutout"), augment(policy=("cutout",))), (augment(policy=""), images))

    for one, other in jax.device_get(run(KEY, images)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(4, 64, 1), (4, 8, 8), (2, 4, 8, 8, 3)])
def test_only_images_are_augmented(shape):
    with pytest.raises(ValueError, match=rf"images must be \[B, H, W, C\], got shape \({', '.join(map(str, shape))}\)"):
        losses.diffaugment(KEY, np.zeros(shape, np.float32))


def test_draws_follow_the_place_in_the_global_batch():
    ids = np.array([3, 1])
    part = IMAGES[ids]

    @jax.jit
    def run(key):
        augmented = losses.diffaugment(key, part, sample_ids=ids), losses.diffaugment(key, IMAGES)[ids]
        return augmented, (losses.gradient_penalty(key, quadratic, part, -part, sample_ids=ids),
                           losses.gradient_penalty(key, quadratic, IMAGES, -IMAGES)[ids])

    augmented, penalties = run(jax.random.key(6))
    np.testing.assert_allclose(*augmented)
    np.testing.assert_allclose(*penalties, rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(2,\); got \(4,\)"):
        losses.diffaugment(KEY, part, sample_ids=np.arange(4))


def test_penalties_of_bfloat16_images_are_sums_in_float32():
    wide = np.full((1, 64, 64, 3), 0.5, np.float32)
    narrow = wide.astype(jnp.bfloat16)
    exact, rounded = jax.jit(lambda *images: [losses.r1(quadratic, x) for x in images])(wide, narrow)
    np.testing.assert_allclose(rounded, exact, rtol=2e-2)
    assert rounded.dtype == jnp.float32
    penalty = jax.eval_shape(lambda x: losses.gradient_penalty(KEY, quadratic, x, -x), narrow)
    assert penalty.dtype == jnp.float32
