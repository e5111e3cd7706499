"""The weights of the Inception network of the Fréchet inception distance."""

from jaxgen.interop.inception.weights import inception_from_tensors, load_inception

__all__ = ["inception_from_tensors", "load_inception"]
