import numpy as np
import pytest
from PIL import Image

from jaxgen.data import Image as ImageKind
from jaxgen.data import Sound, Spec, Video
from jaxgen.show import grid, make_grid, save_grid, to_uint8


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_image_stands_in_its_place(channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, channels), dtype=np.uint8)
    sheet = make_grid(images, columns=3, padding=1)
    assert sheet.shape == (2 * 5 + 1, 3 * 7 + 1, channels)
    for i, image in enumerate(images):
        top, left = 1 + (i // 3) * 5, 1 + (i % 3) * 7
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 6], image)
    assert np.all(sheet[6:10, 15:21] == 255) and np.all(sheet[0] == 255)
    path = save_grid(tmp_path / "new" / "grid.png", images, columns=3, padding=1, scale=2)
    sheet_read = np.asarray(Image.open(path))
    np.testing.assert_array_equal(sheet_read.reshape(*sheet_read.shape[:2], channels), sheet.repeat(2, 0).repeat(2, 1))


def test_floats_in_minus_one_to_one_become_bytes():
    values = np.array([-2, -1, 0, 1, 3, np.nan], np.float32)
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 128, 255, 255, 0])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(every.astype(np.float32) / 127.5 - 1), every)


def test_bad_images_are_named():
    with pytest.raises(ValueError, match=r"\[B, H, W, C\].*got \[4, 4, 3\]"):
        make_grid(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        make_grid(np.zeros((1, 4, 4, 3), np.uint8), columns=0)
    with pytest.raises(TypeError, match="got int64"):
        to_uint8(np.zeros(3, np.int64))


def test_each_video_has_its_frames_in_a_row():
    videos = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5, 1), dtype=np.uint8)
    sheet = grid(Spec({"clip": Video((3, 4, 5, 1))}), videos, padding=1)
    for i in range(2):
        for frame in range(3):
            top, left = 1 + i * 5, 1 + frame * 6
            np.testing.assert_array_equal(sheet[top : top + 4, left : left + 5], videos[i, frame])


def test_a_grid_of_images_is_one_sheet():
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(grid(ImageKind((4, 5, 3)), images, columns=2), make_grid(images, columns=2))


def test_a_sound_has_no_sheet():
    with pytest.raises(ValueError, match="kind must be Image or Video"):
        grid(Sound((4, 1), 8000), np.zeros((1, 4, 1)))
