"""Coding by networks: orders of groups, round trips over several blocks, and float networks that read otherwise."""

import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from jaxgen.codec import DamageWarning, FileError, Probabilities, compress, decode, reconstruct
from jaxgen.codec.prior import GROUPS, Autoregressive, Masked, blocks_of, halton_groups
from tests.helpers.codec import grey_levels, images, round_trip, same_tables

CODES = 5


@dataclass(frozen=True)
class Mixed:
    """Logits that depend on every token that may be known, in whole numbers; both kinds of network.

    `off` is added to one logit of each table, as another device's rounding might.
    """

    codes: int = CODES
    exact: bool = True
    at_once: bool = True
    off: int = 0
    digest: str = "mixed"

    def _logits(self, state, index):
        code = np.arange(self.codes)
        return (state[..., None] * (code + 3) + index * (2 * code + 1)) % 101 * 3 + self.off * (code == 1)

    def all(self, tokens):
        states = [np.zeros(len(tokens), np.int64)]
        for index in range(1, tokens.shape[1]):
            states.append((states[-1] * 7 + tokens[:, index - 1] + 1) % 10007)
        return self._logits(np.stack(states, 1), np.arange(tokens.shape[1])[:, None]) if self.at_once else None

    def start(self, batch, length):
        return np.zeros(batch, np.int64)

    def next(self, state, before, index):
        state = (state * 7 + before + 1) % 10007 if index else state
        return self._logits(state, index), state

    def logits(self, tokens, known, step):
        places = np.arange(tokens.shape[1])
        seen = np.where(known, tokens + 1, 0) @ (places * places + 1)
        return self._logits((seen[:, None] + 13 * step) % 10007, places[:, None])


def autoregressive(planes=2, **options):
    return Autoregressive(network=Mixed(**options), num_codes=(options.get("codes", CODES),) * planes, block=(2, 3))


def masked(planes=2, **options):
    return Masked(network=Mixed(**options), num_codes=(options.get("codes", CODES),) * planes,
                  groups=halton_groups(2, 3, 4))


@pytest.mark.parametrize("height, width, count", [
    (1, 1, 12), (7, 7, 12), (8, 8, 12), (5, 9, 3), (16, 16, 12), (2, 3, 1),
])
def test_groups_hold_every_place_once_and_follow_the_cosine(height, width, count):
    groups, size = halton_groups(height, width, count), height * width
    assert groups.shape == (height, width)
    sizes = np.bincount(groups.ravel())
    assert sizes.min() >= 1 and len(sizes) <= count and sizes.sum() == size
    wanted = np.ceil(size * (1 - np.cos(np.pi / 2 * np.arange(1, count + 1) / count)) - 1e-9)
    assert set(sizes.cumsum()) == set(wanted.clip(1)) or set(sizes.cumsum()) == {*wanted[:-1].clip(1), size}
    assert (np.diff(sizes) >= -1).all() and sizes[-1] == sizes.max()  # they grow, but for rounding


def test_the_first_places_are_spread():
    """The first 2^a 3^b places of a Halton sequence have one place in each of 2^a x 3^b boxes."""
    groups = halton_groups(24, 27, 12)
    sizes = np.bincount(groups.ravel()).cumsum()
    first = groups <= np.flatnonzero(sizes >= 36)[0]
    boxes = first.reshape(4, 6, 9, 3).sum((1, 3))
    assert boxes.min() >= 1
    assert sizes[0] == 6 and ((groups == 0).reshape(2, 12, 3, 9).sum((1, 3)) == 1).all()


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0), (3, 3, 0)])
def test_grids_and_counts_below_1_are_refused(arguments):
    with pytest.raises(ValueError, match="got 0"):
        halton_groups(*arguments)


def test_blocks_have_each_token_once_with_levels_together():
    image, row, column, level = blocks_of((2, 4, 6), (2, 3), 2)
    assert image.shape == (8, 12)
    assert len(set(zip(image.ravel(), row.ravel(), column.ravel(), level.ravel()))) == 2 * 4 * 6 * 2
    np.testing.assert_array_equal(level, np.tile([0, 1], (8, 6)))
    np.testing.assert_array_equal(row[3], np.repeat([2, 2, 2, 3, 3, 3], 2))
    np.testing.assert_array_equal(column[3], np.repeat([3, 4, 5, 3, 4, 5], 2))
    with pytest.raises(ValueError, match="4x7 are no multiple of the prior's 2x3"):
        blocks_of((1, 4, 7), (2, 3), 1)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 4, 9)])
