"""Photographs of Debian's packages, as small JPEG files at the same places; the real ones where they are installed."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load, photos

NAMES = "lomiri-wallpapers-16.04 mate-backgrounds plasma-workspace-wallpapers"
TALL, ODD = "backgrounds/Wine_by_Jakkub_Mede.jpg", "backgrounds/mate/nature/Dune.jpg"  # of other sizes than the rest


def paths(split):
    """Places of a split's photographs, read off the table."""
    return [package.path.replace("{}", photo) for package in photos.PACKAGES.values()
            for photo in getattr(package, split)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Smooth photographs of 260x200 pixels, each in a colour of its own."""
    root, rng = tmp_path_factory.mktemp("share"), np.random.default_rng(0)
    for path in paths("train") + paths("test"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        size = {TALL: (150, 410), ODD: (271, 143)}.get(path, (260, 200))
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(root / path, quality=95)
    return root


@pytest.fixture(scope="module")
def splits(root, tmp_path_factory):
    cache = tmp_path_factory.mktemp("prepared")
    return {split: load("debian_photos", split, data_dir=cache, folder=root) for split in ("train", "test")}


def test_24_photographs_are_to_train_on_and_12_others_held_out_of_each_package_some():
    train, test = set(paths("train")), set(paths("test"))
    assert len(train) == 24 and len(test) == 12 and not train & test
    assert all(package.train and package.test for package in photos.PACKAGES.values())


def test_crops_of_the_splits_are_of_their_own_photographs(root, splits):
    for split, dataset in splits.items():
        expected = []
        for path in paths(split):
            image = Image.open(root / path)
            if split == "train":
                image = image.resize((round(image.width / 2), round(image.height / 2)), Image.Resampling.LANCZOS)
            else:  # three to two out of 260x200, with 13.33 rows left out above and below
                top = (200 - 260 * 2 / 3) / 2
                image = image.resize((768, 512), Image.Resampling.LANCZOS, box=(0, top, 260, 200 - top))
            across, down = image.width // 64, image.height // 64
            left, top = (image.width - 64 * across) // 2, (image.height - 64 * down) // 2
            boxes = [(left + 64 * x, top + 64 * y) for y in range(down) for x in range(across)]
            expected += [np.asarray(image.crop((x, y, x + 64, y + 64))).tobytes() for x, y in boxes]
        assert len(expected) == len(dataset) == {"train": 22 * 2 + 3 + 2, "test": 12 * 96}[split]
        assert sorted(image.tobytes() for image in dataset.examples()) == sorted(expected)


def test_a_part_of_a_split_has_crops_of_many_photographs(root, splits):
    source = {crop.tobytes(): i for i, path in enumerate(paths("test"))
              for crop in photos.crops("test", root / path, 64)}
    assert len({source[image.tobytes()] for image in splits["test"].examples()[:100]}) == 12


def test_whole_photographs_are_those_that_the_held_out_crops_are_cut_from(root, splits):
    whole = photos.whole("test", root)
    assert whole.shape == (12, 512, 768, 3) and whole.dtype == np.uint8
    tiles = {whole[i, y:y + 64, x:x + 64].tobytes()
             for i in range(12) for y in range(0, 512, 64) for x in range(0, 768, 64)}
    assert tiles == {image.tobytes() for image in splits["test"].examples()}
    assert photos.whole("train", root).shape == (24, 512, 768, 3)
    with pytest.raises(ValueError, match="unknown split 'tset'.*Did you mean 'test'"):
        photos.whole("tset", root)


def test_the_side_of_crops_is_an_option_up_to_the_height_of_held_out_photographs(root, tmp_path):
    for split, count in (("train", 22), ("test", 12 * 7 * 5)):
        dataset = load("debian_photos", split, data_dir=tmp_path, folder=root, image_size=100)
        assert dataset.example_shape == (100, 100, 3) and len(dataset) == count
    with pytest.raises(ValueError, match="image_size=513 must be at most 512"):
        load("debian_photos", "test", data_dir=tmp_path, folder=root, image_size=513)


def test_missing_packages_are_named_with_the_command_that_installs_them(root, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("debian_photos", "train", data_dir=tmp_path, folder=tmp_path / "share")
    message = str(caught.value)
    counts = "13 of 13 photographs of lomiri.*, 12 of 12 photographs of mate.*, 11 of 11 photographs of plasma"
    assert re.search(counts, message) and f"apt-get install --no-install-recommends {NAMES})" in message
    assert "/share'" in message and "folder=PLACE/usr/share" in message
    for path in paths("train") + paths("test"):
        if path != ODD:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).symlink_to(root / path)
    with pytest.raises(FileNotFoundError) as caught:
        photos.whole("test", tmp_path)
    assert f"lacks 1 of 12 photographs of mate-backgrounds ({ODD}, ...): " in str(caught.value)


def test_a_damaged_photograph_is_named(root, tmp_path):
    for path in paths("train") + paths("test"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((root / path).read_bytes()[:None if path != ODD else 300])
    with pytest.raises(ValueError, match=f"cannot read the image .*{ODD}"):
        load("debian_photos", "train", data_dir=tmp_path / "prepared", folder=tmp_path)


@pytest.mark.skipif(not all((photos.DEFAULT_FOLDER / path).is_file() for path in paths("train") + paths("test")),
                    reason="the packages of debian_photos are not installed")
def test_real_held_out_photographs_lie_across_and_have_pixels_to_spare():
    for file in photos.find_photos()["test"]:
        with Image.open(file) as image:
            assert image.width > image.height and min(image.width / 768, image.height / 512) >= 2.5
    sizes = {path: Image.open(photos.DEFAULT_FOLDER / path).size for path in paths("train")}
    assert sum((width // 2 // 64) * (height // 2 // 64) for width, height in sizes.values()) == 6597
