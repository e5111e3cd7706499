"""The classifier script from end to end."""

import json

import chex
import jax
import numpy as np
import pytest

from experiments.train_vqgan import features_of_run
from jaxgen import data, runs
from jaxgen.show import read_records

pytestmark = pytest.mark.slow  # its parts are tested next to their modules; this is the way through the scripts

SMOKE = "--config=classifier_mnist:smoke"


@pytest.fixture(scope="module")
def trained(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    scripts.run("train_classifier", f"--workdir={workdir}", SMOKE, "--config.optimizer.schedule=constant")
    return workdir


def test_a_run_is_evaluated_on_every_held_out_image(scripts, trained, tmp_path):
    records = read_records(trained / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4] and any("eval/accuracy" in r for r in records)
    scripts.run("evaluate", f"--workdir={trained}", f"--output={tmp_path / 'e.json'}")
    run = runs.load(trained)
    held_out = run.dataset()
    logits = jax.jit(run.model.logits)(run.variables, held_out.examples() / np.float32(127.5) - 1)
    wanted = (np.argmax(logits, axis=1) == held_out.labels()).mean()
    assert json.loads((tmp_path / "e.json").read_text())["accuracy"] == pytest.approx(wanted)


def test_a_run_stopped_half_way_and_resumed_is_the_run_that_was_not_stopped(scripts, trained, tmp_path):
    arguments = (f"--workdir={tmp_path / 'run'}", SMOKE, "--config.optimizer.schedule=constant")
    scripts.run("train_classifier", *arguments, "--config.num_steps=2")
    assert "resuming at step 2 of 4" in scripts.run("train_classifier", *arguments)
    whole, resumed = runs.read_run(trained), runs.read_run(tmp_path / "run")
    assert whole.step == resumed.step == 4
    chex.assert_trees_all_equal(whole[2:5], resumed[2:5])


def test_other_scripts_say_what_the_run_cannot_do(scripts, trained):
    for script, missing in (("reconstruct", "reconstructions"), ("sample", "samples")):
        assert f"has no {missing}" in scripts.run(script, f"--workdir={trained}", fails=True)


def test_the_feature_distance_of_a_run_sees_what_the_labels_are_about(trained):
    distance = features_of_run(trained, (28, 28, 1))
    images = data.to_float(runs.load(trained).dataset().examples()[:4])
    np.testing.assert_array_equal(distance(images, images), np.zeros(4))
    found = jax.jit(distance)(images, images[::-1])
    assert found.shape == (4,) and np.all(found > 0)
    with pytest.raises(ValueError, match=r"trained on images of \(28, 28, 1\), but these are \(32, 32, 3\)"):
        features_of_run(trained, (32, 32, 3))


def test_a_set_without_labels_is_refused(scripts, tmp_path):
    from PIL import Image

    (tmp_path / "mine").mkdir()
    for i in range(16):
        Image.fromarray(np.full((28, 28), 9 * i, np.uint8)).save(tmp_path / "mine" / f"{i}.png")
    message = scripts.run("train_classifier", f"--workdir={tmp_path / 'run'}", SMOKE, "--config.data.name=image_folder",
                          f"--config.data.options.folder={tmp_path / 'mine'}", "--config.data.image_size=28",
                          fails=True)
    assert "needs labels, and image_folder has none" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_digits_are_read(scripts, tmp_path):
    scripts.run("train_classifier", f"--workdir={tmp_path / 'run'}")
    scripts.run("evaluate", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'e.json'}")
    assert json.loads((tmp_path / "e.json").read_text())["accuracy"] >= 0.97
