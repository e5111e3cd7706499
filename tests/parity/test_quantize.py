"""Quantizers compared with vector-quantize-pytorch and dm-haiku; where definitions differ on purpose, tests say why."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.quantize import fsq, lfq, residual, simvq, usage, vq

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")
pytestmark = pytest.mark.parity

KEY = jax.random.key(0)
Z = np.random.default_rng(0).normal(size=(2, 60, 4)).astype(np.float32)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def numpy(tensor):
    return tensor.detach().numpy()


def assert_gradients_agree(ours, theirs):
    """The gradient of sum(weights * quantized) in z, `ours(z)` and `theirs(z)` giving the quantized vectors."""
    weights = np.random.default_rng(9).normal(size=Z.shape).astype(np.float32)
    z = torch.tensor(Z, requires_grad=True)
    (theirs(z) * torch.tensor(weights)).sum().backward()
    close(jax.grad(lambda z: jnp.sum(weights * ours(z)))(jnp.asarray(Z)), numpy(z.grad), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_codes_losses_and_estimators_of_vq_agree(cosine, rotated):
    theirs = peer.VectorQuantize(
        dim=4, codebook_size=16, use_cosine_sim=cosine, commitment_weight=0.25, rotation_trick=rotated
    )
    with torch.no_grad():
        codebook = torch.nn.functional.normalize(torch.randn(1, 16, 4, generator=torch.manual_seed(0)), dim=-1)
        theirs._codebook.embed.copy_(codebook)
    theirs.train()
    theirs._codebook.ema_update = False
    ours = vq(16, metric="cosine" if cosine else "euclidean", estimator="rotation" if rotated else "straight_through")
    variables = Variables({"codebook": jnp.asarray(numpy(codebook[0]))}, {})
    output, _ = ours.apply(variables, jnp.asarray(Z))
    quantized, indices, loss = theirs(torch.tensor(Z))
    np.testing.assert_array_equal(output.indices, numpy(indices))
    close(output.quantized, numpy(quantized))
    close(jnp.mean(output.losses["commitment"]), float(loss.detach().sum()))
    assert_gradients_agree(lambda z: ours.apply(variables, z)[0].quantized, lambda z: theirs(z)[0])


def test_ema_of_vq_agrees_for_codes_in_use():
    theirs = peer.VectorQuantize(dim=4, codebook_size=8, decay=0.9, commitment_weight=0.25, rotation_trick=False)
    theirs.train()
    codebook = numpy(theirs._codebook.embed)[0] * 0 + np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    codebook[7] = 50
    with torch.no_grad():
        theirs._codebook.embed.copy_(torch.tensor(codebook[None]))
        theirs._codebook.embed_avg.copy_(torch.tensor(codebook[None]))
    ours = vq(8, ema_decay=0.9)
    state = ours.init(KEY, 4).state | {"codebook": jnp.asarray(codebook), "sums": jnp.asarray(codebook)}
    for shift in (0.0, 0.1, 0.2):
        output, state = ours.apply(Variables({}, state), jnp.asarray(Z + np.float32(shift)), train=True)
        _, indices, loss = theirs(torch.tensor(Z + np.float32(shift)))
        np.testing.assert_array_equal(output.indices, numpy(indices))
        close(jnp.mean(output.losses["commitment"]), float(loss.detach().sum()))
        close(state["counts"], numpy(theirs._codebook.cluster_size)[0])
        close(state["sums"], numpy(theirs._codebook.embed_avg)[0], rtol=2e-5, atol=1e-5)
        close(state["codebook"][:7], numpy(theirs._codebook.embed)[0, :7])
    # A code that no vector hits stays where it is here; there, the smoothing of its count moves it.
    np.testing.assert_array_equal(state["codebook"][7], codebook[7])
    assert np.abs(numpy(theirs._codebook.embed)[0, 7] - codebook[7]).max() > 1e-4


def test_fsq_agrees_on_every_index_and_on_vectors_inside_their_cells():
    levels = [8, 5, 5, 4]
    theirs, ours = peer.FSQ(levels), fsq(levels)
    variables = ours.init(KEY, 4)
    np.testing.assert_allclose(
        ours.lookup(variables, jnp.arange(800)), numpy(theirs.indices_to_codes(torch.arange(800))), rtol=1e-6, atol=1e-7
    )
    output, _ = ours.apply(variables, jnp.asarray(Z))
    # The bounds differ: ours are the published (1 - eps) and tan, theirs (1 + eps) and atanh. Up to a few thousandths
    # of a level, that is; vectors that near to a cell's border may fall on either side.
    sizes = np.array(levels)
    half, offset = (sizes - 1) * (1 - 1e-3) / 2, np.where(sizes % 2, 0, 0.5)
    bounded = np.tanh(Z + np.tan(offset / half)) * half - offset
    inside = (np.abs(bounded - np.floor(bounded) - 0.5) > 0.02).all(axis=-1)
    quantized, indices = theirs(torch.tensor(Z))
    assert inside.mean() > 0.7
    np.testing.assert_array_equal(output.indices[inside], numpy(indices)[inside])
    close(output.quantized[inside], numpy(quantized)[inside])


@pytest.mark.parametrize("spherical", [False, True])
def test_lfq_agrees_up_to_the_order_of_bits(spherical):
    bits, temperature = 4, 1.0
    theirs = peer.LFQ(
        codebook_size=2**bits, dim=bits, entropy_loss_weight=0.1, commitment_loss_weight=0.25, diversity_gamma=1.0,
        spherical=spherical,
    )
    theirs.train()
    ours = lfq(bits, temperature=temperature, spherical=spherical, entropy="joint")
    output, _ = ours.apply(ours.init(KEY, bits), jnp.asarray(Z))
    # A high temperature, since the peer's entropy raises probabilities below 1e-5 to that value.
    (quantized, indices, auxiliary), parts = theirs(
        torch.tensor(Z), inv_temperature=1 / temperature, return_loss_breakdown=True
    )
    close(output.quantized, numpy(quantized))
    close(jnp.mean(output.losses["commitment"]), 0.25 * float(parts.commitment), rtol=1e-4)
    entropy = 0.1 * float(parts.per_sample_entropy - parts.batch_entropy)
    close(jnp.mean(output.losses["entropy"]), entropy, rtol=2e-4, atol=2e-6)
    close(sum(jnp.mean(x) for x in output.losses.values()), float(auxiliary.detach()), rtol=2e-4)
    # Component 0 is the lowest bit here, as in the paper's formula; there it is the highest.
    reversed_bits = sum(((np.asarray(output.indices) >> i) & 1) << (bits - 1 - i) for i in range(bits))
    np.testing.assert_array_equal(reversed_bits, numpy(indices))


def test_residual_vq_agrees():
    theirs = peer.ResidualVQ(dim=4, num_quantizers=3, codebook_size=8, commitment_weight=0.25, rotation_trick=False)
    codebooks = np.random.default_rng(2).normal(size=(3, 8, 4)).astype(np.float32)
    for layer, codebook in zip(theirs.layers, codebooks, strict=True):
        with torch.no_grad():
            layer._codebook.embed.copy_(torch.tensor(codebook[None]))
        layer._codebook.ema_update = False
    theirs.train()
    ours = residual(vq(8, commitment=0.25), 3)
    output, _ = ours.apply(Variables({"codebook": jnp.asarray(codebooks)}, {}), jnp.asarray(Z))
    quantized, indices, losses = theirs(torch.tensor(Z))
    np.testing.assert_array_equal(output.indices, numpy(indices))
    close(output.quantized, numpy(quantized), rtol=1e-5, atol=1e-5)
    # Ours is the mean over the levels, as published; theirs is one loss per level.
    close(jnp.mean(output.losses["commitment"]), float(losses.detach().mean()))


@pytest.mark.parametrize(("sizes", "shared"), [((8, 8, 8), True), ((9, 7, 5), False)])
def test_residual_vq_of_shared_or_different_codebooks_agrees_and_so_do_its_first_levels(sizes, shared):
    theirs = peer.ResidualVQ(dim=4, num_quantizers=3, codebook_size=sizes[0] if shared else sizes, rotation_trick=False,
                             shared_codebook=shared, quantize_dropout=True)
    generator = np.random.default_rng(2)
    codebooks = [generator.normal(size=(size, 4)).astype(np.float32) for size in (sizes[:1] if shared else sizes)]
    for layer, codebook in zip(theirs.layers, codebooks * 3 if shared else codebooks, strict=True):
        with torch.no_grad():
            layer._codebook.embed.copy_(torch.tensor(codebook[None]))
    theirs.eval()  # which levels are dropped in training is drawn
    ours = residual(vq(8), 3, shared=True) if shared else residual([vq(size) for size in sizes])
    params = [{"codebook": jnp.asarray(codebook)} for codebook in codebooks]
    variables = Variables(params[0], {}) if shared else Variables(tuple(params), ({}, {}, {}))
    output, _ = ours.apply(variables, jnp.asarray(Z))
    quantized, indices, _ = theirs(torch.tensor(Z))
    np.testing.assert_array_equal(output.indices, numpy(indices))
    close(output.quantized, numpy(quantized), rtol=1e-5, atol=1e-5)
    for count in (1, 2, 3):
        expected = theirs.get_output_from_indices(indices[..., :count])
        close(ours.lookup(variables, output.indices[..., :count]), numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rotated", [False, True])
def test_simvq_agrees(rotated):
    theirs = peer.SimVQ(dim=4, codebook_size=16, rotation_trick=rotated)
    ours = simvq(16, estimator="rotation" if rotated else "straight_through")
    matrix = numpy(theirs.code_transform.weight).T
    variables = Variables({"map": jnp.asarray(matrix)}, {"codebook": jnp.asarray(numpy(theirs.frozen_codebook))})
    output, _ = ours.apply(variables, jnp.asarray(Z))
    quantized, indices, loss = theirs(torch.tensor(Z))
    np.testing.assert_array_equal(output.indices, numpy(indices))
    close(output.quantized, numpy(quantized))
    close(sum(jnp.mean(x) for x in output.losses.values()), float(loss.detach()))
    assert_gradients_agree(lambda z: ours.apply(variables, z)[0].quantized, lambda z: theirs(z)[0])


def test_haiku_gradient_vq_agrees_in_value_and_in_both_gradients():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(
        hk.transform(lambda z: hk.nets.VectorQuantizer(4, 16, commitment_cost=0.3)(z, is_training=True))
    )
    params = model.init(KEY, Z)
    (module,) = params
    ours = vq(16, commitment=0.3)
    variables = Variables({"codebook": params[module]["embeddings"].T}, {})
    result = model.apply(params, Z)
    output, _ = ours.apply(variables, jnp.asarray(Z))
    np.testing.assert_array_equal(output.indices, result["encoding_indices"])
    close(output.quantized, result["quantize"])
    close(usage(output.indices, 16).perplexity, result["perplexity"])

    def loss(params, z):
        return sum(jnp.mean(x) for x in ours.apply(Variables(params, {}), z)[0].losses.values())

    expected = jax.value_and_grad(lambda p, z: model.apply(p, z)["loss"], argnums=(0, 1))(params, Z)
    actual = jax.value_and_grad(loss, argnums=(0, 1))(variables.params, jnp.asarray(Z))
    close(actual[0], expected[0])
    close(actual[1][0]["codebook"].T, expected[1][0][module]["embeddings"])
    close(actual[1][1], expected[1][1])


def test_haiku_ema_agrees_for_codes_in_use():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(
        hk.transform_with_state(lambda z: hk.nets.VectorQuantizerEMA(4, 8, 0.25, decay=0.5)(z, is_training=True))
    )
    params, theirs = model.init(KEY, Z)
    (module,) = (name for name in theirs if "embeddings" in theirs[name])
    codebook = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    codebook[7] = 50
    theirs = hk.data_structures.merge(theirs, {module: {"embeddings": jnp.asarray(codebook.T)}})
    # Theirs starts its averages at zero and divides out that bias; a start from zero gives the same quotient.
    state = {"codebook": jnp.asarray(codebook), "counts": jnp.zeros(8), "sums": jnp.zeros((8, 4))}
    ours = vq(8, ema_decay=0.5)
    for _ in range(3):
        output, state = ours.apply(Variables({}, state), jnp.asarray(Z), train=True)
        result, theirs = model.apply(params, theirs, Z)
        # Only after the first step: from then on a code without a vector is zero there and draws vectors to itself.
        np.testing.assert_array_equal(output.indices, result["encoding_indices"])
        close(state["codebook"][:7], theirs[module]["embeddings"].T[:7], rtol=2e-5, atol=2e-5)
        np.testing.assert_array_equal(state["codebook"][7], codebook[7])
        assert not np.any(theirs[module]["embeddings"][:, 7])
        theirs = hk.data_structures.merge(theirs, {module: {"embeddings": state["codebook"].T}})
