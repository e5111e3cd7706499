"""TFDS builders that need no TensorFlow; each imports TFDS, so `jaxgen.data.load` imports them when asked for."""
