"""Calls in batches of few sizes."""

import jax
import numpy as np
import pytest

from jaxgen.core.batches import filled, in_batches


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 21])
@pytest.mark.parametrize("size", [1, 3, 4, 16])
def test_every_example_comes_once_in_order_and_batches_have_few_sizes(count, size):
    sizes, x = [], {"a": np.arange(count), "b": (np.arange(2 * count).reshape(count, 2),)}

    def function(part):
        lengths = {len(leaf) for leaf in jax.tree.leaves(part)}
        assert len(lengths) == 1
        sizes.append(lengths.pop())
        return jax.numpy.asarray(part["a"] * 2), [part["b"][0] + 1]

    doubled, (added,) = in_batches(function, x, size)
    np.testing.assert_array_equal(doubled, 2 * np.arange(count))
    np.testing.assert_array_equal(added, x["b"][0] + 1)
    assert sizes[:-1] == [size] * (count // size - (count % size == 0)) and max(sizes) <= size
    assert sizes[-1] == size or sizes[-1] & (sizes[-1] - 1) == 0
    assert sizes[-1] < 2 * (count - sum(sizes[:-1])) and isinstance(doubled, np.ndarray)


def test_batches_are_filled_to_the_next_power_of_two():
    assert [filled(count) for count in (1, 2, 3, 4, 5, 64, 65)] == [1, 2, 4, 4, 8, 64, 128]
