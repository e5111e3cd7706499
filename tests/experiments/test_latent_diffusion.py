"""Latent diffusion as a user starts it, over a VQ-VAE that was trained by its own script.

What comes after the training runs in this process: starting one takes longer than the work it does.
"""

import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import edit, evaluate, judge, reconstruct, sample
from experiments.configs import latent_diffusion_mnist, token_prior_mnist
from experiments.first_stage import measure_deviation
from experiments.latent_diffusion import train_latent_diffusion
from experiments.masks import kept_positions
from experiments.runs import load_run, load_split
from experiments.sampling import load_sampler
from experiments.token_prior import train_token_prior
from jaxgen import data, models
from jaxgen.losses import Gaussian
from jaxgen.show import read_records

pytestmark = pytest.mark.slow  # its parts are tested beside their modules; this is the way through the scripts

CONFIG = "--config=experiments/configs/latent_diffusion_mnist.py:smoke"
SAMPLING = {name: None for name in ("step", "classes", "prompt")} | {"seed": 0}
EDIT = SAMPLING | {"images": None, "mask": None, "count": 4, "strength": 0.6, "resample": 2, "scale": 1}


@pytest.fixture(scope="module")
def runs(scripts, tmp_path_factory):
    """The directory of the runs "latent" and "moved", its autoencoder, which lay in "codes" while it was trained."""
    directory = tmp_path_factory.mktemp("runs")
    scripts.run("vqvae", f"--workdir={directory / 'codes'}", "--config=experiments/configs/vqvae_mnist.py:smoke")
    scripts.run("latent_diffusion", f"--workdir={directory / 'latent'}", CONFIG,
                f"--config.autoencoder={directory / 'codes'}")
    (directory / "codes").rename(directory / "moved")
    return directory


def test_a_run_holds_its_autoencoder_and_the_deviation_of_its_latents(runs):
    loaded, variables = load_run(runs / "latent")
    codes, own = load_run(runs / "moved")
    chex.assert_trees_all_equal(variables.state["autoencoder"], own)
    pictures = data.to_float(load_split(codes.config, "train").images())
    latents = np.concatenate([jax.jit(codes.model.encode)(own.params, part) for part in np.split(pictures, 9)])
    assert loaded.model.shape == latents.shape[1:] == (7, 7, 8)
    assert float(variables.state["deviation"]) == pytest.approx(latents.std(dtype=np.float64), rel=1e-5)
    records = read_records(runs / "latent" / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4] and np.isfinite(records[-1]["eval/loss"])
    assert Image.open(runs / "latent" / "images" / "samples-00000004.png").size[0] == 2 * (10 * 30 + 2)


def test_a_run_goes_on_with_its_own_autoencoder_and_deviation(scripts, runs, tmp_path):
    shutil.copytree(runs / "latent", tmp_path / "latent")
    arguments = (f"--workdir={tmp_path / 'latent'}", CONFIG, f"--config.autoencoder={runs / 'codes'}")
    assert "resuming at step 4 of 6" in scripts.run("latent_diffusion", *arguments, "--config.num_steps=6")
    before, after = (load_run(run)[1] for run in (runs / "latent", tmp_path / "latent"))
    chex.assert_trees_all_equal(before.state, after.state)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before.params, after.params))))


def test_samples_are_decoded_latents_and_follow_seed_and_class_and_not_the_batch(runs, tmp_path):
    sample.main(workdir=runs / "latent", **(SAMPLING | {"classes": [3, 7]}), count=5, batch=2,
                output=tmp_path / "a.png", npz=tmp_path / "a.npz", gif=tmp_path / "a.gif", columns=None, scale=1)
    written = np.load(tmp_path / "a.npz")
    assert written["classes"].tolist() == [3, 7, 3, 7, 3] and written["images"].shape == (5, 28, 28, 1)
    assert Image.open(tmp_path / "a.gif").n_frames > 1  # equal frames, which codes may give, are written as one
    sampler, _, variables = load_sampler(runs / "latent")
    together = sampler.all(variables, jax.random.key(0), {"classes": written["classes"]}, 5, batch=5)
    assert np.abs(np.clip((together + 1) * 127.5, 0, 255) - written["images"]).max() < 0.51


@pytest.mark.parametrize(("action", "rows"), [("inpaint", 3), ("image", 2), ("invert", 4), ("interpolate", 2)])
def test_edits_write_their_rows(runs, tmp_path, action, rows):
    edit.main(action, workdir=runs / "latent", **(EDIT | {"classes": [3]}), output=tmp_path / "a.png")
    width, height = Image.open(tmp_path / "a.png").size
    assert (height - 2) // 30 == rows and (width - 2) // 30 == (8 if action == "interpolate" else 4)


def test_inpainting_keeps_latents_and_knows_nothing_of_the_removed_pixels(runs):
    sampler, loaded, variables = load_sampler(runs / "latent")
    first, second = data.to_float(load_split(loaded.config).take(np.array([0, 1]))["image"])
    mask = np.zeros((1, 28, 28, 1), bool)
    mask[:, :10] = True  # two rows of latents, and half of a third
    known, kept = sampler.known(variables.state, first[None], mask)
    assert kept[0, :, 0, 0].tolist() == [True] * 2 + [False] * 5 and known.shape == (1, 7, 7, 8)
    other, _ = sampler.known(variables.state, np.where(mask, first, second), mask)
    np.testing.assert_array_equal(known, other)
    cond = {"classes": jnp.array([3])}
    painted = edit.compiled(edit.inpaint, sampler, resample=2)(variables.params, jax.random.key(0), known, kept, cond)
    np.testing.assert_array_equal(painted[:, :2], known[:, :2])
    assert np.abs(painted[:, 2:] - known[:, 2:]).max() > 0.1


