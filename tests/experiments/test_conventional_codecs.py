"""Conventional codecs: what comes back, what files weigh, and curves against NumPy."""

import contextlib
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import features
from skimage.metrics import structural_similarity

from experiments.common import conventional_codecs
from experiments.common.conventional_codecs import CODECS, LOSSLESS, compare, curve, front
from jaxgen import metrics
from tests.losses.test_perceptual import draw_params, reference

Y, X = np.mgrid[:64, :96]


def photograph(channels):
    """Smooth, with edges and a little noise; the colours of neighbours are alike, as those of photographs are."""
    grey = 128 + 60 * np.sin(X / 9) + 30 * np.cos(Y / 7) + 20 * ((X // 16 + Y // 16) % 2)
    noise = np.random.default_rng(0).normal(0, 2, (64, 96, 1))
    tint = [25 * np.sin(X / 40 + 2 * k) for k in range(channels)]
    return np.clip(np.stack([grey + one for one in tint], -1) + noise, 0, 255).astype(np.uint8)


IMAGES = [photograph(1), photograph(3)]


def psnr(x, y):
    return 10 * np.log10(255**2 / max(np.mean((x.astype(float) - y) ** 2), 255**2 / 1e10))


def of(table):
    return [pytest.param(codec, id=name, marks=pytest.mark.skipif(bool(codec.lacking()), reason=str(codec.lacking())))
            for name, codec in table.items()]


@pytest.mark.parametrize("codec", of(CODECS))
@pytest.mark.parametrize("image", IMAGES, ids=["grey", "rgb"])
def test_more_bytes_at_more_quality_and_a_close_image_at_the_best(codec, image):
    assert len(codec.qualities) >= 8
    files = [codec.encode(image, quality) for quality in codec.qualities]
    sizes, payloads = [len(file) for file in files], [len(codec.payload(file)) for file in files]
    # WebP's smallest steps may save a few bytes, two of them may not.
    assert np.all(np.greater(sizes[2:], sizes[:-2])) and np.all(np.greater(payloads[2:], payloads[:-2]))
    assert np.all(np.less(payloads, sizes)) and payloads[-1] > 0.7 * sizes[-1] > 2 * sizes[0]
    decibels = [psnr(codec.decode(file, image.shape[2]), image) for file in files]
    assert decibels[0] < 35 and decibels[-1] > 39 and decibels[-1] == max(decibels)


@pytest.mark.parametrize("codec", of(LOSSLESS))
def test_lossless_codecs_give_each_image_back(codec):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (*size, channels), np.uint8) for size in [(1, 1), (1, 7), (33, 2), (17, 40)]
             for channels in (1, 3)]
    for image in [*IMAGES, *noise]:
        file = codec.encode(image, None)
        back = codec.decode(file, image.shape[2])
        assert back.dtype == np.uint8
        np.testing.assert_array_equal(back, image)
        assert 0 < len(codec.payload(file)) < len(file)


@pytest.mark.parametrize("codec", of(CODECS))
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 2), (17, 13)])
def test_small_images_come_back_in_their_shape(codec, size):
    for channels in (1, 3):
        image = np.full((*size, channels), (90, 120, 200)[:channels], np.uint8)
        for quality in (codec.qualities[0], codec.qualities[-1]):
            file = codec.encode(image, quality)
            back = codec.decode(file, channels)
            assert back.shape == image.shape and back.dtype == np.uint8
            assert len(codec.payload(file)) < len(file)
        assert np.abs(back.astype(int) - image).max() <= 12


def test_the_smaller_of_two_jpegs_is_kept():
    codec, markers = CODECS["jpeg"], []
    for image in (IMAGES[1][:8, :8], np.tile(IMAGES[1], (6, 6, 1))):
        files = {}
        for options in codec.options(60, False):
            one = conventional_codecs.Codec("JPEG", "jpg", lambda *_, options=options: [options], codec.payload)
            files[options["progressive"]] = one.encode(image, 60)
        np.testing.assert_array_equal(codec.decode(files[True], 3), codec.decode(files[False], 3))
        kept = codec.encode(image, 60)
        assert len(kept) == min(map(len, files.values()))
        markers.append(b"\xff\xc2" in kept)  # the header of a progressive frame
    assert markers == [False, True]


def test_chroma_is_stored_in_the_size_that_the_name_says():
    chroma = np.zeros((32, 32, 3), np.uint8)
    chroma[::2, :, 0] = chroma[1::2, :, 2] = 200
    for halved, whole in (("jpeg", "jpeg_444"), ("avif", "avif_444")):
        lost, kept = (psnr(codec.decode(codec.encode(chroma, 95), 3), chroma)
                      for codec in (CODECS[halved], CODECS[whole]))
        assert lost < 15 and kept > 30


@pytest.mark.parametrize("codec", [CODECS["jpeg_xl"], LOSSLESS["jpeg_xl_lossless"]])
def test_what_is_missing_is_said(codec, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    message = "JPEG XL needs pillow-jxl-plugin, which is not installed: pip install '.[jxl]'"
    assert codec.lacking() == message
    for use in (lambda: codec.encode(IMAGES[0], 50), lambda: codec.decode(b"", 1), lambda: curve(codec, IMAGES)):
        with pytest.raises(ImportError, match=r"pip install '\.\[jxl\]'"):
            use()
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    assert [name for name, codec in CODECS.items() if codec.lacking()] == ["avif", "avif_444", "jpeg_xl"]
    assert CODECS["avif"].lacking() == "this Pillow was built without AVIF: pip install --upgrade pillow"


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8),
                                   np.zeros((0, 8, 3), np.uint8)])
def test_other_arrays_are_named(image):
    with pytest.raises(ValueError, match=r"image must be uint8 \[H, W, C\] with 1 or 3 channels, got "):
        CODECS["jpeg"].encode(image, 50)


