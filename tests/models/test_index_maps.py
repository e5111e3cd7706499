"""The index maps of every kind of tokenizer: shapes, ranges, and the way back to what the model decodes itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import build, index_maps
from jaxgen.models.index_maps import LARGEST, _digits
from tests.helpers.parameters import drawn

SHAPE = (8, 8, 1)
NETWORK = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 0, "middle_attention": False, "norm": "none"}


def vqvae(latent_channels=4, **quantizer):
    return build("vqvae", latent_channels=latent_channels, example_channels=1, encoder=NETWORK, decoder=NETWORK,
                 quantizer=quantizer)


VQ = {"name": "vq", "num_codes": 7}
MODELS = {
    "vq": (lambda: vqvae(**VQ), (7,), False),
    "fsq": (lambda: vqvae(3, name="fsq", levels=[4, 3, 5]), (60,), False),
    "lfq of 14 bits": (lambda: vqvae(14, name="lfq", num_bits=14), (128, 128), False),
    "residual": (lambda: vqvae(name="residual", depth=2, quantizer=VQ), (7, 7), True),
    "grouped": (lambda: vqvae(name="grouped", groups=2, quantizer=VQ), (7, 7), False),
    "two levels": (lambda: build(
        "vqvae2", latent_channels=4, example_channels=1, top_quantizer=VQ, bottom_quantizer={**VQ, "num_codes": 9},
        bottom_encoder=NETWORK, top_encoder=NETWORK, top_decoder=NETWORK, decoder=NETWORK), (7, 9), False),
}
X = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_the_tokens_and_decode_to_what_the_model_makes_of_them(name):
    make, num_codes, progressive = MODELS[name]
    model = make()
    variables = drawn(model, SHAPE)
    own = index_maps.index_maps(model, variables, SHAPE)
    assert own.num_codes == num_codes and own.progressive == progressive

    @jax.jit
    def run(variables):
        maps = own.to_maps(variables, X)
        first = own.from_maps(variables, maps[:1]) if progressive else None
        tokens = (model.to_indices if name == "two levels" else model.to_tokens)(variables, X)
        return maps, own.from_maps(variables, maps), model.forward(variables, X)[0], tokens, first

    maps, back, x_r, tokens, first = jax.device_get(run(variables))
    np.testing.assert_allclose(back, x_r, atol=1e-6)
    for plane, codes in zip(maps, num_codes, strict=True):
        assert plane.shape[0] == 2 and plane.ndim == 3 and 0 <= plane.min() <= plane.max() < codes
        assert len(np.unique(plane)) > 1
    if name == "two levels":
        assert [plane.shape[1:] for plane in maps] == [(2, 2), (4, 4)]
        np.testing.assert_array_equal(maps[0], tokens["top"])
        np.testing.assert_array_equal(maps[1], tokens["bottom"])
    elif name == "lfq of 14 bits":  # the high digit first
        np.testing.assert_array_equal(maps[0].astype(int) * 128 + maps[1], tokens)
    else:
        np.testing.assert_array_equal(np.stack(maps, -1), tokens.reshape(*tokens.shape[:3], -1))
    if progressive:
        coarse = model.decode(variables, model.quantizer.lookup(
            variables._replace(params=variables.params["quantizer"]), tokens[..., :1]))
        np.testing.assert_allclose(first, coarse, atol=1e-6)


@pytest.mark.parametrize("codes", [1, 2, 100, LARGEST, LARGEST + 1, 10_000, 2**14, 2**18, 2**24, 2**24 + 1, 2**31 - 1])
def test_digits_are_as_few_and_as_small_as_they_can_be(codes):
    bases = _digits(codes)
    base, count = bases[0], len(bases)
    assert set(bases) == {base} and base <= LARGEST and base**count >= codes
    assert count == 1 or LARGEST ** (count - 1) < codes > (base - 1) ** count


def test_a_second_stage_has_the_maps_of_its_tokenizer():
    tokenizer = {"name": "vqvae", "latent_channels": 4, "example_channels": 1, "encoder": NETWORK, "decoder": NETWORK,
                 "quantizer": VQ}
    prior = build("token_prior", tokenizer=tokenizer, shape=(4, 4), network={"features": 16, "depth": 1, "heads": 2})
    variables = drawn(prior, SHAPE)
    own, alone = (index_maps.index_maps(model, v, SHAPE) for model, v in (
        (prior, variables), prior.first_stage(variables)))
    assert own.num_codes == alone.num_codes == (7,) and not own.progressive
    found, expected = jax.jit(lambda v: (own.to_maps(v, X), alone.to_maps(prior.first_stage(v)[1], X)))(variables)
    np.testing.assert_array_equal(found[0], expected[0])
    found, expected = jax.jit(lambda v, maps: (own.from_maps(v, maps), prior.from_tokens(v, maps[0].reshape(2, 16))))(
        variables, found)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("model, shape", [
    (build("bytes"), (8,)),
    (build("kl_autoencoder", latent_channels=2, example_channels=1, encoder=NETWORK, decoder=NETWORK), SHAPE),
])
def test_models_without_tokens_of_images_are_refused(model, shape):
    with pytest.raises(ValueError, match=f"a {type(model).__name__} for examples .* has no tokens of images"):
        index_maps.index_maps(model, None, shape)


def test_maps_of_any_size_are_those_of_the_model():
    model = vqvae(**VQ)
    variables = drawn(model, SHAPE)
    own = index_maps.index_maps(model, variables, SHAPE)
    maps = jax.eval_shape(own.to_maps, variables, jnp.zeros((3, 16, 24, 1)))
    assert [plane.shape for plane in maps] == [(3, 8, 12)]
    assert jax.eval_shape(own.from_maps, variables, maps).shape == (3, 16, 24, 1)