def test_kept_positions_are_those_of_which_all_pixels_are_kept():
    mask = np.ones((1, 6, 9, 1), bool)
    mask[0, 5, 2] = False
    assert kept_positions(mask, (2, 3, 8)).tolist() == [[[True, True, True], [False, True, True]]]


def test_reconstructions_and_their_measures_are_the_autoencoders(runs, tmp_path):
    for name in ("latent", "moved"):
        reconstruct.main(runs / name, None, None, None, 4, 1, tmp_path / f"{name}.png")
        evaluate.main(runs / name, "test[:20]", None, tmp_path / f"{name}.json", None, "alex")
    assert (tmp_path / "latent.png").read_bytes() == (tmp_path / "moved.png").read_bytes()
    latent, codes = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("latent", "moved"))
    assert codes.items() <= latent.items() and "psnr" in codes
    errors = {name: value for name, value in latent.items() if name not in codes}
    assert list(errors) == [f"latent_error_{level}" for level in (0.1, 0.3, 1.0, 3.0, 10.0)]
    values = list(errors.values())
    assert values == sorted(values) and 0 < values[0] < 0.02 and 0.5 < values[-1] < 2


def test_judging_gives_agreement(runs, tmp_path):
    judge.main(workdir=runs / "latent", **SAMPLING, count=20, output=tmp_path / "j.json")
    result = json.loads((tmp_path / "j.json").read_text())
    assert 0 <= result["agreement"] <= 1 and result["samples"] == 20 and (tmp_path / "j.png").is_file()


def test_the_deviation_of_a_posterior_counts_its_draws():
    """Means between -1 and 1, and a variance of 4 around each of them."""
    sides = {side: {"channels": 4, "multipliers": (1,), "norm_groups": 2} for side in ("encoder", "decoder")}
    autoencoder = models.build("kl_autoencoder", latent_channels=1, image_channels=1, **sides)
    autoencoder = autoencoder._replace(encode=lambda params, x: Gaussian(x, jnp.full(x.shape, jnp.log(4.0))))
    plain = models.build("diffusion", network={"name": "dit"}, image_channels=1)
    model = models.latent_diffusion(plain, autoencoder, shape=(4, 4, 1))
    pictures = np.random.default_rng(0).integers(0, 256, (230, 4, 4, 1), dtype=np.uint8)
    state = {"autoencoder": ({}, {}), "deviation": 0.5}
    found = measure_deviation(model, state, data.Dataset.from_arrays(pictures))
    assert found == pytest.approx(2 * np.sqrt(4 + (pictures / 127.5 - 1).var()), rel=0.03)


def small_mask(directory):
    mask = np.zeros((28, 28), np.uint8)
    mask[5:8, 5:8] = 255
    Image.fromarray(mask).save(directory / "mask.png")
    return directory / "mask.png"


@pytest.mark.parametrize(("attempt", "message"), [
    (lambda runs, _: load_sampler(runs / "latent", {"temperature": 0.5}),
     "--temperature=0.5 does not apply to the 'latent_diffusion'"),
    (lambda runs, _: load_sampler(runs / "latent", {"grid": "trailing"}), "kind 'edm': use 'karras'"),
    (lambda runs, _: load_sampler(runs / "moved"), "trained a 'vqvae', which has no samples of its own"),
    (lambda runs, new: edit.main("inpaint", workdir=runs / "latent", **(EDIT | {"mask": small_mask(new)}), output=None),
     "keeps no whole block of 4x4 pixels"),
])
def test_what_makes_no_sense_is_refused(runs, tmp_path, attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt(runs, tmp_path)


@pytest.mark.parametrize(("train", "file", "changes", "message"), [
    (train_latent_diffusion, latent_diffusion_mnist, {}, "config.autoencoder is empty"),
    (train_latent_diffusion, latent_diffusion_mnist, {"autoencoder": "latent"}, "is a run of 'latent_diffusion': give"),
    (train_latent_diffusion, latent_diffusion_mnist, {"autoencoder": "moved", "data.name": "cifar10"}, "leave it out"),
    (train_latent_diffusion, latent_diffusion_mnist, {"condition": "class"}, "Did you mean 'classes'"),
    (train_latent_diffusion, latent_diffusion_mnist, {"autoencoder": "moved", "condition": "text"},
     "needs config.model.text"),
    (train_token_prior, token_prior_mnist, {"tokenizer": "latent"}, "is a run of 'latent_diffusion': give"),
])
def test_mistakes_in_a_training_leave_nothing_behind(runs, tmp_path, train, file, changes, message):
    config = file.get_config("smoke")
    config.update_from_flattened_dict({
        name: str(runs / value) if name in ("autoencoder", "tokenizer") else value for name, value in changes.items()})
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()
