"""Cross-entropy and the classifier's objective against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import losses, objectives

LOGITS = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 1, 2], np.int32)


def soft_targets(smoothing):
    return (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_definition_and_the_gradient_is_softmax_less_target(smoothing):
    q = soft_targets(smoothing)
    found = losses.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    wanted = -(q * special.log_softmax(LOGITS.astype(np.float64), axis=1)).sum(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    gradient = jax.grad(lambda z: losses.cross_entropy(z, LABELS, label_smoothing=smoothing).sum())(LOGITS)
    np.testing.assert_allclose(gradient, special.softmax(LOGITS.astype(np.float64), axis=1) - q, atol=1e-6)


def test_cross_entropy_is_float32_and_finite_for_large_logits():
    found = losses.cross_entropy(jnp.asarray([[0.0, 1e4]], jnp.bfloat16), jnp.array([0]))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [float(jnp.bfloat16(1e4))])


def test_the_objective_is_the_mean_and_counts_hits():
    batch = {"image": LOGITS, "label": LABELS}
    loss, (metrics, state) = jax.jit(lambda p: objectives.classifier_loss(
        p, {"kept": 1}, batch, None, logits=lambda variables, x: variables.params * x, label_smoothing=0.1))(2.0)
    wanted = -(soft_targets(0.1) * special.log_softmax(2 * LOGITS.astype(np.float64), axis=1)).sum(1)
    np.testing.assert_allclose(loss, wanted.mean(), rtol=1e-5)
    assert float(metrics["loss"]) == float(loss) and state == {"kept": 1}
    np.testing.assert_allclose(metrics["accuracy"], (LOGITS.argmax(1) == LABELS).mean())


def test_a_label_that_is_no_class_is_nan_for_its_example_only():
    found = losses.cross_entropy(jnp.zeros((4, 3)), jnp.array([0, -1, 3, 2]))
    np.testing.assert_allclose(found, [np.log(3), np.nan, np.nan, np.log(3)], rtol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"labels must be whole numbers, got dtype float32"):
        losses.cross_entropy(jnp.zeros((4, 3)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"\[B, K\] and labels \[B\], got \(5, 4\) and \(4,\)"):
        losses.cross_entropy(LOGITS, LABELS[:4])
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\), got 1"):
        losses.cross_entropy(LOGITS, LABELS, label_smoothing=1)
    with pytest.raises(ValueError, match=r"an entry 'label', got \['image'\]"):
        objectives.classifier_loss({}, {}, {"image": LOGITS}, None, logits=lambda variables, x: x)
