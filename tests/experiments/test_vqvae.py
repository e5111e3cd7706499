"""The VQ-VAE script from end to end: a run stopped and resumed, the scripts that read it, and the mistakes."""

import json
import shutil
import time

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import runs
from jaxgen.show import read_records
from tests.experiments.conftest import VQVAE

SMOKE = VQVAE[0]


def last_step(workdir):
    records = read_records(workdir / "metrics.jsonl")
    return records[-1]["step"] if records else -1


def same_run(first, second):
    a, b = (runs.read_run(workdir) for workdir in (first, second))
    assert a.step == b.step
    chex.assert_trees_all_equal(a[2:5], b[2:5])
    records = [[{k: v for k, v in r.items() if k not in ("time", "examples_per_second")}
                for r in read_records(workdir / "metrics.jsonl")] for workdir in (first, second)]
    assert records[0] == records[1]


def test_a_run_leaves_its_configuration_records_examples_and_checkpoints(codes):
    config = json.loads((codes / "config.json").read_text())
    assert config["example_shape"] == [28, 28, 1] and config["model"]["name"] == "vqvae"
    assert "jax" in json.loads((codes / "environment.json").read_text())[0]["packages"]
    records = read_records(codes / "metrics.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
    assert any("eval/psnr" in r for r in records)
    assert Image.open(codes / "images" / "reconstructions-00000004.png").size[0] > 8 * 28
    assert list(codes.glob("events.out.tfevents*"))
    assert {p.name for p in (codes / "checkpoints").iterdir()} == {"2", "4"}


def test_a_run_stopped_half_way_and_resumed_is_the_run_that_was_not_stopped(scripts, codes, tmp_path):
    arguments = (f"--workdir={tmp_path / 'run'}", *VQVAE)
    scripts.run("train_vqvae", *arguments, "--config.num_steps=2", "--config.evaluate_every=100")
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(  # the evaluation at the stop is not in the other run
        line + "\n" for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "eval/" not in line))
    out = scripts.run("train_vqvae", *arguments)
    assert "resuming at step 2 of 4" in out
    assert out.endswith(f"next: python -m experiments.reconstruct --workdir={tmp_path / 'run'}\n")
    same_run(codes, tmp_path / "run")


def test_evaluation_counts_every_image_and_code(scripts, codes, tmp_path):
    out = scripts.run("evaluate", f"--workdir={codes}", f"--output={tmp_path / 'e.json'}")
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["examples"] == 500 and "psnr" in out
    assert result["bits_per_pixel"] == pytest.approx(49 * 5 / 784)  # 7x7 codes out of 32
    assert result["entropy_bits_per_pixel"] == pytest.approx(49 * np.log2(result["perplexity"]) / 784, rel=1e-5)


def test_images_under_11_pixels_train_and_are_measured_without_ssim(scripts, tmp_path):
    """And by a quantizer and in a dtype of the command line."""
    out = scripts.run("train_vqvae", f"--workdir={tmp_path / 'run'}", *VQVAE, "--config.data.image_size=8",
                      "--config.num_steps=1", "--config.dtype=bfloat16",
                      "--config.quantizer=residual(vq(16), depth=2)")
    assert "SSIM is left out: its window has 11x11 pixels, and images have 8x8" in out
    scripts.run("evaluate", f"--workdir={tmp_path / 'run'}", "--split=test[:20]", f"--output={tmp_path / 'e.json'}")
    result = json.loads((tmp_path / "e.json").read_text())
    assert "ssim" not in result and 0 < result["psnr"] < 100
    assert result["bits_per_pixel"] == 2 * 2 * 2 * 4 / 64  # 2x2 vectors of two codes out of 16, in 8x8 pixels
    run = runs.load(tmp_path / "run")
    assert {leaf.dtype for leaf in jax.tree.leaves(run.variables.params)} == {np.dtype("float32")}
    encoder = {"params": run.variables.params["encoder"]}
    assert "bf16" in str(jax.make_jaxpr(run.model.encoder.apply)(encoder, np.zeros((1, 8, 8, 1))))


