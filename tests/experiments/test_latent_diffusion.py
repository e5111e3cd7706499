"""Latent diffusion as a user starts it, over a VQ-VAE that was trained by its own script."""

import json
import shutil

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import data, models, runs
from jaxgen.show import read_records

pytestmark = pytest.mark.slow  # its parts are tested next to their modules; this is the way through the scripts

CONFIG = "--config=latent_diffusion_mnist:smoke"


@pytest.fixture(scope="module")
def directory(scripts, tmp_path_factory):
    """The runs "latent" and "moved", its autoencoder, which lay in "codes" while it was trained."""
    directory = tmp_path_factory.mktemp("runs")
    scripts.run("train_vqvae", f"--workdir={directory / 'codes'}", "--config=vqvae_mnist:smoke")
    scripts.run("train_latent_diffusion", f"--workdir={directory / 'latent'}", CONFIG,
                f"--config.autoencoder={directory / 'codes'}")
    (directory / "codes").rename(directory / "moved")
    return directory


def test_a_run_holds_its_autoencoder_and_the_std_of_its_latents(directory):
    latent, codes = (runs.load(directory / name) for name in ("latent", "moved"))
    chex.assert_trees_all_equal(latent.variables.state["autoencoder"], codes.variables)
    images = np.asarray(data.to_float(codes.dataset("train").examples()))
    encode = jax.jit(lambda x: codes.model.to_latents(codes.variables, x))
    latents = np.concatenate([encode(part) for part in np.split(images, 9)])
    assert latent.model.sample_shape == latents.shape[1:] == (7, 7, 8) and isinstance(codes.model, models.VQVAE)
    assert float(latent.variables.state["std"]) == pytest.approx(latents.std(dtype=np.float64), rel=1e-5)
    records = read_records(directory / "latent" / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4] and np.isfinite(records[-1]["eval/loss"])


def test_a_run_goes_on_with_its_own_autoencoder_and_std(scripts, directory, tmp_path):
    shutil.copytree(directory / "latent", tmp_path / "latent")
    arguments = (f"--workdir={tmp_path / 'latent'}", CONFIG, f"--config.autoencoder={directory / 'codes'}")
    assert "resuming at step 4 of 6" in scripts.run("train_latent_diffusion", *arguments, "--config.num_steps=6")
    before, after = (runs.load(run).variables for run in (directory / "latent", tmp_path / "latent"))
    chex.assert_trees_all_equal(before.state, after.state)


@pytest.mark.parametrize(("action", "rows"), [("inpaint", 3), ("img2img", 2), ("invert", 4), ("interpolate", 2)])
def test_edits_write_their_rows(scripts, directory, tmp_path, action, rows):
    scripts.run("edit", action, f"--workdir={directory / 'latent'}", "--count=4", "--classes=3", "--scale=1",
                f"--output={tmp_path / 'a.png'}")
    width, height = Image.open(tmp_path / "a.png").size
    assert (height - 2) // 30 == rows and (width - 2) // 30 == (8 if action == "interpolate" else 4)


def test_samples_are_decoded_latents_and_follow_seed_and_class_and_not_the_batch(scripts, directory, tmp_path):
    scripts.run("sample", f"--workdir={directory / 'latent'}", "--classes=3,7", "--count=5", "--batch=2", "--scale=1",
                f"--output={tmp_path / 'a.png'}", f"--npz={tmp_path / 'a.npz'}", f"--gif={tmp_path / 'a.gif'}")
    written = np.load(tmp_path / "a.npz")
    assert written["classes"].tolist() == [3, 7, 3, 7, 3] and written["arr_0"].shape == (5, 28, 28, 1)
    assert Image.open(tmp_path / "a.gif").n_frames > 1  # equal frames, which codes may give, are written as one
    together = runs.load(directory / "latent").sample(5, classes=[3, 7], batch=5)
    assert np.abs(np.clip((together + 1) * 127.5, 0, 255) - written["arr_0"]).max() < 0.51


def test_reconstructions_and_their_measures_are_the_autoencoders(directory):
    latent, codes = (runs.load(directory / name) for name in ("latent", "moved"))
    held_out = codes.dataset("test[:20]")
    images = np.asarray(data.to_float(held_out.examples()))
    np.testing.assert_allclose(latent.reconstruct(images), codes.reconstruct(images), atol=1e-5)
    measured, own = latent.evaluate(held_out), codes.evaluate(held_out)
    assert own.items() <= measured.items() and "psnr" in own
    names = [f"latent_error_{level}" for level in (0.1, 0.3, 1.0, 3.0, 10.0)]
    assert measured.keys() - own.keys() == set(names)
    values = [measured[name] for name in names]
    assert values == sorted(values) and 0 < values[0] < 0.02 and 0.5 < values[-1] < 2


def test_judging_gives_agreement(scripts, directory, tmp_path):
    scripts.run("evaluate", f"--workdir={directory / 'latent'}", "--samples=20", f"--output={tmp_path / 'j.json'}")
    result = json.loads((tmp_path / "j.json").read_text())
    assert 0 <= result["agreement"] <= 1 and result["samples"] == 20 and (tmp_path / "j.png").is_file()


@pytest.mark.parametrize(("name", "settings", "message"), [
    ("latent", {"temperature": 0.5}, "temperature=0.5 does not apply to this model"),
    ("latent", {"noise_grid": "trailing"}, "kind 'edm': use 'karras'"),
    ("moved", {}, "trained a 'vqvae', which has no samples of its own"),
])
def test_settings_that_make_no_sense_are_refused(directory, name, settings, message):
    with pytest.raises(ValueError, match=message):
        runs.load(directory / name).sampler(**settings)


@pytest.mark.parametrize(("options", "message"), [
    ((), "config.autoencoder is empty"),
    (("--config.autoencoder={}/latent",), "is a run of 'latent_diffusion', which is made over a first stage itself"),
    (("--config.autoencoder={}/moved", "--config.data.name=cifar10"), "leave it out"),
    (("--config.autoencoder={}/moved", "--config.conditions.name=class"), "Did you mean 'classes'"),
    (("--config.autoencoder={}/moved", "--config.conditions.name=text"), "length"),
])
def test_mistakes_in_a_training_leave_nothing_behind(scripts, directory, tmp_path, options, message):
    error = scripts.run("train_latent_diffusion", f"--workdir={tmp_path / 'new'}", CONFIG,
                        *(option.format(directory) for option in options), fails=True)
    assert message in error and not (tmp_path / "new").exists()
