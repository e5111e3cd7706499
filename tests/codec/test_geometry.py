"""Images to blocks and back, of any size, colours and tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codec.codec import layout_of
from jaxgen.codec.geometry import MAX_OVERLAP, Layout, join, split
from tests.helpers.codec import grey_levels

SIDES, WIDE = st.integers(1, 300), st.integers(1, 200)


@st.composite
def layouts(draw, sides=SIDES, wide=WIDE):
    step = draw(st.sampled_from([(1, 1), (2, 2), (4, 4), (8, 4), (16, 16)]))
    tile = max(step) * draw(st.integers(1, 9))
    return Layout(draw(sides), draw(wide), draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 3])), step, tile,
                  draw(st.integers(0, tile // 2)))


@settings(deadline=None, max_examples=80)
@given(layouts(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_blocks_that_are_left_as_they_are_give_the_images_back(layout, count, seed):
    shape = (count, layout.height, layout.width, layout.colours)
    images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    blocks = split(images, layout)
    assert blocks.shape == (count * layout.per_image, *layout.block, layout.channels)
    assert max(layout.block) <= layout.tile and not any(np.mod(layout.block, layout.step))
    np.testing.assert_array_equal(join(blocks, layout), images)


@settings(deadline=None, max_examples=40)
@given(layouts(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 255))
def test_blending_of_equal_values_is_exact(layout, value):
    images = np.full((1, layout.height, layout.width, layout.colours), value, np.uint8)
    assert (join(np.full_like(split(images, layout), value), layout) == value).all()


@pytest.mark.parametrize("overlap", [1, 4, 16])
def test_blending_is_the_weighted_mean_of_the_tiles(overlap):
    """Weights rise by 1 / (overlap + 1) a pixel, across what two tiles, or four, share."""
    layout = Layout(60, 50, 1, 1, (1, 1), 32, overlap)
    shape = split(np.zeros((1, 60, 50, 1), np.uint8), layout).shape
    blocks = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (high, tops), (wide, lefts) = layout.rows, layout.columns
    total, weights = np.zeros((2, tops[-1] + high, lefts[-1] + wide))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            for y in range(high):
                for x in range(wide):
                    weight = 1.0
                    for place, count, index, length in ((y, len(tops), i, high), (x, len(lefts), j, wide)):
                        if index > 0 and place < overlap:
                            weight *= (place + 1) / (overlap + 1)
                        if index < count - 1 and place >= length - overlap:
                            weight *= (length - place) / (overlap + 1)
                    total[top + y, left + x] += weight * blocks[i * len(lefts) + j, y, x, 0]
                    weights[top + y, left + x] += weight
    np.testing.assert_allclose(weights, 1)
    assert np.abs(join(blocks, layout)[0, ..., 0] - total[:60, :50]).max() <= 0.5 + 1e-6


def test_tiles_that_are_off_by_a_few_levels_show_no_seam():
    """Across an edge of a tile neighbours differ by no more than the ramp gives, and by rounding."""
    ramp = np.broadcast_to(np.arange(200) // 2 + 50, (1, 90, 200))[..., None].astype(np.uint8)
    layout = Layout(90, 200, 1, 1, (4, 4), 64, 16)
    blocks = split(ramp, layout)
    np.testing.assert_array_equal(join(blocks, layout), ramp)
    tiles = np.arange(len(blocks))
    off = blocks + (17 * (tiles % len(layout.columns[1]) % 2)).astype(np.uint8)[:, None, None, None]
    found = join(off, layout)[0, ..., 0].astype(int) - ramp[0, ..., 0]
    assert found.min() == 0 and found.max() == 17
    assert np.abs(np.diff(found, axis=1)).max() <= 2  # 17 / (overlap + 1), and rounding; 17 without an overlap


def test_grey_goes_through_a_colour_codec_as_three_and_colours_through_a_grey_one_as_three_images():
    x = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    blocks = split(x, Layout(2, 2, 3, 1, (2, 2), 2, 0))
    np.testing.assert_array_equal(blocks[..., 0], [x[0, ..., 0], x[0, ..., 1], x[0, ..., 2], x[1, ..., 0],
                                                   x[1, ..., 1], x[1, ..., 2]])
    blocks = split(x[..., :1], Layout(2, 2, 1, 3, (2, 2), 2, 0))
    np.testing.assert_array_equal(blocks, np.repeat(x[..., :1], 3, 3))
    blocks[..., 1] += 1  # the mean of the three, to the nearest
    blocks[..., 2] += 3
    np.testing.assert_array_equal(join(blocks, Layout(2, 2, 1, 3, (2, 2), 2, 0)), x[..., :1] + 1)


def test_sides_are_filled_up_by_repeating_the_last():
    x = np.arange(15, dtype=np.uint8).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(split(x, Layout(3, 5, 1, 1, (4, 4), 64, 16)),
                                  np.pad(x, ((0, 0), (0, 1), (0, 3), (0, 0)), mode="edge"))


def test_weighted_sums_of_the_largest_overlap_do_not_overflow():
    assert (2 * 255 + 1) * (MAX_OVERLAP + 1) ** 2 < 2**31
    assert layout_of(grey_levels(), (3000, 3000, 1), 8192, MAX_OVERLAP).overlap == MAX_OVERLAP


@pytest.mark.parametrize("tile, overlap, words", [
    (0, 0, "tile=0"), (-4, 0, "tile=-4"), (64, -1, "overlap=-1 must be from 0 to 32"), (64, 33, "overlap=33"),
    (65, 33, "0 to 32"), (8192, MAX_OVERLAP + 1, f"at most {MAX_OVERLAP}"),
])
def test_tiles_and_overlaps_outside_their_range_are_refused(tile, overlap, words):
    with pytest.raises(ValueError, match=words):
        layout_of(grey_levels(), (100, 100, 1), tile, overlap)


def test_tiles_are_multiples_of_the_step():
    assert layout_of(grey_levels(coarse=8), (100, 100, 1), 30, 4).tile == 24
    assert layout_of(grey_levels(coarse=8), (100, 100, 1), 3, 4).tile == 8
