import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.losses import r1
from jaxgen.models import build_discriminator
from jaxgen.nn import PatchDiscriminator
from jaxgen.nn.discriminator import BatchStatisticsNorm, blur_pool, minibatch_std
from tests.helpers.parameters import filled

KEY = jax.random.key(0)
STYLE = {"channels": 4, "multipliers": (1, 2, 2), "group_size": 2}
NAMES = [("patch", {"channels": 4, "layers": 1, "norm_groups": 2}),
         ("patch", {"channels": 4, "layers": 2, "norm": "batch"}),
         ("style", STYLE), ("style", {**STYLE, "equalized": False, "group_size": 0})]


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def initialise(module, x):
    return filled(jax.eval_shape(module.init, KEY, x))


def across(devices, f):
    """f on batches split over so many devices, as a function of the whole batch."""
    mesh = Mesh(np.array(jax.devices()[:devices]), "data")
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=P("data"), out_specs=P("data")))


@pytest.mark.parametrize(("size", "layers", "patches"), [(256, 3, 30), (70, 3, 6), (24, 3, 1), (33, 2, 6), (6, 1, 1)])
def test_one_logit_per_patch(size, layers, patches):
    module = PatchDiscriminator(channels=4, layers=layers)
    x = jax.ShapeDtypeStruct((2, size, size + 8, 3), jnp.float32)
    logits = jax.eval_shape(lambda key, x: module.apply(module.init(key, x), x), KEY, x)
    assert logits.shape == (2, patches, (size + 8) // 2**layers - 2, 1)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_its_patch_and_no_more(layers, field):
    module = PatchDiscriminator(channels=2, layers=layers, norm="none")
    x = images(1, field + 20, field + 20, 1)
    variables = initialise(module, x)
    # Logit (3, 3) is the first whose patch, from pixel 1 on, lies inside the image.
    gradient = np.asarray(jax.jit(jax.grad(lambda x: module.apply(variables, x)[0, 3, 3, 0]))(x))
    for axis in (0, 1):
        seen = np.flatnonzero(np.any(gradient[0, ..., 0] != 0, axis=axis))
        np.testing.assert_array_equal(seen, np.arange(1, field + 1))


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_only_the_batchs_statistics_join_examples(norm):
    module = PatchDiscriminator(channels=4, layers=1, norm=norm, norm_groups=2)
    x = images(2, 8, 8, 3)
    variables = initialise(module, x)
    assert set(variables) == {"params"}
    batch, alone = jax.device_get(jax.jit(lambda v, x: (module.apply(v, x), module.apply(v, x[:1])))(variables, x))
    assert (np.abs(batch[:1] - alone).max() > 1e-3) == (norm == "batch")


def test_batch_statistics_are_those_of_numpy_and_of_the_global_batch():
    x = 3 + 2 * images(4, 3, 5, 2)
    variables = {"params": {"scale": np.float32([1, 2]), "bias": np.float32([0.5, -1])}}
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5) * [1, 2] + [0.5, -1]
    np.testing.assert_allclose(jax.jit(BatchStatisticsNorm().apply)(variables, x), expected, atol=1e-5)
    split = across(4, lambda x: BatchStatisticsNorm("data").apply(variables, x))
    np.testing.assert_allclose(split(x), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (1, 2)])
def test_blur_pool_equals_a_loop(height, width):
    x = np.asarray(images(2, height, width, 3), np.float64)
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
    expected = np.zeros((2, -(-height // 2), -(-width // 2), 3))
    for i, j in np.ndindex(expected.shape[1:3]):
        for u, v in np.ndindex(4, 4):
            row, column = 2 * i + u - 1, 2 * j + v - 1
            if 0 <= row < height and 0 <= column < width:
                expected[:, i, j] += taps[u, v] * x[:, row, column]
    np.testing.assert_allclose(jax.jit(blur_pool)(np.float32(x)), expected, atol=1e-6)


def test_blur_pool_takes_the_pixel_grid_out():
    stripes = np.broadcast_to(np.float32([1, -1] * 4)[:, None], (8, 8, 1))
    halves = np.asarray(jax.jit(blur_pool)(np.stack([stripes, np.ones_like(stripes)])))
    np.testing.assert_allclose(halves[0, :, 1:-1], 0, atol=1e-7)
    np.testing.assert_allclose(halves[1, 1:-1, 1:-1], 1, atol=1e-7)


def deviation(x, size):
    """The appended channel by loops over groups, positions and channels."""
    result = np.zeros((*x.shape[:3], 1))
    for start in range(0, len(x), size):
        values = [np.sqrt(np.var(x[start : start + size, i, j, c]) + 1e-8) for i, j, c in np.ndindex(x.shape[1:])]
        result[start : start + size] = np.mean(values)
    return result


SIZES = {2: 2, 4: 4, None: 8, 16: 8, 1: 1}  # of groups, as given and in a batch of 8


@pytest.mark.parametrize("devices", [None, 1, 2, 4, 8])
def test_minibatch_std_equals_loops_on_any_number_of_devices(devices):
    """Of groups that fill devices or lie across them."""
    x = images(8, 2, 3, 2) * np.arange(1, 9, dtype=np.float32)[:, None, None, None]
    axis = None if devices is None else "data"

    def every_size(x):
        return [minibatch_std(x, group_size=group_size, axis_name=axis) for group_size in SIZES]

    found = jax.jit(every_size)(x) if devices is None else across(devices, every_size)(x)
    for (group_size, size), y in zip(SIZES.items(), found, strict=True):
        expected = np.concatenate([x, deviation(np.float64(x), size)], axis=-1)
        np.testing.assert_allclose(y, expected, atol=1e-5, err_msg=f"group_size={group_size}")


def test_gradients_of_groups_across_devices_are_those_of_one_device():
    x = images(4, 2, 2, 1)
    split = across(4, lambda x: minibatch_std(x, axis_name="data"))
    gradients = [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(3 * f(x)))) for f in (split, minibatch_std)]
    several, one = jax.jit(lambda x: [gradient(x) for gradient in gradients])(x)
    chex.assert_trees_all_close(several, one, atol=1e-6)


def test_equal_images_are_found_out_without_nan():
    x = np.ones((4, 2, 2, 3), np.float32)
    result, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(minibatch_std(x)[..., -1])))(x)
    assert float(result) == pytest.approx(16 * 1e-4, rel=1e-3) and np.isfinite(gradient).all()