def test_a_curve_is_the_mean_over_images_of_any_sizes():
    images, codec = [IMAGES[1][:20, 3:41], IMAGES[0], IMAGES[1][5:25, 40:78]], CODECS["jpeg"]
    points = curve(codec, images, qualities=(10, 70))
    for quality, point in zip((10, 70), points, strict=True):
        files = [codec.encode(image, quality) for image in images]
        restored = [codec.decode(file, image.shape[2]) for file, image in zip(files, images)]
        pixels = [image[..., 0].size for image in images]
        wanted = {
            "bpp": [8 * len(file) / count for file, count in zip(files, pixels)],
            "payload_bpp": [8 * len(codec.payload(file)) / count for file, count in zip(files, pixels)],
            "psnr": list(map(psnr, restored, images)),
            "ssim": [structural_similarity(x, y, channel_axis=2, gaussian_weights=True, sigma=1.5, data_range=255,
                                           use_sample_covariance=False) for x, y in zip(images, restored)],
        }
        assert point["quality"] == quality and min(point["encode_seconds"], point["decode_seconds"]) > 0
        assert point.keys() == {"quality", *wanted, "encode_seconds", "decode_seconds"}
        for name, values in wanted.items():
            np.testing.assert_allclose(point[name], np.mean(values), rtol=1e-4, err_msg=name)
    assert [point["quality"] for point in curve(LOSSLESS["png"], [IMAGES[0][:3, :3]])] == [None]


def test_the_metric_of_structure_is_that_which_the_smallest_image_allows(monkeypatch):
    # Compiling the real one takes seconds; that it takes such images is traced only.
    for side, works in ((161, True), (160, False)):
        pair = [jax.ShapeDtypeStruct((2, side, 170, 1), np.uint8)] * 2
        with contextlib.nullcontext() if works else pytest.raises(ValueError, match="too small for 5 scales"):
            assert jax.eval_shape(partial(conventional_codecs._measured, None, "ms_ssim"), *pair).shape == (2, 2)
    monkeypatch.setattr(metrics, "ms_ssim", lambda x, y, value_range: jnp.mean(y, axis=(1, 2, 3)) / value_range[1])
    monkeypatch.setattr(conventional_codecs, "PIXELS", 2 * 162 * 163)  # two images at a time
    tiled = np.tile(IMAGES[0], (3, 2, 1))[:162]
    large = [tiled[:, start:end] for start, end in ((0, 163), (5, 176), (9, 172), (2, 165))]
    darker = [(image * 0.9).astype(np.uint8) for image in large]
    found = compare(large, darker)
    assert list(found) == ["psnr", "ms_ssim"]
    np.testing.assert_allclose(found["ms_ssim"], np.mean([image.mean() / 255 for image in darker]), rtol=1e-5)
    np.testing.assert_allclose(found["psnr"], np.mean(list(map(psnr, large, darker))), rtol=1e-5)
    assert list(compare([IMAGES[0]], [IMAGES[0]])) == ["psnr", "ssim"]
    assert compare([large[0][:10]], [large[0][:10]]) == {"psnr": 100.0}


def test_lpips_is_that_of_its_loop_with_grey_repeated():
    params = draw_params("alex")
    images = [np.ascontiguousarray(image[:32, :32]) for image in IMAGES]
    restored = [255 - image for image in images]
    found = compare(images, restored, params)
    wanted = [reference(params, *(np.repeat(part, 3 // part.shape[2], -1)[None] / 127.5 - 1 for part in (x, y)), "alex")
              for x, y in zip(images, restored)]
    assert list(found) == ["psnr", "ssim", "lpips"] and min(wanted) > 0.01
    np.testing.assert_allclose(found["lpips"], np.mean(wanted), rtol=1e-4)


def test_lpips_of_small_images_is_that_of_their_pixels_repeated():
    params = draw_params("alex")
    images = [image[:20, :17] for image in IMAGES]
    restored = [255 - image for image in images]
    large = [[part.repeat(2, axis=0).repeat(2, axis=1) for part in parts] for parts in (images, restored)]
    np.testing.assert_allclose(compare(images, restored, params)["lpips"], compare(*large, params)["lpips"], rtol=1e-5)


def test_bad_sets_are_named():
    with pytest.raises(ValueError, match="images must have one at least, got none"):
        curve(CODECS["jpeg"], [])
    with pytest.raises(ValueError, match=r"restored must have the shapes of images, \(64, 96, 1\), got \(64, 96, 3\)"):
        compare(IMAGES, IMAGES[::-1])
    with pytest.raises(ValueError, match="restored must have the shapes of images, 2, got 1"):
        compare(IMAGES, IMAGES[:1])


def test_the_front_is_what_no_other_point_beats():
    rates, noise = np.random.default_rng(1).integers(0, [[30], [8]], (2, 60))
    points = [{"bpp": 1.0 + rate, "psnr": 20.0 + rate // 2 + more} for rate, more in zip(rates, noise)]
    wanted = {(p["bpp"], p["psnr"]) for p in points if not any(
        q["bpp"] <= p["bpp"] and q["psnr"] >= p["psnr"] and q != p for q in points)}
    found = [(point["bpp"], point["psnr"]) for point in front(points)]
    assert set(found) == wanted and len(found) > 4 and np.all(np.diff(found, axis=0) > 0)
    by_others = front([{"payload_bpp": p["bpp"], "lpips": -p["psnr"]} for p in points], "payload_bpp", "-lpips")
    assert [(p["payload_bpp"], -p["lpips"]) for p in by_others] == found
    assert abs(metrics.bd_rate(*zip(*found), *zip(*found))) < 1e-9  # it takes them
