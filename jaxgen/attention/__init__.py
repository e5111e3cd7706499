"""Scaled dot-product attention as a plain function on arrays; imports jax only.

    mixed = attend(q, k, v, allowed=mask)
"""

from jaxgen.attention.dot_product import attend

__all__ = ["attend"]
