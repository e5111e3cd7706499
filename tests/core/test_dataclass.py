"""Dataclasses as pytrees: their type is part of the tree."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from jaxgen.core.dataclass import register_dataclass


def doubled(name):
    """A class of two numbers of this name."""

    @register_dataclass
    @dataclass(frozen=True)
    class Pair:
        a: float
        b: float = 2.0

    Pair.__name__ = Pair.__qualname__ = name
    return Pair


def test_trees_of_two_classes_differ_and_of_one_are_equal():
    first, second = doubled("First"), doubled("Second")
    assert jax.tree.structure(first(1.0)) == jax.tree.structure(first(3.0, 4.0))
    assert jax.tree.structure(first(1.0)) != jax.tree.structure(second(1.0))


def test_the_fields_are_leaves_with_names_and_come_back():
    pair = doubled("Pair")
    paths = jax.tree_util.tree_flatten_with_path(pair(1.0))[0]
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in paths] == [(".a", 1.0), (".b", 2.0)]
    assert jax.tree.map(lambda x: 10 * x, pair(1.0)) == pair(10.0, 20.0)
    assert jax.jit(lambda x: x)(pair(jnp.ones(3))).a.shape == (3,)


def test_what_is_no_dataclass_is_refused():
    with pytest.raises(TypeError, match="Plain must be a dataclass"):
        register_dataclass(type("Plain", (), {}))


def test_no_two_kinds_of_schedules_have_equal_trees():
    schedules = [diffusion.trigonometric(), diffusion.sigmoid(), diffusion.edm(), diffusion.flow(), diffusion.linear()]
    structures = [jax.tree.structure(schedule) for schedule in schedules]
    for i, structure in enumerate(structures):
        assert [structure == other for other in structures] == list(np.arange(len(structures)) == i)
