import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import vq
from tests.quantize.inputs import normal, run, start, trained

KEY = jax.random.key(0)
FAR = np.float32([[0, 0], [50, 50], [60, 60], [70, 70]])


def ema_step(codebook, counts, sums, z, decay, epsilon=1e-5):
    """The published update, code by code; a code that no vector chose keeps its value."""
    indices = cdist(z, codebook).argmin(axis=1)
    counts, sums, codebook = counts.copy(), sums.copy(), codebook.copy()
    for k in range(len(codebook)):
        chosen = z[indices == k]
        counts[k] = decay * counts[k] + (1 - decay) * len(chosen)
        sums[k] = decay * sums[k] + (1 - decay) * chosen.sum(axis=0)
    total = counts.sum()
    for k in set(indices):
        codebook[k] = sums[k] / ((counts[k] + epsilon) / (total + len(codebook) * epsilon) * total)
    return codebook, counts, sums


def started_at(codebook, quantizer):
    """Fresh variables, but with these codes."""
    params, state = start(quantizer, codebook.shape[-1])
    return Variables(params, state | {"codebook": codebook, "sums": codebook}) if "counts" in state else Variables(
        {"codebook": codebook}, state)


def test_ema_follows_the_formula_over_steps():
    quantizer = vq(10, ema_decay=0.9)
    variables, batches = start(quantizer, 3), normal(1, 4, 30, 3)
    expected = [np.float64(variables.state[name]) for name in ("codebook", "counts", "sums")]
    _, states, _ = trained(quantizer, variables, batches)
    for number, z in enumerate(np.float64(batches)):
        expected = ema_step(*expected, z, 0.9)
        for name, value in zip(("codebook", "counts", "sums"), expected, strict=True):
            np.testing.assert_allclose(states[name][number], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_codes_that_no_vector_hit_keep_their_value_exactly_for_ever():
    quantizer = vq(4, ema_decay=0.99)
    codebook = np.float32([[0.1, 0.2], [9, 9], [-9, 9], [9, -9]])
    batches = np.concatenate([normal(1, 300, 64, 2), np.full((1, 64, 2), 8, np.float32)])
    indices, states, _ = trained(quantizer, started_at(codebook, quantizer), batches)
    assert not np.any(indices[:300])
    np.testing.assert_array_equal(states["codebook"][:300, 1:], np.broadcast_to(codebook[1:], (300, 3, 2)))
    assert not np.array_equal(states["codebook"][299, 0], codebook[0])
    np.testing.assert_allclose(states["codebook"][300, 1], [8, 8], rtol=0.1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_beta_scales_the_gradient_to_the_vectors_and_not_the_one_to_the_codebook(metric):
    quantizer = vq(6, commitment=0.3, metric=metric)
    params, z = start(quantizer, 3).params, normal(1, 8, 3)

    def losses(params, z):
        output, _ = quantizer.apply(Variables(params, {}), z, train=True)
        sums = {name: jnp.sum(loss) for name, loss in output.losses.items()}
        return sums, sums

    jacobian, values = run(jax.jacobian(losses, argnums=(0, 1), has_aux=True), params, z)
    to_codes = {name: by_params["codebook"] for name, (by_params, _) in jacobian.items()}
    to_z = {name: by_z for name, (_, by_z) in jacobian.items()}
    assert not np.any(to_codes["commitment"]) and not np.any(to_z["codebook"])
    np.testing.assert_allclose(values["commitment"], 0.3 * values["codebook"], rtol=1e-5)
    if metric == "euclidean":
        indices = cdist(z, params["codebook"]).argmin(axis=1)
        difference = z - params["codebook"][indices]
        np.testing.assert_allclose(to_z["commitment"], 0.3 * 2 / 3 * difference, rtol=1e-5, atol=1e-7)
        expected = np.zeros((6, 3))
        np.add.at(expected, indices, -2 / 3 * difference)
        np.testing.assert_allclose(to_codes["codebook"], expected, rtol=1e-5, atol=1e-6)


def test_the_cosine_metric_compares_and_returns_unit_vectors():
    quantizer = vq(20, metric="cosine")
    codes, z = 7 * normal(1, 20, 4), 3 * normal(2, 30, 4)
    z[0] = 0

    def commitment(z):
        output, _ = quantizer.apply(Variables({"codebook": codes}, {}), z)
        return jnp.sum(output.losses["commitment"]), output

    gradient, output = run(jax.grad(commitment, has_aux=True), z)
    np.testing.assert_array_equal(output.indices[1:], cdist(z[1:], codes, "cosine").argmin(axis=1))
    np.testing.assert_allclose(np.linalg.norm(output.quantized, axis=-1), 1, rtol=1e-6)
    assert np.isfinite(gradient).all()


@functools.cache
def with_kmeans(ema_decay):
    """A quantizer that k-means starts, its fresh variables and its jitted training step on 60 vectors."""
    quantizer = vq(5, ema_decay=ema_decay, kmeans_iterations=100)
    return start(quantizer, 2), jax.jit(functools.partial(quantizer.apply, train=True))


@pytest.mark.parametrize("ema_decay", [None, 0.99])
def test_kmeans_is_lloyds_algorithm_on_the_first_training_batch(ema_decay):
    variables, step = with_kmeans(ema_decay)
    z = normal(1, 60, 2)
    output, state = jax.device_get(step(variables, z, key=KEY))
    points = np.float64(z)
    means = np.stack([points[output.indices == k].mean(axis=0) for k in range(5)])
    np.testing.assert_allclose(output.quantized, means[output.indices], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(cdist(points, means).argmin(axis=1), output.indices)
    assert bool(state["initialized"])


def test_kmeans_runs_once_and_a_saved_state_remembers_it():
    variables, step = with_kmeans(0.99)
    _, state = step(variables, normal(1, 60, 2), key=KEY)
    saved = jax.tree.map(np.array, state)
    _, continued = jax.device_get(step(Variables({}, state), 100 + normal(2, 60, 2), key=KEY))
    # As another process does it: by a quantizer and a program of its own.
    again = jax.jit(functools.partial(vq(5, ema_decay=0.99, kmeans_iterations=100).apply, train=True))
    _, resumed = jax.device_get(again(Variables({}, saved), 100 + normal(2, 60, 2), key=KEY))
    np.testing.assert_array_equal(resumed["codebook"], continued["codebook"])
    assert (np.abs(resumed["codebook"] - saved["codebook"]).max(axis=1) == 0).sum() >= 3


def test_kmeans_with_fewer_vectors_than_codes_keeps_the_other_codes():
    quantizer = vq(9, ema_decay=0.9, kmeans_iterations=4)
    variables, z = start(quantizer, 2), 5 + normal(1, 4, 2)
    output, state = run(functools.partial(quantizer.apply, train=True, key=KEY), variables, z)
    np.testing.assert_allclose(output.quantized, z, rtol=1e-6)
    np.testing.assert_array_equal(state["codebook"][4:], variables.state["codebook"][4:])


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_dead_code_becomes_a_vector_of_the_batch_and_stays_sane(ema_decay):
    quantizer, decay = vq(4, ema_decay=ema_decay, revive_below=0.5), ema_decay or 0.99
    batches = normal(1, 100, 64, 2)
    _, states, codes = trained(quantizer, started_at(FAR, quantizer), batches)
    revived_at = np.flatnonzero(np.abs(codes[:, 3]).max(axis=1) < 49)[0]
    assert revived_at == int(np.ceil(np.log(0.5) / np.log(decay))) - 1
    for number in range(revived_at):
        np.testing.assert_array_equal(codes[number, 1:], FAR[1:])
        np.testing.assert_allclose(states["usage"][number, 1:], decay ** (number + 1) / 4, rtol=1e-5)
    assert cdist(codes[revived_at, 1:], batches[revived_at]).min(axis=1).max() < 1e-5
    assert len(np.unique(codes[revived_at, 1:], axis=0)) == 3
    np.testing.assert_allclose(states["usage"][revived_at, 1:], 0.25)
    assert np.abs(codes[:, 0]).max() < 4
    assert np.abs(codes[-1]).max() < 4, "revived codes must not blow up"
    if ema_decay:
        counts, sums = np.float64(states["counts"][revived_at]), states["sums"][revived_at]
        smooth = (counts + 1e-5) / (counts.sum() + 4e-5) * counts.sum()
        np.testing.assert_allclose(sums / smooth[:, None], states["codebook"][revived_at], rtol=1e-5)
        np.testing.assert_allclose(counts[1:], counts[1])
        assert counts[1] > 1


@pytest.mark.parametrize("ema_decay", [None, 0.95])
def test_what_is_revived_depends_on_probability_and_not_on_the_batch_size(ema_decay):
    quantizer = vq(5, ema_decay=ema_decay, revive_below=0.6)
    codes = 10 * np.float32([[0, 0], [1, 0], [0, 1], [1, 1], [2, 2]])
    variables, z = started_at(codes, quantizer), np.repeat(codes[:4], [9, 4, 2, 1], axis=0)
    last = 1 + int(np.log(0.6) / np.log(ema_decay or 0.99))

    def usages(state, copies):
        def step(state, _):
            _, state = quantizer.apply(
                Variables(variables.params, state), np.tile(z, (copies, 1)), train=True, key=KEY)
            return state, state["usage"]

        return jax.lax.scan(step, state, length=last)[1]

    few, many = run(lambda state: [usages(state, copies) for copies in (1, 8)], variables.state)
    assert (np.diff(few[:-1, 4]) < 0).all() and few[-1, 4] > few[0, 4], "revived in the step that it should be"
    np.testing.assert_allclose(few, many, rtol=1e-5)


def test_the_optimizer_moves_a_revived_gradient_code():
    quantizer = vq(2, revive_below=0.999)
    variables, z = started_at(np.float32([[0, 0], [90, 90]]), quantizer), normal(1, 64, 2)

    def loss_after_revival(params):
        _, state = quantizer.apply(variables, z, train=True, key=KEY)
        return jnp.sum(quantizer.apply(Variables(params, state), z)[0].losses["codebook"])

    assert np.abs(run(jax.grad(loss_after_revival), variables.params)["codebook"][1]).max() > 0


@pytest.mark.parametrize("ema_decay", [None, 0.99])
def test_a_codebook_of_262144_codes_trains_within_a_gigabyte(ema_decay):
    quantizer = vq(2**18, ema_decay=ema_decay, revive_below=0.1)
    variables = jax.eval_shape(lambda key: quantizer.init(key, 18), KEY)
    z = jax.ShapeDtypeStruct((16_384, 18), jnp.float32)

    def step(params, state, z, key):
        def loss(params, z):
            output, new_state = quantizer.apply(Variables(params, state), z, train=True, key=key)
            return sum(jnp.mean(x) for x in output.losses.values()) + jnp.mean(output.quantized**2), new_state

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, z)

    memory = jax.jit(step).lower(*variables, z, KEY).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_codes": 0}, "num_codes must be an integer of at least 1, got 0"),
        ({"num_codes": 8.0}, "num_codes must be an integer"),
        ({"estimator": "straight"}, "unknown estimator 'straight'"),
        ({"metric": "cosin"}, "Did you mean 'cosine'"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
        ({"commitment": -0.1}, "commitment"),
        ({"revive_below": 2.0}, "revive_below"),
        ({"kmeans_iterations": -1}, "kmeans_iterations"),
        ({"block_size": 0}, "block_size"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        vq(**{"num_codes": 8} | arguments)
