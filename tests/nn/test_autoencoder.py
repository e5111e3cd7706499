import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn import Decoder, Encoder
from jaxgen.nn.blocks import AttentionBlock, Upsample, depth_to_space, space_to_depth
from jaxgen.nn.norm import Norm
from tests.helpers.parameters import filled

KEY = jax.random.key(0)
SMALL = {"channels": 8, "num_res_blocks": 1, "norm_groups": 4}


def shapes(module, x):
    return jax.eval_shape(module.init_with_output, KEY, x)[0]


def initialise(module, x):
    return filled(jax.eval_shape(module.init, KEY, x))


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def apply(module, variables, x):
    return np.asarray(jax.jit(module.apply)(variables, x))


@pytest.mark.parametrize(("size", "channels", "multipliers", "patch_size"), [
    (28, 1, (1, 2, 4), 1), (28, 1, (1, 2), 2), (32, 3, (1,), 4), (48, 5, (2, 1), 1),
])
def test_encoder_and_decoder_are_mirror_images_at_any_size(size, channels, multipliers, patch_size):
    factor = patch_size * 2 ** (len(multipliers) - 1)
    kwargs = {**SMALL, "multipliers": multipliers, "patch_size": patch_size}
    image = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    z = shapes(Encoder(latent_channels=6, **kwargs), image)
    assert z.shape == (2, size // factor, size // factor, 6)
    assert shapes(Decoder(image_channels=channels, **kwargs), z).shape == image.shape


def test_odd_sizes_round_up_when_halved():
    image = jax.ShapeDtypeStruct((1, 13, 7, 1), jnp.float32)
    assert shapes(Encoder(latent_channels=2, multipliers=(1, 1), **SMALL), image).shape == (1, 7, 4, 2)


def test_pointwise_convolutions_next_to_the_latents():
    """VQGAN's: what follows the encoder and precedes the decoder is a matrix product at each position."""
    kwargs = {**SMALL, "num_res_blocks": 0, "multipliers": (1,), "middle_attention": False}
    x = images(1, 4, 4, 1)
    for plain, module in (
        (Encoder(latent_channels=5, **kwargs), Encoder(latent_channels=3, z_channels=5, **kwargs)),
        (Decoder(image_channels=1, **kwargs), Decoder(image_channels=1, z_channels=5, **kwargs)),
    ):
        params = dict(initialise(module, x)["params"])
        name, = set(params) - set(jax.eval_shape(plain.init, KEY, x)["params"])
        product = {**params.pop(name), "bias": np.arange(1, 4 if name == "quant_conv" else 6, dtype=np.float32)}

        @jax.jit
        def run(params, product, name=name, module=module, plain=plain):
            def by_hand(x):
                return jnp.dot(x, product["kernel"][0, 0]) + product["bias"]

            y = module.apply({"params": {**params, name: product}}, x)
            if name == "quant_conv":
                return y, by_hand(plain.apply({"params": params}, x))
            return y, plain.apply({"params": params}, by_hand(x))

        chex.assert_trees_all_close(*run(params, product), atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_bfloat16_computes_in_half_keeps_float32_parameters_and_agrees_with_float32(norm):
    kwargs = {**SMALL, "multipliers": (1, 2), "attention_levels": (1,), "middle_attention": False, "norm": norm}
    x = images(2, 8, 8, 3)
    module = Encoder(latent_channels=4, **kwargs)
    variables = initialise(module, x)
    half = Encoder(latent_channels=4, dtype=jnp.bfloat16, **kwargs)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, jax.eval_shape(half.init, KEY, x))
    z = apply(half, variables, x)
    assert z.dtype == jnp.bfloat16
    reference = apply(module, variables, x)
    assert np.abs(np.float32(z) - reference).max() < 0.05 * np.abs(reference).max()


def test_an_image_is_encoded_the_same_by_itself_and_in_a_batch():
    x = images(3, 8, 8, 1)
    module = Encoder(latent_channels=4, **{**SMALL, "num_res_blocks": 0, "multipliers": (1, 2)})
    batch, alone = jax.jit(lambda v, x: (module.apply(v, x)[1:2], module.apply(v, x[1:2])))(initialise(module, x), x)
    chex.assert_trees_all_close(batch, alone, atol=1e-5)


def test_group_norm_equals_numpy_and_lowers_groups_to_fit():
    x = np.random.default_rng(0).normal(2, 3, (2, 3, 3, 12)).astype(np.float32)
    module = Norm(groups=8)  # the greatest common divisor with 12 channels is 4
    groups = x.reshape(2, 9, 4, 3)
    expected = (groups - groups.mean((1, 3), keepdims=True)) / groups.std((1, 3), keepdims=True)
    result = jax.jit(module.init_with_output)(KEY, x)[0]
    chex.assert_trees_all_close(result, expected.reshape(x.shape), atol=1e-5)


def test_attention_equals_a_numpy_loop():
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 8)).astype(np.float32)
    module = AttentionBlock(heads=2, norm="none")
    variables = initialise(module, x)
    weights = jax.tree.map(np.asarray, variables["params"])
    flat = x.reshape(2, 6, 8)
    query, key, value = (flat @ weights[n]["kernel"] + weights[n]["bias"] for n in ("query", "key", "value"))
    mixed = np.zeros_like(flat)
    for b in range(2):
        for head in (slice(0, 4), slice(4, 8)):
            for i in range(6):
                scores = np.array([query[b, i, head] @ key[b, j, head] / 2 for j in range(6)])
                p = np.exp(scores) / np.exp(scores).sum()
                mixed[b, i, head] = sum(p[j] * value[b, j, head] for j in range(6))
    expected = flat + mixed @ weights["out"]["kernel"] + weights["out"]["bias"]
    chex.assert_trees_all_close(apply(module, variables, x), expected.reshape(x.shape), atol=1e-5)


def test_space_to_depth_and_back_is_the_identity_and_keeps_patches_together():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    folded, back = jax.device_get(jax.jit(lambda x: ((y := space_to_depth(x, 2)), depth_to_space(y, 2)))(x))
    chex.assert_trees_all_equal(folded[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    chex.assert_trees_all_equal(back, x)
    with pytest.raises(ValueError, match=r"patch size 4 must divide .* 4x6"):
        space_to_depth(x, 4)
    with pytest.raises(ValueError, match="got 3"):
        depth_to_space(x, 2)


def test_upsampling_repeats_pixels():
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1
    result = apply(Upsample(1), {"params": {"conv": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}}, x)
    chex.assert_trees_all_equal(result[0, :, :, 0], np.kron(np.arange(6.0).reshape(2, 3), np.ones((2, 2))))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="Did you mean 'group'"):
        Norm("groups").init(KEY, jnp.zeros((1, 2, 2, 4)))
    with pytest.raises(ValueError, match="heads=3 must divide the channel count 8"):
        AttentionBlock(heads=3).init(KEY, jnp.zeros((1, 2, 2, 8)))
