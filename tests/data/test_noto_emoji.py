import hashlib
import re

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from jaxgen.data import load
from jaxgen.data.builders import noto_emoji
from jaxgen.data.builders.color_font import ColorFont

pytestmark = pytest.mark.skipif(not noto_emoji.DEFAULT_FONT.is_file(), reason="fonts-noto-color-emoji is not installed")


@pytest.fixture(scope="module")
def font():
    return ColorFont(noto_emoji.DEFAULT_FONT)


@pytest.fixture(scope="module")
def code_images(font):
    return noto_emoji.emoji(font)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    cache = tmp_path_factory.mktemp("emoji")
    options = dict(data_dir=cache, image_size=32, categories=("emoticons",))
    return {split: load("noto_emoji", split, **options) for split in ("train", "test")}


@pytest.mark.skipif(not features.check("freetype2"), reason="this Pillow draws no text")
@pytest.mark.parametrize("code", [0x1F600, 0x1F34E, 0x2708, 0x1F680])
def test_an_image_equals_what_pillow_draws_at_the_bitmaps_size(code_images, code):
    drawn = ImageFont.truetype(noto_emoji.DEFAULT_FONT, 109)
    mask = Image.new("RGBA", (136, 128), "white")
    from PIL import ImageDraw

    ImageDraw.Draw(mask).text((0, 0), chr(code), font=drawn, embedded_color=True, anchor="lt")
    box = drawn.getbbox(chr(code), anchor="lt")
    assert box[2:] == (136, 128)
    ours = np.asarray(noto_emoji.render(code_images[(code,)], 136)).astype(int)[4:132]
    difference = np.abs(ours - np.asarray(mask.convert("RGB")).astype(int))
    assert difference.max() <= 3  # both blend with rounding


def test_examples_are_colour_images_on_white_with_names(faces):
    dataset = faces["train"]
    assert dataset.example_shape == (32, 32, 3)
    captions = {dataset[i]["caption"] for i in range(len(dataset))}
    assert "grinning face" in captions or "grinning face" in {e["caption"] for e in faces["test"]}
    assert {dataset.class_names[label] for label in dataset.labels()} == {"emoticons"}
    assert (dataset.examples()[:, 0, 0] == 255).all(-1).mean() > 0.9
    channels = dataset.examples().astype(int)
    assert (np.ptp(channels, axis=-1).max((1, 2)) > 50).mean() > 0.8


def test_variants_of_skin_tone_stay_on_one_side_and_a_tenth_is_held_out(code_images):
    sides = {}
    for codes in code_images:
        base = noto_emoji.base(codes)
        number = int.from_bytes(hashlib.sha256(base.encode()).digest()[:8], "big") / 2**64
        # Told apart by the caption's words, independently of the code points.
        plain = re.sub(r", (light|medium-light|medium|medium-dark|dark) skin tone", "", noto_emoji.caption(codes))
        sides.setdefault(plain, set()).add(number < 0.1)
    assert all(len(found) == 1 for found in sides.values())
    assert 0.07 < np.mean([found == {True} for found in sides.values()]) < 0.15
    assert len(code_images) > 3000 and len(sides) < 0.7 * len(code_images)


def test_the_built_splits_share_no_image_and_no_caption(faces):
    sides = [{image.tobytes() for image in faces[split].examples()} for split in ("train", "test")]
    assert not sides[0] & sides[1] and sum(map(len, sides)) > 150
    assert 0 < len(faces["test"]) < 0.25 * len(faces["train"])


@pytest.mark.parametrize(
    ("text", "caption", "category"),
    [
        ("\N{GRINNING FACE}", "grinning face", "emoticons"),
        ("\N{WAVING HAND SIGN}\U0001f3ff", "waving hand sign, dark skin tone", "pictographs"),
        ("\U0001f1eb\U0001f1ee", "flag: fi", "flags"),
        ("\N{WOMAN}\u200d\N{ROCKET}", "woman, rocket", "pictographs"),
        ("\N{RUNNER}\u200d\u2640", "runner, female", "pictographs"),
        ("5\u20e3", "keycap 5", "symbols"),
    ],
)
def test_captions_and_categories_of_sequences(code_images, text, caption, category):
    codes = tuple(map(ord, text))
    assert codes in code_images
    assert noto_emoji.caption(codes) == caption
    assert noto_emoji.category(codes) == category


def test_pairs_that_differ_in_gender_order_or_way_of_writing_have_one_base():
    def base(text):
        return noto_emoji.base(tuple(map(ord, text)))

    assert base("\N{RUNNER}\u200d\u2640") == base("\N{RUNNER}\U0001f3fb") == base("\N{RUNNER}")
    assert base("\N{WOMAN}\u200d\N{ROCKET}") == base("\N{MAN}\U0001f3fb\u200d\N{ROCKET}")
    assert base("\U0001faf1\U0001f3fb\u200d\U0001faf2\U0001f3ff") == base("\N{HANDSHAKE}")
    assert base("\N{WOMAN}\u200d\u2764\u200d\N{MAN}") == base("\N{COUPLE WITH HEART}\U0001f3ff")
    assert base("\U0001f1eb\U0001f1ee") != base("\U0001f1ee\U0001f1eb")


def test_fonts_that_cannot_serve_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.ttf' does not exist.*fonts-noto-color-emoji"):
        load("noto_emoji", "train", data_dir=tmp_path, font=tmp_path / "none.ttf")
    (tmp_path / "text.ttf").write_text("not a font at all")
    with pytest.raises(ValueError, match=r"text.ttf' is not a font with colour bitmaps"):
        load("noto_emoji", "train", data_dir=tmp_path, font=tmp_path / "text.ttf")
    with pytest.raises(ValueError, match="unknown categories 'emotions'.*Did you mean 'emoticons'"):
        load("noto_emoji", "train", data_dir=tmp_path, categories=["emotions"])
    with pytest.raises(ValueError, match="unknown option of 'noto_emoji' 'fnt'.*Did you mean 'font'"):
        load("noto_emoji", "train", data_dir=tmp_path, fnt="x")
