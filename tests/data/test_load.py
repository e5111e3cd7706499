"""Finding and preparing a set by its name: stock sets, splits, options, places that cannot be written, networks."""

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxgen.data import batches, load
from jaxgen.data.builders import fashion_mnist
from jaxgen.data.prepare import prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where a small set lies prepared, and the options that load it."""
    folder, directory = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("prepared")
    for i in range(9):
        Image.new("L", (4, 4), i).save(folder / f"{i}.png")
    options = {"folder": folder, "image_size": 4}
    return directory, options, {split: len(load("image_folder", split, data_dir=directory, **options))
                                for split in ("train", "test")}


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("mnist", (28, 28, 1), 10), ("cifar10", (32, 32, 3), 10), ("celeb_a", (64, 64, 3), None)],
)
def test_stock_names_go_to_tfds(tmp_path, name, shape, classes):
    with tfds.testing.mock_data(num_examples=7, data_dir=tmp_path):
        for limit in (2**30, 0):
            dataset = load(name, "train", data_dir=tmp_path, memory_limit=limit)
            assert (len(dataset), dataset.example_shape, dataset.num_classes) == (7, shape, classes)
            assert dataset.in_memory == (limit > 0)
            batch = next(batches(dataset, batch_size=4))
            assert batch["image"].shape == (4, *shape) and batch["image"].dtype == np.uint8
            assert ("label" in batch) == (classes is not None)
    assert "tensorflow" not in sys.modules


def test_celeb_a_is_cut_to_its_central_140_pixels_and_then_resized(tmp_path):
    photo = np.zeros((218, 178, 3), np.uint8)
    photo[39:179, 19:159] = 200  # the crop, and nothing else, is bright
    photo[39:109, 19:89, 0] = 50

    with tfds.testing.mock_data(as_data_source_fn=lambda *args, **kwargs: [{"image": photo}] * 2, data_dir=tmp_path):
        image = load("celeb_a", "train", data_dir=tmp_path)[0]["image"]
        assert image.shape == (64, 64, 3)
        np.testing.assert_array_equal(image[..., 1:], 200)
        np.testing.assert_array_equal(image[:31, :31, 0], 50)
        np.testing.assert_array_equal(image[33:, :, 0], 200)
        assert load("celeb_a", "train", data_dir=tmp_path, image_size=70)[0]["image"].shape == (70, 70, 3)


def test_images_of_several_sizes_need_an_image_size(tmp_path):
    with tfds.testing.mock_data(num_examples=2, data_dir=tmp_path):
        with pytest.raises(ValueError, match="'oxford_flowers102' has images of several sizes: pass image_size"):
            load("oxford_flowers102", "train", data_dir=tmp_path)
        assert load("oxford_flowers102", "train", data_dir=tmp_path, image_size=16).example_shape == (16, 16, 3)
        with pytest.raises(ValueError, match="'ag_news_subset' holds no feature that .* reads .image."):
            load("ag_news_subset", "train", data_dir=tmp_path)


def test_fashion_mnist_falls_through_to_a_prepared_stock_set_or_says_what_to_do(tmp_path, monkeypatch):
    defaults = {"image_size": None, "folder": tmp_path}
    monkeypatch.setattr(fashion_mnist.FashionMnist.open.__func__, "__kwdefaults__", defaults)
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        load("fashion_mnist", "train", data_dir=tmp_path)
    with tfds.testing.mock_data(num_examples=5, data_dir=tmp_path):
        monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
        assert len(load("fashion_mnist", "train", data_dir=tmp_path)) == 5


def test_unknown_names_and_splits_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'cifar01'.*Did you mean 'cifar10'"):
        load("cifar01", "train", data_dir=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'mnist_5k'"):
        load("mnist5k", "train", data_dir=tmp_path)
    with pytest.raises(ValueError, match="image_size must be .* got 0"):
        load("mnist_5k", "train", data_dir=tmp_path, image_size=0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Options of a set of 40 small images of one class, most of them in "train"."""
    root = tmp_path_factory.mktemp("folder")
    (root / "images" / "one").mkdir(parents=True)
    for i in range(40):
        Image.fromarray(np.full((4, 4), 6 * i, np.uint8)).save(root / "images" / "one" / f"{i}.png")
    return {"folder": root / "images", "data_dir": root / "data"}


