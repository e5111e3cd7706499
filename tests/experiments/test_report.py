"""Pages of real runs, as a user asks for them."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.decoded_codes import decoded_codes
from experiments.common.reporting import with_intervals
from experiments.report import matching
from jaxgen import runs
from jaxgen.show import to_uint8
from jaxgen.show.comparison import reveal
from tests.experiments.conftest import FEW_DIGITS, SMALL_UNET, VQVAE
from tests.show.pages import check, pixels


@pytest.fixture(scope="module")
def demo(scripts, tmp_path_factory):
    """The demo's directory, with a gallery of a tokenizer and of a prior over it, and what it printed."""
    workdir = tmp_path_factory.mktemp("pages") / "demo"
    return workdir, scripts.run("demo", f"--workdir={workdir}", *VQVAE, "--prior=token_prior_demo:smoke")


def test_a_gallery_shows_what_each_run_can_do(demo):
    workdir, out = demo
    html = (workdir / "index.html").read_text()
    ids = {attributes.get("id") for _, attributes in check(html)}
    assert ids >= {f"run1-{part}" for part in ("model", "curves", "metrics", "reconstructions", "codes")}
    assert ids >= {f"run2-{part}" for part in ("samples", "filling", "neighbours", "codes", "reconstructions")}
    assert not ids & {"run1-samples", "run1-neighbours", "run1-filling"}
    assert "demo (1/2): the codebook" in out and "samples (5/8), nothing to show" in out and "open " in out
    # Held-out codes are counted as the evaluation of the training counts them.
    used = runs.summarize(workdir).metrics["eval/used"]
    assert f"{round(32 * used)} of 32 codes occur on 500 images" in html


def test_the_report_of_a_diffusion_run_shows_its_way_from_noise(scripts, tmp_path):
    workdir = tmp_path / "digits"
    scripts.run("train_diffusion", f"--workdir={workdir}", "--config=diffusion_mnist:smoke", FEW_DIGITS,
                *SMALL_UNET)
    (workdir / "nearest-x.json").write_text('{"agreement": 0.5, "samples": 16, "agreement_by_class": {"0": 1}}')
    (workdir / "README.md").write_text("# Card of <a> model")
    assert "report.html" in scripts.run("report", f"--workdir={workdir}/.", "--samples=10")
    html = (workdir / "report.html").read_text()
    ids = {attributes.get("id") for _, attributes in check(html)}
    assert ids >= {"samples", "denoising", "neighbours", "curves", "metrics"} and "reconstructions" not in ids
    assert "<title>digits</title>" in html and "# Card of &lt;a&gt; model" in html
    assert "<td>agreement</td><td>0.5</td><td>0.28 to 0.72</td>" in html  # Wilson's of 8 in 16
    assert "agreement_by_class" not in html
    steps = runs.load(workdir).config["sampling"]["steps"]  # of Heun's method, guided
    assert f"{2 * (2 * steps - 1)} network evaluations each, guidance included" in html


def test_a_blind_comparison_pairs_each_image_with_its_reconstruction(scripts, codes, tmp_path):
    scripts.run("report", "--ab", f"--workdir={codes}", "--count=5", "--seed=3", f"--output={tmp_path / 'a.html'}")
    html = (tmp_path / "a.html").read_text()
    check(html)
    data = json.loads(re.search(r'id="payload"[^>]*>(.*?)</script>', html, re.S)[1])
    dataset = runs.load(codes).dataset()
    held_out, labels = dataset.examples()[..., 0], dataset.labels()
    assert len(data["pairs"]) == 5
    seen = set()
    for first_left, pair in zip(reveal(data["truth"], 3), data["pairs"], strict=True):
        real, made = map(pixels, pair if first_left else pair[::-1])
        seen.update(labels[(real == held_out).all(axis=(1, 2))])
        assert (real == held_out).all(axis=(1, 2)).any() and not (made == held_out).all(axis=(1, 2)).any()
    assert len(seen) > 2  # images of several classes


def test_a_code_looks_as_the_decoder_draws_its_places():
    """Next to a loop over all places; a decoder that paints cells by their codes, and what is above them."""

    class Stage:
        num_tokens = 5

        def from_tokens(self, variables, tokens):
            levels = (tokens + jnp.roll(tokens, 1, axis=1) / 2) / 10
            return levels.repeat(4, 1).repeat(2, 2)[..., None]

    tokens = np.random.default_rng(0).integers(0, 4, (70, 3, 2)).astype(np.int32)
    found = decoded_codes(Stage(), None, np.array([1, 2, 4]), tokens, (12, 4, 1))
    images = to_uint8(np.asarray(Stage().from_tokens(None, tokens)))
    padded = np.pad(images, ((0, 0), (2, 2), (1, 1), (0, 0)), "edge").astype(float)
    for code, patch in zip((1, 2), found):
        windows = [padded[i, 4 * row : 4 * row + 8, 2 * column : 2 * column + 4]
                   for i, row, column in np.argwhere(tokens == code)]
        np.testing.assert_allclose(patch, np.mean(windows, axis=0), atol=0.5)
    assert (found[2] == to_uint8(np.float32([0.6]))).all()  # not among the tokens: the same code all around


def test_samples_are_compared_with_real_images_of_their_class(codes):
    class Run:
        held_out = runs.load(codes).dataset()
        cond, seed, samples = {"classes": np.array([3, 1, 4, 1, 5])}, 0, np.zeros(5)

    labels, images = Run.held_out.labels(), Run.held_out.examples()
    found = [labels[(images == image).all(axis=(1, 2, 3))] for image in matching(Run)]
    assert [list(set(one)) for one in found] == [[3], [1], [4], [1], [5]]


@pytest.mark.parametrize(("options", "message"), [
    (["--against=x"], "--against=x is of blind comparisons: add --ab"),
    (["--ab", "--workdir=y"], "--ab is of one run, got --workdir="),
    (["--output=a.pdf"], "must end in .html"),
])
def test_mistakes_get_a_message(scripts, codes, options, message):
    assert message in scripts.run("report", f"--workdir={codes}", *options, fails=True)


def test_a_classifier_has_nothing_to_compare(scripts, tmp_path):
    scripts.run("train_classifier", f"--workdir={tmp_path / 'run'}", "--config=classifier_mnist:smoke", FEW_DIGITS)
    assert "--ab compares images" in scripts.run("report", "--ab", f"--workdir={tmp_path / 'run'}", fails=True)
    scripts.run("report", f"--workdir={tmp_path / 'run'}")
    html = (tmp_path / "run" / "report.html").read_text()
    check(html)
    assert re.search(r"<td>accuracy</td><td>[\d.]+</td><td>[\d.]+ to [\d.]+</td>", html)


def test_intervals_are_taken_from_the_file_or_are_wilsons():
    values = with_intervals({"psnr": 20.0, "psnr_low": 19.0, "psnr_high": 21.0, "accuracy": 0.9, "examples": 100,
                             "loss_low_noise": 1.0, "nested": {"a": 1}})
    assert values["psnr"] == (20.0, 19.0, 21.0) and set(values) == {"psnr", "accuracy", "examples", "loss_low_noise"}
    assert values["accuracy"] == pytest.approx((0.9, 0.8256, 0.9448), abs=1e-4)
    # Of the held-out images that `judge` looked at, and of the samples: not of all that are held out.
    values = with_intervals({"classifier_accuracy": 0.9, "judge_held_out": 100, "agreement": 0.9, "samples": 100,
                             "examples": 10_000})
    assert values["classifier_accuracy"] == values["agreement"] == pytest.approx((0.9, 0.8256, 0.9448), abs=1e-4)

