"""VQ-VAEs of one level and of two: indices, states, gradients, and what their descriptions may not be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import build, build_quantizer
from tests.helpers.parameters import compiled, drawn

KEY = jax.random.key(0)
NETWORK = {"channels": 8, "multipliers": (1, 2), "num_res_blocks": 1, "norm_groups": 4, "middle_attention": False}
VQVAE = {"latent_channels": 4, "example_channels": 1, "encoder": NETWORK, "decoder": NETWORK,
         "quantizer": {"name": "vq", "num_codes": 16, "ema_decay": 0.9}}
VQVAE2 = {"latent_channels": 4, "example_channels": 3, "top_quantizer": {"name": "vq", "num_codes": 8},
          "bottom_quantizer": {"name": "vq", "num_codes": 16},
          "bottom_encoder": {**NETWORK, "latent_channels": 6}, "top_encoder": NETWORK,
          "top_decoder": NETWORK, "decoder": NETWORK}
CASES = [("vqvae", VQVAE, (8, 8, 1)), ("vqvae2", VQVAE2, (16, 16, 3))]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0])
def model(request):
    name, kwargs, image_shape = request.param
    model = compiled(build(name, **kwargs))
    return model, drawn(model, image_shape), jax.random.uniform(KEY, (3, *image_shape), minval=-1)


def to_indices(model):
    return getattr(model, "to_indices" if isinstance(model.num_codes, dict) else "to_tokens")


def from_indices(model):
    return getattr(model, "from_indices" if isinstance(model.num_codes, dict) else "from_tokens")


def test_reconstruction_is_the_decoding_of_the_indices(model):
    model, variables, x = model
    x_r = model.forward(variables, x)[0]
    assert x_r.shape == x.shape and x_r.dtype == jnp.float32
    chex.assert_trees_all_close(from_indices(model)(variables, to_indices(model)(variables, x)), x_r, atol=1e-6)


def test_index_maps_lie_in_range_and_have_the_latents_shape(model):
    model, variables, x = model
    indices = to_indices(model)(variables, x)
    shapes = jax.tree.map(lambda i: i.shape, indices, is_leaf=lambda i: isinstance(i, jax.Array))
    assert shapes in ((3, 4, 4), {"top": (3, 4, 4), "bottom": (3, 8, 8)})
    jax.tree.map(lambda i, n: np.testing.assert_array_less(i, n), indices, model.num_codes)


def test_evaluation_leaves_the_state_as_it_is_and_training_moves_it_only_where_there_is_one(model):
    model, variables, x = model
    chex.assert_trees_all_equal(model.forward(variables, x)[2], variables.state)
    state = model.forward(variables, x, train=True, key=KEY)[2]
    chex.assert_trees_all_equal_shapes_and_dtypes(state, variables.state)


def test_gradients_reach_every_parameter(model):
    model, variables, x = model

    def loss(params):
        x_r, outputs, _ = model.forward(variables._replace(params=params), x, train=True, key=KEY)
        terms = [jnp.mean(v) for v in jax.tree.leaves(outputs) if v.dtype == jnp.float32]
        return jnp.mean((x - x_r) ** 2) + sum(terms)

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables.params)):
        if "codebook" in jax.tree_util.keystr(path) and model.num_codes == 16:
            continue  # an EMA codebook learns by its statistics, not by gradients
        assert np.any(np.asarray(gradient) != 0), jax.tree_util.keystr(path)


def test_vqvae_takes_part_in_jit_and_vmap(model):
    model, variables, x = model
    stacked = jax.jit(jax.vmap(model.forward, in_axes=(None, 0)))(variables, jnp.stack([x, -x]))[0]
    chex.assert_trees_all_close(stacked[1], model.forward(variables, -x)[0], atol=1e-4)


def test_latents_reach_the_quantizer_in_float32_under_bfloat16():
    model = build("vqvae", **VQVAE, dtype="bfloat16")
    latents = jax.eval_shape(lambda: model.encode(model.init(KEY, (8, 8, 1)), jnp.zeros((1, 8, 8, 1))))
    assert latents.dtype == jnp.float32


def test_combinators_are_built_from_nested_descriptions():
    quantizer = build_quantizer("residual", depth=2, quantizer={"name": "projected", "dim": 3, "quantizer": {
        "name": "fsq", "levels": [4, 4, 4]}})
    variables = quantizer.init(KEY, 8)
    output, _ = quantizer.apply(variables, jnp.ones((2, 8)))
    assert output.indices.shape == (2, 2) and quantizer.num_codes == 64
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


def test_pictures_that_the_network_cannot_give_back_are_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"\(9, 9, 1\) comes back from the decoder as \(10, 10, 1\).*divides"):
        jax.eval_shape(lambda: build("vqvae", **VQVAE).init(KEY, (9, 9, 1)))


def test_a_missing_argument_is_named():
    with pytest.raises(ValueError, match="quantizer 'vq' needs 'num_codes'"):
        build_quantizer("vq")


def test_a_networks_own_dtype_stands_above_the_models():
    model, plain = (compiled(build("vqvae", **{**VQVAE, "decoder": {**NETWORK, **dtype}}))
                    for dtype in ({"dtype": "bfloat16"}, {}))
    variables = drawn(model, (8, 8, 1))
    x = jnp.ones((1, 8, 8, 1))
    assert np.any(model.forward(variables, x)[0] != plain.forward(variables, x)[0])
