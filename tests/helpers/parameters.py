"""Models whose methods are compiled whole, and variables for them that cost no compilation."""

import inspect

import jax
import numpy as np

STATIC = ("example_shape", "train", "count", "length")
OF_NETWORKS = ("kernel", "bias", "scale", "embedding")


class compiled:  # noqa: N801
    """A view of a model with each of its methods under `jax.jit`; called bare, every operation would compile by itself.

    A condition that is wrong is seen by the model's own methods only, since under `jax.jit` no class is known.
    """

    def __init__(self, model):
        self._of = model

    def __getattr__(self, name):
        value = getattr(self._of, name)
        if inspect.ismethod(value):
            static = [argument for argument in inspect.signature(value).parameters if argument in STATIC]
            value = jax.jit(value, static_argnames=static)
        setattr(self, name, value)
        return value


def drawn(model, example_shape, seed=0):
    """Variables as of `model.init`, but with parameters of networks that NumPy draws, none of them 0 or 1.

    XLA takes 70 ms to compile the draw of one tensor, and a network has dozens. Codebooks, which have to fit their
    statistics, and the rest of the state are those of `init`.
    """
    rng, paths, own = np.random.default_rng(seed), [], []

    def init(key):
        leaves, tree = jax.tree_util.tree_flatten_with_path(model.init(key, example_shape))
        own.append(tree)
        paths.extend((path[-1].key, leaf.shape, leaf.dtype) for path, leaf in leaves)
        return [None if path[-1].key in OF_NETWORKS else leaf for path, leaf in leaves]

    leaves = jax.jit(init)(jax.random.key(seed))
    return own[0].unflatten(
        draw(rng, *path) if leaf is None else leaf for leaf, path in zip(leaves, paths, strict=True))


def filled(shapes, seed=0):
    """The same of any tree of shapes, such as `jax.eval_shape` of a Linen module's init gives."""
    rng = np.random.default_rng(seed)
    return jax.tree_util.tree_map_with_path(lambda path, a: draw(rng, path[-1].key, a.shape, a.dtype), shapes)


def draw(rng, name, shape, dtype):
    """Kernels that keep the size of what they are given, scales around 1, anything else around 0."""
    size = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3
    return jax.device_put(rng.normal(float(name == "scale"), size, shape).astype(dtype))  # asarray compiles a program
