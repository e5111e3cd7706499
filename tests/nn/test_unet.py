import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.unet import UNet
from jaxgen.nn.unet_blocks import PixelBlock, TimeResBlock
from tests.helpers.parameters import filled

KEY = jax.random.key(0, impl="rbg")  # which compiles faster than the default
RNG = np.random.default_rng(5)
TIME = np.float32([3.0, 700.0])
TINY = {"channels": (8, 16), "layers": 1, "norm_groups": 4, "down": ("plain", "attention")}
SINGLE = {**TINY, "channels": (8,), "down": ("plain",), "middle": "none"}
CROSSED = {**SINGLE, "down": ("cross_attention",), "up": ("plain",), "heads": 2}


def initialise(model, *args, **kwargs):
    """Parameters without zeros and ones: the initial ones hide most of a network."""
    return filled(jax.eval_shape(lambda key: model.init(key, *args, **kwargs), KEY))


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, *args, **kwargs):
    return model.apply(variables, *args, **kwargs)


def image(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("size", "options"), [
    ((28, 28), {"channels": (4, 4, 4, 4), "down": ("plain", "attention", "resnet", "plain")}),  # 28, 14, 7, 4
    ((7, 7), {"channels": (4, 4, 4), "down": ("attention_resnet", "resnet", "plain"), "scale_shift": True}),  # 7, 4, 2
    ((13, 10), {"channels": (4, 8, 4), "down": ("plain",) * 3, "symmetric_downsample": False, "out_channels": 6}),
    ((5, 9), {"channels": (4, 8), "down": ("cross_attention", "resnet"), "up": ("resnet", "plain"), "heads": (2, 4)}),
    ((12, 20), {"channels": (4, 8), "down": ("plain", "plain"), "patch_size": 4, "middle": "plain"}),
    ((4, 4), {"channels": (4,), "down": ("plain",), "patch_size": 2, "out_channels": 5, "layers": 2}),
])
def test_the_result_has_the_size_of_the_image(size, options):
    model = UNet(**{"norm_groups": 4, "layers": 1, **options})
    context = np.ones((2, 5, 3), np.float32) if "cross_attention" in model.down else None
    x = np.ones((2, *size, 3), np.float32)
    result, _ = jax.eval_shape(lambda key: model.init_with_output(key, x, TIME, context=context), KEY)
    assert result.shape == (2, *size, options.get("out_channels", 3))


