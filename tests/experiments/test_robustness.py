"""The study of robustness: the changes of images against other libraries, its numbers by hand, and a run of it."""

import argparse
import io
import json
import math
import subprocess
from unittest import mock

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest

from experiments import study
from experiments.common.robust import forward_of
from experiments.configs import vqvae2_emoji64, vqvae_mnist
from experiments.studies import cells, perturbations, robustness
from jaxgen import models, runs
from jaxgen.models.parts import parse_quantizer

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 9, 8, 3), dtype=np.uint8)
SMALL = '''
from experiments.configs import vqvae_mnist

def get_config(name=None):
    config = vqvae_mnist.get_config("smoke")
    for part in (config.model.encoder, config.model.decoder):
        part.multipliers, part.patch_size = (1,), 4
    return config
'''


def test_noise_is_gaussian_rounded_to_bytes_and_the_seeds_own():
    grey = np.full((10, 20, 20, 1), 128, np.uint8)
    found = perturbations.noise(grey, 0.1)
    # With the rounding's own noise, uniform in half a byte, it is continuous again.
    spread = (found - 128.0 + np.random.default_rng(1).uniform(-0.5, 0.5, found.shape)) / 25.5
    assert found.dtype == np.uint8 and kstest(spread.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_array_equal(found, perturbations.noise(grey, 0.1))
    assert (found != perturbations.noise(grey, 0.1, seed=1)).any()
    assert (perturbations.noise(np.full_like(grey, 255), 0.1) > 150).all()  # it is clipped, and does not wrap


def test_a_shift_moves_every_pixel_to_the_right_and_repeats_the_first_column():
    for pixels in (1, 3):
        found = perturbations.shift(IMAGES, pixels)
        for column in range(IMAGES.shape[2]):
            np.testing.assert_array_equal(found[:, :, column], IMAGES[:, :, max(column - pixels, 0)])


def test_a_blur_is_the_sum_of_the_neighbours_by_a_gaussian():
    std, found = 0.8, perturbations.blur(IMAGES, 0.8)
    reach = int(4 * std + 0.5)
    kernel = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * std**2))
    kernel /= kernel.sum()
    padded = np.pad(IMAGES.astype(float), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    expected = np.zeros(IMAGES.shape)
    for row, a in enumerate(kernel):
        for column, b in enumerate(kernel):
            expected += a * b * padded[:, row:row + 9, column:column + 8]
    assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_pillow_writes_and_reads_and_worse_at_lower_quality(channels):
    smooth = (np.add.outer(np.arange(16), np.arange(24)) * 5).astype(np.uint8)
    image = np.stack([np.roll(smooth, 3 * i, axis=1) for i in range(channels)], axis=2)[None]
    errors = []
    for quality in (90, 50, 20):
        found, file = perturbations.jpeg(image, quality), io.BytesIO()
        Image.fromarray(image[0].squeeze()).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(found[0], np.asarray(Image.open(file)).reshape(image.shape[1:]))
        errors.append(np.abs(found.astype(float) - image).mean())
    assert 0 < errors[0] < errors[1] < errors[2]
    with pytest.raises(ValueError, match="2 channels"):
        perturbations.jpeg(image[..., :1].repeat(2, axis=3), 50)


def test_codes_of_a_shifted_image_are_compared_with_those_to_their_left():
    tokens = RNG.integers(0, 5, (4, 3, 6))
    found = np.concatenate([np.full((4, 3, 2), 9), tokens[:, :, :-2]], axis=2)
    assert robustness.share_of_changed(tokens, found, 2) == 0
    assert robustness.share_of_changed(tokens, tokens) == 0
    found[0, 0, 3] = 7
    assert robustness.share_of_changed(tokens, found, 2) == pytest.approx(1 / (4 * 3 * 4))


def test_every_variant_is_a_quantizer_that_is_read_as_it_was_meant():
    quantizer = vqvae_mnist.get_config().model.quantizer.to_dict()
    options = {name: dict(option.removeprefix("--config.").split("=", 1)
                          for option in robustness.options_of(name, quantizer)) for name in robustness.VARIANTS}
    described = {name: parse_quantizer(values["quantizer"]) for name, values in options.items()}
    assert described["plain"] == described["adversarial"] == quantizer
    assert described["latent noise"] == {"name": "noisy", "quantizer": quantizer, "std": robustness.LATENT_NOISE}
    assert described["quantizer dropout"] == {"name": "dropout", "quantizer": quantizer, "rate": robustness.DROPOUT}
    assert described["no k-means, no revival"] == {**quantizer, "revive_below": 0.0, "kmeans_iterations": 0}
    assert described["no revival"] == {**quantizer, "revive_below": 0.0}
    assert {name for name, values in options.items() if "robust.epsilon" in values} == {"adversarial"}


@pytest.fixture
def studied(scripts, tmp_path):
    """Runs the study on networks that compute in no time, its trainings as scripts' tests run them."""
    config = tmp_path / "small.py"
    config.write_text(SMALL)
    trained = []

    def train(command, stdout, **options):
        trained.append(command)
        stdout.write(scripts.run(command[2].removeprefix("experiments."), *command[3:]))
        return subprocess.CompletedProcess(command, 0)

    def run(*arguments):
        parser = argparse.ArgumentParser()
        robustness.add_arguments(parser)
        args = parser.parse_args([f"--workdir={tmp_path / 'study'}", f"--config={config}", "--steps=2", *arguments])
        with mock.patch.object(cells.subprocess, "run", train):
            return robustness.run(args), len(trained)

    return run, tmp_path / "study"


def test_the_study_measures_a_variant_once_and_goes_on_where_it_stopped(studied, capsys):
    run, workdir = studied
    (row,), _ = run("--images=6", "--only", "adversarial")
    with mock.patch.object(robustness, "measure", side_effect=AssertionError):
        assert run("--images=6", "--only", "adversarial") == ([row], 1)
    out = capsys.readouterr().out
    assert "| codes that change | noise 0.05 | noise 0.15 | shift 4 | blur 1 | JPEG 50 | JPEG 20 | attack 0.2 |" in out
    assert "| PSNR lost [dB] | PSNR | noise 0.05 | noise 0.15 | shift 1 | shift 2 | shift 4 |" in out
    assert all((workdir / name).stat().st_size > 10_000 for name in ("robustness.png", "collapse.png"))
    trained = runs.load(workdir / "small-py-adversarial-0")
    assert trained.config["robust"]["epsilon"] == robustness.EPSILON
    dataset = trained.dataset()
    images = dataset.take([len(dataset) * i // 5 - (i > 0) for i in range(6)])["image"]  # from all over the set
    np.testing.assert_array_equal(dataset.spread(len(dataset))["image"], dataset.examples())
    # By the library's own methods, image by image.
    changed = perturbations.blur(images, 1.0)
    x, x_new = (np.float32(one) / 127.5 - 1 for one in (images, changed))
    before, after = (jax.device_get(jax.jit(trained.model.to_tokens)(trained.variables, one)) for one in (x, x_new))
    assert row["changed blur 1"][0] == pytest.approx(np.mean(before != after))
    decoded = [np.clip(np.round((trained.reconstruct(one) + 1) * 127.5), 0, 255) for one in (x, x_new)]
    errors = [np.mean((one - images) ** 2, axis=(1, 2, 3)) for one in decoded]
    assert row["lost blur 1"][0] == pytest.approx(np.mean(10 * np.log10(errors[1] / errors[0])), abs=1e-3)
    moved = np.float32(robustness.attack(trained, images)) - images
    assert np.abs(moved).max() <= 127.5 * robustness.EPSILON + 0.5 and np.abs(moved).mean() > 5
    numbers = json.loads((workdir / "small-py-adversarial-0" / "study.json").read_text())["numbers"]
    assert all(math.isfinite(value) for value in numbers.values())


@pytest.mark.parametrize(("options", "message"), [
    (["--steps=0"], "--steps must be an integer of at least 1, got 0"), (["--seeds=-1"], "--seeds must be"),
    (["--images=0"], "--images must be"), (["--config=vqvae_mnist9"], "vqvae_mnist9"),
    (["--config=kl_mnist"], "describes a 'kl_autoencoder'"),
])
def test_options_with_which_nothing_is_studied_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        study.main(["robustness", f"--workdir={tmp_path / 'study'}", *options])
    assert message in str(caught.value) and not (tmp_path / "study").exists()


def test_a_quantizer_without_a_codebook_and_unknown_variants_are_refused(capsys):
    with pytest.raises(ValueError, match="--config has the quantizer 'fsq': give one with 'vq'"):
        robustness.options_of("plain", {"name": "fsq", "levels": [8, 5]})
    with pytest.raises(SystemExit):
        study.main(["robustness", "--only", "none"])
    assert "quantizer dropout" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "values", "message"), [
    (vqvae_mnist, {"epsilon": -0.1}, "config.robust.epsilon must not be below 0, got -0.1"),
    (vqvae_mnist, {"epsilon": 0.1, "steps": 0}, "config.robust.steps must be"),
    (vqvae_mnist, {"epsilon": 0.1, "target": "codes"}, "config.robust.target"),
    (vqvae2_emoji64, {"epsilon": 0.1}, "a VQVAE2 has several maps of them: give --config.robust.target=reconstruct"),
])
def test_values_of_robust_with_which_nothing_trains_are_named(module, values, message):
    config = module.get_config("smoke")
    config.robust.update(values)
    channels = 3 if module is vqvae2_emoji64 else 1
    model = models.build(**config.model.to_dict(), example_channels=channels)
    with pytest.raises(ValueError, match=message):
        forward_of(model, config)
    config.robust.update({"epsilon": 0.0, "steps": 1, "target": "latents"})
    assert forward_of(model, config) == model.forward
    config.robust.update({"epsilon": 0.1, "target": "reconstruction"})
    assert forward_of(model, config) != model.forward
