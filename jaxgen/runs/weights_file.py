"""`model.safetensors` of a published checkpoint: the weights that are used, in half precision, and whether it is whole.

Tensors are called as in checkpoints, "params/encoder/conv/kernel" and "state/counts". What gradients trained, a first
stage's too, is stored in half precision; everything else (counts and sums of codes, flags, whole numbers) exactly. The
header's metadata hold the format, the step, the digest of the weights it was made of, and that of the file's contents.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.checks import choose
from jaxgen.core.types import PyTree, Variables
from jaxgen.evaluate.reproduction import REPRODUCE
from jaxgen.interop.safetensors import write_safetensors
from jaxgen.interop.safetensors_file import NAMES, read_header, read_tensors
from jaxgen.runs import manifest
from jaxgen.runs.manifest import DamagedCheckpointError

WEIGHTS = "model.safetensors"
FORMAT = "jaxgen-weights"
VERSION = "1"
DTYPES = {"float16": jnp.float16, "bfloat16": jnp.bfloat16, "float32": jnp.float32}
TRAINED = "params"  # a part of a tensor's name, at the front or where a state holds a first stage's variables


class Contents(NamedTuple):
    """What `read_contents` returns."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]


def is_published(directory: Path) -> bool:
    """Whether a directory holds a published checkpoint; other libraries' folders have a file of the weights' name too.

    A file of that name next to a reproduce.json is one whose weights are damaged.
    """
    file = directory / WEIGHTS
    if not file.is_file() or (directory / REPRODUCE).is_file():
        return file.is_file()
    try:
        return read_header(file).metadata.get("format") == FORMAT
    except ValueError:
        return False


def write_weights(
    file: Path, variables: Variables, *, step: int, dtype: str = "float16", elsewhere: Collection[str] = (),
    **metadata: str,
) -> None:
    """Writes the weights.

    Args:
        file: `model.safetensors`.
        variables: params and state.
        step: of the checkpoint they are of.
        dtype: a key of `DTYPES`, of what gradients trained; float32 is as they are. A tensor with a number that
            float16 does not reach (65,504) becomes bfloat16.
        elsewhere: names of tensors that are left out, since another file holds them.
        **metadata: what else the header says, such as which file that is.

    Raises:
        ValueError: an unknown dtype, or weights that are not finite; names the tensor.
    """
    half = jnp.dtype(choose("dtype", dtype, DTYPES))
    whole = named(variables)
    for name, tensor in whole.items():
        if jnp.issubdtype(tensor.dtype, jnp.floating) and not np.isfinite(tensor.astype(np.float32)).all():
            raise ValueError(f"tensor {name!r} has numbers that are not finite, so nobody could use the weights: "
                             "publish the checkpoint of an earlier step")
    stored = {name: _rounded(name, tensor, half) for name, tensor in whole.items() if name not in elsewhere}
    metadata |= {"format": FORMAT, "version": VERSION, "step": str(step), "source": digest_of_contents(whole, {})}
    write_safetensors(file, stored, metadata={**metadata, "digest": digest_of_contents(stored, metadata)})


def read_contents(file: Path) -> Contents:
    """The tensors that `write_weights` wrote, and what the header says; all of it checked by its digest.

    Raises:
        FileNotFoundError: it is not there.
        DamagedCheckpointError: it is no safetensors file, or its contents are not what was written.
        ValueError: another program or version wrote it.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist, so {file.parent} is no published checkpoint")
    try:
        header = read_header(file)
        tensors = read_tensors(file, header)
    except ValueError as error:
        raise DamagedCheckpointError(str(error)) from error
    metadata = dict(header.metadata)
    written = metadata.pop("digest", None)
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{file} is no {FORMAT} of version {VERSION} by its metadata {header.metadata}: another "
                         "program or version wrote it; jaxgen.interop reads the formats of other libraries")
    if written != digest_of_contents(tensors, metadata):
        raise DamagedCheckpointError(f"{file} is damaged: its contents are not those that were written (digest). Fetch "
                                     "it again, or publish it again from its run")
    return Contents(tensors, header.metadata)


def fill(file: Path, tensors: Mapping[str, np.ndarray], template: Variables) -> Variables:
    """Tensors as arrays of the template's dtypes on the default device.

    Args:
        file: of the tensors, for messages.
        tensors: by name.
        template: arrays or `jax.ShapeDtypeStruct`, as the model's `init` gives them.

    Raises:
        ValueError: the tensors are not the template's; names the first one.
    """
    shapes = {name: entry[0] for name, entry in manifest.arrays(template._asdict()).items()}
    manifest.check_arrays(file, *({name: [list(shape), "tensor "] for name, shape in one.items()}
                                  for one in ({n: t.shape for n, t in tensors.items()}, shapes)), partial=False)
    return Variables(**jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(tensors[name_of(path)], manifest.dtype_of(leaf)), template._asdict()))


def digest_of_contents(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, dtypes, shapes and contents, in the order of the names.

    Example:
        >>> a, b = np.zeros(2), np.ones(1)
        >>> digest_of_contents({"a": a, "b": b}, {}) == digest_of_contents({"b": b, "a": a}, {})
        True
    """
    result = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        result.update(json.dumps([name, NAMES.get(tensor.dtype, str(tensor.dtype)), tensor.shape]).encode())
        result.update(tensor.tobytes())
    return result.hexdigest()


def digest_of_file(file: Path) -> str:
    """SHA-256 of a file as it is, which `sha256sum` gives too."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def named(variables: Variables) -> dict[str, np.ndarray]:
    """{name of the tensor: its contents}."""
    leaves: PyTree = jax.tree_util.tree_leaves_with_path(variables._asdict())
    return {name_of(path): np.asarray(leaf) for path, leaf in leaves}


def name_of(path: Any) -> str:
    """What the tensor at a path of JAX's is called."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _rounded(name: str, tensor: np.ndarray, half: np.dtype) -> np.ndarray:
    narrower = jnp.issubdtype(tensor.dtype, jnp.floating) and tensor.dtype.itemsize > half.itemsize
    if not narrower or TRAINED not in name.split("/"):
        return tensor
    beyond = np.abs(tensor).max(initial=0) > jnp.finfo(half).max
    return tensor.astype(jnp.bfloat16 if beyond else half)
