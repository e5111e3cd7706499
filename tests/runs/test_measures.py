"""What is measured of a run: which evaluation gives which numbers, and that shifted samples are centred."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jaxgen.data import Dataset
from jaxgen.evaluate import FeatureNetwork, Features, Handling
from jaxgen.runs import Run, compare_samples, measure, published, shipped
from jaxgen.runs import measures as module
from jaxgen.runs.model_card import measured_on


def pixels(images):
    return Features(images.reshape(len(images), -1)[:, ::7].astype(jnp.float32) / 64, None)


NETWORK = FeatureNetwork("toy", "0" * 64, Handling("any", "none", "x / 64", "as it is"), Partial(pixels))
SPLITS = {"train": 40, "test": 30}


def blobs(count, seed):
    """Images of 13x13 whose middle 5x5 pixels are bright, each with its centre of mass in the middle."""
    images = np.zeros((count, 13, 13, 1), np.uint8)
    half = np.random.default_rng(seed).integers(100, 250, (count, 5, 3, 1))
    rows = np.concatenate([half, half[:, :, 1::-1]], axis=2)
    images[:, 4:9, 4:9] = (rows + rows[:, ::-1]) // 2
    return np.roll(images, (1, 1), axis=(1, 2))  # half a pixel beyond the middle, where centring rounds to


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose samples are its held-out images, moved by two pixels."""
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "feature_network", lambda source: NETWORK._replace(name=source))
    sets = {name: Dataset.from_arrays(blobs(count, seed), split=name)
            for seed, (name, count) in enumerate(SPLITS.items())}
    drawn = np.roll(sets["test"].examples(), (2, -2), axis=(1, 2))
    return SimpleNamespace(
        config={"data": {"name": "blobs", "train_split": "train"}}, samples_off_centre=True,
        dataset=lambda split="test": sets[split],
        evaluate=lambda dataset, bar: {"psnr": float(len(dataset))},
        judge=lambda count, seed, bar, **settings: (drawn[:count], SimpleNamespace(
            values={"agreement": 0.5, "seed": seed, **settings})))


def test_held_out_data_are_measured_where_no_samples_are_asked_for(run):
    assert measure(run, {"split": "train", "examples": 40}) == {"psnr": 40.0}


def test_samples_are_judged_and_compared_as_a_set_where_features_are_named(run):
    evaluation = {"split": "test", "examples": 30, "samples": 30, "seed": 3, "settings": {"guidance": 2.0}}
    judged = {"agreement": 0.5, "seed": 3, "guidance": 2.0}
    assert measure(run, evaluation) == judged
    found = measure(run, {**evaluation, "features": "toy"})
    assert judged.items() <= found.items()
    # The samples are the held-out images once they are centred.
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    np.testing.assert_allclose(found["FD-toy"], found["FD-toy_held_out_of_30"], rtol=1e-9)
    assert found["nearest_distance_ratio"] == 1


def test_numbers_in_other_features_are_not_compared(run):
    evaluation = {"split": "test", "examples": 30, "samples": 30, "seed": 3, "settings": {}, "features": "toy"}
    assert "FD-toy" in measure(run, {**evaluation, "features_digest": "0" * 64})
    with pytest.raises(ValueError, match="features=toy has weights 000000000000, and the numbers were measured with a"):
        measure(run, {**evaluation, "features_digest": "a" * 64})


def test_an_evaluation_and_the_card_say_at_how_many_held_out_images_the_judge_looks(monkeypatch):
    held_out = Dataset.from_arrays(blobs(30, 0), np.arange(30) % 3, split="test")
    run = SimpleNamespace(dataset=lambda split=None: held_out,
                          model=SimpleNamespace(conditions=SimpleNamespace(num_classes=3)))
    monkeypatch.setattr(published, "HELD_OUT", 8)
    _, fewer = published.default_evaluations(run, samples=20)
    monkeypatch.setattr(published, "HELD_OUT", 50)
    _, every = published.default_evaluations(run, samples=20)
    assert (fewer["examples"], fewer["judge_held_out"], every["judge_held_out"]) == (30, 8, 30)
    assert measured_on(every) == "N = 20 samples, seed 0, compared with 30 examples of the split `test`"
    assert measured_on(fewer).startswith(measured_on(every)) and measured_on(fewer).endswith("with 8 of them)")


@pytest.mark.parametrize(("name", "crop", "expected"), [
    ("mnist_5k", 2, True), ("mnist:3.0.1", 1, True), ("mnist_5k", 0, False), ("fashion_mnist", 2, False),
    ("noto_emoji", 2, False),
])
def test_shifted_digits_are_off_the_centre_of_their_mass_and_other_images_have_none(name, crop, expected):
    run = Run(Path("a"), {"data": {"name": name, "crop": crop}}, None, None, 0)
    assert run.samples_off_centre is expected


@pytest.mark.parametrize("path", shipped().values(), ids=str)
def test_shipped_checkpoints_of_mnist_are_measured_as_they_were(path):
    own = json.loads((path / "config.json").read_text())["data"]
    if own["name"] == "mnist_5k":
        assert Run(path, {"data": own}, None, None, 0).samples_off_centre is (own["crop"] > 0)


def test_samples_that_are_not_off_centre_stay_where_they_are(run):
    run.samples_off_centre = False
    images, _ = run.judge(30, seed=0, bar=False)
    found = compare_samples(run, images, NETWORK, measures=("frechet",))
    assert found["FD-toy"].value > 10 * found["FD-toy_held_out_of_30"].value
