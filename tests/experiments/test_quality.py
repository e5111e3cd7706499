"""`experiments.evaluate --images` and `--features`: anybody's images against real ones."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxgen import data, evaluate, metrics, runs


@pytest.fixture(scope="module")
def classifier(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "classifier"
    scripts.run("train_classifier", f"--workdir={workdir}", "--config=classifier_mnist:smoke",
                "--config.optimizer.schedule=constant")
    return workdir


@pytest.fixture
def folder(tmp_path):
    """Fifty of the held-out digits, as somebody's PNG files."""
    images = data.load("mnist_5k", "test").examples()[:50]
    (tmp_path / "theirs").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "theirs" / f"{i:03d}.png")
    return tmp_path / "theirs"


def test_a_folder_of_images_is_compared_with_a_data_set(scripts, classifier, folder, tmp_path):
    printed = scripts.run("evaluate", f"--images={folder}", "--data=mnist_5k", f"--features={classifier}",
                          JAXGEN_CACHE=str(tmp_path / "cache"))
    result = json.loads(folder.with_name("theirs-quality.json").read_text())
    network = runs.feature_network(str(classifier))
    name = "FD-classifier-mnist_5k"
    assert result["features"] == "classifier-mnist_5k" and result["features_digest"] == network.digest
    assert (result["samples"], result["training_examples"], result["held_out_examples"]) == (50, 4500, 500)
    sets = (data.load("mnist_5k", "test").examples()[:50], data.load("mnist_5k", "train"))
    expected = metrics.frechet_distance(*(metrics.moments(evaluate.extract(network, images)) for images in sets))
    np.testing.assert_allclose(result[name], expected, rtol=1e-4)
    assert result[f"{name}_low"] < expected < result[f"{name}_high"] and f"{name}  " in printed
    assert result["precision"] > 0.9  # they are held-out images, compared with fifty of those


def test_the_chosen_metrics_only(scripts, classifier, folder, tmp_path):
    scripts.run("evaluate", f"--images={folder}", "--data=mnist_5k", f"--features={classifier}", "--metrics=neighbours",
                f"--output={tmp_path / 'n.json'}", JAXGEN_CACHE=str(tmp_path / "cache"))
    names = json.loads((tmp_path / "n.json").read_text())
    assert {"precision", "recall", "density", "coverage"} <= set(names) and not any(n.startswith("FD") for n in names)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--images={folder}", "--data=mnist_5k"], "add --features=inception, vgg16 or the run of a classifier"),
    (["--images={folder}", "--features=vgg16"], "pass --data=NAME, or --workdir"),
    (["--images={folder}", "--data=mnist_5k", "--features={codes}"], "'vqvae': give the run of a classifier"),
    (["--workdir={codes}", "--data=mnist_5k"], "--data names the real images that --images is compared with"),
    (["--workdir={codes}", "--features=vgg16"], "--features is about samples: add --samples=500"),
    (["--images={folder}", "--data=mnist_5k", "--features=vgg16", "--samples=9"], "--samples does not go with"),
    (["--workdir={codes}", "--samples=9", "--split=train"], "--split=train is what --samples is not compared with"),
    (["--workdir={codes}", "--metrics=frechet"], "--metrics compares features: add --features"),
    (["--images={folder}", "--data=mnist_5k", "--features=vgg16", "--metrics=frechett"], "--metrics"),
    (["--split=test"], "pass --workdir=DIRECTORY of a run, or --checkpoint=NAME"),
])
def test_errors_name_the_option_and_the_fix(scripts, codes, folder, arguments, message):
    filled = [argument.format(folder=folder, codes=codes) for argument in arguments]
    assert message in scripts.run("evaluate", *filled, fails=True)
