"""Images to files and back from the command line, with the codec of a run."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.common.codec_files import read_pixels
from jaxgen import codec, runs


@pytest.fixture(scope="module")
def fitted(codes, scripts, tmp_path_factory):
    """(a run whose codec was fitted, what the script said)."""
    workdir = tmp_path_factory.mktemp("codec") / "run"
    shutil.copytree(codes, workdir)
    return workdir, scripts.run("fit_codec", f"--workdir={workdir}", "--images=64", "--count=16")


@pytest.fixture
def folder(tmp_path):
    """A grey image, and a smaller one in colour with transparency."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 21), np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 256, (9, 13, 4), np.uint8), "RGBA").save(folder / "colour.png")
    return folder


def test_fitting_says_what_each_kind_takes_and_keeps_it(fitted):
    workdir, said = fitted
    kinds = dict(re.findall(r"^ *(static|context|prior) +([\d.]+)", said, re.MULTILINE))
    assert set(kinds) == {"static", "context"} and all(0 < float(size) < 200 for size in kinds.values())
    assert (workdir / "codec.npz").is_file()


def test_a_folder_goes_to_files_and_back_as_its_reconstructions(fitted, folder, scripts, tmp_path):
    workdir, _ = fitted
    said = scripts.run("compress", f"--workdir={workdir}", str(folder), str(tmp_path / "small"))
    scripts.run("decompress", f"--workdir={workdir}", str(tmp_path / "small"), str(tmp_path / "back"))
    total = sum(path.stat().st_size for path in (tmp_path / "small").iterdir())
    assert f"wrote 2 to {tmp_path / 'small'}: {total} bytes" in said
    for name, psnr in re.findall(r"^(\w+\.png) +\S+ +\d+ +\S+ +([\d.]+)", said, re.MULTILINE):
        before, after = read_pixels(folder / name), read_pixels(tmp_path / "back" / name)
        assert before.shape == after.shape
        error = np.mean(np.square(before[..., :3].astype(float) - after[..., :3]))  # without transparency
        np.testing.assert_allclose(float(psnr), 10 * np.log10(255**2 / error), atol=0.006)
        if name == "colour.png":
            np.testing.assert_array_equal(before[..., 3], after[..., 3])


def test_lossless_is_every_bit(fitted, folder, scripts, tmp_path):
    workdir, _ = fitted
    said = scripts.run("compress", f"--workdir={workdir}", "--lossless", str(folder / "colour.png"),
                       str(tmp_path / "c.jxg"))
    assert re.search(r"^colour\.png .* inf ", said, re.MULTILINE)  # PSNR
    scripts.run("decompress", f"--workdir={workdir}", str(tmp_path / "c.jxg"), str(tmp_path / "c.png"))
    np.testing.assert_array_equal(read_pixels(folder / "colour.png"), read_pixels(tmp_path / "c.png"))


@pytest.mark.parametrize(("script", "words", "message"), [
    ("compress", ["{run}", "{images}"], "1 words"),
    ("compress", ["{run}", "{images}/grey.png", "{images}/x.png"], "must end in .jxg"),
    ("compress", ["{run}", "{images}/none.png", "{images}/x.jxg"], "does not exist"),
    ("decompress", ["{run}", "{images}", "{images}/x"], "holds no file that ends in .jxg"),
    ("decompress", ["{run}", "{images}/../no.jxg", "{images}/x.png"], "this is no .jxg file"),
    ("compress", ["{run}", "--levels=1", "--tile=8", "--overlap=6", "{images}", "{images}/x"], "half a tile"),
])
def test_mistakes_are_named(fitted, folder, scripts, script, words, message):
    workdir, _ = fitted
    (folder.parent / "no.jxg").write_bytes(b"PNG?")
    words = [word.format(run=f"--workdir={workdir}", images=folder) for word in words]
    assert message in scripts.run(script, *words, fails=True)


def test_a_run_without_a_codec_says_how_to_get_one(codes, folder, scripts):
    assert "experiments.fit_codec" in scripts.run(
        "compress", f"--workdir={codes}", str(folder), str(folder / "x"), fails=True)


def test_a_prior_codes_as_it_was_trained_without_anything_fitted(scripts, tmp_path):
    run = runs.load("token_prior_mnist")
    own, image = run.codec("float"), np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 230
    Image.fromarray(image).save(tmp_path / "one.png")
    scripts.run("compress", f"--workdir={run.path}", "--probabilities=float", str(tmp_path / "one.png"),
                str(tmp_path / "one.jxg"))
    data = (tmp_path / "one.jxg").read_bytes()
    assert codec.read_header(data)[0].digest == own.digest == runs.codec_of(own.digest, run.path).digest
    scripts.run("decompress", f"--workdir={run.path}", str(tmp_path / "one.jxg"), str(tmp_path / "back.png"))
    expected = codec.reconstruct(own, image[None, ..., None])
    np.testing.assert_array_equal(read_pixels(tmp_path / "back.png"), expected)
    # another device's tables: a sum of tables that the reader does not get, and codes that are not those
    payload = bytearray(data)
    payload[-5] ^= 1
    payload[-1] ^= 1
    (tmp_path / "other.jxg").write_bytes(payload)
    said = scripts.run("decompress", f"--workdir={run.path}", str(tmp_path / "other.jxg"), str(tmp_path / "x.png"),
                       fails=True)
    assert "0 is lost" in said and "or this device computes the prior otherwise" in said
