"""Named tensors in safetensors files: one file, or several with an index that says which tensor is where.

The index of `name.safetensors` is `name.safetensors.index.json`: {"weight_map": {tensor: file}}. Tensors are NumPy
arrays in the file's own layout; bfloat16 and float8 are those of `ml_dtypes`, which jax uses too. A repository may hold
the same weights in several types, as variants: `name.fp16.safetensors`, with the index
`name.safetensors.index.fp16.json`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.core.checks import check_count
from jaxgen.core.json_file import parse_object
from jaxgen.interop.safetensors_file import METADATA, NAMES, SUFFIX, read_header, read_tensors, write_file

INDEX = ".index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def read_safetensors(
    path: str | Path, *, dtype: Any = jnp.float32, variant: str | None = None
) -> dict[str, np.ndarray]:
    """All tensors of a file, or of the files of an index.

    The index decides which file a tensor is read from. The sum of sizes that it may state, "total_size", is not
    compared: published ones count shared tensors twice, and every file's own sizes are checked.

    Args:
        path: `name.safetensors`, where the index is looked for if the file is not there; or the index itself.
        dtype: what floating-point tensors are converted to; None leaves them as they are stored (float64, float16,
            bfloat16, float8). Whole, complex and truth values stay as they are.
        variant: for example "fp16", where `path` is without it: reads `name.fp16.safetensors`, or the index
            `name.safetensors.index.fp16.json` (in older repositories `name.safetensors.fp16.index.json`).

    Returns:
        {name: array}.

    Raises:
        FileNotFoundError: neither is there; says what is there instead, and how to convert pickled weights, which
            are not read because reading them runs the code inside.
        OSError: a file cannot be read.
        ValueError: a file is damaged or is no safetensors file, a dtype is not read here (types of less than a byte),
            the files do not hold what the index says, no more and no less, or `dtype` or `variant` is none; names
            the file and the tensor.
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype must be a floating-point type, or None to keep the file's; got {dtype}")
    path, indices = _places(Path(path), variant)
    if path not in indices and path.is_file():
        files = {path: read_header(path)}
    else:
        index = next((index for index in indices if index.is_file()), None)
        if index is None:
            raise FileNotFoundError(_missing(path, indices))
        files = _indexed(index)
    return {name: _convert(tensor, dtype) for file, header in files.items()
            for name, tensor in read_tensors(file, header).items()}


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
        tensors: {name: array}, of NumPy or jax, however they lie in memory.
        shard_bytes: start another file `name-00001-of-00002.safetensors` rather than pass this size, and write an
            index; None for one file. A tensor is never split.
        metadata: strings for the files' headers; libraries of PyTorch expect {"format": "pt"}.

    Raises:
        ValueError: the path ends otherwise, `shard_bytes` is below 1, the format has no such dtype, or a name or the
            metadata is no string; names the tensor. Nothing is written then.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX}, got {path}")
    if shard_bytes is not None:
        shard_bytes = check_count("shard_bytes (None for one file)", shard_bytes)
    arrays = {name: _written(name, tensor) for name, tensor in tensors.items()}
    metadata = dict(metadata or {})
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values())):
        raise ValueError(f"metadata must hold strings under strings, got {metadata}")
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, array in arrays.items():
        filled = sum(other.nbytes for other in shards[-1].values())
        if shard_bytes is not None and shards[-1] and filled + array.nbytes > shard_bytes:
            shards.append({})
        shards[-1][name] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    index = path.with_name(path.name + INDEX)
    if len(shards) == 1:
        write_file(path, arrays, metadata)
        index.unlink(missing_ok=True)  # readers would follow the index of an earlier call
        return
    files = [f"{path.stem}-{i:05}-of-{len(shards):05}{SUFFIX}" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards):
        write_file(path.with_name(file), shard, metadata)
    content = {
        "metadata": {"total_size": sum(array.nbytes for array in arrays.values())},
        "weight_map": {name: file for file, shard in zip(files, shards) for name in shard},
    }
    index.write_text(json.dumps(content, indent=2), encoding="utf-8")
    path.unlink(missing_ok=True)


def _written(name: str, tensor: Any) -> np.ndarray:
    """The tensor as an array of a dtype that the format has, in the byte order that it has."""
    if not isinstance(name, str) or name == METADATA:
        raise ValueError(f"a tensor's name must be a string other than {METADATA!r}, got {name!r}")
    array = np.asarray(tensor)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype not in NAMES:
        raise ValueError(f"tensor {name!r} has dtype {array.dtype}, which safetensors files cannot hold: cast it to "
                         f"one of {', '.join(map(str, NAMES))}")
    return array


