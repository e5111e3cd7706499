"""Diffusion models and token priors as a user starts them: train, resume, sample, edit, evaluate."""

import json
import shutil
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

from experiments.sample import columns_of
from jaxgen import runs
from jaxgen.show import read_records
from tests.experiments.conftest import FEW_DIGITS, SMALL_UNET

DIGITS = "--config=diffusion_mnist:smoke"
PRIOR = "--config=token_prior_mnist:smoke"


@pytest.fixture(scope="module")
def digits(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    scripts.run("train_diffusion", f"--workdir={workdir}", DIGITS, FEW_DIGITS, *SMALL_UNET)
    return workdir


@pytest.fixture(scope="module")
def prior(scripts, codes, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    shutil.copytree(codes, directory / "codes")
    scripts.run("train_token_prior", f"--workdir={directory / 'prior'}", PRIOR,
                f"--config.tokenizer={directory / 'codes'}")
    (directory / "codes").rename(directory / "moved")  # the prior's run is complete without its tokenizer's
    return directory / "prior"


def test_a_run_of_diffusion_leaves_samples_and_a_held_out_loss(digits):
    records = read_records(digits / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert np.isfinite(records[-1]["eval/loss"])
    assert Image.open(digits / "images" / "samples-00000004.png").size[0] == 2 * (10 * 30 + 2)
    assert json.loads((digits / "config.json").read_text())["model"]["conditions"] == {"name": "classes", "count": 10}


def test_samples_follow_seed_classes_and_settings_and_not_the_batch(scripts, digits, tmp_path):
    out = scripts.run(
        "sample", f"--workdir={digits}", "--count=5", "--batch=2", "--classes=3,7", "--solver=dpmpp_2m", "--steps=4",
        f"--output={tmp_path / 'a.png'}", f"--npz={tmp_path / 'a.npz'}", f"--gif={tmp_path / 'a.gif'}",
    )
    assert "8 network evaluations each, guidance included" in out and (tmp_path / "a.png").is_file()
    assert Image.open(tmp_path / "a.gif").n_frames >= 4
    written = np.load(tmp_path / "a.npz")
    assert written["classes"].tolist() == [3, 7, 3, 7, 3] and written["arr_0"].shape == (5, 28, 28, 1)
    together = runs.load(digits).sample(5, classes=[3, 7], batch=5, solver="dpmpp_2m", steps=4)
    difference = np.clip((together + 1) * 127.5, 0, 255) - written["arr_0"]
    assert np.abs(difference).max() < 0.51


def test_the_cost_of_a_sample_follows_the_settings(scripts, digits, tmp_path):
    scripts.run("evaluate", f"--workdir={digits}", "--efficiency", "--batch=2", "--solver=heun", "--steps=2",
                "--guidance=2", f"--output={tmp_path / 'cost.json'}")
    found = json.loads((tmp_path / "cost.json").read_text())
    assert (found["solver"], found["evaluations_per_sample"]) == ("heun", 6)
    assert found["flops_per_sample"] == pytest.approx(6 * found["flops_per_evaluation"], rel=1e-6)
    assert found["seconds_per_sample"] > 0 and "seconds_per_reconstruction" not in found


@pytest.mark.parametrize(("asked", "count", "columns"), [
    (10, 60, 10), (3, 64, 15), (2, 5, 4), (10, 4, None), (99, 200, None),
])
def test_classes_stand_in_columns_where_they_fit(asked, count, columns):
    assert columns_of(asked, count) == columns and (columns is None or columns % asked == 0)


@pytest.mark.parametrize(("action", "rows"), [("img2img", 2), ("invert", 4), ("interpolate", 2)])
def test_edits_write_their_rows(scripts, digits, tmp_path, action, rows):
    scripts.run("edit", action, f"--workdir={digits}", "--count=4", "--classes=3", "--scale=1",
                f"--output={tmp_path / 'a.png'}")
    width, height = Image.open(tmp_path / "a.png").size
    assert (height - 2) // 30 == rows and (width - 2) // 30 == (8 if action == "interpolate" else 4)


@pytest.mark.parametrize(("run", "options"), [
    ("digits", ["--classes=3"]), ("prior", ["--solver=maskgit", "--choice_temperature=2", "--steps=3"]),
])
def test_inpainting_keeps_what_the_mask_keeps(scripts, request, tmp_path, run, options):
    mask = np.zeros((28, 28), np.uint8)
    mask[:, :12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    scripts.run("edit", "inpaint", f"--workdir={request.getfixturevalue(run)}", "--count=3", "--scale=1", *options,
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
    scripts.run("evaluate", f"--workdir={digits}", "--samples=20", f"--output={tmp_path / 'j.json'}")
    result = json.loads((tmp_path / "j.json").read_text())
    assert 0 <= result["agreement"] <= 1 and result["classifier_accuracy"] > 0.9
    assert result["distance_within_class"] > 0 and 7 < result["held_out_distance_within_class"] < 11
    assert result["samples"] == 20 and (tmp_path / "j.png").is_file()
    assert (result["judge_learned"], result["judge_held_out"]) == (1000, 500)


def test_a_prior_samples_and_is_measured_without_the_run_of_its_tokenizer(scripts, prior, tmp_path):
    scripts.run("sample", f"--workdir={prior}", "--count=4", "--solver=confidence", f"--output={tmp_path / 'a.png'}")
    assert Image.open(tmp_path / "a.png").size == (2 * 62, 2 * 62)
    assert "no samples of its own" in scripts.run("sample", f"--workdir={prior.parent / 'moved'}", fails=True)
    scripts.run("evaluate", f"--workdir={prior}", "--split=test[:30]", f"--output={tmp_path / 'e.json'}")
    result = json.loads((tmp_path / "e.json").read_text())
    assert 0 < result["bits_per_token"] < 10 and result["examples"] == 30


def test_maskgit_draws(scripts, prior, tmp_path):
    scripts.run("sample", f"--workdir={prior}", "--solver=maskgit", "--choice_temperature=2", "--steps=3", "--count=4",
                f"--output={tmp_path / 'a.png'}")
    assert Image.open(tmp_path / "a.png").size == (2 * 62, 2 * 62)


def test_top_k_of_one_takes_the_most_likely_token_whatever_the_temperature(prior):
    run = runs.load(prior)
    settings = {"classes": [3], "steps": 3, "guidance": 1.0}
    for top_k, same in ((1, True), (2, False)):
        cold, hot = (run.sample(2, top_k=top_k, temperature=temperature, **settings) for temperature in (0.1, 10.0))
        assert (cold == hot).all() == same


def test_a_prior_goes_on_without_the_run_of_its_tokenizer(scripts, prior, tmp_path):
    shutil.copytree(prior, tmp_path / "prior")
    arguments = (f"--workdir={tmp_path / 'prior'}", PRIOR, f"--config.tokenizer={prior.parent / 'codes'}")
    assert "resuming at step 4 of 6" in scripts.run("train_token_prior", *arguments, "--config.num_steps=6")
    before, after = (runs.load(run).variables.state for run in (prior, tmp_path / "prior"))
    chex.assert_trees_all_equal(before, after)


@pytest.mark.parametrize(("arguments", "message"), [
    (["sample", "--solver=heunn"], "Did you mean 'heun'"),
    (["sample", "--classes=3,12"], "unknown class '12': expected one of '0', '1'"),
    (["sample", "--prompt=cat"], "cannot be asked for text"),
    (["edit", "paint"], "Did you mean 'inpaint'"),
    (["edit", "img2img", "--strength=1.5"], "strength must be in (0, 1], got 1.5"),
    (["edit", "inpaint", "--mask={}/small.png"], "has 5x5 pixels, but this model's images have 28x28"),
    (["edit", "img2img", "--mask={}/small.png"], "belongs to inpaint, not to img2img"),
    (["edit", "interpolate", "--count=1"], "takes images in pairs, got 1"),
    (["edit", "interpolate", "--count=3"], "got 3: use --count=2"),
    (["sample", "--guidance=nan"], "guidance must be finite, got nan"),
    (["sample", "--count=2", "--solver=dpmpp_2m", "--steps=4", "--guidance=1e38", "--output={}/a.png"],
     "none of the 2 samples is finite: nothing was written"),
    (["sample", "--classes="], "classes is empty"),
    (["sample", "--classes=zebra"], "unknown class 'zebra'"),
    (["sample", "--checkpoint_step=3"], "no checkpoint of step 3"),
    (["reconstruct"], "has no reconstructions"),
])
def test_mistakes_get_one_message_that_helps(scripts, digits, tmp_path, arguments, message):
    Image.new("L", (5, 5)).save(tmp_path / "small.png")
    arguments = [a.format(tmp_path) for a in arguments]
    assert message in scripts.run(*arguments, f"--workdir={digits}", fails=True)


@pytest.mark.parametrize(("run", "changes", "message"), [
    ("digits", {"guidance_low": 5.0, "guidance_high": 2.0}, "nothing would be guided"),
    ("digits", {"noise_grid": "trailing"}, "kind 'edm': use 'karras'"),
    ("digits", {"temperature": 0.5}, "temperature=0.5 does not apply"),
    ("prior", {"temperature": 0.0}, "temperature must be positive, got 0"),
    ("prior", {"remask": 1.5}, r"remask must be a fraction in \[0, 1\], got 1.5"),
    ("prior", {"remask": 0.5, "solver": "confidence"}, "belongs to solver 'ancestral'"),
    ("prior", {"solver": "maskgut"}, "Did you mean 'maskgit'"),
    ("prior", {"choice_temperature": -1.0, "solver": "maskgit"}, "choice_temperature must not be below 0"),
    ("prior", {"noise_grid": "karras"}, "does not apply to this model: its settings are choice_temp"),
])
def test_settings_out_of_bounds_are_refused(request, run, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.load(request.getfixturevalue(run)).sampler(**changes)


@pytest.mark.parametrize(("arguments", "message"), [
    (["edit", "img2img"], "edit img2img needs a diffusion model"),
])
def test_what_a_prior_cannot_do_is_said(scripts, prior, arguments, message):
    assert message in scripts.run(*arguments, f"--workdir={prior}", fails=True)


@pytest.mark.parametrize(("arguments", "message"), [
    (["train_diffusion", DIGITS, "--config.conditions.name=class"], "Did you mean 'classes'"),
    (["train_diffusion", "--config=diffusion_emoji32:smoke", "--config.data.name=mnist_5k"],
     "needs captions, and mnist_5k has none"),
    (["train_token_prior", PRIOR], "config.tokenizer is empty"),
    (["train_token_prior", DIGITS], "describes a 'diffusion', and this script trains a token_"),
    (["train_token_prior", PRIOR, "--config.tokenizer={prior}/../nothing"], "nothing does not exist: give the"),
    (["train_token_prior", PRIOR, "--config.conditions.name=text", "--config.tokenizer={codes}"], "length"),
    (["train_token_prior", PRIOR, "--config.conditions.name=txt", "--config.tokenizer={codes}"], "Did you mean 'text'"),
    (["train_token_prior", PRIOR, "--config.objective=maskgut"], "Did you mean 'maskgit'"),
    (["train_token_prior", PRIOR, "--config.tokenizer={prior}"], "is a run of 'token_prior'"),
    (["train_token_prior", PRIOR, "--config.tokenizer={codes}", "--config.data.name=cifar10"], "leave it out"),
])
def test_mistakes_in_a_training_leave_nothing_behind(scripts, prior, tmp_path, arguments, message):
    arguments = [a.format(prior=prior, codes=prior.parent / "moved") for a in arguments]
    assert message in scripts.run(*arguments, f"--workdir={tmp_path / 'new'}", fails=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("script", "options"), [
    ("sample", ["--workdir", "--classes", "--guidance", "--npz", "--checkpoint_step"]),
    ("edit", ["--workdir", "--strength", "--mask", "--solver"]),
    ("train_diffusion", ["--workdir", "--config"]),
])
def test_help_lists_the_options_of_the_script(scripts, script, options):
    if script == "sample":  # as a user starts it: what an import prints or defines is there
        process = scripts.start(script, "--help")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0
    else:
        out, err = scripts.run(script, "--help"), ""
    assert [option for option in options if option not in out] == [], out + err
    assert "tensorstore" not in out and len(out.splitlines()) < 90


def needs(path):
    return pytest.mark.skipif(not Path(path).exists(), reason=f"needs {path} of a Debian package")


FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"


@pytest.mark.slow
@pytest.mark.parametrize(("config", "asked"), [
    pytest.param("diffusion_emoji32", "--prompt=red heart", marks=needs(FONT)),
])
def test_configurations_train_go_on_sample_and_inpaint(scripts, tmp_path, config, asked):
    arguments = (f"--workdir={tmp_path / 'run'}", f"--config={config}:smoke")
    scripts.run("train_diffusion", *arguments)
    assert "resuming at step 4 of 6" in scripts.run("train_diffusion", *arguments, "--config.num_steps=6")
    scripts.run("sample", arguments[0], "--count=4", asked)
    scripts.run("edit", "inpaint", arguments[0], "--count=2", asked)
    assert list((tmp_path / "run").glob("samples-step*.png")) and list((tmp_path / "run").glob("edit-inpaint-*.png"))


@pytest.mark.slow
@pytest.mark.parametrize(("config", "parallel"), [(DIGITS, ["mode=pmap"])])
def test_many_devices_train_as_one_does(scripts, digits, prior, tmp_path, config, parallel):
    script, one = ("train_diffusion", digits) if config == DIGITS else ("train_token_prior", prior)
    options = [f"--config.parallel.{option}" for option in parallel]
    options += [FEW_DIGITS, *SMALL_UNET] if config == DIGITS else [f"--config.tokenizer={prior.parent / 'moved'}"]
    flags = f"{scripts.environment['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    out = scripts.run(script, f"--workdir={tmp_path / 'run'}", config, *options, XLA_FLAGS=flags)
    assert "4 cpu devices" in out
    expected, actual = (read_records(run / "metrics.jsonl") for run in (one, tmp_path / "run"))
    for name in ("loss", "loss_low_noise", "bits_per_token", "grad_norm", "eval/loss"):
        pairs = [(a[name], b[name]) for a, b in zip(expected, actual) if name in a]
        assert all(np.isclose(*pair, rtol=2e-4) for pair in pairs), (name, pairs)
