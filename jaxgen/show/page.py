"""A web page in one file: images are data URIs, styles and scripts stand inside, nothing is fetched.

    body = section("samples", "Samples", image_html(make_grid(images), "64 samples in a grid", scale=3))
    Path("page.html").write_text(page("My run", body))

Functions take plain values and arrays and return HTML; text is escaped here, so callers pass it as it is.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image as File

STYLE = """
:root { color-scheme: light dark; --text: #1d2330; --soft: #5a6272; --line: #d9dde5; --back: #fff; --card: #f6f7f9;
  --accent: #1f5fbf; --second: #c2570c; --focus: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ee; --soft: #a4abba; --line: #3a404c; --back: #15181e;
  --card: #1e222a; --accent: #7db0ff; --second: #f0a05a; --focus: #7db0ff; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem;
  color: var(--text); background: var(--back); overflow-wrap: break-word; }
h1 { line-height: 1.2; margin: 0 0 .5rem; } h2 { margin: 2.5rem 0 .5rem; line-height: 1.25; }
header + article, article + article { border-top: 2px solid var(--line); margin-top: 3rem; padding-top: 2rem; }
p { max-width: 48rem; } figure { margin: 1rem 0; } img { display: block; max-width: 100%; height: auto; }
.pixels { image-rendering: pixelated; } figcaption, .soft { color: var(--soft); font-size: .9rem; }
a { color: var(--accent); } nav a { margin-right: 1rem; white-space: nowrap; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.thumbs img { width: 9rem !important; }
.row > figure { flex: 0 1 auto; min-width: 0; max-width: 34rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.charts figure { margin: 0; background: var(--card); border-radius: .5rem; padding: .75rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem; } .tiles figure { margin: 0; }
.tiles figcaption { max-width: 8rem; font-size: .8rem; }
.scroll { overflow-x: auto; margin: .75rem 0; } table { border-collapse: collapse; }
td, th { padding: .25rem 1.25rem .25rem 0; text-align: left; vertical-align: top; font-variant-numeric: tabular-nums; }
th { font-weight: 600; } tr + tr td { border-top: 1px solid var(--line); }
.classes { display: grid; grid-template-columns: max-content minmax(0, max-content); gap: .25rem .75rem;
  align-items: center; } .classes > span { max-width: 9rem; }
details { margin: .75rem 0; } summary { cursor: pointer; }
pre { white-space: pre-wrap; background: var(--card); padding: 1rem; border-radius: .5rem; font-size: .85rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
button { font: inherit; padding: .4rem 1rem; border: 1px solid var(--line); border-radius: .4rem; cursor: pointer;
  background: var(--card); color: var(--text); }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.frames { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; }
.frames input { flex: 1 1 12rem; max-width: 24rem; accent-color: var(--accent); }
"""

# Each `frames` figure: a slider, a button that plays, and one image whose source changes.
FRAMES_SCRIPT = """
for (const figure of document.querySelectorAll('[data-frames]')) {
  const sources = JSON.parse(figure.querySelector('script').textContent);
  const [image, slider, button, label] = ['img', 'input', 'button', 'output'].map(n => figure.querySelector(n));
  let timer = null;
  const show = i => {
    image.src = sources[i][1]; slider.value = i; label.textContent = sources[i][0];
    slider.setAttribute('aria-valuetext', sources[i][0]);
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = 'Play'; };
  slider.addEventListener('input', () => { stop(); show(+slider.value); });
  button.addEventListener('click', () => {
    if (timer !== null) { stop(); return; }
    if (+slider.value === sources.length - 1) show(0);
    button.textContent = 'Stop';
    timer = setInterval(() => {
      if (+slider.value === sources.length - 1) stop(); else show(+slider.value + 1);
    }, 150);
  });
}
"""


def page(title: str, body: str, *, script: str = "") -> str:
    """The whole file.

    Args:
        title: of the window.
        body: HTML.
        script: JavaScript that runs after the body is there.

    Example:
        >>> page("a < b", "<p>text</p>").count("a &lt; b")
        1
    """
    script += FRAMES_SCRIPT if "data-frames" in body else ""
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
            + (f"<script>{script}</script>\n" if script else "") + "</body>\n</html>\n")


def escape(text: Any) -> str:
    """Text as HTML, in quotes too."""
    return html.escape(str(text), quote=True)


def png(image: UInt8[np.ndarray, "H W C"]) -> bytes:
    """An image as a PNG file.

    Args:
        image: uint8 with C of 1 (grey), 3 (colour) or 4 (with opacity).

    Raises:
        ValueError: another shape or dtype.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"image must be uint8 [H, W, C] with C of 1, 3 or 4, got {image.dtype} {list(image.shape)}: "
                         "jaxgen.show.to_uint8 makes bytes of floats")
    buffer = io.BytesIO()
    File.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Bytes as the source of an image.

    Example:
        >>> data_uri(b"hello", "text/plain")
        'data:text/plain;base64,aGVsbG8='
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_html(image: UInt8[np.ndarray, "H W C"], alt: str, *, scale: float = 1, caption: str = "") -> str:
    """An image in its own pixels, enlarged by the browser and never wider than the window; in a figure with a caption.

    Args:
        image: see `png`.
        alt: what it shows, for those who do not see it.
        scale: of each pixel on a window that is wide enough.
        caption: below it; without one there is no figure around it.
    """
    height, width = image.shape[:2]
    tag = (f'<img class="pixels" alt="{escape(alt)}" width="{width}" height="{height}" '
           f'style="width:{round(width * scale)}px" src="{data_uri(png(image))}">')
    return f"<figure>{tag}<figcaption>{escape(caption)}</figcaption></figure>" if caption else tag


def tiles(images: Sequence[UInt8[np.ndarray, "H W C"]], captions: Sequence[str], alts: Sequence[str], *,
          scale: float = 1) -> str:
    """Images beside each other, as many in a row as there is room for, each with a caption."""
    figures = (f"<figure>{image_html(image, alt, scale=scale)}<figcaption>{escape(caption)}</figcaption></figure>"
               for image, caption, alt in zip(images, captions, alts, strict=True))
    return f'<div class="tiles">{"".join(figures)}</div>'


def frames(images: Sequence[UInt8[np.ndarray, "H W C"]], labels: Sequence[str], alt: str, *, scale: float = 1,
           caption: str = "") -> str:
    """An image with a slider over its frames and a button that plays them; the last frame without scripts.

    Args:
        images: the frames, of one size.
        labels: what each frame is, such as "step 3 of 18".
        alt, scale, caption: see `image_html`.

    Raises:
        ValueError: there are no frames, or not a label for each.
    """
    if not len(images) or len(images) != len(labels):
        raise ValueError(f"frames need a label each, and one at least; got {len(images)} images and {len(labels)} "
                         "labels")
    pairs = ",".join(f'["{_json_text(label)}","{data_uri(png(image))}"]'
                     for image, label in zip(images, labels, strict=True))
    last = len(images) - 1
    return (f'<figure data-frames>{image_html(images[-1], alt, scale=scale)}<div class="frames">'
            f'<button type="button">Play</button>'
            f'<input type="range" min="0" max="{last}" value="{last}" aria-label="frame: {escape(alt)}" '
            f'aria-valuetext="{escape(labels[-1])}"><output>{escape(labels[-1])}</output></div>'
            f'<figcaption>{escape(caption)}</figcaption><script type="application/json">[{pairs}]</script></figure>')


def table(rows: Iterable[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Rows of text or numbers; numbers in five digits. It scrolls by itself where the window is narrow."""
    head = f"<tr>{''.join(f'<th scope=col>{escape(cell)}</th>' for cell in header)}</tr>" if header else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(text(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def text(value: Any) -> str:
    """A value to read: floats in five digits, whole numbers with commas from 10,000 on, "" for None.

    Example:
        >>> text(0.123456), text(70001), text(None)
        ('0.12346', '70,001', '')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def section(name: str, title: str, *parts: str) -> str:
    """A part of a page with a heading, to which a link `#name` leads; "" where all parts are empty."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>\n{body}\n</section>\n' if body else ""


def folded(title: str, body: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{escape(title)}</summary>\n{body}\n</details>"


def strips(rows: Mapping[str, str]) -> str:
    """HTML by name, a line each: the name and beside it what belongs to it."""
    return f'<div class="classes">{"".join(f"<span>{escape(name)}</span>{row}" for name, row in rows.items())}</div>'


def _json_text(label: str) -> str:
    """Inside the quotes of JSON that stands in a script element."""
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("<", "\\u003c").replace("\n", " ")
