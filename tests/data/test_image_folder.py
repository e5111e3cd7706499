"""Folders of images as users have them: links, odd names, damaged files among good ones, one image only."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load


def write(folder, count, *, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")


def both(folder, cache, **options):
    return [load("image_folder", split, folder=folder, data_dir=cache, image_size=8, **options)
            for split in ("train", "test")]


def test_linked_class_folders_are_read_like_others(tmp_path):
    write(tmp_path / "elsewhere" / "dogs", 5, seed=1)
    write(tmp_path / "images" / "cat", 4)
    (tmp_path / "images" / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")
    sets = both(tmp_path / "images", tmp_path / "cache")
    assert sets[0].class_names == ("cat", "dog")
    assert np.bincount(np.concatenate([dataset.labels() for dataset in sets])).tolist() == [4, 5]


def test_links_that_lead_back_end_and_a_folder_linked_twice_counts_twice(tmp_path):
    write(tmp_path / "images" / "a", 3)
    (tmp_path / "images" / "a" / "up").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "a" / "self").symlink_to(tmp_path / "images" / "a")
    (tmp_path / "images" / "b").symlink_to(tmp_path / "images" / "a")
    sets = both(tmp_path / "images", tmp_path / "cache")
    counts = np.bincount(np.concatenate([dataset.labels() for dataset in sets]))
    assert sets[0].class_names == ("a", "b") and counts.min() >= 3


def test_links_to_nothing_are_named(tmp_path):
    write(tmp_path / "images", 3)
    (tmp_path / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"cannot read the image .*gone\.png: No such file .*skip_unreadable=True"):
        both(tmp_path / "images", tmp_path / "cache")
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "dog").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"dog is a link to a folder that does not exist"):
        both(tmp_path / "classes", tmp_path / "cache")


def test_unreadable_files_are_left_out_if_asked_with_their_number_and_first_names(tmp_path):
    folder, cache = tmp_path / "images", tmp_path / "cache"
    write(folder, 20)
    for i in (3, 5, 8, 13):
        (folder / f"{i:02}.png").write_text("no image", encoding="utf-8")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "folder.png").mkdir()
    for _ in range(2):  # the second finds the set prepared, and says it all the same
        with pytest.warns(UserWarning, match=r"left out 5 of 21 images: 03.png, 05.png, 08.png, \.\.\.; the first:"):
            sets = both(folder, cache, skip_unreadable=True)
        assert sum(map(len, sets)) == 16
    with pytest.raises(ValueError, match=r"cannot read the image .*(03|05|08|13|gone)\.png.*skip_unreadable=True"):
        both(folder, cache)  # a set prepared with the option is not taken for one without
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(folder, 20)
        (folder / "gone.png").unlink()
        assert sum(map(len, both(folder, cache, skip_unreadable=True))) == 20


def test_a_folder_of_which_no_image_can_be_read_is_refused(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"left out 2 of 2 images: a.png, b.jpg; the first: .*a.png: it is empty"):
        both(folder, tmp_path / "cache", skip_unreadable=True)


def test_a_folder_of_one_image_has_nothing_to_test_on_and_says_so(tmp_path):
    write(tmp_path / "images", 1)
    options = {"folder": tmp_path / "images", "data_dir": tmp_path / "cache", "image_size": 8}
    assert len(load("image_folder", "train", **options)) == 1
    with pytest.raises(ValueError, match=r"no examples in split='test'.* train \(1 examples\).*One image.*nothing to"):
        load("image_folder", "test", **options)


def test_an_empty_name_is_not_the_current_directory(tmp_path, monkeypatch):
    write(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="needs folder="):
        both("", tmp_path / "cache")


ODD_NAMES = """
import sys
from jaxgen.data import load
folder, cache = sys.argv[1:]
sets = [load("image_folder", split, folder=folder, data_dir=cache, image_size=8) for split in ("train", "test")]
print(sum(map(len, sets)), ascii(sets[0].class_names))
"""


def test_names_that_are_not_ascii_or_not_utf_8_work_in_every_locale(tmp_path):
    root = os.fsencode(tmp_path) + b"/im\xe4ges"
    for name in ("caf\u00e9".encode(), b"caf\xe9"):
        os.makedirs(root + b"/" + name)
        for file in (b"a.png", "\u00fc.png".encode(), b"\xff.png"):
            values = np.random.default_rng(list(name + file)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            with open(root + b"/" + name + b"/" + file, "wb") as opened:
                Image.fromarray(values).save(opened, "PNG")
    wanted = ("caf\\xe9", "caf\u00e9")
    sets = both(os.fsdecode(root), tmp_path / "here")
    assert (sum(map(len, sets)), sets[0].class_names) == (6, wanted)
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", ODD_NAMES, root, tmp_path / "there"]
    result = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert result.stdout.decode().strip() == f"6 {wanted!a}"
