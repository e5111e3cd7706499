"""The SHA-256 of a tree of arrays, by which weights are named."""

import hashlib
from typing import Any

import jax
import numpy as np


def digest(tree: Any) -> str:
    """64 hexadecimal digits of the leaves' places in the tree, dtypes, shapes and values.

    It is the same for arrays of NumPy and of jax, on every device and in every process.

    Example:
        >>> import numpy as np
        >>> from jaxgen.core.digest import digest
        >>> digest({"a": np.zeros(2, np.float32), "b": np.ones(1)})[:12]
        '31f18c9482e6'
        >>> digest({"b": np.ones(1), "a": np.zeros(2, np.float32)})[:12]
        '31f18c9482e6'
    """
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        place = jax.tree_util.keystr(path, simple=True, separator="/")
        result.update(f"{place} {array.dtype.name} {array.shape}\n".encode())
        result.update(array.tobytes())
    return result.hexdigest()
