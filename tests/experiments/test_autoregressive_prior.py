"""An autoregressive prior as a user starts it: train, resume, sample, measure, judge, fill in, and the mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen import runs
from jaxgen.show import read_records

pytestmark = pytest.mark.slow  # its parts are tested next to their modules; this is the way through the scripts

PRIOR = "--config=token_prior_autoregressive_mnist:smoke"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
MASKED = "--config=token_prior_mnist:smoke"


@pytest.fixture(scope="module")
def prior(scripts, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    scripts.run("train_vqvae", f"--workdir={directory / 'codes'}", "--config=vqvae_mnist:smoke")
    scripts.run("train_token_prior", f"--workdir={directory / 'prior'}", PRIOR,
                f"--config.tokenizer={directory / 'codes'}")
    return directory / "prior"


def test_a_run_leaves_samples_and_a_held_out_code_length_and_goes_on(scripts, prior, tmp_path):
    records = read_records(prior / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert 0 < records[-1]["eval/bits_per_token"] < 10
    assert Image.open(prior / "images" / "samples-00000004.png").size[0] == 2 * (10 * 30 + 2)
    shutil.copytree(prior, tmp_path / "prior")
    arguments = (f"--workdir={tmp_path / 'prior'}", PRIOR, f"--config.tokenizer={prior.parent / 'codes'}")
    assert "resuming at step 4 of 6" in scripts.run("train_token_prior", *arguments, "--config.num_steps=6")


def test_it_samples_is_measured_and_judged_and_fills_in(scripts, prior, tmp_path):
    run = f"--workdir={prior}"
    out = scripts.run("sample", run, "--count=4", "--top_p=0.9", "--guidance=2", f"--output={tmp_path / 'a.png'}")
    assert "98 network evaluations each, guidance included" in out
    assert Image.open(tmp_path / "a.png").size == (2 * 62, 2 * 62)
    scripts.run("evaluate", run, "--split=test[:30]", f"--output={tmp_path / 'e.json'}")
    assert 0 < json.loads((tmp_path / "e.json").read_text())["bits_per_token"] < 10
    scripts.run("evaluate", run, "--samples=20", f"--output={tmp_path / 'j.json'}")
    assert 0 <= json.loads((tmp_path / "j.json").read_text())["agreement"] <= 1
    scripts.run("edit", "inpaint", run, "--count=3", "--scale=1", f"--output={tmp_path / 'b.png'}")
    assert Image.open(tmp_path / "b.png").size == (3 * 30 + 2, 3 * 30 + 2)


@pytest.mark.skipif(not FONT.exists(), reason=f"needs {FONT} of a Debian package")
def test_a_prior_of_text_goes_on_samples_by_name_is_measured_and_fills_in(scripts, tmp_path):
    run, codes = f"--workdir={tmp_path / 'prior'}", tmp_path / "codes"
    scripts.run("train_vqvae", f"--workdir={codes}", "--config=vqvae_emoji32:smoke")
    train = (run, "--config=token_prior_text_emoji32:smoke", f"--config.tokenizer={codes}")
    scripts.run("train_token_prior", *train)
    assert "resuming at step 4 of 6" in scripts.run("train_token_prior", *train, "--config.num_steps=6")
    assert Image.open(tmp_path / "prior" / "images" / "samples-00000006.png").size[0] > 64
    examples = []
    for i, name in enumerate(("red heart", "cat face")):
        scripts.run("sample", run, "--count=4", f"--prompt={name}", "--guidance=9", f"--output={tmp_path / 'a.png'}",
                    f"--npz={tmp_path / f'{i}.npz'}")
        examples.append(np.load(tmp_path / f"{i}.npz")["arr_0"])
    assert (examples[0] != examples[1]).any()
    long = scripts.run("sample", run, f"--prompt={'a' * 81}", fails=True)
    assert "has 81 bytes, and this model reads 80" in long
    assert "conditioned on text, so it cannot be asked for classes" in scripts.run("sample", run, "--classes=1",
                                                                                  fails=True)
    scripts.run("evaluate", run, "--split=test[:30]", f"--output={tmp_path / 'e.json'}")
    assert 0 < json.loads((tmp_path / "e.json").read_text())["bits_per_token"] < 10
    scripts.run("edit", "inpaint", run, "--count=2", "--prompt=red heart", f"--output={tmp_path / 'b.png'}")
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize(("changes", "message"), [
    ({"temperature": 0.0}, "temperature must be positive, got 0"),
    ({"top_p": 1.5}, r"top_p must be a fraction in \[0, 1\], got 1.5"),
    ({"top_k": -1}, "top_k must not be below 0, got -1"),
    ({"steps": 5}, "steps=5 does not apply to this model: its settings are guidance, "
                   "temperature, top_k, top_p"),
])
def test_settings_out_of_bounds_are_refused(prior, changes, message):
    with pytest.raises(ValueError, match=message):
        runs.load(prior).sampler(**changes)


@pytest.mark.parametrize(("workdir", "arguments", "message"), [
    ("prior", [MASKED, "--config.tokenizer={codes}"], 'model.kind: "autoregressive" before, nothing now'),
    ("prior", [PRIOR, "--config.tokenizer={prior}/other"], "was started with another configuration:\n  tokenizer"),
    ("codes", [PRIOR, "--config.tokenizer={codes}"], 'model.name: "vqvae" before, "token_prior" now'),
    ("new", [PRIOR, "--config.tokenizer={prior}"], "which is made over a first stage itself"),
])
def test_a_run_of_another_kind_is_refused(scripts, prior, workdir, arguments, message):
    arguments = [a.format(prior=prior, codes=prior.parent / "codes") for a in arguments]
    err = scripts.run("train_token_prior", f"--workdir={prior.parent / workdir}", *arguments, fails=True)
    assert message in err and not (prior.parent / "new").exists()
