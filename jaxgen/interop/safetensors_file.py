"""One safetensors file: the length of a header, the header in JSON, and the tensors' bytes, row by row, without gaps.

The header is {name: {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}} and "__metadata__", strings. It is
read here because the `safetensors` package hands over no float8 as NumPy arrays and names no tensor in its errors;
the format: https://huggingface.co/docs/safetensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen.core.errors import unknown_name
from jaxgen.core.json_file import parse_object

SUFFIX = ".safetensors"
METADATA = "__metadata__"
LENGTH = 8  # bytes of the header's length, and what a header's own length is a multiple of
DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{8 * size}": np.dtype(f"{kind.lower()}{size}") for kind in "UI" for size in (1, 2, 4, 8)},
    "F16": np.dtype("f2"), "F32": np.dtype("f4"), "F64": np.dtype("f8"), "C64": np.dtype("c8"),
    "BF16": jnp.dtype(jnp.bfloat16), "F8_E4M3": jnp.dtype(jnp.float8_e4m3fn), "F8_E5M2": jnp.dtype(jnp.float8_e5m2),
    "F8_E8M0": jnp.dtype(jnp.float8_e8m0fnu), "F8_E4M3FNUZ": jnp.dtype(jnp.float8_e4m3fnuz),
    "F8_E5M2FNUZ": jnp.dtype(jnp.float8_e5m2fnuz),
}
PACKED = ("F4", "F6_E2M3", "F6_E3M2")  # of less than a byte each
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """Where a tensor lies in its file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int  # in bytes, from the file's beginning
    end: int


class Header(NamedTuple):
    """What a file says of itself."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(file: Path) -> Header:
    """Names, dtypes, shapes and places of a file's tensors, all of them checked.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or is no safetensors file, or a tensor's dtype has no array of NumPy's; names the
            file and the tensor.
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = opened.read(LENGTH)
        begin = LENGTH + int.from_bytes(length, "little")
        if len(length) < LENGTH or begin > size:
            raise _damaged(file, f"it has {size} bytes, and its header would end at byte {begin}")
        content = opened.read(begin - LENGTH)
    try:
        described = parse_object(content, "its header")
    except ValueError as error:
        raise _damaged(file, error) from error
    metadata = described.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(file, f"its {METADATA} must hold strings")
    entries = {name: _entry(file, name, value, begin) for name, value in described.items()}
    _check_places(file, entries, begin, size)
    return Header(entries, metadata)


def read_tensors(file: Path, header: Header) -> dict[str, np.ndarray]:
    """The tensors that `read_header` lists, as arrays in memory of their own.

    Raises:
        OSError, ValueError: see `read_header`.
    """
    tensors = {}
    with file.open("rb") as opened:
        for name, entry in header.entries.items():
            opened.seek(entry.begin)
            content = np.fromfile(opened, np.uint8, entry.end - entry.begin)
            if entry.dtype == bool and content.size and content.max() > 1:
                raise _damaged(file, f"tensor {name!r} is of dtype BOOL and holds the byte {content.max()}")
            try:
                tensors[name] = content.view(entry.dtype).reshape(entry.shape)
            except ValueError as error:
                raise _damaged(file, f"tensor {name!r} of shape {list(entry.shape)}: {error}") from error
    return tensors


def write_file(file: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays of the dtypes in `DTYPES`; those of larger items come first, so that all lie aligned."""
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in ordered:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": tensors[name].shape, "data_offsets": [begin, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % LENGTH)
    with file.open("wb") as opened:
        opened.write(len(content).to_bytes(LENGTH, "little") + content)
        for name in ordered:
            opened.write(tensors[name].tobytes())  # row by row, however the array lies in memory


def _damaged(file: Path, problem: Any) -> ValueError:
    return ValueError(f"{file} is damaged or is no safetensors file ({problem}): fetch it again")


def _entry(file: Path, name: str, described: Any, start: int) -> Entry:
    if not isinstance(described, dict) or not {"dtype", "shape", "data_offsets"} <= set(described):
        raise _damaged(file, f"tensor {name!r} must have dtype, shape and data_offsets, got {described!r:.200}")
    dtype, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if dtype in PACKED:
        raise ValueError(f"{file}: tensor {name!r} has dtype {dtype}, of less than a byte, which is not read here: "
                         "save it in a wider type")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{file}: {unknown_name(f'dtype of tensor {name!r}', dtype, DTYPES)}")
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise _damaged(file, f"{what} of tensor {name!r} must be a list of whole numbers from 0, got "
                                 f"{numbers!r:.200}")
    if len(offsets) != 2:
        raise _damaged(file, f"data_offsets of tensor {name!r} must be [begin, end], got {offsets!r:.200}")
    length = DTYPES[dtype].itemsize
    for size in shape:
        length *= size
    if offsets[1] - offsets[0] != length:
        raise _damaged(file, f"tensor {name!r} of dtype {dtype} and shape {shape!r:.200} needs {length} bytes, and has "
                             f"those from {offsets[0]} to {offsets[1]}")
    return Entry(DTYPES[dtype], tuple(shape), start + offsets[0], start + offsets[1])


def _check_places(file: Path, entries: Mapping[str, Entry], start: int, size: int) -> None:
    """The tensors follow each other from the header's end to the file's, so that no byte is unsaid or shared."""
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != start:
            problem = "overlaps the one before it" if entry.begin < start else "does not follow the one before it"
            raise _damaged(file, f"tensor {name!r} {problem}: it begins at byte {entry.begin} and not at {start}")
        start = entry.end
    if start != size:
        raise _damaged(file, f"its tensors end at byte {start}, and the file has {size} bytes")
