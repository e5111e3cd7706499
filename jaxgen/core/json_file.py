"""JSON objects out of files that others wrote, or that may be damaged; and such that say whether they are."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

CHECKSUM = "checksum"


def parse_object(content: bytes, source: Any) -> dict[str, Any]:
    """The JSON object {...} that bytes hold.

    Args:
        content: UTF-8.
        source: what they are, for the error, for example the file's path.

    Raises:
        ValueError: they hold no JSON, or something else than an object, or an object that has a key twice, of which
            readers take different ones; names the source.
    """
    try:
        result = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is no JSON: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"{source} must hold an object {{...}}, got {type(result).__name__}")
    return result


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return result


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What to write of an object so that `unsealed` tells whether any of its values has changed since.

    Raises:
        ValueError: it has a key "checksum" of its own.
        TypeError: JSON cannot hold it.
    """
    if CHECKSUM in content:
        raise ValueError(f"the key {CHECKSUM!r} is taken by the checksum of the others: give it another name")
    return {**content, CHECKSUM: _checksum(content)}


def unsealed(result: Mapping[str, Any]) -> dict[str, Any]:
    """The object that `sealed` was given.

    Raises:
        ValueError: it has no checksum, or its values are not those that were written.
    """
    content = {key: value for key, value in result.items() if key != CHECKSUM}
    if CHECKSUM not in result:
        raise ValueError(f"it has no {CHECKSUM!r}, so an earlier version or another program wrote it")
    if result[CHECKSUM] != _checksum(content):
        raise ValueError(f"its values are not those that were written ({CHECKSUM})")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """Of the values, however the file spaces and orders them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
