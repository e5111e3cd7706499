"""Images that are not finite are counted, said and never shown as black ones; the scripts end with an error."""

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import edit, evaluate, reconstruct, sample
from jaxgen import data, generate, runs
from jaxgen.evaluate import reconstruction
from jaxgen.models import Classes

SHAPE = (8, 8, 1)


def run_of(wrong, directory):
    """A run whose samples are black images, some of which are not finite."""

    def draw(variables, key, ids, cond):
        images = np.full((len(ids), *SHAPE), -1, np.float32)
        for index, value in wrong.items():
            images[index, 3, 2] = value
        return images

    model = SimpleNamespace(conditions=Classes(10), null=lambda count: {})
    sampler = generate.Sampler(model=model, settings={}, draw=draw,
                               work=SimpleNamespace(evaluations=lambda: 7))
    run = SimpleNamespace(model=model, step=4, path=directory, variables=None, class_names=None, example_shape=SHAPE,
                          config={"data": {"crop": 0, "train_split": "train"}}, sampler=lambda **settings: sampler,
                          dataset=lambda split=None: None)
    run.judge = partial(runs.Run.judge, run)
    return run


def write_samples(monkeypatch, directory, wrong, count=4, png_folder="png"):
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: run_of(wrong, directory))
    sample.main(workdir=str(directory), checkpoint=None, checkpoint_step=None, count=count, batch=count, seed=0,
                classes=["7", "3"], prompt=None, output=None, npz=str(directory / "new" / "a.npz"), gif=None,
                png_folder=png_folder and str(directory / png_folder), columns=4, scale=1, settings={})


def test_the_finite_samples_are_written_and_the_others_left_blank(monkeypatch, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"2 of 4 samples are not finite \(NaN or infinite\), the first is number 1"):
        write_samples(monkeypatch, tmp_path, {1: np.nan, 2: np.inf})
    sheet = tmp_path / "samples-step00000004-seed0.png"
    assert [np.asarray(Image.open(sheet))[5, 5 + 10 * i] for i in range(4)] == [0, 255, 255, 0]
    written = np.load(tmp_path / "new" / "a.npz")
    assert written["arr_0"].shape == (2, *SHAPE) and written["classes"].tolist() == [7, 3]
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == ["000000.png", "000003.png"]
    assert f"wrote {sheet}: 4 samples of step 4; 7 network evaluations each" in capsys.readouterr().out


def test_samples_beyond_one_sheet_are_counted_and_written_to_the_npz_only(monkeypatch, tmp_path, capsys):
    write_samples(monkeypatch, tmp_path, {}, count=1030, png_folder=None)
    sheet = tmp_path / "samples-step00000004-seed0.png"
    assert f"wrote {sheet}: the first 1024 of 1030 samples of step 4" in capsys.readouterr().out
    assert Image.open(sheet).size == (4 * 10 + 2, 256 * 10 + 2)
    assert np.load(tmp_path / "new" / "a.npz")["arr_0"].shape == (1030, *SHAPE)
    with pytest.raises(ValueError, match=r"1 of 1030 .* number 1027: they are beyond the sheet and left out of .*npz"):
        write_samples(monkeypatch, tmp_path, {1027: np.nan}, count=1030, png_folder=None)
    assert np.load(tmp_path / "new" / "a.npz")["arr_0"].shape == (1029, *SHAPE)


def test_no_file_is_written_where_no_sample_is_finite(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="none of the 4 samples is finite: nothing was written"):
        write_samples(monkeypatch, tmp_path, dict.fromkeys(range(4), np.nan))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_samples_that_are_not_finite_are_not_judged(tmp_path):
    run = run_of({2: np.nan}, tmp_path)
    with pytest.raises(ValueError, match="1 of 5 samples are not finite.*cannot be judged"):
        evaluate.judge_samples(run, 5, None, None, 0, 5, {}, tmp_path / "a.png")


def broken(variables, x):
    """A reconstruction that is NaN where an image is white."""
    return jnp.where(jnp.mean(x, axis=(1, 2, 3), keepdims=True) > 0.5, jnp.nan, x)


def test_reconstructions_that_are_not_finite_are_said_and_seen_in_the_metrics(monkeypatch, tmp_path):
    images = np.zeros((4, 12, 12, 1), np.uint8)  # SSIM's window has 11 pixels
    images[2] = 255
    dataset = data.Dataset.from_arrays(images, name="squares", split="test")
    model = SimpleNamespace(num_codes=None, forward=lambda v, x, **options: (broken(v, x), {}, {}))
    run = SimpleNamespace(model=model, step=1, path=tmp_path, variables=None, dataset=lambda split: dataset)
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: run)
    with pytest.raises(ValueError, match="1 of 4 reconstructions are not finite.*the first is number 2: .*blank in"):
        reconstruct.main(workdir=str(tmp_path), checkpoint=None, checkpoint_step=None, split=None, images=None,
                         count=4, scale=1, output=str(tmp_path / "a.png"))
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (58, 30) and sheet[20, 5] == sheet[50, 20] == 0 and sheet[50, 5] == 255
    assert np.isnan(reconstruction(model)(None, dataset)["mse"])


@pytest.mark.parametrize(("name", "value"), [("guidance", np.nan), ("temperature", np.inf), ("top_p", np.nan)])
def test_settings_that_are_not_finite_are_refused(name, value):
    known = {"guidance": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with pytest.raises(ValueError, match=f"{name} must be"):
        generate.sampler.check_settings({name: float(value)}, known)


def test_a_sheet_of_an_edit_says_what_is_not_finite(monkeypatch, tmp_path):
    images = data.Dataset.from_arrays(np.zeros((3, *SHAPE), np.uint8), name="squares", split="all")
    filled = np.full((3, *SHAPE), -1, np.float32)
    filled[1, 3, 2] = np.nan
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: run_of({}, tmp_path))
    monkeypatch.setattr(data, "read_folder", lambda *arguments: images)
    monkeypatch.setattr(generate, "inpaint", lambda *arguments, **options: filled)
    with pytest.raises(ValueError, match="1 of 3 images are not finite"):
        edit.main("inpaint", workdir=str(tmp_path), checkpoint=None, checkpoint_step=None, images="mine",
                  mask=None, count=3, seed=0, classes=None, prompt=None, strength=0.5, resample=1, output=None, scale=1,
                  settings={})
    assert np.asarray(Image.open(tmp_path / "edit-inpaint-step00000004-seed0.png"))[25:, 15].max() == 255
