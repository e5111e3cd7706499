"""TFDS builders that need no TensorFlow; each imports TFDS, so `jaxgen.data.load` imports them when asked for."""

from jaxgen.core.extras import extra

with extra("data"):
    import tensorflow_datasets  # noqa: F401
