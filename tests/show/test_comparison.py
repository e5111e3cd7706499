import base64
import json
import re

import numpy as np
import pytest

from jaxgen.show import comparison_page
from jaxgen.show.comparison import hide, reveal
from tests.show.pages import check, pixels

RNG = np.random.default_rng(0)
FIRST, SECOND, ABOVE = RNG.integers(0, 256, (3, 20, 4, 5, 3), dtype=np.uint8)
PAGE = {"names": ("runs/real one", "made"), "question": "Which?", "right": True}


def payload(html):
    return json.loads(re.search(r'id="payload"[^>]*>(.*?)</script>', html, re.S)[1])


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_every_pair_is_there_once_with_its_sides_as_the_hidden_truth_has_them(seed):
    html = comparison_page("t", FIRST, SECOND, seed=seed, references=ABOVE, **PAGE)
    check(html)
    data = payload(html)
    truth, found = reveal(data["truth"], seed), []
    assert len(truth) == 20 and 0 < sum(truth) < 20
    for first_left, pair in zip(truth, data["pairs"], strict=True):
        left, right, above = map(pixels, pair)
        i = next(i for i in range(20) if (above == ABOVE[i]).all())
        found.append(i)
        np.testing.assert_array_equal(left, (FIRST if first_left else SECOND)[i])
        np.testing.assert_array_equal(right, (SECOND if first_left else FIRST)[i])
    assert sorted(found) == list(range(20)) and found != list(range(20))


def test_a_seed_makes_one_page_and_another_seed_another_order():
    pages = [comparison_page("t", FIRST, SECOND, seed=seed, **PAGE) for seed in (1, 1, 2)]
    assert pages[0] == pages[1] != pages[2]
    assert payload(pages[0])["pairs"] != payload(pages[2])["pairs"]


def test_the_page_does_not_say_which_is_which():
    html = comparison_page("t", FIRST, SECOND, seed=3, **PAGE)
    visible = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "real one" not in html and "made" not in visible
    data = payload(html)
    assert set(data) == {"id", "seed", "names", "right", "truth", "pairs"}
    # Sides that are all alike do not show: neither the bytes nor their last bits are.
    for sides in (np.zeros(400, bool), np.ones(400, bool)):
        hidden = np.frombuffer(base64.b64decode(hide(sides, 5)), np.uint8)
        assert 150 < (hidden & 1).sum() < 250 and len(np.unique(hidden)) > 150
        assert reveal(hide(sides, 5), 5) == sides.tolist()
    assert sum(reveal(hide(np.ones(400, bool), 5), 6)) < 250


@pytest.mark.parametrize(("first", "second", "references"), [
    (FIRST[:0], SECOND[:0], None), (FIRST, SECOND[:3], None), (FIRST, SECOND[:, :2], None), (FIRST, SECOND, ABOVE[:2]),
])
def test_pairs_that_do_not_fit_are_refused(first, second, references):
    with pytest.raises(ValueError, match="pairs need as many images of one size"):
        comparison_page("t", first, second, references=references, **PAGE)
