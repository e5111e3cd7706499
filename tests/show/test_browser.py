"""Pages in a real browser: they fit the window, all images show, and a comparison can be gone through."""

import json
import urllib.parse

import numpy as np
import pytest

from jaxgen import metrics, show
from jaxgen.show.comparison import reveal
from tests.helpers import chromium
from tests.show.test_comparison import payload
from tests.show.test_report import IMAGES, every_part

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium")]
FIRST, SECOND = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def compared(tmp_path, **options):
    html = show.comparison_page("Blind", FIRST, SECOND, names=("real", "made"), question="Which is real?",
                                **{"right": True, "seed": 5, **options})
    path = tmp_path / "comparison.html"
    path.write_text(html, encoding="utf-8")
    return path, ["left" if left else "right" for left in reveal(payload(html)["truth"], options.get("seed", 5))]


def fits(browser, path, width):
    """Opens a page and checks what holds of each."""
    browser.errors.clear()
    browser.open(path, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.images.length") > 0
    assert browser.evaluate("[...document.images].filter(i => !(i.naturalWidth > 0 && i.alt)).length") == 0
    assert browser.errors == [] and browser.requests == []


@pytest.mark.parametrize("width", [400, 1400])
def test_reports_fit_the_window_and_show_their_images(browser, tmp_path, width):
    many = [show.Report(f"run_{'with_a_long_name_' * 5}{i}", {"model": "vqvae", "loss": 0.1}, IMAGES, every_part())
            for i in range(3)]
    for name, reports in (("one", many[:1]), ("gallery", many)):
        path = tmp_path / f"{name}.html"
        path.write_text(show.report_page(name, reports), encoding="utf-8")
        fits(browser, path, width)
        assert browser.evaluate("[...document.querySelectorAll('a')].every(a => document.querySelector("
                                "a.getAttribute('href')))")


def test_the_slider_and_the_button_change_the_frame(browser, tmp_path):
    path = tmp_path / "frames.html"
    path.write_text(show.report_page("one", [show.Report("one", {}, None, every_part())]), encoding="utf-8")
    browser.open(path)
    state = "(f => [f.querySelector('img').src, f.querySelector('output').textContent])" \
            "(document.querySelector('#denoising figure'))"
    last = browser.evaluate(state)
    browser.evaluate("(s => { s.value = 0; s.dispatchEvent(new Event('input')); })"
                     "(document.querySelector('#denoising input'))")
    first = browser.evaluate(state)
    assert first[0] != last[0] and first[1].startswith("step 1 of 3")
    browser.click("#denoising button")
    browser.wait(f"JSON.stringify({state}) === {json.dumps(json.dumps(last, separators=(',', ':')))}")
    assert browser.errors == []


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("references", [None, SECOND])
def test_a_comparison_fits_the_window(browser, tmp_path, width, references):
    path, _ = compared(tmp_path, references=references)
    fits(browser, path, width)


@pytest.mark.parametrize("wrong", [0, 3])
def test_a_comparison_by_keyboard_and_mouse_ends_with_its_interval(browser, tmp_path, wrong):
    path, truth = compared(tmp_path, seed=5 + 2**33 * wrong)
    browser.open(path)
    answers = truth[:-wrong or None] + [{"left": "right", "right": "left"}[side] for side in truth[len(truth) - wrong:]]
    browser.press("ArrowLeft")
    browser.press("Backspace")
    for i, side in enumerate(answers):
        assert browser.evaluate("document.querySelector('#place').textContent") == f"Pair {i + 1} of 12"
        assert browser.evaluate("document.querySelector('#result').hidden")
        if i == 6:  # the window is closed and opened again
            browser.open(path)
            assert browser.evaluate("document.querySelector('#bar').value") == 6
        browser.click(f"#{side}") if i % 2 else browser.press(f"Arrow{side.title()}")
    low, high = metrics.binomial_interval(12 - wrong, 12)
    share = browser.evaluate("document.querySelector('#share').textContent")
    assert share == (f"{12 - wrong} of 12 right answers: {(12 - wrong) / 12:.1%}, 95% interval {low:.1%} to {high:.1%}")
    saved = browser.evaluate("document.querySelector('#save').href")
    result = json.loads(urllib.parse.unquote(saved.split(",", 1)[1]))
    assert result["seed"] == 5 + 2**33 * wrong and result["names"] == ["real", "made"]
    assert [answer["first"] for answer in result["answers"]] == truth
    assert [answer["chosen"] for answer in result["answers"]] == answers
    np.testing.assert_allclose(result["interval"], (low, high), rtol=1e-12)
    assert browser.evaluate("document.activeElement.id") == "result" and browser.errors == []
    browser.evaluate("scrollTo(0, 0)")
    browser.click("#again")
    assert browser.evaluate("document.querySelector('#place').textContent") == "Pair 1 of 12"


def test_preferences_count_the_first_kind(browser, tmp_path):
    path, truth = compared(tmp_path, right=False, seed=9)
    browser.open(path)
    for _ in range(12):
        browser.press("ArrowLeft")
    count = truth.count("left")
    assert browser.evaluate("document.querySelector('#share').textContent").startswith(f"{count} of 12 for real:")
    assert "neither was preferred" in browser.evaluate("document.querySelector('#verdict').textContent")