def test_equalized_kernels_are_scaled_by_their_fan_in():
    equalized = build_discriminator("style", **STYLE)
    plain = equalized.clone(equalized=False)
    x = images(4, 8, 8, 3)
    by_hand = initialise(plain, x)["params"]

    def unscaled(path, leaf):
        return leaf * np.sqrt(np.prod(leaf.shape[:3])) if path[-1].key == "kernel" else leaf

    @jax.jit
    def run(by_hand, x, key):
        params = jax.tree_util.tree_map_with_path(unscaled, by_hand)
        kernels = [m.init(key, x)["params"]["down2_conv2"]["kernel"] for m in (equalized, plain)]
        return (plain.apply({"params": by_hand}, x), equalized.apply({"params": params}, x)), kernels

    logits, kernels = jax.device_get(run(by_hand, x, KEY))
    chex.assert_trees_all_close(*logits, atol=1e-5)
    # Both start alike: of unit variance here, of variance 1 / fan-in there.
    for kernel, deviation in zip(kernels, (1.0, 72**-0.5), strict=True):
        assert kernel.std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(("name", "kwargs"), NAMES)
def test_logits_penalties_and_their_gradients(name, kwargs):
    module = build_discriminator(name, **kwargs, dtype="bfloat16")
    assert module.dtype == jnp.bfloat16
    x = images(4, 8, 8, 3) if name == "style" else images(4, 16, 16, 3)
    variables = initialise(module, x)
    logits = jax.eval_shape(module.apply, variables, x)
    assert logits.dtype == jnp.float32 and logits.shape == ((4,) if name == "style" else (4, *logits.shape[1:3], 1))
    module = module.clone(dtype=None)

    def loss(params):
        return jnp.mean(r1(lambda x: module.apply({"params": params}, x), x))

    value, gradient = jax.device_get(jax.jit(jax.value_and_grad(loss))(variables["params"]))
    assert value > 0
    kernels = [leaf for leaf in jax.tree.leaves(gradient) if leaf.ndim == 4]
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in kernels)


@pytest.mark.parametrize(("name", "kwargs"), [
    ("patch", {"channels": 4, "layers": 1, "norm": "batch"}), ("style", {**STYLE, "group_size": None})])
def test_a_discriminator_on_many_devices_is_that_on_one(name, kwargs):
    x = images(8, 8, 8, 3)
    module = build_discriminator(name, **kwargs)
    variables = initialise(module, x)
    split = across(4, lambda x: module.clone(axis_name="data").apply(variables, x))
    chex.assert_trees_all_close(split(x), jax.jit(module.apply)(variables, x), atol=1e-5)


@pytest.mark.parametrize(("name", "kwargs", "message"), [
    ("pach", {}, "unknown discriminator 'pach'.*Did you mean 'patch'"),
    ("patch", {"layer": 2}, "unknown argument of PatchDiscriminator 'layer'.*Did you mean 'layers'"),
    ("patch", {"norm": "bach"}, "unknown norm 'bach'.*Did you mean 'batch'"),
    ("patch", {"layers": 3}, "images of 16x16 have no patch for layers=3: they need 24x24"),
    ("style", {**STYLE, "group_size": 3}, "group_size=3 must be a positive divisor of the global batch of 4 examples"),
    ("style", {**STYLE, "group_size": -1}, "group_size of StyleDiscriminator must be an integer of at least 0, got -1"),
])
def test_bad_arguments_are_named(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(build_discriminator(name, **kwargs).init, KEY, jnp.zeros((4, 16, 16, 3)))
