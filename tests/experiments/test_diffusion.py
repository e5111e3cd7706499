"""Diffusion models and token priors as a user starts them: train, resume, sample, edit, evaluate, judge."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.sampling import load_sampler
from jaxgen.train import read_records

DIGITS = "--config=experiments/configs/diffusion_mnist.py:smoke"
PRIOR = "--config=experiments/configs/token_prior_mnist.py:smoke"


@pytest.fixture(scope="module")
def digits(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    scripts.run("diffusion", f"--workdir={workdir}", DIGITS)
    return workdir


@pytest.fixture(scope="module")
def prior(scripts, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    scripts.run("vqvae", f"--workdir={directory / 'codes'}", "--config=experiments/configs/vqvae_mnist.py:smoke")
    scripts.run("token_prior", f"--workdir={directory / 'prior'}", PRIOR, f"--config.tokenizer={directory / 'codes'}")
    (directory / "codes").rename(directory / "moved")  # the prior's run is complete without its tokenizer's
    return directory / "prior"


def test_a_run_of_diffusion_leaves_samples_and_a_held_out_loss(digits):
    records = read_records(digits / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert np.isfinite(records[-1]["eval/loss"])
    assert Image.open(digits / "images" / "samples-00000004.png").size[0] == 2 * (10 * 30 + 2)
    assert json.loads((digits / "config.json").read_text())["model"]["num_classes"] == 10


def test_samples_follow_seed_classes_and_settings_and_not_the_batch(scripts, digits, tmp_path):
    out = scripts.run(
        "sample", f"--workdir={digits}", "--count=5", "--batch=2", "--classes=3,7", "--solver=dpmpp_2m", "--steps=4",
        f"--output={tmp_path / 'a.png'}", f"--npz={tmp_path / 'a.npz'}", f"--gif={tmp_path / 'a.gif'}",
    )
    assert "4 network evaluations" in out and (tmp_path / "a.png").is_file()
    assert Image.open(tmp_path / "a.gif").n_frames >= 4
    written = np.load(tmp_path / "a.npz")
    assert written["classes"].tolist() == [3, 7, 3, 7, 3] and written["images"].shape == (5, 28, 28, 1)
    sampler, _, variables = load_sampler(digits, {"solver": "dpmpp_2m", "steps": 4})
    together = sampler.all(variables, jax.random.key(0), {"classes": written["classes"]}, 5, batch=5)
    difference = np.clip((together + 1) * 127.5, 0, 255) - written["images"]
    assert np.abs(difference).max() < 0.51


@pytest.mark.parametrize(("action", "rows"), [("inpaint", 3), ("image", 2), ("invert", 4), ("interpolate", 2)])
def test_edits_write_their_rows(scripts, digits, tmp_path, action, rows):
    scripts.run("edit", action, f"--workdir={digits}", "--count=4", "--classes=3", "--scale=1",
                f"--output={tmp_path / 'a.png'}")
    width, height = Image.open(tmp_path / "a.png").size
    assert (height - 2) // 30 == rows and (width - 2) // 30 == (8 if action == "interpolate" else 4)


@pytest.mark.parametrize("run", ["digits", "prior"])
def test_inpainting_keeps_what_the_mask_keeps(scripts, request, tmp_path, run):
    mask = np.zeros((28, 28), np.uint8)
    mask[:, :12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    scripts.run("edit", "inpaint", f"--workdir={request.getfixturevalue(run)}", "--count=3", "--scale=1",
                f"--mask={tmp_path / 'mask.png'}", f"--output={tmp_path / 'a.png'}")
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    rows = [sheet[2 + 30 * i : 30 + 30 * i] for i in range(3)]
    for column in range(3):
        given, shown, painted = (row[:, 2 + 30 * column : 30 + 30 * column] for row in rows)
        np.testing.assert_array_equal(shown[:, 12:], 128)
        if run == "digits":  # a prior keeps codes, not pixels
            np.testing.assert_array_equal(painted[:, :12], given[:, :12])
        assert np.abs(painted[:, 12:].astype(int) - given[:, 12:]).max() > 10


def test_evaluation_gives_bits_and_judging_gives_agreement(scripts, digits, tmp_path):
    out = scripts.run("evaluate", f"--workdir={digits}", "--split=test[:20]", f"--output={tmp_path / 'e.json'}")
    result = json.loads((tmp_path / "e.json").read_text())
    terms = [result[f"bits_{name}"] for name in ("prior", "diffusion", "reconstruction")]
    assert "bits_per_dim" in out and result["bits_per_dim"] == pytest.approx(sum(terms)) and min(terms) > 0
    scripts.run("judge", f"--workdir={digits}", "--count=20", f"--output={tmp_path / 'j.json'}")
    result = json.loads((tmp_path / "j.json").read_text())
    assert 0 <= result["agreement"] <= 1 and result["classifier_accuracy"] > 0.9
    assert result["samples"] == 20 and (tmp_path / "j.png").is_file()


def test_a_prior_samples_and_resumes_without_the_run_of_its_tokenizer(scripts, prior, tmp_path):
    scripts.run("sample", f"--workdir={prior}", "--count=4", "--solver=confidence", f"--output={tmp_path / 'a.png'}")
    assert Image.open(tmp_path / "a.png").size == (2 * 62, 2 * 62)
    assert "no samples of its own" in scripts.run("sample", f"--workdir={prior.parent / 'moved'}", fails=True)


@pytest.mark.parametrize(("arguments", "message"), [
    (["sample", "--solver=heunn"], "Did you mean 'heun'"),
    (["sample", "--classes=3,12"], "class 12 is out of range: this model has classes 0 to 9"),
    (["sample", "--prompt=cat"], "cannot be asked for text"),
    (["sample", "--temperature=0.5"], "--temperature=0.5 does not apply"),
    (["sample", "--grid=trailing"], "kind 'edm': use 'karras'"),
    (["edit", "paint"], "Did you mean 'inpaint'"),
    (["edit", "image", "--strength=1.5"], "strength must be in (0, 1], got 1.5"),
    (["edit", "inpaint", "--mask={}/small.png"], "has 5x5 pixels, but this model's have 28x28"),
    (["reconstruct"], "no codes to reconstruct from"),
])
def test_mistakes_get_one_message_that_helps(scripts, digits, tmp_path, arguments, message):
    Image.new("L", (5, 5)).save(tmp_path / "small.png")
    arguments = [a.format(tmp_path) for a in arguments]
    assert message in scripts.run(*arguments, f"--workdir={digits}", fails=True)