@pytest.mark.parametrize(("split", "message"), [
    ("train[9:4]", "'train\\[9:4\\]' of 'image_folder' has a part that ends before it begins: from 9 to 4"),
    ("test+train[-3:2]", "ends before it begins"), ("train[50%:20%]", "ends before it begins"),
    (None, "split must be a string, .*'train'.* got None"), (["train", "test"], "must be a string"), (3, "got 3")])
def test_splits_that_end_before_they_begin_or_are_no_strings_are_refused(folder, split, message):
    with pytest.raises(ValueError, match=message):
        load("image_folder", split, **folder)


def test_parts_and_sums_of_splits_are_read(folder):
    sizes = {split: len(load("image_folder", split, **folder)) for split in ("train[:7]", "all", "train[:3]+test[:1]")}
    assert sizes == {"train[:7]": 7, "all": 40, "train[:3]+test[:1]": 4}


@pytest.mark.parametrize("split", ["tset", "test[:0]", "test[900:]", "test[", "all[", "", "test[150%:]"])
def test_a_split_without_examples_is_refused_with_those_that_have_some(prepared, split):
    directory, options, sizes = prepared
    known = re.escape(f"train ({sizes['train']} examples), test ({sizes['test']}")
    with pytest.raises(ValueError, match=re.escape(f"split={split!r}") + f".*{known}"):
        load("image_folder", split, data_dir=directory, **options)


def test_unknown_options_and_versions_are_refused_in_own_words(tmp_path):
    with pytest.raises(ValueError, match="unknown option 'folder': 'mnist_5k' has no options"):
        load("mnist_5k", "train", data_dir=tmp_path, folder="x")
    with pytest.raises(ValueError, match="mnist.*unexpected keyword argument 'folder'"):
        load("mnist", "train", data_dir=tmp_path, folder="x")
    with pytest.raises(ValueError, match="cannot be loaded at version 9.9.9"):
        load("mnist:9.9.9", "train", data_dir=tmp_path)


