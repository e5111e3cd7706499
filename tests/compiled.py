"""Models whose functions are compiled whole."""

import inspect

import jax

STATIC = ("image_shape", "train", "count")


def compiled(model):
    """The model with each of its functions under `jax.jit`; called bare, every operation would compile by itself."""
    functions = {name: value for name, value in model._asdict().items() if inspect.isfunction(value)}
    return model._replace(**{
        name: jax.jit(function, static_argnames=[a for a in inspect.signature(function).parameters if a in STATIC])
        for name, function in functions.items()
    })
