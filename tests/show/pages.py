"""What tests read out of a page."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"meta", "link", "img", "input", "br"}


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def tags(html):
    """[(name, attributes)] of all tags; each that is opened must be closed, in order."""
    parser = _Tags()
    parser.feed(html)
    assert parser.open == []
    return parser.tags


def pixels(uri):
    """uint8 [H, W] or [H, W, C] of the data URI of a PNG."""
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def check(html):
    """What holds of every page: it fetches nothing, ids are unique, links lead somewhere, images say what they are.

    Returns:
        Its tags.
    """
    found = tags(html)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found:
        for name in ("src", "href"):
            assert re.match(r"data:|#", attributes.get(name, "#")), attributes[name]
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        if tag == "img" and "src" in attributes:
            assert attributes["alt"]
            assert pixels(attributes["src"]).size
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp", html)
    return found
