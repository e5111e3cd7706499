"""Residual quantizers: fewer levels, dropout of levels, codebooks that levels share or that differ."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.models import build_quantizer
from jaxgen.quantize import QuantizeOutput, fsq, lfq, residual, vq
from tests.quantize.inputs import normal, run, start

KEY = jax.random.key(0)
Z = normal(1, 10, 4)
MANY = normal(2, 400, 2, 4)


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of these tests' time is compilation, and what they compare does not depend on its optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def greedy(codebooks, z):
    """Indices `[n, depth]` and the sums after each level `[depth, n, D]`, level by level in float64."""
    z, total, indices, sums = np.float64(z), 0, [], []
    for codebook in codebooks:
        chosen = cdist(z - total, np.float64(codebook)).argmin(axis=1)
        total = total + np.float64(codebook)[chosen]
        indices.append(chosen)
        sums.append(total)
    return np.stack(indices, axis=-1), np.stack(sums)


@pytest.mark.parametrize("kind", ["equal", "shared", "different"])
def test_the_first_indices_only_give_the_sum_of_the_first_codes(kind):
    quantizer = {"equal": residual(vq(8), 3), "shared": residual(vq(8), 3, shared=True),
                 "different": residual([vq(8), vq(5), vq(6)])}[kind]
    variables = start(quantizer, 4)
    params = variables.params
    codebooks = {"equal": lambda: params["codebook"], "shared": lambda: [params["codebook"]] * 3,
                 "different": lambda: [p["codebook"] for p in params]}[kind]()
    indices, sums = greedy(codebooks, Z)
    output, _ = run(quantizer.apply, variables, Z)
    np.testing.assert_array_equal(output.indices, indices)
    firsts = jax.jit(lambda v, indices: [quantizer.lookup(v, indices[..., :count]) for count in (1, 2, 3)])
    for codes, total in zip(firsts(variables, output.indices), sums, strict=True):
        np.testing.assert_allclose(codes, total, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(codes, output.quantized)
    for count in (0, 4):
        with pytest.raises(ValueError, match=r"of depth 3 needs \[..., k\]"):
            quantizer.lookup(variables, np.zeros((2, count), np.int32))


def levels_kept(quantized, sums):
    """How many levels each example used: the number of codes whose sum its vectors are, for every one of them."""
    equal = np.isclose(quantized[None], sums, rtol=1e-5, atol=1e-6).all(axis=(-1, -2))
    assert (equal.sum(axis=0) == 1).all()
    return equal.argmax(axis=0) + 1


@pytest.fixture(scope="module")
def dropped():
    """A training step of 400 examples of two vectors with dropout, and what a NumPy loop makes of its codebooks."""
    quantizer = residual(vq(8, ema_decay=0.5, commitment=0.3), 4, dropout=0.75, min_levels=2)
    variables = start(quantizer, 4)
    output, state = run(partial(quantizer.apply, train=True, key=KEY), variables, MANY)
    indices, sums = greedy(variables.state["codebook"], MANY.reshape(-1, 4))
    sums = sums.reshape(4, 400, 2, 4)
    return quantizer, variables, output, state, indices.reshape(400, 2, 4), sums, levels_kept(output.quantized, sums)


def test_dropout_sums_a_random_number_of_levels_for_each_example(dropped):
    _, _, _, _, _, _, kept = dropped
    counts = np.bincount(kept, minlength=5)
    expected = 400 * np.array([0, 0, 0.25, 0.25, 0.5])
    assert (counts[:2] == 0).all()
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected + 1)).all()


def test_dropout_leaves_the_indices_of_all_levels_and_the_sum_is_the_lookup_of_the_first(dropped):
    quantizer, variables, output, _, indices, _, kept = dropped
    np.testing.assert_array_equal(output.indices, indices)
    firsts = run(lambda v, indices: [quantizer.lookup(v, indices[..., :count]) for count in (2, 3, 4)],
                 variables, output.indices)
    for count, codes in zip((2, 3, 4), firsts, strict=True):
        np.testing.assert_array_equal(output.quantized[kept == count], codes[kept == count])


def test_dropped_levels_have_no_loss_and_the_others_their_own(dropped):
    _, _, output, _, _, sums, kept = dropped
    each_level = 0.3 * np.mean((np.float64(MANY) - sums) ** 2, axis=-1)
    used = np.arange(4)[:, None, None] < kept[:, None]
    np.testing.assert_allclose(output.losses["commitment"], np.mean(each_level * used, axis=0), rtol=1e-4)


def test_a_codebook_moves_only_by_the_examples_that_use_its_level(dropped):
    _, variables, _, state, indices, sums, kept = dropped
    before = np.concatenate([np.zeros_like(sums[:1]), sums[:-1]])
    for level in range(4):
        used = kept > level
        left, chosen = np.float64(MANY)[used] - before[level][used], indices[used][..., level].reshape(-1)
        hits = np.bincount(chosen, minlength=8)
        np.testing.assert_allclose(state["counts"][level], 0.5 + 0.5 * hits, rtol=1e-5)
        total = np.zeros((8, 4))
        np.add.at(total, chosen, left.reshape(-1, 4))
        np.testing.assert_allclose(
            state["sums"][level], 0.5 * variables.state["sums"][level] + 0.5 * total, rtol=1e-4, atol=1e-4)


def test_no_gradient_reaches_dropped_levels_and_evaluation_drops_none():
    quantizer = residual(vq(8), 3, dropout=1, min_levels=1)
    variables = start(quantizer, 4)

    def loss(params, z):
        output, _ = quantizer.apply(Variables(params, {}), z, train=True, key=KEY)
        return jnp.sum(output.losses["codebook"]), output

    gradient, output = jax.jit(jax.grad(loss, has_aux=True))(variables.params, Z[:, None])
    indices, sums = greedy(variables.params["codebook"], Z)
    kept = levels_kept(output.quantized, sums[:, :, None])
    assert set(kept) == {1, 2, 3}
    for level, codebook in enumerate(np.float64(variables.params["codebook"])):
        expected = np.zeros((8, 4))
        before = sums[level - 1] if level else 0
        pull = 2 / 4 / 3 * (codebook[indices[:, level]] - (np.float64(Z) - before))
        np.add.at(expected, indices[kept > level, level], pull[kept > level])
        np.testing.assert_allclose(gradient["codebook"][level], expected, rtol=1e-4, atol=1e-5)
    evaluated, _ = jax.jit(quantizer.apply)(variables, Z)
    np.testing.assert_allclose(evaluated.quantized, sums[-1], rtol=1e-5, atol=1e-6)


def test_levels_that_share_a_codebook_quantize_and_train_it_together():
    quantizer = residual(vq(8), 3, shared=True)
    variables = start(quantizer, 4)
    assert variables.params["codebook"].shape == (8, 4)
    codebook = np.float64(variables.params["codebook"])
    indices, sums = greedy([codebook] * 3, Z)

    def loss(params):
        output, _ = quantizer.apply(Variables(params, {}), Z)
        return jnp.sum(output.losses["codebook"])

    expected = np.zeros((8, 4))
    for level in range(3):
        left = np.float64(Z) - (sums[level - 1] if level else 0)
        np.add.at(expected, indices[:, level], 2 / 4 / 3 * (codebook[indices[:, level]] - left))
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(variables.params)["codebook"], expected, rtol=1e-4, atol=1e-5)


def test_the_state_of_a_shared_codebook_goes_from_level_to_level():
    inner = vq(8, ema_decay=0.5, revive_below=0.3)
    quantizer = residual(inner, 3, shared=True)
    variables = start(quantizer, 4)
    output, state = run(partial(quantizer.apply, train=True, key=KEY), variables, Z)
    train = jax.jit(partial(inner.apply, train=True))
    expected, total = variables.state, 0
    for level, key in enumerate(jax.random.split(KEY, 3)):
        one, expected = jax.device_get(train(Variables({}, expected), Z - total, key=key))
        total = total + one.quantized
        np.testing.assert_array_equal(output.indices[:, level], one.indices)
    np.testing.assert_allclose(output.quantized, total, rtol=1e-5, atol=1e-6)
    for actual, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def test_levels_of_different_quantizers_follow_each_other():
    inner = [vq(8, commitment=0.3), lfq(4), vq(5, ema_decay=0.5)]
    quantizer = residual(inner)
    variables = start(quantizer, 4)
    assert quantizer.num_codes == 16
    output, state = run(partial(quantizer.apply, train=True), variables, Z)
    total, losses = 0, {}
    for level, one in enumerate(inner):
        own = Variables(variables.params[level], variables.state[level])
        result, after = run(partial(one.apply, train=True), own, Z - total)
        total = total + result.quantized
        np.testing.assert_array_equal(output.indices[:, level], result.indices)
        for name, loss in result.losses.items():
            losses[name] = losses.get(name, 0) + loss / 3
        for actual, wanted in zip(jax.tree.leaves(state[level]), jax.tree.leaves(after), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.quantized, total, rtol=1e-5, atol=1e-6)
    assert set(output.losses) == {"codebook", "commitment", "entropy"} == set(losses)
    for name, loss in losses.items():
        np.testing.assert_allclose(output.losses[name], loss, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(run(quantizer.lookup, variables, output.indices), output.quantized)
    with pytest.raises(ValueError, match=r"indices must lie within 0 \.\. 4, the quantizer's"):
        quantizer.lookup(variables, np.full((2, 3), 7))


def test_quantizers_without_variables_need_no_key_to_be_levels():
    quantizer = residual(fsq([3, 3]), 2)
    variables = quantizer.init(KEY, 2)
    output, _ = jax.jit(quantizer.apply)(variables, Z[:, :2])
    one = jax.jit(lambda z: fsq([3, 3]).apply(Variables({}, {}), z)[0])
    first = jax.device_get(one(Z[:, :2]))
    second = jax.device_get(one(Z[:, :2] - first.quantized))
    np.testing.assert_array_equal(output.indices, np.stack([first.indices, second.indices], axis=-1))


def test_a_level_whose_quantizer_knows_no_mask_and_has_a_rule_of_its_own_keeps_both_gradients():
    @jax.custom_vjp
    def replace(z, q):
        return q

    replace.defvjp(lambda z, q: (q, None), lambda _, g: (g, jnp.zeros_like(g)))
    codebook = jnp.asarray(start(vq(8), 4).params["codebook"])

    def apply(variables, z, *, train=False, key=None):
        indices = jnp.argmin(jnp.sum(jnp.square(z[:, None] - codebook[None]), axis=-1), axis=-1)
        q = codebook[indices]
        return QuantizeOutput(replace(z, q), indices, {"commitment": jnp.sum(jnp.square(z - q), axis=-1)}), {}

    quantizer = residual(vq(8)._replace(init=lambda key, dim: Variables({}, {}), apply=apply), 3)
    _, sums = greedy([codebook] * 3, Z)
    variables = start(quantizer, 4)
    pulled = jax.jit(jax.grad(lambda z: jnp.sum(jnp.sin(quantizer.apply(variables, z)[0].quantized))))(Z)
    np.testing.assert_allclose(pulled, np.cos(sums[-1]), rtol=1e-4, atol=1e-5)
    committed = jax.jit(jax.grad(lambda z: jnp.sum(quantizer.apply(variables, z)[0].losses["commitment"])))(Z)
    np.testing.assert_allclose(committed, np.mean(2 * (np.float64(Z) - sums), axis=0), rtol=1e-4, atol=1e-5)


def test_residual_quantizers_of_a_configuration_drop_and_share_levels():
    described = {"name": "residual", "depth": 3, "shared": True, "dropout": 0.5, "min_levels": 2,
                 "quantizer": {"name": "vq", "num_codes": 8}}
    assert build_quantizer(axis_name="data", **described) == residual(
        vq(8, axis_name="data"), 3, shared=True, dropout=0.5, min_levels=2, axis_name="data")


@pytest.mark.parametrize(("make", "message"), [
    (lambda: residual(vq(4)), "depth=None"),
    (lambda: residual([]), r"sequence of them, one for each level, got \[\]"),
    (lambda: residual(vq, 2), "sequence of them, one for each level, got <function vq"),
    (lambda: residual([vq, vq]), "sequence of them, one for each level"),
    (lambda: residual([vq(4), vq(4)], 3), "sequence of 2 quantizers has its own depth"),
    (lambda: residual([vq(4), vq(4)], shared=True), "shared=True"),
    (lambda: residual(vq(4), 2, dropout=1.5), "dropout must be a probability from 0 to 1, got 1.5"),
    (lambda: residual(vq(4), 2, dropout=float("nan")), "dropout"),
    (lambda: residual(vq(4), 2, min_levels=3), "min_levels=3 is more than the depth of 2"),
    (lambda: residual(vq(4), 2, min_levels=0), "min_levels must be an integer of at least 1"),
    (lambda: residual(vq(4), 2, dropout=0.5).apply(residual(vq(4), 2).init(KEY, 4), Z, train=True),
     "key=None, but residual with dropout"),
    (lambda: residual(vq(4), 2, dropout=0.5, axis_name="cores").apply(
        residual(vq(4), 2).init(KEY, 4), Z, train=True, key=KEY), "axis_name='cores'"),
    (lambda: residual(vq(4), 2, dropout=0.5).apply(
        residual(vq(4), 2).init(KEY, 4), Z[None], train=True, key=KEY, valid=jnp.ones(10, bool)),
     r"valid has shape \(10,\)"),
    (lambda: residual([fsq([3, 3]), residual(fsq([3, 3]), 2)]).apply(
        residual([fsq([3, 3]), residual(fsq([3, 3]), 2)]).init(KEY, 2), Z[:, :2]), "levels' indices have the shapes"),
])
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make)
