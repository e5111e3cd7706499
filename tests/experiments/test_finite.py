"""Images that are not finite are counted, said and never shown as black ones; the scripts end with an error."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import edit, judge, reconstruct, sample
from experiments.reconstruction import Reconstructor
from experiments.token_sampling import AutoregressiveSampler
from jaxgen import data
from jaxgen.models import TokenPrior

SHAPE = (8, 8, 1)


class Samples:
    """A sampler of black images, some of which are not finite."""

    evaluations, image_shape, sampling = 1, SHAPE, {}

    def __init__(self, wrong):
        self.wrong = wrong

    def many(self, variables, key, cond, count, **options):
        yield self.all(variables, key, cond, count)

    def all(self, variables, key, cond, count, **options):
        images = np.full((count, *SHAPE), -1, np.float32)
        for index, value in self.wrong.items():
            images[index, 3, 2] = value
        return images


def write_samples(monkeypatch, directory, wrong):
    model = SimpleNamespace(num_classes=10, text_length=0)
    loaded = SimpleNamespace(model=model, step=4, config={"class_names": None, "data": {}})
    for script in (sample, judge):
        monkeypatch.setattr(script, "load_sampler", lambda *a, **k: (Samples(wrong), loaded, None))
    sample.main(workdir=str(directory), step=None, count=4, batch=4, seed=0, classes=["7", "3"], prompt=None,
                output=None, npz=str(directory / "a.npz"), gif=None, columns=4, scale=1)


def test_the_finite_samples_are_written_and_the_others_left_blank(monkeypatch, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"2 of 4 samples are not finite \(NaN or infinite\), the first is number 1"):
        write_samples(monkeypatch, tmp_path, {1: np.nan, 2: np.inf})
    sheet = np.asarray(Image.open(tmp_path / "samples.png"))
    assert [sheet[5, 5 + 10 * i] for i in range(4)] == [0, 255, 255, 0]
    written = np.load(tmp_path / "a.npz")
    assert written["images"].shape == (2, *SHAPE) and written["classes"].tolist() == [7, 3]
    assert f"wrote {tmp_path / 'samples.png'}" in capsys.readouterr().out


def test_nothing_is_written_where_no_sample_is_finite(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="none of the 4 samples is finite: nothing was written"):
        write_samples(monkeypatch, tmp_path, dict.fromkeys(range(4), np.nan))
    assert not list(tmp_path.iterdir())


def test_samples_that_are_not_finite_are_not_judged(monkeypatch, tmp_path):
    write_samples(monkeypatch, tmp_path, {})
    monkeypatch.setattr(judge, "load_sampler", lambda *a, **k: (Samples({2: np.nan}), SimpleNamespace(
        model=SimpleNamespace(num_classes=10, text_length=0), config={"class_names": None}), None))
    with pytest.raises(ValueError, match="1 of 5 samples are not finite.*cannot be judged"):
        judge.main(workdir=str(tmp_path), step=None, count=5, seed=0, classes=None, prompt=None, output=None)


def broken(variables, x):
    """A reconstruction that is NaN where an image is white."""
    return jnp.where(jnp.mean(x, axis=(1, 2, 3), keepdims=True) > 0.5, jnp.nan, x)


def test_reconstructions_that_are_not_finite_are_said_and_seen_in_the_metrics(monkeypatch, tmp_path):
    images = np.zeros((4, 12, 12, 1), np.uint8)  # SSIM's window has 11 pixels
    images[2] = 255
    dataset = data.Dataset.from_arrays(images, name="squares", split="test")
    model = SimpleNamespace(reconstruct=broken, forward=lambda v, x: (broken(v, x), {}))
    loaded = SimpleNamespace(model=model, step=1, config={"model": {"name": "vqvae"}})
    monkeypatch.setattr(reconstruct, "load_run", lambda *a: (loaded, None))
    monkeypatch.setattr(reconstruct, "load_split", lambda *a: dataset)
    with pytest.raises(ValueError, match="1 of 4 reconstructions are not finite.*the first is number 2: .*blank in"):
        reconstruct.main(str(tmp_path), None, None, None, 4, 1, str(tmp_path / "a.png"))
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (58, 30) and sheet[20, 5] == sheet[50, 20] == 0 and sheet[50, 5] == 255
    assert np.isnan(Reconstructor(model).measure(None, dataset)["mse"])


@pytest.mark.parametrize(("name", "value"), [("guidance", np.nan), ("temperature", np.inf), ("top_p", np.nan)])
def test_settings_that_are_not_finite_are_refused(name, value):
    settings = {"guidance": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, name: float(value)}
    with pytest.raises(ValueError, match=f"{name} must be"):
        AutoregressiveSampler(TokenPrior(*[None] * 5, (1, 2), 3, 0, None), SHAPE, settings)


def test_an_image_of_tokens_that_could_not_be_drawn_is_not_finite():
    def next_logits(params, before, cache, index, cond):
        return jnp.where(jnp.array([False, True])[:, None, None] & (index == 1), jnp.nan, jnp.zeros((2, 1, 3))), cache

    model = TokenPrior(None, None, None, lambda state, tokens: jnp.zeros((2, *SHAPE)), None, (1, 2), 3, 0, None,
                       "autoregressive", next_logits, lambda count: ())
    sampler = AutoregressiveSampler(model, SHAPE, {"guidance": 1, "temperature": 1.0, "top_k": 0, "top_p": 1})
    images = sampler((None, None), jax.random.key(0), jnp.arange(2), {})
    assert np.isfinite(images[0]).all() and np.isnan(images[1]).all()


def test_a_sheet_of_an_edit_says_what_is_not_finite(monkeypatch, tmp_path):
    sampler = Samples({})
    loaded = SimpleNamespace(step=1, config={"image_shape": SHAPE, "class_names": None, "model": {"name": "vqvae"}},
                             model=SimpleNamespace(null=lambda count: {}, shape=(8, 8), text_length=0, num_classes=0))
    images = data.Dataset.from_arrays(np.zeros((3, *SHAPE), np.uint8), name="squares", split="all")
    monkeypatch.setattr(edit, "TokenSampler", Samples)
    monkeypatch.setattr(edit, "load_sampler", lambda *a, **k: (sampler, loaded, SimpleNamespace(params=None)))
    monkeypatch.setattr(edit, "read_folder", lambda *a: images)
    monkeypatch.setattr(edit, "fill_in", lambda *a: Samples({1: np.nan}).all(None, None, None, 3))
    sampler.shape = SHAPE
    with pytest.raises(ValueError, match="1 of 3 images are not finite"):
        edit.main("inpaint", workdir=str(tmp_path), step=None, images="mine", mask=None, count=3, seed=0, classes=None,
                  prompt=None, strength=0.5, resample=1, output=None, scale=1)
    assert np.asarray(Image.open(tmp_path / "edit-inpaint.png"))[25:, 15].max() == 255
