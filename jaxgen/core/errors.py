"""Error messages that name the argument, the value and the fix."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


def unknown_name(
    argument: str, value: object, options: Iterable[str], *, elsewhere: Mapping[str, Sequence[str]] | None = None
) -> ValueError:
    """The error for a name outside a fixed set of names; it suggests the nearest one.

    Args:
        argument: what the caller named, for example "estimator".
        value: the name that was passed.
        options: the names that are allowed.
        elsewhere: names of other libraries, {theirs: ours, of which those count that are allowed}.

    Returns:
        A `ValueError` to raise.
    """
    options = list(options)
    ours = [name for name in (elsewhere or {}).get(str(value), ()) if name in options]
    nearest = ours or difflib.get_close_matches(str(value), options, n=1)
    hint = f". Did you mean {nearest[0]!r}?" if nearest else ""
    return ValueError(f"unknown {argument} {value!r}: expected one of {', '.join(map(repr, options))}{hint}")