def test_reconstructions_of_held_out_examples_and_of_a_folder_in_another_directory(scripts, codes, tmp_path):
    scripts.run("reconstruct", f"--workdir={codes}", "--count=8", f"--output={tmp_path / 'a.png'}")
    assert Image.open(tmp_path / "a.png").size == (2 * (4 * 30 + 2), 2 * (4 * 30 + 2))
    (tmp_path / "mine").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 50, 3), 60 * i, np.uint8)).save(tmp_path / "mine" / f"{i}.png")
    (tmp_path / "codes").symlink_to(codes)
    scripts.run("reconstruct", "--workdir=codes", "--images=mine", "--output=new/b.png", cwd=tmp_path)
    assert (tmp_path / "new" / "b.png").is_file()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--workdr=x"], "Did you mean: workdir"),
    (["--workdir=x", "--config.optimizer.learning_rat=1"], "Did you mean 'learning_rate'"),
    (["--workdir=x", "--config.optimizer.lr=1", SMOKE],
     "unknown value config.optimizer.lr: 'lr': expected one of 'b1', 'b2', 'clip_norm', 'learning_rate'"),
    (["--workdir=x", "--config.optimizer.lr=1"], "Did you mean 'learning_rate'?"),
    (["--workdir=x", "--config.optimizer.name.x=1"], "config.optimizer.name is a value, so that it has no 'x'"),
    (["--workdir={}/x", "--config.optimizer.name=admw", SMOKE], "Did you mean 'adamw'"),  # in any order
    (["--workdir=x", "--config=vqvae_mnist:smoky"], "Did you mean 'smoke'"),
    (["--workdir=x", "--config=experiments/configs/nothing.py"], "nothing.py"),
    (["--workdir=x", "--config=experiments/configs/vqvae_mnst.py"], "Did you mean 'vqvae_mnist'"),
    (["--workdir=x", "--config=vqvae_mnst"], "unknown configuration of --config 'vqvae_mnst': expected one of 'cla"),
    (["--workdir=x", "--config", "vqvae_mnst"], "Did you mean 'vqvae_mnist'?"),
    (["--workdir=x", "--config=diffusion_mnist"],
     "--config=diffusion_mnist describes a 'diffusion', and this script trains a vqvae or vqvae2: 'vqvae_mnist'"),
    (["--workdir=x", "--config=experiments/common/outputs.py"], "has no get_config(variant), so it is no"),
    (["--workdir=x", "--hlp"], "run python -m experiments.train_vqvae --help"),
    (["--workdir={}/x", SMOKE, "--config.data.name=mnist_5"], "Did you mean 'mnist_5k'"),
    (["--workdir={}/x", SMOKE, "--config.data.batch_size=5000"], "5000"),
])
def test_mistakes_on_the_command_line_get_one_message_that_helps(scripts, tmp_path, arguments, message):
    assert message in scripts.run("train_vqvae", *(a.format(tmp_path) for a in arguments), fails=True)
    assert list(tmp_path.iterdir()) == []  # so that the corrected command can start


def test_a_foreign_directory_and_a_damaged_checkpoint_are_refused(scripts, codes, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    assert "holds no run" in scripts.run("train_vqvae", f"--workdir={tmp_path / 'photos'}", SMOKE, fails=True)
    assert "not a run's directory" in scripts.run("evaluate", f"--workdir={tmp_path / 'photos'}", fails=True)
    damaged = tmp_path / "damaged"
    shutil.copytree(codes, damaged)
    largest = max((damaged / "checkpoints" / "4").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    message = scripts.run("evaluate", f"--workdir={damaged}", fails=True)
    assert "damaged" in message.lower() and str(damaged / "checkpoints" / "4") in message


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_ten_times_at_random_ends_in_the_same_state(scripts, tmp_path):
    long = (SMOKE, "--config.num_steps=400", "--config.checkpoint_every=3", "--config.evaluate_every=400")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    scripts.run("train_vqvae", f"--workdir={whole}", *long)
    rng = np.random.default_rng(0)
    for target in sorted(rng.integers(1, 300, 10)):
        process = scripts.start("train_vqvae", f"--workdir={killed}", *long)
        while last_step(killed) < target:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        assert process.poll() is None
        process.kill()
        process.communicate()
    assert "resuming" in scripts.run("train_vqvae", f"--workdir={killed}", *long)
    same_run(whole, killed)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["vqvae_fashion_mnist", "vqvae_emoji32", "vqvae2_emoji64"])
def test_every_configuration_trains_resumes_and_evaluates(scripts, tmp_path, config):
    arguments = (f"--workdir={tmp_path / 'run'}", f"--config={config}:smoke")
    scripts.run("train_vqvae", *arguments)
    assert "resuming" in scripts.run("train_vqvae", *arguments, "--config.num_steps=6")
    assert "psnr" in scripts.run("evaluate", f"--workdir={tmp_path / 'run'}")
    scripts.run("reconstruct", f"--workdir={tmp_path / 'run'}")


@pytest.mark.slow
def test_pmap_and_a_mesh_of_devices_train_as_one_device_does(scripts, codes, tmp_path):
    flags = "--xla_force_host_platform_device_count=4"
    reference = [r["loss"] for r in read_records(codes / "metrics.jsonl") if "loss" in r]
    for name, option in (("pmap", "--config.parallel.mode=pmap"), ("fsdp", "--config.parallel.fsdp=2")):
        scripts.run("train_vqvae", f"--workdir={tmp_path / name}", *VQVAE, option, XLA_FLAGS=flags)
        losses = [r["loss"] for r in read_records(tmp_path / name / "metrics.jsonl") if "loss" in r]
        np.testing.assert_allclose(losses, reference, rtol=1e-4)
    message = scripts.run("train_vqvae", f"--workdir={tmp_path / 'odd'}", SMOKE, "--config.data.batch_size=6",
                          XLA_FLAGS=flags, fails=True)
    assert "6" in message and "batch" in message
