import json
import re

import numpy as np
import pytest

from jaxgen.show.page import data_uri, frames, image_html, page, png, section, table, text, tiles
from tests.show.pages import check, pixels, tags

NASTY = """<b title="x">a & b's</b>"""
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_holds_the_pixels_it_was_given(channels):
    image = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(data_uri(png(image))).reshape(image.shape), image)
    (_, attributes), = tags(image_html(image, NASTY, scale=3))
    assert attributes["alt"] == NASTY and (attributes["width"], attributes["height"]) == ("7", "5")
    assert attributes["style"] == "width:21px"


def test_text_is_escaped_wherever_it_stands():
    image = np.zeros((2, 2, 1), np.uint8)
    body = section("a", NASTY, table([(NASTY, 1.5)], [NASTY, NASTY]), image_html(image, NASTY, caption=NASTY),
                   tiles([image], [NASTY], [NASTY]), frames([image], [NASTY], NASTY, caption=NASTY))
    html = page(NASTY, body)
    check(html)
    assert NASTY not in html and "<b" not in html.replace("<body>", "").replace("<button", "")
    labels = json.loads(re.search(r'application/json">(.*?)</script>', html)[1])
    assert labels[0][0] == NASTY


def test_frames_are_all_there_and_the_last_is_shown():
    images = RNG.integers(0, 256, (4, 3, 3, 3), dtype=np.uint8)
    html = frames(images, list("abcd"), "moving")
    found = json.loads(re.search(r'application/json">(.*?)</script>', html)[1])
    assert [label for label, _ in found] == list("abcd")
    for image, (_, uri) in zip(images, found, strict=True):
        np.testing.assert_array_equal(pixels(uri), image)
    shown, slider = (next(attributes for tag, attributes in tags(html) if tag == name) for name in ("img", "input"))
    np.testing.assert_array_equal(pixels(shown["src"]), images[-1])
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "3", "3")
    assert "for (const figure" in page("t", html) and "for (const figure" not in page("t", "<p>none</p>")


def test_numbers_are_shown_to_be_read():
    assert [text(v) for v in (1 / 3, 2_000_000, 12, True, "x", None)] == ["0.33333", "2,000,000", "12", "True", "x", ""]
    assert section("a", "nothing", "", "") == ""


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"uint8 \[H, W, C\].*float64 \[2, 2, 1\]: jaxgen.show.to_uint8"):
        png(np.zeros((2, 2, 1)))
    with pytest.raises(ValueError, match="uint8"):
        png(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="1 images and 2 labels"):
        frames(np.zeros((1, 2, 2, 1), np.uint8), ["a", "b"], "alt")
