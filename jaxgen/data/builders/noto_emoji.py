"""`noto_emoji`: the colour images of the Noto Color Emoji font, with their Unicode names as captions."""

import hashlib
import io
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxgen.core.errors import unknown_name
from jaxgen.data.builders.color_font import ColorFont
from jaxgen.data.fingerprint import fraction
from jaxgen.data.image_file import decode

DEFAULT_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
TEST_FRACTION = 0.1
CATEGORIES = {  # the Unicode block of the first code point; the rest are "symbols"
    "pictographs": range(0x1F300, 0x1F600),
    "emoticons": range(0x1F600, 0x1F650),
    "transport": range(0x1F680, 0x1F700),
    "supplemental": range(0x1F900, 0x1FA00),
    "extended": range(0x1FA70, 0x1FB00),
}
CATEGORY_NAMES = ("symbols", "flags", *CATEGORIES)

JOINER, SELECTOR, ARROW, KEYCAP, BLACK_FLAG = 0x200D, 0xFE0F, 0x27A1, 0x20E3, 0x1F3F4
FEMALE, MALE, MAN, WOMAN, ADULT = 0x2640, 0x2642, 0x1F468, 0x1F469, 0x1F9D1
HEART, KISS, HANDSHAKE = 0x2764, 0x1F48B, 0x1F91D
TONES = dict(zip(range(0x1F3FB, 0x1F400), ("light", "medium-light", "medium", "medium-dark", "dark")))
HAIR, REGIONS, TAGS = range(0x1F9B0, 0x1F9B4), range(0x1F1E6, 0x1F200), range(0xE0020, 0xE0080)
PRIVATE = range(0xE000, 0xF900), range(0xF0000, 0x110000)
# Images that Unicode writes in one code point or, for people who differ, as several.
SAME_IMAGE = {
    (HANDSHAKE,): (0x1FAF1, 0x1FAF2),
    (0x1F46B,): (HANDSHAKE, ADULT, ADULT),
    (0x1F46C,): (HANDSHAKE, ADULT, ADULT),
    (0x1F46D,): (HANDSHAKE, ADULT, ADULT),
    (0x1F48F,): (HEART, KISS, ADULT, ADULT),
    (0x1F491,): (HEART, ADULT, ADULT),
}


def _is_flag(codes: Sequence[int]) -> bool:
    return len(codes) > 1 and (codes[0] in REGIONS or (codes[0] == BLACK_FLAG and codes[1] in TAGS))


def category(codes: Sequence[int]) -> str:
    """The label of a sequence of code points: "flags", the Unicode block of the first one, or "symbols"."""
    if _is_flag(codes):
        return "flags"
    return next((name for name, block in CATEGORIES.items() if codes[0] in block), "symbols")


def caption(codes: Sequence[int]) -> str | None:
    """Unicode names in lower case, such as "waving hand sign, dark skin tone"; None if a part has no name."""
    if _is_flag(codes):
        if codes[0] in REGIONS:
            return "flag: " + "".join(chr(code - REGIONS.start + ord("a")) for code in codes)
        tags = [code for code in codes[1:] if code != TAGS.stop - 1]
        return "flag: " + "".join(chr(code - TAGS.start + 0x20) for code in tags) if tags else None
    if codes[-1] == KEYCAP:
        return f"keycap {chr(codes[0])}"
    names = []
    for code in codes:
        if code in (JOINER, SELECTOR):
            continue
        if code in TONES:
            names.append(f"{TONES[code]} skin tone")
        elif code in (FEMALE, MALE) and len(codes) > 1:
            names.append("female" if code == FEMALE else "male")
        elif name := unicodedata.name(chr(code), None):
            names.append(name.lower())
        else:
            return None
    return ", ".join(names)


def base(codes: Sequence[int]) -> str:
    """What variants of one image share: the code points without skin tone, gender, direction, and order."""
    kept = list(codes)
    if not _is_flag(codes):
        kept = [code for code in codes if code not in (JOINER, SELECTOR, *TONES)]
        if len(kept) > 1:
            kept = [ADULT if code in (MAN, WOMAN) else code for code in kept if code not in (FEMALE, MALE, ARROW)]
        kept = sorted(SAME_IMAGE.get(tuple(sorted(kept)), kept))
    return " ".join(f"{code:X}" for code in kept)


