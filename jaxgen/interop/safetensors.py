"""Named tensors in safetensors files: one file, or several with an index that says which tensor is where.

The index of `name.safetensors` is `name.safetensors.index.json`: {"weight_map": {tensor: file}}. Tensors are NumPy
arrays in the file's own layout; bfloat16 is that of `ml_dtypes`, which jax uses too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SUFFIX = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def read_safetensors(path: str | Path, *, dtype: Any = jnp.float32) -> dict[str, np.ndarray]:
    """All tensors of a file, or of the files of an index.

    Args:
        path: `name.safetensors`, where the index is looked for if the file is not there; or the index itself.
        dtype: what floating-point tensors are converted to; None leaves them as they are stored (bfloat16, float16).
            Whole numbers and booleans stay as they are.

    Returns:
        {name: array}.

    Raises:
        FileNotFoundError: neither is there; says what is there instead, and how to convert pickled weights, which
            are not read because reading them runs the code inside.
        ValueError: a file is damaged or is no safetensors file, the index does not fit its files, or `dtype` is not
            a floating-point type.
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype must be a floating-point type, or None to keep the file's; got {dtype}")
    path = Path(path)
    index = path if path.suffix == ".json" else path.with_name(path.name + ".index.json")
    if path != index and path.is_file():
        return _read_file(path, dtype)
    if not index.is_file():
        raise FileNotFoundError(_missing(path, index))
    tensors: dict[str, np.ndarray] = {}
    weight_map = _weight_map(index)
    for name in sorted(set(weight_map.values())):
        file = index.parent / name
        if not file.is_file():
            raise FileNotFoundError(f"{index.name} names {name}, which is not in {index.parent}: fetch it too")
        tensors.update(_read_file(file, dtype))
    if lost := sorted(set(weight_map) - set(tensors)):
        raise ValueError(f"{index} promises {lost[0]!r} in {weight_map[lost[0]]}, which does not have it")
    return tensors


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Any],
    *,
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors so that `read_safetensors(path, dtype=None)` gives them back, dtypes included.

    Args:
        path: `name.safetensors`; what an earlier call wrote there is replaced.
        tensors: {name: array}, of NumPy or jax.
        shard_bytes: start another file `name-00001-of-00002.safetensors` rather than pass this size, and write an
            index; None for one file. A tensor is never split.
        metadata: strings for the files' headers; libraries of PyTorch expect {"format": "pt"}.

    Raises:
        ValueError: the path ends otherwise, or `shard_bytes` is below 1.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX}, got {path}")
    if shard_bytes is not None and shard_bytes < 1:
        raise ValueError(f"shard_bytes must be at least 1, or None for one file; got {shard_bytes}")
    # The format stores a buffer as it lies: a transposed view would be written in the wrong order.
    arrays = {name: np.ascontiguousarray(tensor).reshape(np.shape(tensor)) for name, tensor in tensors.items()}
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, array in arrays.items():
        filled = sum(other.nbytes for other in shards[-1].values())
        if shard_bytes is not None and shards[-1] and filled + array.nbytes > shard_bytes:
            shards.append({})
        shards[-1][name] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    index = path.with_name(path.name + ".index.json")
    metadata = dict(metadata or {})
    if len(shards) == 1:
        save_file(arrays, path, metadata=metadata)
        index.unlink(missing_ok=True)  # readers would follow the index of an earlier call
        return
    files = [f"{path.stem}-{i:05}-of-{len(shards):05}{SUFFIX}" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards):
        save_file(shard, path.with_name(file), metadata=metadata)
    content = {
        "metadata": {"total_size": sum(array.nbytes for array in arrays.values())},
        "weight_map": {name: file for file, shard in zip(files, shards) for name in shard},
    }
    index.write_text(json.dumps(content, indent=2), encoding="utf-8")
    path.unlink(missing_ok=True)


def _read_file(file: Path, dtype: Any) -> dict[str, np.ndarray]:
    try:
        with safe_open(file, framework="np") as opened:
            return {name: _convert(opened.get_tensor(name), dtype) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged or is no safetensors file ({error}): fetch it again") from error


def _convert(tensor: np.ndarray, dtype: Any) -> np.ndarray:
    if dtype is None or not jnp.issubdtype(tensor.dtype, jnp.floating):
        return tensor
    return tensor.astype(jnp.dtype(dtype), copy=False)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        plain = all(Path(name).name == name for name in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{index} is no index of safetensors files: it needs {{"weight_map": {{...}}}}') from error
    if not plain:
        raise ValueError(f"{index} names files outside its own directory: it may only name its neighbours")
    return weight_map


def _missing(path: Path, index: Path) -> str:
    wanted = f"{path.name} or {index.name}" if path != index else index.name
    message = f"no {wanted} in {path.parent}"
    if not path.parent.is_dir():
        return f"{message}: there is no such directory"
    others = sorted(file.name for file in path.parent.iterdir())
    if other := next((name for name in others if name.endswith(SUFFIX)), None):
        return f"{message}: it has {other}; rename that file if it is the one"
    if pickled := next((name for name in others if name.endswith(PICKLED)), None):
        source, target = str(path.parent / pickled), str(path.parent / Path(pickled).stem) + SUFFIX
        return (
            f"{message}: it has {pickled}, pickled weights, which are not read because reading them runs the code "
            f"inside. Convert them where PyTorch is installed: python -c \"import torch, safetensors.torch as s; "
            f"s.save_file({{k: v.contiguous() for k, v in torch.load({source!r}, weights_only=True).items()}}, "
            f"{target!r})\""
        )
    return f"{message}: it has {', '.join(others) or 'no files'}"
