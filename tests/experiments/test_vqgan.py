"""The VQGAN script from end to end: a run stopped and resumed, and the scripts that read it."""

import json
import re

import pytest

from jaxgen import runs
from jaxgen.models import VQVAE, KLAutoencoder
from jaxgen.show import read_records
from tests.experiments.conftest import FEW_DIGITS, SMALL_VQVAE
from tests.experiments.test_vqvae import same_run

CONFIG = "--config=vqgan_emoji32:smoke"
DIGITS = (CONFIG, *SMALL_VQVAE, FEW_DIGITS, "--config.data.name=mnist_5k", "--config.data.image_size=0",
          "--config.adversarial.r1=0.1")


@pytest.fixture(scope="module")
def trained(scripts, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "gan"
    scripts.run("train_vqgan", f"--workdir={workdir}", *DIGITS)
    return workdir


def test_a_run_is_an_autoencoder_like_any_other(scripts, trained, tmp_path):
    loaded = runs.load(trained)
    assert isinstance(loaded.model, VQVAE) and set(loaded.variables.params) == {"encoder", "decoder", "quantizer"}
    records = [r for r in read_records(trained / "metrics.jsonl") if "loss" in r]
    assert records[0]["discriminator"] == 0 and records[0]["gan_weight"] == 0  # config.adversarial.start is 1
    assert records[1]["discriminator"] > 0 and records[3]["gan_weight"] > records[1]["gan_weight"] > 0
    scripts.run("evaluate", f"--workdir={trained}", f"--output={tmp_path / 'e.json'}")
    assert json.loads((tmp_path / "e.json").read_text())["bits_per_pixel"] == pytest.approx(49 * 5 / 784)


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_run_that_was_not_stopped_discriminator_included(scripts, trained, tmp_path):
    workdir = tmp_path / "run"
    constant = ("--config.optimizer.schedule=constant", "--config.discriminator_optimizer.schedule=constant")
    whole = tmp_path / "whole"
    scripts.run("train_vqgan", f"--workdir={whole}", *DIGITS, *constant)
    scripts.run("train_vqgan", f"--workdir={workdir}", *DIGITS, *constant, "--config.num_steps=2",
                "--config.evaluate_every=100")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("".join(line + "\n" for line in lines if "eval/" not in line))
    assert "resuming at step 2 of 4" in scripts.run("train_vqgan", f"--workdir={workdir}", *DIGITS, *constant)
    same_run(whole, workdir)


@pytest.mark.slow
def test_four_devices_under_pmap_train_as_one_with_statistics_of_the_whole_batch(scripts, tmp_path):
    records = []
    for name, flags in (("one", []), ("four", ["--config.parallel.mode=pmap"])):
        devices = "--xla_force_host_platform_device_count=" + ("4" if flags else "1")
        out = scripts.run("train_vqgan", f"--workdir={tmp_path / name}", *DIGITS, *flags,
                          "--config.discriminator.norm=batch",
                          XLA_FLAGS=f"{scripts.environment['XLA_FLAGS']} {devices}")
        assert ("4 cpu devices" in out) == bool(flags)
        records.append([r for r in read_records(tmp_path / name / "metrics.jsonl") if "loss" in r])
    for one, four in zip(*records, strict=True):
        for metric in ("loss", "discriminator", "gan_weight", "grad_norm", "discriminator_grad_norm"):
            assert four[metric] == pytest.approx(one[metric], rel=2e-3), (one["step"], metric)


@pytest.mark.slow
def test_a_kl_autoencoder_trains_and_is_measured(scripts, tmp_path):
    workdir = tmp_path / "kl"
    scripts.run("train_vqgan", f"--workdir={workdir}", "--config=kl_mnist:smoke")
    assert isinstance(runs.load(workdir).model, KLAutoencoder)
    records = [r for r in read_records(workdir / "metrics.jsonl") if "loss" in r]
    assert records[-1]["kl"] > 0 and "perplexity" not in records[-1]
    scripts.run("evaluate", f"--workdir={workdir}", f"--output={tmp_path / 'e.json'}")
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["psnr"] > 0 and "bits_per_pixel" not in result
    scripts.run("reconstruct", f"--workdir={workdir}", "--count=4")


@pytest.mark.parametrize("argument, message", [
    ("--config.adversarial.loss=hing", "config.adversarial.loss.*'hing'.*hinge"),
    ("--config.perceptual.name=vgg", "config.perceptual.name.*'vgg'.*lpips"),
    ("--config.adversarial.loss=wasserstein", "set config.adversarial.gradient_penalty"),
    ("--config.accumulate=2", "config.accumulate=2.*leave it at 1"),
])
def test_mistakes_get_one_message(scripts, tmp_path, argument, message):
    error = scripts.run("train_vqgan", f"--workdir={tmp_path / 'x'}", *DIGITS, argument, fails=True)
    assert re.search(message, error.replace("\n", " ")) and not (tmp_path / "x").exists()
