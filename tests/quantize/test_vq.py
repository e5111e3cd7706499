import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import vq

KEY = jax.random.key(0)


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


def test_ema_follows_the_formula_over_steps():
    quantizer = vq(10, ema_decay=0.9)
    variables = quantizer.init(KEY, 3)
    expected = [np.float64(variables.state[name]) for name in ("codebook", "counts", "sums")]
    step = jax.jit(functools.partial(quantizer.apply, train=True))
    for number in range(4):
        z = jax.random.normal(jax.random.fold_in(KEY, number), (30, 3))
        _, state = step(variables, z)
        variables = Variables({}, state)
        expected = ema_step(*expected, np.float64(z), 0.9)
        for name, value in zip(("codebook", "counts", "sums"), expected, strict=True):
            np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-6)


def test_codes_that_no_vector_hit_keep_their_value_exactly_for_ever():
    quantizer = vq(4, ema_decay=0.99)
    codebook = jnp.float32([[0.1, 0.2], [9, 9], [-9, 9], [9, -9]])
    variables = quantizer.init(KEY, 2)
    variables = Variables({}, variables.state | {"codebook": codebook, "sums": codebook})
    step = jax.jit(functools.partial(quantizer.apply, train=True))
    for number in range(300):
        output, state = step(variables, jax.random.normal(jax.random.fold_in(KEY, number), (64, 2)))
        assert not np.any(output.indices)
        np.testing.assert_array_equal(state["codebook"][1:], codebook[1:])
        variables = Variables({}, state)
    assert not np.array_equal(state["codebook"][0], codebook[0])
    _, state = step(variables, jnp.full((64, 2), 8.0))
    np.testing.assert_allclose(state["codebook"][1], [8, 8], rtol=0.1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_beta_scales_the_gradient_to_the_vectors_and_not_the_one_to_the_codebook(metric):
    quantizer = vq(6, commitment=0.3, metric=metric)
    variables = quantizer.init(KEY, 3)
    z = jax.random.normal(jax.random.key(1), (8, 3))

    def losses(params, z):
        output, _ = quantizer.apply(Variables(params, {}), z, train=True)
        return {name: jnp.sum(loss) for name, loss in output.losses.items()}

    jacobian = jax.jacobian(losses, argnums=(0, 1))(variables.params, z)
    to_codes = {name: by_params["codebook"] for name, (by_params, _) in jacobian.items()}
    to_z = {name: by_z for name, (_, by_z) in jacobian.items()}
    assert not np.any(to_codes["commitment"]) and not np.any(to_z["codebook"])
    values = losses(variables.params, z)
    np.testing.assert_allclose(values["commitment"], 0.3 * values["codebook"], rtol=1e-5)
    if metric == "euclidean":
        indices = cdist(z, variables.params["codebook"]).argmin(axis=1)
        difference = np.asarray(z) - np.asarray(variables.params["codebook"])[indices]
        np.testing.assert_allclose(to_z["commitment"], 0.3 * 2 / 3 * difference, rtol=1e-5, atol=1e-7)
        expected = np.zeros((6, 3))
        np.add.at(expected, indices, -2 / 3 * difference)
        np.testing.assert_allclose(to_codes["codebook"], expected, rtol=1e-5, atol=1e-6)


def test_the_cosine_metric_compares_and_returns_unit_vectors():
    quantizer = vq(20, metric="cosine")
    variables = quantizer.init(KEY, 4)
    variables = Variables({"codebook": 7 * variables.params["codebook"]}, {})
    z = 3 * jax.random.normal(jax.random.key(1), (30, 4)).at[0].set(0)
    output, _ = quantizer.apply(variables, z)
    codes = np.asarray(variables.params["codebook"])
    np.testing.assert_array_equal(output.indices[1:], cdist(z[1:], codes, "cosine").argmin(axis=1))
    np.testing.assert_allclose(np.linalg.norm(output.quantized, axis=-1), 1, rtol=1e-6)
    gradient = jax.grad(lambda z: jnp.sum(quantizer.apply(variables, z)[0].losses["commitment"]))(z)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("ema_decay", [None, 0.99])
def test_kmeans_is_lloyds_algorithm_on_the_first_training_batch(ema_decay):
    quantizer = vq(5, ema_decay=ema_decay, kmeans_iterations=100)
    variables = quantizer.init(KEY, 2)
    z = jax.random.normal(jax.random.key(1), (60, 2))
    output, state = jax.jit(functools.partial(quantizer.apply, train=True))(variables, z, key=jax.random.key(2))
    indices, points = np.asarray(output.indices), np.float64(z)
    means = np.stack([points[indices == k].mean(axis=0) for k in range(5)])
    np.testing.assert_allclose(output.quantized, means[indices], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(cdist(points, means).argmin(axis=1), indices)
    assert bool(state["initialized"])


def test_kmeans_runs_once_and_a_saved_state_remembers_it():
    quantizer = vq(5, ema_decay=0.99, kmeans_iterations=3)
    variables = quantizer.init(KEY, 2)
    step = jax.jit(functools.partial(quantizer.apply, train=True))
    _, state = step(variables, jax.random.normal(jax.random.key(1), (40, 2)), key=jax.random.key(2))
    saved = jax.tree.map(np.asarray, state)
    far = 100 + jax.random.normal(jax.random.key(3), (40, 2))
    _, resumed = vq(5, ema_decay=0.99, kmeans_iterations=3).apply(
        Variables({}, jax.tree.map(jnp.asarray, saved)), far, train=True, key=jax.random.key(4)
    )
    _, continued = step(Variables({}, state), far, key=jax.random.key(4))
    np.testing.assert_allclose(resumed["codebook"], continued["codebook"], rtol=1e-6)
    assert (np.abs(resumed["codebook"] - saved["codebook"]).max(axis=1) == 0).sum() >= 3


def test_kmeans_with_fewer_vectors_than_codes_keeps_the_other_codes():
    quantizer = vq(9, ema_decay=0.9, kmeans_iterations=4)
    variables = quantizer.init(KEY, 2)
    z = 5 + jax.random.normal(jax.random.key(1), (4, 2))
    output, state = quantizer.apply(variables, z, train=True, key=KEY)
    np.testing.assert_allclose(output.quantized, z, rtol=1e-6)
    np.testing.assert_array_equal(state["codebook"][4:], variables.state["codebook"][4:])


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_dead_code_becomes_a_vector_of_the_batch_and_stays_sane(ema_decay):
    quantizer = vq(4, ema_decay=ema_decay, revive_below=0.5)
    far = jnp.float32([[0, 0], [50, 50], [60, 60], [70, 70]])
    variables = quantizer.init(KEY, 2)
    params, state = variables
    if ema_decay:
        state = state | {"codebook": far, "sums": far}
    else:
        params = {"codebook": far}
    step = jax.jit(functools.partial(quantizer.apply, train=True))
    revived_at = None
    for number in range(100):
        z = jax.random.normal(jax.random.fold_in(KEY, number), (64, 2))
        before = quantizer.lookup(Variables(params, state), jnp.arange(4))
        usage = np.asarray(state["usage"])
        _, state = step(Variables(params, state), z, key=jax.random.fold_in(KEY, 1000 + number))
        codes = quantizer.lookup(Variables(params, state), jnp.arange(4))
        if revived_at is None and np.abs(codes[3]).max() < 49:
            revived_at = number
            assert cdist(codes[1:], z).min(axis=1).max() < 1e-5
            assert len(np.unique(codes[1:], axis=0)) == 3
            np.testing.assert_allclose(state["usage"][1:], 0.25)
        elif revived_at is None:
            np.testing.assert_array_equal(codes[1:], before[1:])
            decay = ema_decay or 0.99
            np.testing.assert_allclose(state["usage"][1:], decay * usage[1:], rtol=1e-5)
        assert np.abs(codes[0]).max() < 4
    decay = ema_decay or 0.99
    assert revived_at == int(np.ceil(np.log(0.5) / np.log(decay))) - 1
    assert np.abs(codes).max() < 4, "revived codes must not blow up"
    if ema_decay is None:
        np.testing.assert_array_equal(params["codebook"], far)


def test_an_ema_code_is_consistent_with_its_sums_after_revival():
    quantizer = vq(4, ema_decay=0.5, revive_below=0.9)
    variables = quantizer.init(KEY, 2)
    far = jnp.float32([[0, 0], [50, 50], [60, 60], [70, 70]])
    z = jax.random.normal(KEY, (64, 2))
    _, state = quantizer.apply(Variables({}, variables.state | {"codebook": far, "sums": far}), z, train=True, key=KEY)
    counts = np.float64(state["counts"])
    smooth = (counts + 1e-5) / (counts.sum() + 4e-5) * counts.sum()
    np.testing.assert_allclose(state["sums"] / smooth[:, None], state["codebook"], rtol=1e-5)
    np.testing.assert_allclose(counts[1:], counts[1])
    assert counts[1] > 1


@pytest.mark.parametrize("ema_decay", [None, 0.95])
def test_what_is_revived_depends_on_probability_and_not_on_the_batch_size(ema_decay):
    quantizer = vq(5, ema_decay=ema_decay, revive_below=0.6)
    codes = 10 * jnp.float32([[0, 0], [1, 0], [0, 1], [1, 1], [2, 2]])
    z = codes[jnp.repeat(jnp.arange(4), jnp.array([9, 4, 2, 1]))]
    step = jax.jit(functools.partial(quantizer.apply, train=True))
    histories = []
    for copies in (1, 8):
        params, state = quantizer.init(KEY, 2)
        params, state = (params, state | {"codebook": codes, "sums": codes}) if ema_decay else (
            {"codebook": codes}, state)
        history = []
        while not history or history[-1][4] < history[0][4] or len(history) == 1:
            assert len(history) < 100
            _, state = step(Variables(params, state), jnp.concatenate([z] * copies), key=KEY)
            history.append(np.asarray(state["usage"]))
        histories.append(np.stack(history))
    assert len(histories[0]) == 1 + int(np.log(0.6) / np.log(ema_decay or 0.99))
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)


def test_the_optimizer_moves_a_revived_gradient_code():
    quantizer = vq(2, revive_below=0.999)
    params, state = {"codebook": jnp.float32([[0, 0], [90, 90]])}, quantizer.init(KEY, 2).state
    z = jax.random.normal(KEY, (64, 2))
    _, state = quantizer.apply(Variables(params, state), z, train=True, key=KEY)
    gradient = jax.grad(lambda p: jnp.sum(quantizer.apply(Variables(p, state), z)[0].losses["codebook"]))(params)
    assert np.abs(gradient["codebook"][1]).max() > 0


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
