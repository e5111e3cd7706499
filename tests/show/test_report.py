import re

import numpy as np
import pytest

from jaxgen import show
from tests.show.pages import check, pixels

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)


def shown(html):
    return [pixels(uri) for uri in re.findall(r'src="(data:image/png[^"]*)"', html)]


def frames(part):
    return [pixels(uri) for uri in re.findall(r'","(data:image/png[^"]*)"\]', part.body)]


def every_part():
    drawn = np.zeros((3, 2, 4), bool)
    drawn[1, :, :2] = drawn[2] = True
    return [
        show.model_part({"model": "<vqvae>", "parameters": 12345, "none": None}, '{"a": 1}', "# a card"),
        show.curves_part([{"step": 1, "loss": 2.0, "grad_norm": 1.0}, {"step": 2, "loss": 1.0, "eval/loss": 1.5}]),
        show.metrics_part({"evaluation-test": {"psnr": (20.0, 19.0, 21.0), "data": "mnist"}}),
        show.reconstructions_part(IMAGES, IMAGES[::-1], what="images of a/test"),
        show.samples_part(IMAGES, by_class={"<0>": IMAGES[:3], "1": IMAGES[3:5]}, how="drawn"),
        show.denoising_part(RNG.normal(size=(3, 2, 8, 8, 1)) * 9, np.array([5.0, 1.0, 0.0])),
        show.filling_part(IMAGES[:2], drawn, (2, 2)),
        show.codes_part(np.array([3, 0, 1]), patches=IMAGES[:3, :4, :4], vectors=RNG.normal(size=(3, 2)), what="x"),
        show.neighbours_part(IMAGES, IMAGES[::-1], np.arange(10.0)[::-1], held_out=np.arange(4.0)),
    ]


def test_a_page_of_one_run_and_a_gallery_are_whole_pages():
    parts = every_part()
    one = show.report_page("one", [show.Report("one", {}, None, parts)])
    check(one)
    assert all(f'id="{part.name}"' in one for part in parts) and "&lt;vqvae&gt;" in one and "12,345" in one
    reports = [show.Report(f"run {i}", {"step": i}, IMAGES[:i] if i else None, parts[i:]) for i in range(2)]
    gallery = show.report_page("all", reports)
    tags = check(gallery)
    assert {attributes.get("id") for _, attributes in tags} >= {"run1-top", "run2-top", "run1-model", "run2-curves"}
    assert sum(tag == "article" for tag, _ in tags) == 2 and "run2-model" not in gallery
    with pytest.raises(ValueError, match="reports is empty"):
        show.report_page("none", [])


def test_parts_without_anything_are_left_out():
    page = show.report_page("one", [show.Report("one", {}, None, [show.curves_part([]), show.metrics_part({})])])
    assert "<section" not in page and 'href="#curves"' not in page


def test_each_reconstruction_stands_below_its_original():
    originals = RNG.integers(0, 256, (20, 40, 40, 1), dtype=np.uint8)
    sheet, = shown(show.reconstructions_part(originals, 255 - originals, what="x").body)
    sheet = sheet[2:, 2:]
    for i in range(20):
        top, left = 2 * (i // 8) * 42, i % 8 * 42
        np.testing.assert_array_equal(sheet[top : top + 40, left : left + 40], originals[i, ..., 0])
        np.testing.assert_array_equal(sheet[top + 42 : top + 82, left : left + 40], 255 - originals[i, ..., 0])


def test_cells_are_grey_until_their_tokens_are_drawn():
    drawn = np.zeros((4, 1, 8), bool)  # (2, 2, 2): the levels of a position follow each other
    drawn[1, 0, [0, 1, 4]] = drawn[2, 0, [0, 1, 4, 5]] = drawn[3] = True
    part = show.filling_part(IMAGES[:1], drawn, (2, 2, 2))
    found, image = [frame[2:10, 2:10] for frame in frames(part)], IMAGES[0, ..., 0]
    assert len(found) == 4 and (found[0] == 128).all()
    np.testing.assert_array_equal(found[1][:4, :4], image[:4, :4])
    assert (found[1][:4, 4:] == 128).all() and (found[1][4:, 4:] == 128).all()
    np.testing.assert_allclose(found[1][4:, :4], (128 + image[4:, :4].astype(float)) / 2, atol=0.5)  # one of two levels
    np.testing.assert_array_equal(found[3], image)
    order = shown(part.body)[1][2:10, 2:10]
    assert [order[i, j] for i, j in ((0, 0), (0, 7), (7, 0), (7, 7))] == [64, 191, 128, 191]  # 1, 3, 2 and 3 of 4
    assert "step 2 of 4, 38% drawn" in part.body


def test_the_way_from_noise_shows_each_state_in_the_visible_range():
    states = np.stack([np.linspace(-3, 3, 64).reshape(1, 8, 8, 1) * size for size in (20, 0.2)])
    noisy, last = (frame[2:10, 2:10] for frame in frames(show.denoising_part(states, np.array([20.0, 0.0]))))
    assert noisy.min() == 0 and noisy.max() == 255 and abs(noisy.mean() - 127.5) < 2
    np.testing.assert_array_equal(last, show.to_uint8(states[1, 0].astype(np.float32))[..., 0])


def test_the_closest_neighbours_come_first():
    distances = np.array([5.0, 1.25, 3.0])
    part = show.neighbours_part(IMAGES[:3], IMAGES[3:6], distances, shown=2, held_out=np.array([1.0, 2.0]))
    found = shown(part.body)
    for pair, i in zip(found, (1, 2), strict=True):
        np.testing.assert_array_equal(pair[2:10, 2:10], IMAGES[i, ..., 0])
        np.testing.assert_array_equal(pair[2:10, 12:20], IMAGES[3 + i, ..., 0])
    assert re.findall(r"<figcaption>([\d.]+)<", part.body) == ["1.25", "3.00"]
    assert "<td>samples</td><td>3</td><td>3</td><td>1.25</td>" in part.body


def test_a_codebook_counts_what_is_used():
    counts = np.array([8, 0, 4, 4])
    part = show.codes_part(counts, what="two images")
    entropy = -(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25))
    assert "3 of 4 codes" in part.body and f"perplexity {np.exp(entropy):.0f}" in part.body and not shown(part.body)
    patches = IMAGES[:2, :4, :4]
    some = show.codes_part(counts, chosen=np.array([1, 2]), patches=patches, what="two images")
    np.testing.assert_array_equal(shown(some.body)[0][3 : 3 + 20 : 5, 3 : 3 + 20 : 5], patches[1, ..., 0])
    with pytest.raises(ValueError, match="counts are all 0"):
        show.codes_part(np.zeros(3, int), what="nothing")


def test_samples_stand_by_class_or_with_their_captions():
    rows = shown(show.samples_part(IMAGES, by_class={"a": IMAGES[:3], "b": IMAGES[3:5]}).body)
    np.testing.assert_array_equal(rows[1][2:10, 22:30], IMAGES[2, ..., 0])
    assert rows[2].shape == (12, 22)
    with_text = show.samples_part(IMAGES[:2], captions=["a < b", "c"]).body
    assert "sample for: a &lt; b" in with_text and len(shown(with_text)) == 2
