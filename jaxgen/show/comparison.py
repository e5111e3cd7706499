"""A page on which a person judges pairs of images without knowing which is which.

Pairs come in random order and each with its sides at random, both by a seed. The page holds which side is which in a
form that cannot be read by eye, and says it after the last answer: how many were right, or how many preferred the first
kind, with Wilson's interval. Answers outlast the window in its localStorage, and can be saved as JSON.
"""

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxgen.show.page import data_uri, escape, page, png

Z95 = 1.959963984540054  # of the normal distribution, two-sided
MASK32 = 0xFFFFFFFF


def comparison_page(
    title: str, first: UInt8[np.ndarray, "N H W C"], second: UInt8[np.ndarray, "N H W C"], *, names: tuple[str, str],
    question: str, right: bool, seed: int = 0, references: UInt8[np.ndarray, "N H W C"] | None = None,
) -> str:
    """The page, which judges pairs (first[i], second[i]).

    Args:
        title: of the page; it must not say which side is which.
        first, second: the images of each pair.
        names: what they are, such as ("real", "sample"); told after the last answer.
        question: what is asked of each pair.
        right: whether the first is the right answer, so that right ones are counted; else preferences are.
        seed: of order and sides.
        references: a third image, shown above each pair.

    Raises:
        ValueError: there are no pairs, or their shapes differ.
    """
    if not len(first) or first.shape != second.shape or (references is not None and len(references) != len(first)):
        raise ValueError(f"pairs need as many images of one size on both sides, and one at least; got "
                         f"{list(first.shape)} and {list(second.shape)}")
    rng = np.random.default_rng(seed)
    order, first_left = rng.permutation(len(first)), rng.integers(0, 2, len(first)).astype(bool)
    pairs = []
    for i, left in zip(order, first_left, strict=True):
        pair = [first[i], second[i]] if left else [second[i], first[i]]
        images = pair if references is None else [*pair, references[i]]
        pairs.append([data_uri(png(image)) for image in images])
    head = {"seed": seed, "names": list(names), "right": right, "truth": hide(first_left, seed)}
    digest = hashlib.sha256(json.dumps([head, pairs]).encode()).hexdigest()[:16]
    payload = json.dumps({"id": digest, **_hidden_names(head, seed), "pairs": pairs}).replace("<", "\\u003c")
    side = max(first.shape[1:3])
    body = _BODY.format(title=escape(title), question=escape(question), payload=payload,
                        width=min(360, side * max(1, 320 // side)), count=len(first), z=Z95,
                        reference='<img id="reference" class="pixels" alt="">' if references is not None else "")
    return page(title, body, script=Path(__file__).with_name("comparison.js").read_text(encoding="utf-8"))


def hide(sides: np.ndarray, seed: int) -> str:
    """Yes or no for each pair [N], mixed with a stream of the seed, in base64; the page undoes it.

    Example:
        >>> sides = np.array([True, False, True])
        >>> reveal(hide(sides, 7), 7)
        [True, False, True]
    """
    return base64.b64encode(bytes(int(side) ^ key for side, key in zip(sides, _stream(seed)))).decode()


def reveal(hidden: str, seed: int) -> list[bool]:
    """What `hide` was given."""
    return [bool((byte ^ key) & 1) for byte, key in zip(base64.b64decode(hidden), _stream(seed))]


def _stream(seed):
    """Bytes of Marsaglia's xorshift32, which JavaScript computes alike."""
    state = (seed * 2654435761 + 0x9E3779B9) & MASK32 or 1
    while True:
        state ^= (state << 13) & MASK32
        state ^= state >> 17
        state ^= (state << 5) & MASK32
        yield state >> 24


def _hidden_names(head, seed):
    """The names too are no reading before the end: they may be paths of runs."""
    names = json.dumps(head["names"]).encode()
    return {**head, "names": base64.b64encode(bytes(a ^ b for a, b in zip(names, _stream(seed)))).decode()}


_BODY = """<style>
main {{ max-width: 60rem; margin: 0 auto; text-align: center; }} main p {{ margin: .5rem auto; }}
#pair {{ display: flex; justify-content: center; gap: clamp(.5rem, 3vw, 2.5rem); margin: 1rem 0; }}
.choice {{ padding: clamp(.4rem, 1.5vw, 1rem); flex: 0 1 auto; min-width: 0; border-width: 2px; }}
.choice:hover {{ border-color: var(--accent); }} .choice span {{ display: block; margin-top: .4rem; }}
.choice img {{ width: {width}px; }} #reference {{ width: {width}px; max-width: 45vw; margin: 0 auto; }}
progress {{ width: min(100%, 30rem); accent-color: var(--accent); }}
.big {{ font-size: 1.6rem; font-weight: 600; text-wrap: balance; }}
kbd {{ border: 1px solid var(--line); border-radius: .25rem; padding: 0 .35rem; background: var(--card); }}
#result:focus {{ outline: none; }}
#result table {{ margin: 1rem auto; text-align: left; }} [hidden] {{ display: none !important; }}
</style>
<main>
<h1>{title}</h1>
<section id="judging" aria-label="judging">
<p id="question" class="big">{question}</p>
<p class="soft">Click an image, or press <kbd>&larr;</kbd> or <kbd>&rarr;</kbd>. <kbd>Backspace</kbd> goes back.</p>
{reference}
<div id="pair" role="group" aria-labelledby="question">
<button type="button" class="choice" id="left">
<img class="pixels" alt=""><span aria-hidden="true">left</span></button>
<button type="button" class="choice" id="right">
<img class="pixels" alt=""><span aria-hidden="true">right</span></button>
</div>
<p id="place" role="status" aria-live="polite"></p>
<progress id="bar" max="{count}" value="0" aria-label="pairs judged"></progress>
<p><button type="button" id="back">Back</button></p>
</section>
<section id="result" aria-label="result" tabindex="-1" hidden>
<p id="share" class="big"></p>
<p id="verdict"></p>
<div id="counts"></div>
<p><a id="save" download="answers.json" href="data:,">Save the answers as JSON</a></p>
<p><button type="button" id="again">Start again</button></p>
</section>
<noscript><p>This page needs JavaScript.</p></noscript>
</main>
<script type="application/json" id="payload" data-z="{z}">{payload}</script>
"""
