"""Sets of images against real ones: names, counts and values, in the features of a network made of plain arithmetic."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import linalg

from jaxgen.data import Dataset
from jaxgen.evaluate import MEASURES, FeatureNetwork, Features, Handling, frechet_of_as_many, sample_quality


def pixels(images):
    x = images.reshape(len(images), -1).astype(jnp.float32) / 16
    return Features(x, x[:, :3])


def network(name="pixels", apply=pixels):
    return FeatureNetwork(name, "0" * 64, Handling("any", "none", "x / 16", "as it is"), Partial(apply))


def draw(seed, count, mean=128.0, std=20.0):
    values = np.random.default_rng(seed).normal(mean, std, (count, 2, 2, 1))
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@pytest.fixture
def real(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    return Dataset.from_arrays(draw(0, 400)), Dataset.from_arrays(draw(1, 200))


def test_distances_are_those_of_the_formulas(real):
    train, held_out = real
    samples = draw(2, 300, mean=140.0)
    found = sample_quality(network(), samples, train, held_out, measures=("frechet", "inception_score"), resamples=20)
    a, b = (images.reshape(len(images), -1) / 16 for images in (samples, train.examples()))
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    np.testing.assert_allclose(found["FD-pixels"].value, expected, rtol=1e-5)
    assert found["FD-pixels"].low < expected < found["FD-pixels"].high
    assert found["FD-pixels_held_out_of_200"].value < 0.1 * expected
    # The score over all in one part would be this; parts differ from it by their size.
    p = np.exp(a[:, :3]) / np.exp(a[:, :3]).sum(1, keepdims=True)
    whole = np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), 1)))
    np.testing.assert_allclose(found["IS-pixels"].value, whole, rtol=0.05)


def test_samples_of_the_same_distribution_are_as_good_as_held_out_images(real):
    found = sample_quality(network(), draw(3, 300), *real, resamples=20)
    assert found["FD-pixels"].low < 3 * found["FD-pixels_held_out_of_200"].value
    assert found["FD-pixels_of_200"].value < 3 * found["FD-pixels_held_out_of_200"].value
    held_out = found["FD-pixels_held_out_of_200"]
    assert frechet_of_as_many(found, "FD-pixels") == (found["FD-pixels_of_200"], held_out)
    fewer = sample_quality(network(), draw(3, 100), *real, measures=("frechet",), resamples=20)
    assert frechet_of_as_many(fewer, "FD-pixels") == (fewer["FD-pixels"], fewer["FD-pixels_held_out_of_100"])
    assert min(found["precision"].value, found["recall"].value, found["coverage"].value) > 0.7
    assert 0.35 < found["closer_than_held_out"].value < 0.65
    np.testing.assert_allclose(found["nearest_distance_ratio"].value, 1, atol=0.15)
    assert abs(found["KD-pixels"].value) < 0.05 * abs(
        sample_quality(network(), draw(3, 300, mean=140.0), *real, measures=("kernel",))["KD-pixels"].value)
    for name in ("precision", "closer_than_held_out", "authentic"):
        estimate = found[name]
        assert estimate.low < estimate.value < estimate.high


def test_copies_of_the_training_images_are_told(real):
    train, held_out = real
    found = sample_quality(network(), train.examples()[:200], train, held_out, measures=("authenticity",))
    assert found["closer_than_held_out"].value == 1
    assert found["nearest_distance_ratio"].value == found["authentic"].value == 0


def test_samples_of_one_kind_have_precision_without_recall(real):
    found = sample_quality(network(), draw(4, 300, std=2.0), *real, measures=("neighbours",))
    assert found["precision"].value > 0.9 and found["recall"].value < 0.2


def test_names_of_other_networks_are_not_those_of_inception(real):
    names = set(sample_quality(network(), draw(2, 50), *real, resamples=2))
    assert not names & {"FID", "KID", "IS"}
    assert {"FD-pixels", "FD-pixels_infinity", "KD-pixels", "IS-pixels"} <= names
    assert {"FID", "KID", "IS"} <= set(sample_quality(network("InceptionV3"), draw(2, 50), *real, resamples=2))


def test_a_network_without_logits_has_no_score(real):
    def without(images):
        return Features(pixels(images).features, None)

    assert sample_quality(network(apply=without), draw(2, 50), *real, measures=("inception_score",)) == {}


@pytest.mark.parametrize(("samples", "measures", "message"), [
    (draw(2, 50), ("frechett",), "frechet"),
    (draw(2, 5), tuple(MEASURES), "samples must be 6 at least, got 5"),
])
def test_errors_name_the_argument(real, samples, measures, message):
    with pytest.raises(ValueError, match=message):
        sample_quality(network(), samples, *real, measures=measures)