@pytest.mark.parametrize("levels", [1, 2])
def test_an_autoregressive_prior_reads_what_it_wrote_by_the_same_tables(shape, levels, at_once):
    model = autoregressive(levels, at_once=at_once)
    planes = list(np.random.default_rng(0).integers(0, CODES, (levels, *shape)))
    assert model.chunks(levels) == [tuple(range(levels))] and isinstance(model, Probabilities)
    found, data, writer, reader = round_trip(model, tuple(range(levels)), planes)
    for own, plane in zip(found, planes, strict=True):
        np.testing.assert_array_equal(own, plane)
    assert same_tables(writer, reader) and len(writer.tables) == 6 * levels
    assert len(data) <= writer.bits / 8 * 1.001 + 8
    assert len({table.tobytes() for table in writer.tables}) == 6 * levels  # they do depend on what came before


def test_an_autoregressive_prior_codes_all_planes_or_none():
    with pytest.raises(ValueError, match="all 2 index maps together, not the first 1"):
        autoregressive(2).chunks(1)


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 4, 9)])
def test_a_masked_prior_reads_what_it_wrote_by_the_same_tables(shape):
    model = masked()
    planes = list(np.random.default_rng(1).integers(0, CODES, (2, *shape)))
    count = int(model.groups.max()) + 1
    assert model.chunks(2) == [(0,), (1,)] and model.block == (2, 3) and isinstance(model, Probabilities)
    for i, plane in enumerate(planes):
        (found,), data, writer, reader = round_trip(model, (i,), planes)
        np.testing.assert_array_equal(found, plane)
        assert same_tables(writer, reader) and len(writer.tables) == count
        assert len(data) <= writer.bits / 8 * 1.001 + 8


def test_a_masked_prior_shows_a_step_the_planes_below_and_the_groups_before_only():
    seen = []

    class Watched(Mixed):
        def logits(self, tokens, known, step):
            seen.append((tokens.copy(), known.copy(), step))
            return super().logits(tokens, known, step)

    groups = np.array([[0, 1, 1]])
    model = Masked(network=Watched(), num_codes=(CODES,) * 2, groups=groups)
    planes = [np.array([[[1, 2, 3]]]), np.array([[[4, 0, 1]]])]
    for i in range(2):
        round_trip(model, (i,), planes)
    written = seen[:2] + seen[4:6]
    assert [step for _, _, step in written] == [0, 1, 2, 3]
    # places in pairs of (plane 0, plane 1)
    assert [known.astype(int).tolist() for _, known, _ in written] == [
        [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0]]
    for (tokens, known, _), (again, known_again, _) in zip(written, seen[2:4] + seen[6:8]):
        np.testing.assert_array_equal(known, known_again)
        np.testing.assert_array_equal(tokens[:, known], again[:, known])


@pytest.mark.parametrize("make", [autoregressive, masked])
def test_the_digest_is_of_the_network_and_the_order(make):
    assert make().digest == make().digest != make(digest="other").digest
    assert make().digest != make(planes=1).digest


@pytest.mark.parametrize("make", [autoregressive, masked])
@pytest.mark.parametrize("off", [1, 40])
def test_a_float_network_that_computes_otherwise_is_told_and_gives_no_other_pixels(make, off):
    """A codec whose tables are a little or much off at reading, with the digest of the one that wrote."""
    own = images((3, 8, 12, 1))
    writing, reading = (grey_levels(make(codes=4, exact=False, off=o)) for o in (0, off))
    data = compress(writing, own)
    np.testing.assert_array_equal(decode(writing, data).images, reconstruct(writing, own))
    with warnings.catch_warnings(record=True) as told, pytest.raises(FileError, match="0 to 2 are lost"):
        warnings.simplefilter("always")
        decode(reading, data)
    assert any("probabilities of a chunk are not those that it was written with" in str(warning.message)
               for warning in told if warning.category is DamageWarning)
    conceal = grey_levels(make(codes=4, exact=False, off=off), conceal=lambda planes, known: planes)
    with pytest.warns(DamageWarning):
        assert decode(conceal, data, conceal=True).concealed.all()


@pytest.mark.parametrize("make", [autoregressive, masked])
@pytest.mark.parametrize("off", [1, 40])
def test_codes_that_the_writer_itself_does_not_read_again_are_stored_as_they_are(make, off):
    calls = []

    class Unsteady(Mixed):  # each call of the network, or each program, rounds otherwise
        def _logits(self, state, index):
            calls.append(0)
            return super()._logits(state, index) + off * (len(calls) % 7 == 0) * (np.arange(self.codes) == 1)

    model = make(codes=4, exact=False)
    own = grey_levels(dataclasses.replace(model, network=Unsteady(codes=4, exact=False)))
    x = images((3, 8, 12, 1))
    data = compress(own, x)
    for reading in (own, grey_levels(model)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(decode(reading, data).images, reconstruct(reading, x))
    assert len(data) - 3 * 4 * 6 * 2 * 2 / 8 in range(30, 60)  # two bits for each of two codes, header and sums
    assert len(compress(grey_levels(model), x)) != len(data)


def test_the_default_number_of_groups():
    assert halton_groups(16, 16).max() + 1 == GROUPS
