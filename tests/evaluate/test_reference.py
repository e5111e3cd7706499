"""Reference features in files: whose they are, when they are computed, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxgen.data import Dataset
from jaxgen.evaluate import (
    FeatureNetwork,
    Features,
    Handling,
    read_reference,
    read_statistics,
    reference_key,
    reference_statistics,
    write_reference,
    write_statistics,
)
from jaxgen.metrics import covariance

HANDLING = Handling("as they are", "none", "x", "as it is")


def corner(weights, images):
    return Features(images[:, :2, 0, 0].astype(jnp.float32) * weights, None)


def network(**changes):
    return FeatureNetwork("toy", "0", HANDLING, Partial(corner, jnp.ones(2)))._replace(**changes)


def dataset(count=9, seed=0, **names):
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, 3, 1), np.uint8)
    return Dataset.from_arrays(images, **{"name": "noise", "split": "test[:9]", **names})


def test_one_image_has_no_covariance(tmp_path):
    with pytest.raises(ValueError, match="dataset must hold two images at least, got 1"):
        reference_statistics(network(), dataset(count=1), directory=tmp_path)


def test_features_are_computed_once_and_lie_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    first = reference_statistics(network(), dataset())
    images = dataset().examples()
    np.testing.assert_array_equal(first.features, images[:, :2, 0, 0])
    np.testing.assert_allclose(first.mean, images[:, :2, 0, 0].mean(0))
    np.testing.assert_allclose(first.cov, np.cov(images[:, :2, 0, 0].T.astype(np.float64)))
    np.testing.assert_allclose(covariance(first.moments()), first.cov)
    (file,) = (tmp_path / "features").iterdir()
    assert file.name.startswith("noise-test_9_-toy-")
    never = network(apply=None)
    for found, wanted in zip(reference_statistics(never, dataset()), first, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("change", ["data", "count", "split", "network", "weights", "handling"])
def test_anything_else_is_another_file(change, tmp_path):
    reference_statistics(network(), dataset(), directory=tmp_path)
    other_set = {"data": dataset(seed=1), "count": dataset(8), "split": dataset(split="train")}.get(change, dataset())
    other = {"network": network(name="own"), "weights": network(digest="1"),
             "handling": network(handling=HANDLING._replace(filter="clean"))}.get(change, network())
    (file,) = tmp_path.iterdir()
    field = {"count": "data"}.get(change, change)
    with pytest.raises(ValueError, match=rf"features of something else: {field} is '[^;]*' is wanted\. Delete it"):
        read_reference(file, reference_key(other, other_set))
    reference_statistics(other, other_set, directory=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_all_that_differs_is_named(tmp_path):
    reference = reference_statistics(network(), dataset(), directory=tmp_path)
    write_reference(tmp_path / "own.npz", reference)
    assert read_reference(tmp_path / "own.npz").key == reference.key
    key = reference.key._replace(split="train", weights="12")
    with pytest.raises(ValueError, match=r"split is 'test\[:9\]' there, and 'train' is wanted; "
                                         r"weights is '0' there, and '12' is wanted"):
        read_reference(tmp_path / "own.npz", key)


def test_the_key_is_of_the_images_and_not_of_how_they_are_read():
    images = dataset().examples()
    same = Dataset.from_arrays(images.copy(order="F"), np.zeros(9, int), name="copy", split="test[:9]")
    assert reference_key(network(), same) == reference_key(network(), dataset())
    assert reference_key(network(), Dataset.from_arrays(images[::-1], split="test[:9]")).data != \
        reference_key(network(), dataset()).data


def test_statistics_of_other_libraries(tmp_path):
    rng = np.random.default_rng(0)
    mu, root = rng.normal(size=4), rng.normal(size=(4, 4))
    sigma = root @ root.T
    write_statistics(tmp_path / "own.npz", mu, sigma)
    with np.load(tmp_path / "own.npz") as archive:
        assert set(archive) == {"mu", "sigma"} and archive["sigma"].dtype == np.float64
    # ADM's hold images and spatial statistics too, and some are float32.
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros((1, 2, 2, 3), np.uint8), mu=mu, sigma=sigma.astype(np.float32),
             mu_s=np.array([None]))
    for name, tolerance in (("own", 0), ("adm", 1e-6)):
        found = read_statistics(tmp_path / f"{name}.npz")
        np.testing.assert_allclose(found[0], mu, rtol=tolerance)
        np.testing.assert_allclose(found[1], sigma, rtol=tolerance)
        assert found[0].dtype == found[1].dtype == np.float64


def test_files_that_are_none_are_refused(tmp_path):
    good = {"mu": np.zeros(3), "sigma": np.eye(3)}
    for content, message in (
        ({"mu": np.zeros(3)}, "it lacks sigma, and has mu"),
        ({**good, "mu": np.array([{}], dtype=object)}, "Object arrays cannot be loaded"),
        ({**good, "sigma": np.eye(2)}, r"must be \[D\] and \[D, D\], got \[3\] and \[2, 2\]"),
        ({**good, "sigma": np.triu(np.ones((3, 3)))}, "must be symmetric"),
        ({**good, "mu": np.full(3, np.nan)}, "mu of .* must be finite"),
    ):
        np.savez(tmp_path / "file.npz", **content)
        with pytest.raises(ValueError, match=message):
            read_statistics(tmp_path / "file.npz")
    np.savez(tmp_path / "file.npz", **good)
    whole = (tmp_path / "file.npz").read_bytes()
    for damaged in (whole[:100], whole[:60] + b"???" + whole[63:]):
        (tmp_path / "file.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file\.npz is damaged"):
            read_statistics(tmp_path / "file.npz")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npz"):
        read_statistics(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"path must end in \.npz, got .*stats\.npy"):
        write_statistics(tmp_path / "stats.npy", **good)


def test_a_reference_whose_parts_do_not_belong_together_is_refused(tmp_path):
    reference = reference_statistics(network(), dataset(), directory=tmp_path)
    for changed, message in (
        (reference._replace(features=reference.features[:, :1]), r"features \[9, 1\] and a mean \[2\]"),
        (reference._replace(features=reference.features.astype(np.float64)), "must be float32"),
    ):
        write_reference(tmp_path / "own.npz", changed)
        with pytest.raises(ValueError, match=message):
            read_reference(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", key=np.array('{"data": "1"}'), features=0, mean=0, cov=0)
    with pytest.raises(ValueError, match="must have data, split, network, weights, handling, got data"):
        read_reference(tmp_path / "own.npz")
