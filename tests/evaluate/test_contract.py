"""All evaluators keep one contract: floats, means over examples that count once, pure, and NaN stays visible."""

import functools
import math

import jax
import numpy as np
import pytest

from jaxgen import evaluate
from tests.evaluate import toys

# name: (maker, model)
EVALUATORS = {
    "reconstruction": (evaluate.reconstruction, toys.Half()),
    "classification": (evaluate.classification, toys.Digits()),
    "bits_per_token, masked": (evaluate.bits_per_token, toys.Prior(toys.EachToken())),
    "bits_per_token, autoregressive": (evaluate.bits_per_token, toys.Prior(toys.TokenAfterToken())),
    "bits_per_dim": (lambda model, **own: evaluate.bits_per_dim(model, levels=8, **own), toys.Noise()),
    "latent_errors": (evaluate.latent_errors, toys.LatentNoise()),
}
every_evaluator = pytest.mark.parametrize("name", EVALUATORS)


@functools.cache
def made(name, batch_size=3):
    """One evaluator for all tests, which compiles once for each size of a batch; 3 leaves a last one of 1 of 10."""
    make, model = EVALUATORS[name]
    return make(model, batch_size=batch_size)


def by_loop(name, image, label):
    """What an evaluator says of one example, in NumPy."""
    x = image.astype(np.float64) / 127.5 - 1
    log_q = np.asarray(toys.variables().params["log_q"], np.float64)[label]
    tokens = image.reshape(-1) // 32
    if name == "reconstruction":
        restored = np.round((np.clip(x / 2, -1, 1) + 1) * 127.5)
        mse = np.mean(((image - restored) / 255) ** 2)
        return {"mse": mse, "psnr": -10 * np.log10(mse)}
    if name == "classification":
        return {"accuracy": float(label < 2),
                "cross_entropy": np.log(np.exp(3) + 2) - 3 * (min(label, 1) == label)}
    if name == "bits_per_token, autoregressive":
        bits = -sum(log_q[before, token] for before, token in zip([0, *tokens], tokens)) / np.log(2)
        return {"bits_per_token": bits / 144, "bits_per_example": bits}
    if name == "bits_per_dim":  # of N(x, 80²) from N(0, 80²)
        return {"bits_prior": np.mean(x**2) / (2 * 80**2) / np.log(2)}
    if name == "latent_errors":
        return dict.fromkeys((f"latent_error_{level}" for level in (0.1, 0.3, 1.0, 3.0, 10.0)), np.mean((x / 3) ** 2))
    return {}


@every_evaluator
def test_measures_are_python_floats(name):
    result = made(name)(toys.variables(), toys.dataset())
    assert result and all(type(value) is float for value in result.values())


@every_evaluator
def test_the_batch_size_changes_no_measure(name):
    few, many = (evaluator(toys.variables(), toys.dataset()) for evaluator in (made(name), made(name, 100)))
    assert few == pytest.approx(many, rel=1e-5)


@every_evaluator
def test_each_example_counts_once(name):
    dataset = toys.dataset()
    result = made(name)(toys.variables(), dataset)
    rows = [by_loop(name, image, label) for image, label in zip(dataset.examples(), dataset.labels())]
    for measure in rows[0]:
        assert result[measure] == pytest.approx(np.mean([row[measure] for row in rows]), rel=1e-4), measure


def test_the_bound_of_a_masked_prior_is_near_its_cross_entropy():
    dataset = toys.dataset()
    log_q = np.asarray(toys.variables().params["log_q"])[:, 0]
    nats = -np.mean([log_q[label][image.reshape(-1) // 32] for image, label in zip(dataset.examples(),
                                                                                   dataset.labels())])
    result = evaluate.bits_per_token(toys.Prior(toys.EachToken()), times=64)(toys.variables(), dataset)
    assert result["bits_per_token"] == pytest.approx(nats / math.log(2), rel=0.03)
    assert result["bits_per_example"] == pytest.approx(144 * result["bits_per_token"])


@every_evaluator
def test_a_call_leaves_nothing_behind(name):
    evaluator, dataset, variables = made(name), toys.dataset(), toys.variables()
    before = jax.device_get(variables)
    first = evaluator(variables, dataset)
    evaluator(variables, toys.dataset(7, name="other"))
    assert evaluator(variables, dataset) == first
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(variables))


@every_evaluator
def test_an_empty_set_is_refused(name):
    with pytest.raises(ValueError, match="noise/test is empty: there is nothing to evaluate"):
        made(name)(toys.variables(), toys.dataset(0))


@every_evaluator
@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_not_finite_of_an_example_is_seen_and_only_then(name, classes):
    """What a model says of class 2 is NaN."""
    result = made(name)(toys.variables(lost=2), toys.dataset(classes=classes))
    assert any(math.isnan(value) for value in result.values()) == (classes > 2)


@pytest.mark.parametrize(("model", "expected"), [
    (toys.Half(), "reconstruction"), (toys.Digits(), "classification"), (toys.LatentNoise(), "latent_errors"),
    (toys.Prior(toys.TokenAfterToken()), "bits_per_token, autoregressive"),
])
def test_a_model_is_measured_by_what_it_can_do(model, expected):
    result = evaluate.make_evaluator(model)(toys.variables(), toys.dataset())
    assert result == made(expected, 100)(toys.variables(), toys.dataset())


def test_a_model_that_can_do_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing can be measured of a object: it has none of the methods"):
        evaluate.make_evaluator(object())
