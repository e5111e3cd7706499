"""Every loss, penalty and metric keeps one contract: one table of cases, one test for each promise.

A case is `function(w, arrays, axis_name) -> [B]`, in which w stands for the parameters of a network and the arrays'
names are those of the arguments.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen import losses, metrics
from tests.losses.test_perceptual import draw_params

B = 4
KEY = jax.random.key(0)
W = np.float32(0.7)
INTEGERS = ("labels", "sample_ids")
DEVICES = 2


class Case(NamedTuple):
    function: Callable
    shapes: dict[str, tuple[int, ...]]  # of an example, by the argument's name
    alike: bool = True  # the arrays must have one shape; else as many examples only
    mixes: bool = False  # an example's loss depends on the batch, as its docstring says
    narrow: float = 0.03  # relative distance that bfloat16 may have


def times(w, x):
    """w x in the type of x; whole numbers as they are, so that the loss sees them."""
    return (w * x).astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def pair(loss, first="x", second="x_r"):
    return lambda w, a, axis: loss(a[first], times(w, a[second]))


def discriminate(w, x):
    """Two patches; the slope differs in each entry."""
    flat = x.reshape(x.shape[0], -1)
    weights = jnp.linspace(-1, 2, flat.shape[1], dtype=jnp.float32).astype(x.dtype)[None]
    return jnp.stack([jnp.tanh(w * jnp.sum(flat * weights, axis=1)), w * jnp.sum(flat**2, axis=1)], axis=1)


def with_sum(function):
    """[B] the mean square of what a function gives."""

    def loss(w, a, axis):
        squares = jnp.square(function(w, a).astype(jnp.float32))
        return jnp.mean(squares.reshape(squares.shape[0], -1), axis=1)

    return loss


def adversarial(name):
    pair = getattr(losses, name)()
    return {
        f"{name}.generator": Case(lambda w, a, axis: pair.generator(times(w, a["fake_logits"])),
                                  {"fake_logits": (3, 1)}),
        f"{name}.discriminator": Case(
            lambda w, a, axis: pair.discriminator(a["real_logits"], times(w, a["fake_logits"])),
            {"real_logits": (3, 1), "fake_logits": (3, 1)}, alike=False),
    }


IMAGES = {"x": (5, 4, 2), "x_r": (5, 4, 2)}
SIGNALS = {"real": (5, 2), "fake": (5, 2)}
LPIPS = draw_params("vgg")
CASES = {
    "l1": Case(pair(losses.l1), IMAGES),
    "l2": Case(pair(losses.l2), {"x": (6,), "x_r": (6,)}),
    "huber": Case(pair(partial(losses.huber, delta=0.3)), IMAGES),
    "logit_laplace": Case(pair(losses.logit_laplace, second="prediction"), {"x": (5, 2), "prediction": (5, 4)}),
    "logit_laplace_mean": Case(with_sum(lambda w, a: losses.logit_laplace_mean(times(w, a["prediction"]))),
                               {"prediction": (5, 4)}),
    "gaussian_kl": Case(lambda w, a, axis: losses.gaussian_kl(losses.Gaussian(a["mean"], times(w, a["logvar"]))),
                        {"mean": (3, 2), "logvar": (3, 2)}),
    "cross_entropy": Case(
        lambda w, a, axis: losses.cross_entropy(times(w, a["logits"]), a["labels"], label_smoothing=0.1),
        {"logits": (5,), "labels": ()}, alike=False),
    **{name: case for loss in ("hinge", "vanilla", "non_saturating", "least_squares", "wasserstein")
       for name, case in adversarial(loss).items()},
    "lecam": Case(lambda w, a, axis: losses.lecam(losses.lecam_init(), a["real_logits"], times(w, a["fake_logits"]),
                                                  decay=0.5, axis_name=axis)[0],
                  {"real_logits": (3, 1), "fake_logits": (3, 1)}, alike=False, mixes=True),
    "r1": Case(lambda w, a, axis: losses.r1(partial(discriminate, w), a["real"]), {"real": (3, 2, 2, 2)}, narrow=0.1),
    "lazy r1": Case(
        lambda w, a, axis: losses.lazy(jnp.int32(8), 4, lambda: losses.r1(partial(discriminate, w), a["real"])),
        {"real": (6,)}, narrow=0.1),
    "gradient_penalty": Case(
        lambda w, a, axis: losses.gradient_penalty(KEY, partial(discriminate, w), a["real"], a["fake"], target=0.0,
                                                   sample_ids=a["sample_ids"]),
        SIGNALS | {"sample_ids": ()}, narrow=np.inf),  # the share is drawn in the data's dtype: other draws
    "feature_distance": Case(
        lambda w, a, axis: losses.feature_distance(lambda x: [jnp.tanh(times(w, x)), x[:, :2] ** 2], a["x"], a["y"]),
        {"x": (4, 3), "y": (4, 3)}),
    "lpips": Case(pair(partial(losses.lpips, LPIPS), second="y"), {"x": (16, 16, 3), "y": (16, 16, 3)}),
    "diffaugment": Case(
        with_sum(lambda w, a: losses.diffaugment(KEY, times(w, a["images"]), policy="color,translation,cutout",
                                                 sample_ids=a["sample_ids"])),
        {"images": (8, 8, 3), "sample_ids": ()}, narrow=np.inf),  # draws colours in the images' dtype
    "pgd": Case(
        with_sum(lambda w, a: times(w, losses.pgd(
            KEY, lambda x: jnp.mean(discriminate(w, x), axis=1), a["x"], epsilon=0.2, steps=2,
            sample_ids=a["sample_ids"]))),
        {"x": (3, 2), "sample_ids": ()}, narrow=np.inf),  # draws its start in the dtype of x
    "mse": Case(pair(metrics.mse, second="y"), {"x": (3, 5, 4, 2), "y": (3, 5, 4, 2)}),
    "psnr": Case(pair(metrics.psnr, second="y"), {"x": (5, 4, 2), "y": (5, 4, 2)}),
    "ssim": Case(pair(partial(metrics.ssim, window=3), second="y"), {"x": (5, 4, 2), "y": (5, 4, 2)}),
}
every_case = pytest.mark.parametrize("name", CASES)
# LPIPS's thirteen convolutions take seconds to compile: here `feature_distance` runs, LPIPS in test_perceptual.py.
every_compiled_case = pytest.mark.parametrize("name", [name for name in CASES if name != "lpips"])


def draw(name, dtype=np.float32):
    rng, arrays = np.random.default_rng(1), {}
    for argument, shape in CASES[name].shapes.items():
        if argument in INTEGERS:
            arrays[argument] = np.arange(B, dtype=np.int32)
        else:
            arrays[argument] = rng.uniform(-0.9, 0.9, (B, *shape)).astype(dtype)
    return arrays


def split(arrays):
    floats = {name: x for name, x in arrays.items() if name not in INTEGERS}
    return floats, {name: arrays[name] for name in arrays if name in INTEGERS}


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def mean_loss(name, w, floats, integers, axis_name=None):
    values = CASES[name].function(w, floats | integers, axis_name)
    mean = jnp.mean(values)
    return mean if axis_name is None else jax.lax.pmean(mean, axis_name), values


def measure(name, w, arrays, axis_name=None):
    """(the loss of each example, the gradients of the mean in w and in the arrays)."""
    (_, values), gradients = jax.value_and_grad(partial(mean_loss, name), (0, 1), has_aux=True)(
        w, *split(arrays), axis_name)
    return values, gradients


@cache
def compiled(name):
    """`measure`, compiled, to NumPy arrays: a slice of a jax array is a program of its own."""
    run = jax.jit(partial(measure, name))
    return lambda w, arrays: jax.device_get(run(w, arrays))


@cache
def expected(name):
    return compiled(name)(W, draw(name))


def assert_same(found, wanted, rtol=1e-4, atol=1e-6):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), found, wanted)


@every_compiled_case
def test_each_example_has_one_float32_number_and_a_finite_gradient(name):
    values, gradients = expected(name)
    assert values.shape == (B,) and values.dtype == jnp.float32
    assert shapes(gradients) == shapes((W, split(draw(name))[0]))
    for leaf in jax.tree.leaves((values, gradients)):
        assert np.all(np.isfinite(leaf))
    assert np.any(gradients[0] != 0)


@every_compiled_case
def test_only_an_example_itself_decides_its_loss_and_nan_stays_its_own(name):
    values, (_, gradients) = expected(name)
    others = np.arange(B) != 1
    for argument in gradients:
        for change, at in ((lambda x: -x[::-1] * 0.5, slice(None)), (lambda x: x * np.nan, 0)):
            arrays = draw(name)
            arrays[argument][1].flat[at] = change(arrays[argument][1].ravel())[at]
            found, (_, slopes) = compiled(name)(W, arrays)
            if at == 0:
                assert np.isnan(found[1]) or (name == "diffaugment" and np.isnan(arrays[argument][1]).any())
            if CASES[name].mixes:
                assert np.all(np.isfinite(found[others]))
                continue
            np.testing.assert_array_equal(found[others], values[others])
            for slope, before in zip(slopes.values(), gradients.values()):
                np.testing.assert_array_equal(slope[others], before[others])


@every_compiled_case
def test_a_scan_of_a_vmap_under_shard_map_gives_the_values_and_gradients_of_one_device(name):
    arrays = jax.tree.map(lambda x: np.stack([x, x]), draw(name))

    def train(w, arrays):
        def step(w, _):
            values, gradients = jax.vmap(partial(measure, name, axis_name="d"), (None, 0))(w, arrays)
            return w + 0 * gradients[0][0].astype(w.dtype), (values, gradients)

        return jax.lax.scan(step, w, None, length=2)[1]

    mesh, split_up = Mesh(np.array(jax.devices()[:DEVICES]), ("d",)), P(None, None, "d")
    run = jax.jit(jax.shard_map(
        train, mesh=mesh, in_specs=(P(), {argument: P(None, "d") for argument in arrays}),
        out_specs=(split_up, (P(), {argument: split_up for argument in split(arrays)[0]}))))
    assert_same(jax.tree.map(lambda x: x[1, 1], jax.device_get(run(W, arrays))), expected(name))


@every_compiled_case
def test_bfloat16_gives_float32_close_by(name):
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16 if x.dtype == np.float32 else x.dtype), draw(name))
    values, gradients = compiled(name)(W, narrow)
    assert values.dtype == jnp.float32
    for leaf in jax.tree.leaves((values, gradients)):
        assert np.all(np.isfinite(np.float32(leaf)))
    wanted, limit = expected(name)[0], CASES[name].narrow
    assert np.abs(values - wanted).max() <= limit * np.abs(wanted).max() or np.isinf(limit)


@every_case
def test_float64_mode_changes_no_type_and_ranks_are_promoted_nowhere(name):
    """Of B float32 numbers and of gradients as their arguments are, which the other tests see without that mode."""
    arrays = draw(name)
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        found = jax.eval_shape(partial(measure, name), W, arrays)
    assert shapes(found) == shapes((np.zeros(B, np.float32), (W, split(arrays)[0])))


@every_case
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_whole_numbers_are_refused_by_name(name, dtype):
    for argument in split(draw(name))[0]:
        arrays = draw(name)
        arrays[argument] = arrays[argument].astype(dtype)
        with pytest.raises(ValueError, match=rf"^{argument} .*{np.dtype(dtype).name}"):
            jax.eval_shape(lambda arrays: CASES[name].function(W, arrays, None), arrays)


@every_case
def test_shapes_that_do_not_fit_are_refused_and_never_broadcast(name):
    case = CASES[name]
    for argument in case.shapes:
        arrays = draw(name)
        wrong = [arrays[argument][:1]] * (len(case.shapes) > 1)
        if case.alike and len(split(arrays)[0]) > 1 and argument not in INTEGERS:
            wrong += [arrays[argument][..., :1], arrays[argument][:, None]]
        for x in (*wrong, arrays[argument][0].ravel()[0]):
            with pytest.raises(ValueError, match="must"):
                jax.eval_shape(lambda arrays: case.function(W, arrays, None), arrays | {argument: x})
