"""Codecs of models: every kind of tokenizer with every kind of probabilities, to files and back bit for bit."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen import codec, models
from jaxgen.codec.file_format import read_chunk
from jaxgen.codec.prior import Autoregressive
from jaxgen.codec.tables_file import NAME, read_digests
from jaxgen.runs.run_codec import FLOAT, KINDS, fit, integer_prior, load_codec, make_codec, write_probabilities
from tests.helpers.codec import images
from tests.helpers.parameters import drawn
from tests.models.test_index_maps import MODELS, NETWORK, SHAPE, VQ, vqvae

RESIDUAL = {"name": "residual", "depth": 2, "quantizer": VQ}
PRIORS = ("masked prior", "autoregressive prior")
TRAINING = images((24, *SHAPE), seed=1)


def prior(kind, quantizer=VQ, shape=(4, 4), **network):
    tokenizer = {"name": "vqvae", "latent_channels": 4, "example_channels": 1, "encoder": NETWORK, "decoder": NETWORK,
                 "quantizer": quantizer}
    return models.build("token_prior", tokenizer=tokenizer, shape=shape, kind=kind,
                        conditions={"name": "classes", "count": 2},
                        network={"features": 16, "depth": 1, "heads": 2, **network})


@functools.cache
def fitted(name):
    """(model, variables, probabilities by name)."""
    model = MODELS[name][0]() if name in MODELS else prior(name.removesuffix(" prior"), RESIDUAL, (4, 4, 2))
    variables = drawn(model, SHAPE)
    return model, variables, fit(model, variables, SHAPE, TRAINING)


@functools.cache
def codecs(name):
    """The codecs of a model by the kind of probabilities; they share what is compiled."""
    model, variables, probabilities = fitted(name)
    compiled = make_codec(model, variables, SHAPE, list(probabilities.values())[-1])
    return {kind: dataclasses.replace(compiled, probabilities=own) for kind, own in probabilities.items()}


def check_round_trips(name, shape, coarse, **options):
    """Files of every kind of probabilities, and a lossless one; `coarse`: of the first level where one will do."""
    x, restored = images(shape, seed=sum(shape)), {}
    assert tuple(codecs(name)) == (KINDS if name in PRIORS else ("static", "context"))
    for own in codecs(name).values():
        first = coarse and own.progressive and not isinstance(own.probabilities, Autoregressive)
        options["levels"] = levels = 1 if first else None
        found = codec.decompress(own, codec.compress(own, x, **options))
        if levels not in restored:
            restored[levels] = codec.reconstruct(own, x, **options)
        np.testing.assert_array_equal(found, restored[levels])
        if shape[3] in (2, 4):
            np.testing.assert_array_equal(found[..., -1], x[..., -1])
    own = codecs(name)["static"]
    np.testing.assert_array_equal(codec.decompress(own, codec.compress(own, x, lossless=True, **options)), x)


# With tiles of 16 pixels a block's sides are 16, or one code's where the image is a row or a column: so few shapes are
# compiled. An image has many tiles, or there are several. What fails is not made smaller, which would take minutes.
SHORT = st.sampled_from([30, 17, 16, 1])
FEW = st.one_of(st.tuples(st.just(1), st.integers(17, 300), SHORT, st.integers(1, 2)),
                st.tuples(st.just(1), SHORT, st.integers(17, 200), st.integers(1, 2)),
                st.tuples(st.integers(2, 3), SHORT, SHORT, st.integers(1, 4)))
ALL = st.tuples(st.integers(1, 3), st.integers(1, 300), st.integers(1, 200), st.integers(1, 4))


@pytest.mark.parametrize("name", [*MODELS, *PRIORS])
@settings(max_examples=1, deadline=None, phases=[Phase.generate])
@given(FEW, st.booleans(), st.sampled_from([3, 0, 8]), st.sampled_from([64, 8]))
def test_every_kind_of_tokens_and_probabilities_comes_back_bit_for_bit(name, shape, coarse, overlap, group):
    assume(shape != (1, 17, 30, 1))  # the simplest one, which every run would begin with
    check_round_trips(name, shape, coarse, tile=16, overlap=overlap, group=group)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, *PRIORS])
@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(ALL, st.booleans(), st.sampled_from([8, 16, 50, 512]), st.sampled_from([0, 3, 4]), st.sampled_from([3, 64]))
def test_every_kind_of_tokens_and_probabilities_comes_back_from_any_file(name, shape, coarse, tile, overlap, group):
    check_round_trips(name, shape, coarse, tile=tile, overlap=overlap, group=group)


@pytest.mark.parametrize("name", ["vq", "masked prior"])
def test_a_file_gives_back_what_the_model_makes_of_the_padded_image(name):
    (model, variables, _), own, x = fitted(name), codecs(name)["static"], images((1, 7, 8, 1), seed=2)
    assert own.channels == 1 and own.planes == len(own.probabilities.num_codes)
    blocks = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)), mode="edge") / np.float32(127.5) - 1
    x_r = jax.jit(lambda v, b: model.from_tokens(v, model.to_tokens(v, b)))(variables, blocks)
    found = codec.decompress(own, codec.compress(own, x))
    assert np.abs((np.asarray(x_r[:, :7]) + 1) * 127.5 - found).max() < 0.51


@pytest.mark.parametrize("name", ["residual", *PRIORS])
def test_files_are_the_same_on_four_devices(name):
    (model, variables, probabilities), x = fitted(name), images((5, 8, 8, 1), seed=8)
    kind, own = list(probabilities.items())[-1]
    made = codecs(name)[kind]
    data, expected = codec.compress(made, x), codec.reconstruct(made, x)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    placed = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    four = make_codec(model, placed, SHAPE, own)
    assert codec.compress(four, x) == data
    np.testing.assert_array_equal(codec.decompress(four, data), expected)


@pytest.mark.parametrize("name, kind", [
    ("residual", "context"), *(pytest.param(name, "prior", marks=pytest.mark.slow) for name in PRIORS)])
def test_files_are_written_and_read_without_jit(name, kind):
    model, variables, probabilities = fitted(name)
    own, made, x = probabilities[kind], codecs(name)[kind], images((1, 8, 8, 1), seed=8)
    data, expected = codec.compress(made, x), codec.reconstruct(made, x)
    with jax.disable_jit():
        plain = make_codec(model, variables, SHAPE, own)
        np.testing.assert_array_equal(codec.decompress(plain, codec.compress(plain, x)), codec.reconstruct(plain, x))
        assert np.abs(codec.decompress(plain, data).astype(int) - expected).max() <= 1  # the networks round otherwise


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_codes_images_of_several_of_its_blocks(name):
    made = codecs(name)["prior"]
    assert made.step == (8, 8) and made.plane_shapes((16, 8)) == [(8, 4)] * 2
    x = images((1, 13, 8, 1), seed=3)
    np.testing.assert_array_equal(codec.decompress(made, codec.compress(made, x)), codec.reconstruct(made, x))


def test_the_first_levels_of_a_residual_tokenizer_are_a_coarser_image():
    made, x = codecs("residual")["context"], images((2, *SHAPE), seed=4)
    data, whole = codec.compress(made, x, levels=1), codec.compress(made, x)
    coarse = codec.reconstruct(made, x, levels=1)
    np.testing.assert_array_equal(codec.decompress(made, data), coarse)
    with pytest.warns(codec.DamageWarning):
        found = codec.decode(made, whole[:-1])
    np.testing.assert_array_equal(found.images, coarse)
    assert found.planes.tolist() == [1, 1] and not np.array_equal(coarse, codec.reconstruct(made, x))


def test_a_masked_prior_makes_up_what_is_lost_and_keeps_what_is_known():
    made = codecs("masked prior")["static"]
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 7, (2, 8, 4)) for _ in range(2)]  # of two of the prior's blocks
    found = made.conceal([planes[0].copy(), np.zeros_like(planes[1])], [True, False])
    np.testing.assert_array_equal(found[0], planes[0])
    assert found[1].shape == (2, 8, 4) and 0 <= found[1].min() < found[1].max() < 7
    assert codecs("autoregressive prior")["static"].conceal is None


def test_conditions_of_a_masked_prior_are_the_shares_of_masks_in_the_order_of_its_groups():
    model, variables, probabilities = fitted("masked prior")
    own = probabilities["prior"]
    count = int(own.groups.max()) + 1
    tokens = np.random.default_rng(1).integers(0, 7, (2, 32))
    level, group = np.arange(32) % 2, np.repeat(own.groups.ravel(), 2)
    logits = jax.jit(model.model.logits)
    for plane, step in ((0, 0), (0, count - 1), (1, 2)):
        known = (level < plane) | ((level == plane) & (group < step))
        masked = np.where(known, tokens, model.model.mask_id)
        expected = logits(variables.params, masked, np.full(2, 1 - known.mean(), np.float32))
        found = own.network.logits(tokens, known, plane * count + step) / 64
        assert np.abs(found - expected).max() < 0.25 * np.std(expected)


def test_probabilities_are_kept_with_the_digests_of_their_codecs(tmp_path):
    model, variables, probabilities = fitted("masked prior")
    assert write_probabilities(tmp_path, probabilities, model, variables) == tmp_path / NAME
    digests = read_digests(tmp_path / NAME)
    for kind in KINDS:
        if kind != FLOAT:
            assert load_codec(model, variables, SHAPE, tmp_path, kind, "").digest == digests[kind]
        assert digests[kind] == codecs("masked prior")[kind].digest
    assert len(set(digests.values())) == 4


@pytest.mark.parametrize("kind, part", [("static", "state"), ("prior", "params")])
def test_probabilities_of_other_weights_are_refused(kind, part, tmp_path):
    model, variables, probabilities = fitted("masked prior")
    write_probabilities(tmp_path, probabilities, model, variables)
    other = variables._replace(**{part: jax.tree.map(lambda leaf: leaf[..., ::-1], getattr(variables, part))})
    with pytest.raises(ValueError, match="of other weights than these: .* fit the probabilities again, as this says"):
        load_codec(model, other, SHAPE, tmp_path, kind, "as this says")


def test_what_was_not_fitted_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="first, as this says"):
        load_codec(*fitted("vq")[:2], SHAPE, tmp_path, "static", "as this says")
    model, variables, probabilities = fitted("vq")
    write_probabilities(tmp_path, probabilities, model, variables)
    with pytest.raises(ValueError, match="static, context, not 'prior': a prior needs a token prior with"):
        load_codec(model, variables, SHAPE, tmp_path, "prior", "")
    with pytest.raises(ValueError, match=r"\(7,\) codes, and this model has \(60,\): fit them"):
        make_codec(*fitted("fsq")[:2], SHAPE, probabilities["static"])


@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_a_prior_without_a_form_in_whole_numbers_codes_in_floating_point_only(kind):
    model = prior(kind, RESIDUAL, (4, 4, 2), positions="rope")
    variables = drawn(model, SHAPE)
    with pytest.warns(UserWarning, match="left out: a network in whole numbers needs learned positions"):
        probabilities = fit(model, variables, SHAPE, TRAINING)
    assert tuple(probabilities) == ("static", "context", FLOAT)


def test_a_float_prior_codes_by_the_probabilities_of_its_network():
    """-log2 p of the tokens by the model's own logits, all at once, which the file has rounded to 1/64."""
    model, variables, _ = fitted("autoregressive prior")
    made, x = codecs("autoregressive prior")[FLOAT], images((16, *SHAPE), seed=7)
    tokens = jax.jit(model.to_tokens)(variables, x / np.float32(127.5) - 1)
    logits = jax.jit(model.model.logits)(variables.params, tokens)
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(tokens)[..., None], -1)
    data = codec.compress(made, x)
    payload = read_chunk(data, codec.read_header(data)[1], tables=True).payload
    assert payload[0] == 0 and abs(len(payload) - 1 + log_p.sum() / np.log(2) / 8) < 2


def test_a_prior_over_codes_that_are_split_into_digits_is_refused():
    tokenizer = vqvae(**{**VQ, "num_codes": 5000})
    model = prior("autoregressive", {**VQ, "num_codes": 5000})
    maps = models.index_maps.index_maps(tokenizer, None, SHAPE)
    planes = [np.zeros((2, 4, 4), int)] * 2
    with pytest.raises(ValueError, match=r"5000 codes has no tables of index maps with \(71, 71\)"):
        integer_prior(model, None, maps, planes)
