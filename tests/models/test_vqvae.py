"""VQ-VAEs of one level and of two: indices, states, gradients, and what their descriptions may not be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.models import build, build_quantizer
from tests.helpers.parameters import drawn, filled

KEY = jax.random.key(0)
NETWORK = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 0, "norm_groups": 2, "middle_attention": False}
VQVAE = {"latent_channels": 4, "example_channels": 1, "encoder": NETWORK, "decoder": NETWORK,
         "quantizer": {"name": "vq", "num_codes": 16, "ema_decay": 0.9}}
VQVAE2 = {"latent_channels": 4, "example_channels": 3, "top_quantizer": {"name": "vq", "num_codes": 8},
          "bottom_quantizer": {"name": "vq", "num_codes": 16},
          "bottom_encoder": {**NETWORK, "latent_channels": 6}, "top_encoder": NETWORK,
          "top_decoder": NETWORK, "decoder": NETWORK}
CASES = [("vqvae", VQVAE, (8, 8, 1)), ("vqvae2", VQVAE2, (16, 16, 3))]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0])
def made(request):
    """(model, variables, images, what the model makes of them in one program)."""
    name, kwargs, image_shape = request.param
    model = build(name, **kwargs)
    x = np.random.default_rng(0).uniform(-1, 1, (3, *image_shape)).astype(np.float32)
    levels = isinstance(model.num_codes, dict)

    def loss(params, variables, x):
        x_r, outputs, state = model.forward(variables._replace(params=params), x, train=True, key=KEY)
        terms = [jnp.mean(v) for v in jax.tree.leaves(outputs) if v.dtype == jnp.float32]
        return jnp.mean((x - x_r) ** 2) + sum(terms), state

    @jax.jit
    def run(variables, x):
        indices = (model.to_indices if levels else model.to_tokens)(variables, x)
        gradients, state = jax.grad(loss, has_aux=True)(variables.params, variables, x)
        return {
            "indices": indices, "decoded": (model.from_indices if levels else model.from_tokens)(variables, indices),
            "forward": model.forward(variables, x), "train state": state, "gradients": gradients,
            "stacked": jax.vmap(model.forward, in_axes=(None, 0))(variables, jnp.stack([-x, x]))[0],
        }

    variables = drawn(model, image_shape)
    return model, variables, x, jax.device_get(run(variables, x))


def test_reconstruction_is_the_decoding_of_the_indices(made):
    _, _, x, found = made
    x_r = found["forward"][0]
    assert x_r.shape == x.shape and x_r.dtype == jnp.float32
    chex.assert_trees_all_close(found["decoded"], x_r, atol=1e-6)


def test_index_maps_lie_in_range_and_have_the_latents_shape(made):
    model, _, _, found = made
    shapes = jax.tree.map(lambda i: i.shape, found["indices"])
    assert shapes in ((3, 4, 4), {"top": (3, 4, 4), "bottom": (3, 8, 8)})
    jax.tree.map(lambda i, n: np.testing.assert_array_less(i, n), found["indices"], model.num_codes)


def test_evaluation_leaves_the_state_as_it_is_and_training_moves_it_only_where_there_is_one(made):
    _, variables, _, found = made
    chex.assert_trees_all_equal(found["forward"][2], variables.state)
    chex.assert_trees_all_equal_shapes_and_dtypes(found["train state"], variables.state)
    for path, before in jax.tree_util.tree_leaves_with_path(variables.state):
        after = dict(jax.tree_util.tree_leaves_with_path(found["train state"]))[path]
        assert np.any(after != before), jax.tree_util.keystr(path)


def test_gradients_reach_every_parameter(made):
    model, _, _, found = made
    for path, gradient in jax.tree_util.tree_leaves_with_path(found["gradients"]):
        if "codebook" in jax.tree_util.keystr(path) and model.num_codes == 16:
            continue  # an EMA codebook learns by its statistics, not by gradients
        assert np.any(gradient != 0), jax.tree_util.keystr(path)


def test_vmap_gives_what_each_batch_gives(made):
    found = made[3]
    chex.assert_trees_all_close(found["stacked"][1], found["forward"][0], atol=1e-4)
    assert np.abs(found["stacked"][0] - found["stacked"][1]).max() > 1e-3


def test_latents_reach_the_quantizer_in_float32_under_bfloat16():
    model = build("vqvae", **VQVAE, dtype="bfloat16")
    latents = jax.eval_shape(lambda: model.encode(model.init(KEY, (8, 8, 1)), jnp.zeros((1, 8, 8, 1))))
    assert latents.dtype == jnp.float32


def test_combinators_are_built_from_nested_descriptions():
    quantizer = build_quantizer("residual", depth=2, quantizer={"name": "projected", "dim": 3, "quantizer": {
        "name": "fsq", "levels": [4, 4, 4]}})
    indices = jax.eval_shape(lambda: quantizer.apply(quantizer.init(KEY, 8), jnp.ones((2, 8)))[0].indices)
    assert indices.shape == (2, 2) and quantizer.num_codes == 64
    with pytest.raises(ValueError, match="quantizer must be a description"):
        build_quantizer("residual", quantizer=[{"name": "vq", "num_codes": 4}, {"name": "vq", "num_codes": 8}])


@pytest.mark.parametrize(("change", "message"), [
    ({"quantizer": {"name": "vqq", "num_codes": 4}}, "unknown quantizer 'vqq'.*Did you mean 'vq'"),
    ({"quantizer": {"name": "vq", "num_code": 4}}, "unknown argument of quantizer 'vq' 'num_code'.*'num_codes'"),
    ({"encoder": {"channel": 8}}, "unknown argument of Encoder 'channel'.*Did you mean 'channels'"),
    ({"latent_channel": 8}, "unknown argument of model 'vqvae' 'latent_channel'.*'latent_channels'"),
])
def test_misspelt_descriptions_are_refused_with_the_nearest_name(change, message):
    with pytest.raises(ValueError, match=message):
        build("vqvae", **{**VQVAE, **change})


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown model 'vqvea'.*Did you mean 'vqvae'"):
        build("vqvea")


def test_images_that_the_network_cannot_give_back_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"\(9, 9, 1\) comes back from the decoder as \(10, 10, 1\).*divides"):
        jax.eval_shape(lambda: build("vqvae", **VQVAE).init(KEY, (9, 9, 1)))


def test_a_missing_argument_is_named():
    with pytest.raises(ValueError, match="quantizer 'vq' needs 'num_codes'"):
        build_quantizer("vq")


def test_a_networks_own_dtype_stands_above_the_models():
    model, plain = (build("vqvae", **{**VQVAE, "decoder": {**NETWORK, **dtype}})
                    for dtype in ({"dtype": "bfloat16"}, {}))
    z = np.random.default_rng(1).normal(size=(1, 4, 4, 4)).astype(np.float32)
    params = filled(jax.eval_shape(model.decoder.init, KEY, z))["params"]
    narrow, wide = jax.device_get(jax.jit(lambda params: [
        m.decode(Variables({"decoder": params}, {}), z) for m in (model, plain)])(params))
    assert np.any(narrow != wide) and narrow.dtype == wide.dtype == np.float32
    assert (model.encoder.dtype, model.decoder.dtype) == (None, jnp.bfloat16)