def test_odd_sizes_are_halved_to_means_and_doubled_to_repetitions():
    """What the norms and convolutions of the residual blocks resample, seen on the path next to them."""
    x = image(1, 5, 3, 4)
    emb = np.ones((1, 8), np.float32)
    variables = jax.tree.map(np.zeros_like, initialise(TimeResBlock(4, 2), x, emb))
    half = np.array([[x[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((0, 1)) for j in range(2)] for i in range(3)])
    down = apply(TimeResBlock(4, 2, resample="down"), variables, x, emb)
    chex.assert_trees_all_close(down[0], half, atol=1e-6)
    up = apply(TimeResBlock(4, 2, resample="up", size=(9, 6)), variables, x, emb)
    chex.assert_trees_all_equal(up[0], np.array([[x[0, i // 2, j // 2] for j in range(6)] for i in range(9)]))


def test_a_new_network_predicts_zero():
    model = UNet(**{**SINGLE, "down": ("attention",), "layers": 0})
    x = image(2, 4, 4, 3)
    result, kernel = jax.jit(lambda key: (  # the draws of all other kernels need no program
        (made := model.init_with_output(key, x, TIME))[0], made[1]["params"]["conv_in"]["kernel"]))(KEY)
    chex.assert_trees_all_equal(result, np.zeros((2, 4, 4, 3)))
    assert np.abs(kernel).max() > 0


def test_recomputing_gives_the_same_values_and_gradients():
    x, context = image(2, 4, 4, 3), image(2, 5, 6)
    options = {**CROSSED, "layers": 0, "down": ("plain",), "up": ("cross_attention",), "middle": "attention"}
    plain, remat = (UNet(**options, dropout=0.5, remat=remat) for remat in (False, True))
    variables = initialise(plain, x, TIME, context=context)
    shapes = jax.eval_shape(lambda key: remat.init(key, x, TIME, context=context), KEY)
    chex.assert_trees_all_equal_shapes(variables, shapes)

    def loss(model, variables):
        result = model.apply(variables, x, TIME, context=context, train=True, rngs={"dropout": KEY})
        return jnp.mean(result**2)

    wanted, got = jax.device_get(jax.jit(lambda v: [
        jax.value_and_grad(functools.partial(loss, m))(v) for m in (plain, remat)])(variables))
    assert wanted[0] > 0.1
    chex.assert_trees_all_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32_and_keeps_float32_parameters():
    x, context = image(2, 4, 4, 3), image(2, 5, 6)
    options = {**SINGLE, "down": ("cross_attention",), "up": ("attention",), "heads": 2, "scale_shift": True}
    model, half = UNet(**options), UNet(**options, dtype=jnp.bfloat16)
    variables = initialise(model, x, TIME, context=context)
    shapes = jax.eval_shape(lambda key: half.init(key, x, TIME, context=context), KEY)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, shapes)
    wanted, got = (np.asarray(apply(m, variables, x, TIME, context=context)) for m in (model, half))
    assert got.dtype == jnp.bfloat16
    assert np.isfinite(np.float32(got)).all()
    assert 0 < np.abs(np.float32(got) - wanted).max() < 0.1 * np.abs(wanted).max()


def test_no_class_is_the_last_row_of_the_table():
    x = image(2, 4, 4, 3)
    model = UNet(**SINGLE, num_classes=3)
    variables = initialise(model, x, TIME)
    assert variables["params"]["class_embedding"]["embedding"].shape == (4, 32)
    none, last, mixed = jax.device_get([
        apply(model, variables, x, TIME, classes=c) for c in (None, np.array([3, 3]), np.array([3, 1]))
    ])
    chex.assert_trees_all_equal(none, last)
    chex.assert_trees_all_close(mixed[0], none[0], atol=1e-6)
    assert np.abs(mixed[1] - none[1]).max() > 1e-3


def test_features_drop_out_in_training_only():
    x = image(2, 4, 4, 3)
    model = UNet(**SINGLE, dropout=0.5)
    variables = initialise(model, x, TIME)
    wanted, same = jax.device_get([apply(m, variables, x, TIME) for m in (UNet(**SINGLE), model)])
    chex.assert_trees_all_equal(same, wanted)
    training = jax.jit(lambda key: model.apply(variables, x, TIME, train=True, rngs={"dropout": key}))
    first, other = jax.device_get([training(key) for key in (KEY, jax.random.key(1, impl="rbg"))])
    assert np.abs(first - wanted).max() > 0.01
    assert np.abs(first - other).max() > 0.01


def test_masked_positions_of_the_context_do_not_matter():
    x, context = image(2, 4, 4, 3), image(2, 5, 6)
    mask = np.array([[True, True, True, False, False], [True, False, True, True, True]])
    model = UNet(**CROSSED)
    variables = initialise(model, x, TIME, context=context)

    def function(context, mask):
        return np.asarray(apply(model, variables, x, TIME, context=context, context_mask=mask))

    wanted = function(context, mask)
    chex.assert_trees_all_equal(function(np.where(mask[..., None], context, np.float32(9)), mask), wanted)
    seen = function(np.where(np.arange(5)[:, None] == 0, np.float32(9), context), mask)
    assert (np.abs(seen - wanted).max((1, 2, 3)) > 1e-3).all()
    everything = function(context, np.ones_like(mask))
    chex.assert_trees_all_close(everything, apply(model, variables, x, TIME, context=context), atol=1e-5)
    assert (np.abs(everything - wanted).max((1, 2, 3)) > 1e-3).all()


def numpy_norm(x, weights, groups, epsilon):
    """Group normalisation of [H, W, C]."""
    result = np.zeros_like(x)
    share = x.shape[-1] // groups
    for i in range(0, x.shape[-1], share):
        part = x[..., i : i + share]
        result[..., i : i + share] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return result * weights["scale"] + weights["bias"]


def numpy_conv(x, weights):
    """A 3x3 convolution of [H, W, C] with zeros around it."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    result = np.zeros((*x.shape[:2], weights["bias"].size))
    for i, j in np.ndindex(*x.shape[:2]):
        result[i, j] = np.einsum("hwc,hwcd->d", padded[i : i + 3, j : j + 3], weights["kernel"]) + weights["bias"]
    return result


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize(("features", "scale_shift", "resample"), [
    (6, False, None), (6, True, "down"), (4, True, None), (4, False, "up"),
])
def test_the_residual_block_equals_numpy(features, scale_shift, resample):
    x, emb = image(2, 4, 2, 4), image(2, 5)
    block = TimeResBlock(features, 2, 1e-2, scale_shift, resample, output_scale=1.5)
    variables = initialise(block, x, emb)
    weights = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    expected = []
    for one, vector in zip(np.asarray(x, np.float64), np.asarray(emb, np.float64)):
        skip, h = one, swish(numpy_norm(one, weights["norm1"], 2, 1e-2))
        if resample == "down":
            skip, h = (a.reshape(2, 2, 1, 2, 4).mean((1, 3)) for a in (skip, h))
        if resample == "up":
            skip, h = (np.kron(a, np.ones((2, 2, 1))) for a in (skip, h))
        h = numpy_conv(h, weights["conv1"])
        vector = swish(vector) @ weights["time_emb_proj"]["kernel"] + weights["time_emb_proj"]["bias"]
        if scale_shift:
            h = numpy_norm(h, weights["norm2"], 2, 1e-2) * (1 + vector[:features]) + vector[features:]
        else:
            h = numpy_norm(h + vector, weights["norm2"], 2, 1e-2)
        h = numpy_conv(swish(h), weights["conv2"])
        if features != 4:
            skip = skip @ weights["conv_shortcut"]["kernel"][0, 0] + weights["conv_shortcut"]["bias"]
        expected.append((skip + h) / 1.5)
    chex.assert_trees_all_close(apply(block, variables, x, emb), np.array(expected), atol=2e-5)


@pytest.mark.parametrize(("heads", "norm"), [(2, True), (1, False)])
def test_attention_among_pixels_equals_a_numpy_loop(heads, norm):
    x = image(2, 3, 2, 8)
    block = PixelBlock(heads, norm, 4, 1e-2, output_scale=1.5)
    variables = initialise(block, x)
    weights = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    expected = []
    for one in np.asarray(x, np.float64):
        h = numpy_norm(one, weights["group_norm"], 4, 1e-2) if norm else one
        query, key, value = (
            h.reshape(6, 8) @ weights[name]["kernel"] + weights[name]["bias"] for name in ("to_q", "to_k", "to_v")
        )
        mixed = np.zeros((6, 8))
        for head in np.split(np.arange(8), heads):
            for i in range(6):
                p = np.exp([query[i, head] @ key[j, head] / np.sqrt(8 / heads) for j in range(6)])
                mixed[i, head] = sum(p[j] / p.sum() * value[j, head] for j in range(6))
        out = mixed @ weights["to_out_0"]["kernel"] + weights["to_out_0"]["bias"]
        expected.append((one + out.reshape(3, 2, 8)) / 1.5)
    chex.assert_trees_all_close(apply(block, variables, x), np.array(expected), atol=2e-5)


@pytest.mark.parametrize(("options", "arguments", "message"), [
    ({"down": ("plain", "atention")}, {}, "unknown level 'atention'.*Did you mean 'attention'"),
    ({"up": ("plain", "resnets")}, {}, "unknown level 'resnets'.*Did you mean 'resnet'"),
    ({"middle": "atention"}, {}, "unknown middle.*Did you mean 'attention'"),
    ({"time_embedding": "furier"}, {}, "unknown time_embedding.*Did you mean 'fourier'"),
    ({"class_embedding": "tabel"}, {}, "unknown class_embedding.*Did you mean 'table'"),
    ({"down": ("plain",)}, {}, r"channels \(8, 16\), down \('plain',\) and up \('plain',\) must have the same length"),
    ({"up": ("plain",) * 3}, {}, "must have the same length"),
    ({"heads": (2, 2, 2)}, {}, r"heads=\(2, 2, 2\) must be one number, or one per level"),
    ({"head_dim": 32}, {}, "head_dim=32 must divide the 16 channels of a level of attention"),
    ({"down": ("cross_attention", "plain")}, {}, r"needs context \[B, M, E\], got None"),
    ({"middle": "cross_attention"}, {}, r"needs context \[B, M, E\], got None"),
    ({}, {"context": np.ones((2, 3, 4), np.float32)}, "context was given, but no level"),
    ({}, {"classes": np.array([0, 1])}, "classes were given, but this U-Net has num_classes=0"),
    ({"patch_size": 3}, {}, "patch size 3 must divide .* 8x8"),
])
def test_bad_arguments_are_named(options, arguments, message):
    model = UNet(**{**TINY, **options})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: model.init(key, np.ones((2, 8, 8, 3), np.float32), TIME, **arguments), KEY)