@pytest.fixture
def no_home(monkeypatch):
    for variable in ("HOME", "JAXGEN_DATA_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)

    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container whose user has no entry


@pytest.mark.parametrize(("name", "variable"), [("mnist_5k", "JAXGEN_DATA_DIR"), ("mnist", "TFDS_DATA_DIR")])
def test_a_user_without_a_home_is_told_the_variable_to_set(no_home, name, variable):
    with pytest.raises(FileNotFoundError, match=f"no home directory.*set the environment variable {variable}"):
        load(name, "train")


def test_a_folder_below_a_home_that_is_not_known_is_not_a_folder(no_home, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load("image_folder", "train", folder="~/images", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["mnist_5k", "mnist"])
def test_a_home_that_cannot_be_written_is_named_with_the_variables_to_set(tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for variable in ("JAXGEN_DATA_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(PermissionError, match=r"cannot be written to .*file.*JAXGEN_DATA_DIR.*TFDS_DATA_DIR"):
        load(name, "train", data_dir=tmp_path / "file" / "home")


def test_a_tilde_in_the_directory_of_prepared_sets_is_the_home(prepared, tmp_path, monkeypatch):
    directory, options, sizes = prepared
    monkeypatch.setenv("HOME", str(directory.parent))
    monkeypatch.chdir(tmp_path)
    assert len(load("image_folder", "test", data_dir=f"~/{directory.name}", **options)) == sizes["test"]
    monkeypatch.setenv("JAXGEN_DATA_DIR", f"~/{directory.name}")
    assert len(load("image_folder", "test", **options)) == sizes["test"]
    assert list(tmp_path.iterdir()) == []


def test_a_stock_set_that_cannot_be_downloaded_is_named_at_once_with_the_command(tmp_path, monkeypatch, capsys):
    def unreachable(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    for function in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, function, unreachable)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits {seconds:.1f} s"))
    with pytest.raises(ConnectionError) as caught:
        load("mnist", "train", data_dir=tmp_path)
    message = str(caught.value)
    assert message.count("'mnist' is not prepared") == 1 and "storage.googleapis.com cannot be reached" in message
    assert f"tfds.builder('mnist', data_dir={str(tmp_path)!r}).download_and_prepare" in message
    assert "downloading 'mnist' from storage.googleapis.com" in capsys.readouterr().err


def test_what_fails_within_a_download_is_said_with_the_set_and_the_command(tmp_path, monkeypatch):
    import requests

    def broken(self, *arguments, **options):
        raise requests.exceptions.ChunkedEncodingError("Connection broken: 12 bytes read")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", broken)
    with pytest.raises(ConnectionError, match="'mnist' is not prepared.*Connection broken.*download_and_prepare"):
        load("mnist", "train", data_dir=tmp_path)


class NeedsTensorflow(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Yields an array as an image, which TFDS encodes through TensorFlow, as most of its own sets do."""

    name = "needs_tensorflow"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": np.zeros((4, 4, 3), np.uint8)}


def test_a_stock_set_that_needs_tensorflow_to_be_prepared_says_so_with_the_command(tmp_path):
    # None in sys.modules makes the import fail wherever the tests run.
    with mock.patch.dict(sys.modules, {"tensorflow": None}), pytest.raises(ImportError) as caught:
        prepare(lambda: NeedsTensorflow(data_dir=str(tmp_path)))
    message = str(caught.value)
    assert "TFDS needs TensorFlow to prepare 'needs_tensorflow'" in message
    assert "python -m pip install tensorflow && python -c " in message
    command = message.split('python -c "')[1].rstrip('"')
    with mock.patch.object(tfds, "builder") as builder:
        exec(command, {})
    builder.assert_called_once_with("needs_tensorflow", data_dir=str(tmp_path))
    builder().download_and_prepare.assert_called_once_with(file_format="array_record")
    assert not NeedsTensorflow(data_dir=str(tmp_path)).is_prepared()


PREPARE = """
import os, sys, time
from jaxgen.data import load
from jaxgen.data.builders import image_folder
folder, cache, kill = sys.argv[1:]
read, count = image_folder.read_square, 0
def slow(path, size):
    global count
    count += 1
    if kill == "kill" and count == 5:
        os.kill(os.getpid(), 9)
    time.sleep(0.05)
    return read(path, size)
image_folder.read_square = slow
print(len(load("image_folder", "train", data_dir=cache, folder=folder, image_size=8)), count)
"""


def start(folder, cache, kill="no"):
    command = [sys.executable, "-c", PREPARE, os.fspath(folder), os.fspath(cache), kill]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_kill_leaves_nothing_that_is_taken_for_a_set_and_two_at_once_prepare_it_once(tmp_path):
    folder, cache = tmp_path / "images", tmp_path / "cache"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    killed = start(folder, cache, "kill")
    killed.communicate(timeout=100)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in cache.rglob("incomplete.*")]  # it was really in the middle
    runs = [start(folder, cache) for _ in range(2)]
    outputs = []
    for run in runs:
        out, err = run.communicate(timeout=100)
        assert run.returncode == 0, err
        outputs.append(tuple(map(int, out.split())))
    assert len({length for length, _ in outputs}) == 1
    assert sorted(read for _, read in outputs) == [0, 20]  # one prepared all, the other waited and found it
    assert not list(cache.rglob("incomplete.*"))
