"""JSON objects out of files that others wrote, or that may be damaged."""

import json
from collections.abc import Sequence
from typing import Any


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
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{source} must hold an object {{...}}, got {type(found).__name__}")
    return found


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
