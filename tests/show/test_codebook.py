import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxgen.show import code_plane, code_sheet, principal_plane
from jaxgen.show.codebook import BAR, INK, TRACK

RNG = np.random.default_rng(0)


def test_the_plane_is_that_of_principal_components():
    vectors = RNG.normal(size=(40, 6)) * np.arange(1, 7) + 3
    places, expected = principal_plane(vectors), PCA(2).fit_transform(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(principal_plane(-vectors), -places, atol=1e-9)


def test_vectors_of_one_number_or_one_vector_have_a_place():
    np.testing.assert_allclose(principal_plane(np.array([[1.0], [3.0]])), [[-1, 0], [1, 0]])
    np.testing.assert_array_equal(principal_plane(np.ones((1, 5))), [[0, 0]])
    with pytest.raises(ValueError, match=r"finite \[K, D\].*\[3\]"):
        principal_plane(np.ones(3))
    with pytest.raises(ValueError, match="finite"):
        principal_plane(np.full((2, 2), np.nan))


def test_codes_stand_in_the_order_of_their_use_with_bars_as_long_as_its_root():
    patches, counts = RNG.integers(0, 256, (5, 4, 6, 3), dtype=np.uint8), np.array([4, 100, 0, 25, 1])
    sheet = code_sheet(patches, counts, columns=3, scale=2)
    for place, code in enumerate([1, 3, 0, 4, 2]):
        top, left = BAR + place // 3 * (8 + 2 * BAR), BAR + place % 3 * (12 + BAR)
        np.testing.assert_array_equal(sheet[top : top + 8 : 2, left : left + 12 : 2], patches[code])
        bar = sheet[top + 8, left : left + 12, 0]
        assert (bar == INK).sum() == {100: 12, 25: 6, 4: 2, 1: 1, 0: 0}[counts[code]] and set(bar) <= {INK, TRACK}
    with pytest.raises(ValueError, match=r"counts must be \[5\]"):
        code_sheet(patches, counts[:3])


def test_codes_stand_at_their_places_and_the_most_used_in_front():
    patches = np.stack([np.full((6, 6, 1), value, np.uint8) for value in (10, 60, 110, 160)])
    places = np.array([[-1.0, 2.0], [3.0, -2.0], [1.0, 0.0], [1.0, 0.0]])
    image = code_plane(patches, places, np.array([3, 0, 5, 4]), width=60, height=40)[..., 0]
    assert image[1, 1] == 10 and image[38, 58] == 60 // 4 + 191  # at the top left; not used, so faint
    assert image[20, 30] == 110 and not (image == 160).any()  # in front of the one at the same place