def _convert(tensor: np.ndarray, dtype: Any) -> np.ndarray:
    if dtype is None or not jnp.issubdtype(tensor.dtype, jnp.floating):
        return tensor
    return tensor.astype(jnp.dtype(dtype), copy=False)


def _places(path: Path, variant: str | None) -> tuple[Path, list[Path]]:
    """The file of a variant, and where its index may be."""
    if variant is None:
        return path, [path if path.suffix == ".json" else path.with_name(path.name + INDEX)]
    if not isinstance(variant, str) or not re.fullmatch(r"\w[\w-]*", variant):
        raise ValueError(f"variant must be a part of a file's name such as 'fp16', or None; got {variant!r}")
    if path.suffix != SUFFIX:
        raise ValueError(f"path must end in {SUFFIX} where a variant is asked for, got {path}")
    indices = [path.with_name(f"{path.name}.{name}.json") for name in (f"index.{variant}", f"{variant}.index")]
    return path.with_name(f"{path.stem}.{variant}{SUFFIX}"), indices


def _indexed(index: Path) -> dict[Path, Any]:
    """The headers of an index's files, which hold what it says and nothing else."""
    weight_map = _weight_map(index)
    headers = {}
    for name in sorted(set(weight_map.values())):
        file = index.parent / name
        if not file.is_file():
            raise FileNotFoundError(f"{index} names {name}, which is not in {index.parent}: fetch it too")
        headers[file] = read_header(file)
        for tensor in headers[file].entries:
            if weight_map.get(tensor) != name:
                stated = f"says is in {weight_map[tensor]}" if tensor in weight_map else "does not name"
                raise ValueError(f"{file} has the tensor {tensor!r}, which {index} {stated}: the two do not belong "
                                 "together, fetch both again")
    for tensor, name in weight_map.items():
        if tensor not in headers[index.parent / name].entries:
            raise ValueError(f"{index} promises {tensor!r} in {name}, which does not have it: fetch both again")
    return headers


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = parse_object(index.read_bytes(), index).get("weight_map")
    if not weight_map or not isinstance(weight_map, dict) or not all(isinstance(f, str) for f in weight_map.values()):
        raise ValueError(f'{index} is no index of safetensors files: it needs {{"weight_map": {{tensor: file}}}}')
    for tensor, name in weight_map.items():
        if Path(name).name != name or "\\" in name or not name.endswith(SUFFIX):
            raise ValueError(f"{index} says that {tensor!r} is in {name!r}: it may only name {SUFFIX} files of its own "
                             "directory")
    return weight_map


def _missing(path: Path, indices: list[Path]) -> str:
    wanted = " or ".join(dict.fromkeys(place.name for place in (path, *indices)))
    message = f"no {wanted} in {path.parent}"
    if not path.parent.is_dir():
        return f"{message}: there is no such directory"
    others = sorted(file.name for file in path.parent.iterdir())
    base = path.name.partition(".")[0]
    single = re.compile(rf"{re.escape(base)}\.([\w-]+){re.escape(SUFFIX)}|"
                        rf"{re.escape(base + SUFFIX)}\.(?:index\.([\w-]+)|([\w-]+)\.index)\.json")
    variants = {next(filter(None, match.groups())): match.string for match in map(single.fullmatch, others) if match
                and not re.search(r"-\d{5}-of-\d{5}", match.string)}
    if variants:
        variant, other = next(iter(variants.items()))
        return f"{message}: it has {other}; give variant={variant!r}"
    if other := next((name for name in others if name.endswith(INDEX)), None):
        return f"{message}: it has the index {other}; give the path of that file, or of what it is called after"
    if other := next((name for name in others if re.search(rf"-\d{{5}}-of-\d{{5}}.*{re.escape(SUFFIX)}$", name)), None):
        return (f"{message}: it has {other}, one of several files whose index (...{SUFFIX}{INDEX}) says which tensor "
                "is where: fetch that too")
    if other := next((name for name in others if name.endswith(SUFFIX)), None):
        return f"{message}: it has {other}; give the path of that file, or rename it"
    if pickled := next((name for name in others if name.endswith(PICKLED)), None):
        source, target = str(path.parent / pickled), str(path.parent / Path(pickled).stem) + SUFFIX
        return (
            f"{message}: it has {pickled}, pickled weights, which are not read because reading them runs the code "
            f"inside. Convert them where PyTorch is installed: python -c \"import torch, safetensors.torch as s; "
            f"s.save_file({{k: v.contiguous() for k, v in torch.load({source!r}, weights_only=True).items()}}, "
            f"{target!r})\""
        )
    return f"{message}: it has {', '.join(others) or 'no files'}"