def _preference(codes: Sequence[int]) -> tuple:
    """Orders the sequences that show one image: the one that people write comes first."""
    tone_alone = any(code in TONES and previous == JOINER for previous, code in pairwise(codes))
    person_first = codes[0] in (MAN, WOMAN, ADULT)
    return tone_alone, len(codes), codes[0] in (FEMALE, MALE), not person_first, tuple(-code for code in codes)


def emoji(font: ColorFont) -> dict[tuple[int, ...], bytes]:
    """The emoji of a font: PNG bytes by code points, each image once, without letters, digits and parts of emoji.

    Couples of two skin tones are left out: their many combinations would be a fifth of all images.
    """
    chosen: dict[bytes, tuple[int, ...]] = {}
    for codes, png in font.images().items():
        part = len(codes) == 1 and (codes[0] < 0xA9 or codes[0] in (KEYCAP, *HAIR, *REGIONS, *TONES))
        private = any(code in block for block in PRIVATE for code in codes)
        if part or private or len(set(codes) & set(TONES)) > 1 or caption(codes) is None:
            continue
        if png not in chosen or _preference(codes) < _preference(chosen[png]):
            chosen[png] = codes
    return {codes: png for png, codes in sorted(chosen.items(), key=lambda item: (len(item[1]), item[1]))}


def render(png: bytes, size: int, name: str = "of an emoji") -> Any:
    """The image centred in a white square, antialiased to `size`, as an RGB Pillow image; None if it is blank.

    `name` stands for it in the message where it is damaged.
    """
    from PIL import Image

    image = decode(io.BytesIO(png), name).convert("RGBA")
    if image.getchannel("A").getextrema()[1] == 0:
        return None
    side = max(image.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


@dataclass
class EmojiConfig(tfds.core.BuilderConfig):
    """Font, size in pixels and chosen categories; the name holds them all, so each has a directory of its own."""

    font: str = ""
    size: int = 64
    categories: tuple[str, ...] = CATEGORY_NAMES


class NotoEmoji(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Emoji from a colour font on white, with captions.

    About a tenth are the test. Variants of one emoji that differ in skin tone, gender or direction lie on one side.
    """

    name = "noto_emoji"
    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def open(
        cls,
        *,
        data_dir: os.PathLike,
        image_size: int | None = None,
        font: str | os.PathLike = DEFAULT_FONT,
        categories: Sequence[str] = CATEGORY_NAMES,
    ) -> "NotoEmoji":
        """The builder for a font (a TrueType file with CBDT bitmaps), a size (64 by default) and some categories."""
        path = Path(os.path.expanduser(font))
        if not path.is_file():
            raise FileNotFoundError(
                f"font={str(path)!r} does not exist: install the Debian or Ubuntu package fonts-noto-color-emoji "
                "(apt-get install fonts-noto-color-emoji), or pass font= with the path of NotoColorEmoji.ttf"
            )
        for name in categories:
            if name not in CATEGORY_NAMES:
                raise unknown_name("categories", name, CATEGORY_NAMES)
        chosen = tuple(name for name in CATEGORY_NAMES if name in categories)
        size = 64 if image_size is None else image_size
        # Names come with Python's Unicode database, so a newer one may know more emoji.
        parts = hashlib.sha256(path.read_bytes()).hexdigest(), unicodedata.unidata_version, chosen
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
        config = EmojiConfig(name=f"{size}px_{digest}", font=str(path), size=size, categories=chosen)
        return cls(data_dir=os.fspath(data_dir), config=config)

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CATEGORY_NAMES)),
                    "caption": tfds.features.Text(),
                }
            ),
            homepage="https://github.com/googlefonts/noto-emoji",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        chosen = {
            codes: png
            for codes, png in emoji(ColorFont(self.builder_config.font)).items()
            if category(codes) in self.builder_config.categories
        }
        test = {codes for codes in chosen if fraction(base(codes)) < TEST_FRACTION}
        return {
            "train": self._generate_examples({codes: png for codes, png in chosen.items() if codes not in test}),
            "test": self._generate_examples({codes: png for codes, png in chosen.items() if codes in test}),
        }

    def _generate_examples(self, images: dict[tuple[int, ...], bytes]) -> Iterator[tuple[int, dict]]:
        for i, (codes, png) in enumerate(images.items()):
            image = render(png, self.builder_config.size, f"{caption(codes)!r} of {self.builder_config.font}")
            if image is not None:
                yield i, {"image": image, "label": category(codes), "caption": caption(codes)}
