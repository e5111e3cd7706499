"""The image of a model card: what is on it, and that it is small."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as File

from jaxgen import data
from jaxgen.models import Classes, Unconditional
from jaxgen.runs import sheet

NOISE = np.random.default_rng(0).uniform(-1, 1, (160, 32, 32, 3)).astype(np.float32)  # of which no file is small


def toy_run(monkeypatch, conditions, *, able="sample", images=NOISE):
    monkeypatch.setattr(sheet, "abilities", lambda model: (able,))
    held_out = {"image": np.zeros((40, 32, 32, 3), np.uint8), "caption": [f"name {i}" for i in range(40)]}
    dataset = SimpleNamespace(example="image", split="test", spread=lambda count: {
        name: value[:count] for name, value in held_out.items()})
    return SimpleNamespace(
        model=SimpleNamespace(conditions=conditions), spec=data.Spec({"image": data.Image((32, 32, 3))}),
        class_names=None, dataset=lambda: dataset, reconstruct=lambda x: images[: len(x)],
        sample=lambda count, **_: images[:count])


def cut(file, columns, rows):
    """The images [rows, columns, 32, 32, C] of a sheet whose pixels stand twice, with two white ones between them."""
    pixels = np.asarray(File.open(file))[::2, ::2]
    assert pixels.shape[:2] == (34 * rows + 2, 34 * columns + 2)
    return pixels[2:, 2:].reshape(rows, 34, columns, 34, -1).swapaxes(1, 2)[:, :, :32, :32]


@pytest.mark.parametrize(("conditions", "columns"), [(Unconditional(), 10), (Classes(7), 7), (Classes(100), 10)])
def test_samples_stand_in_order_a_column_for_each_class_and_all_where_they_fit(monkeypatch, tmp_path, conditions,
                                                                               columns):
    flat = np.linspace(-1, 1, 40, dtype=np.float32)[:, None, None, None] * np.ones((1, 32, 32, 3), np.float32)
    said = sheet.draw_sheet(toy_run(monkeypatch, conditions, images=flat), tmp_path / "a.png")
    shown = cut(tmp_path / "a.png", columns, 4)[..., 0, 0, 0].ravel()
    np.testing.assert_array_equal(shown, np.round((flat[: 4 * columns, 0, 0, 0] + 1) * 127.5))
    assert ("a column for each class: 0, 1, 2, 3, 4, 5, 6" in said) == (columns == 7)


def test_a_sheet_has_fewer_images_where_they_are_large(monkeypatch, tmp_path):
    names = SimpleNamespace(entries={"text": "text"}, num_classes=0, length=48)
    said = sheet.draw_sheet(toy_run(monkeypatch, names), tmp_path / "a.png")
    count = said.count("name ")
    assert 1 < count < 10 and said.endswith(f"of the held-out names {'; '.join(f'name {i}' for i in range(count))}")
    assert 15_000 < (tmp_path / "a.png").stat().st_size <= 30_000
    np.testing.assert_array_equal(cut(tmp_path / "a.png", count, 1)[0], np.round((NOISE[:count] + 1) * 127.5))


def test_reconstructions_stand_below_their_originals(monkeypatch, tmp_path):
    flat = np.ones((40, 32, 32, 3), np.float32)
    said = sheet.draw_sheet(toy_run(monkeypatch, None, able="reconstruct", images=flat), tmp_path / "a.png")
    assert said == "Images of the split `test`, and below each row of 10 what the model makes of them"
    assert cut(tmp_path / "a.png", 10, 4).mean(axis=(1, 2, 3, 4)).tolist() == [0, 255, 0, 255]


def test_what_makes_no_images_has_none(monkeypatch, tmp_path):
    assert sheet.draw_sheet(toy_run(monkeypatch, None, able="evaluate"), tmp_path / "a.png") is None
    run = toy_run(monkeypatch, Unconditional())
    run.spec = data.Spec({"text": data.Text(5)})
    assert sheet.draw_sheet(run, tmp_path / "a.png") is None and list(tmp_path.iterdir()) == []
