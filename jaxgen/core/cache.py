"""Where files that can be had again lie: weights of others, reference statistics."""

import os
from pathlib import Path


def cache_directory(name: str, contents: str) -> Path:
    """`$JAXGEN_CACHE`/name, or ~/.cache/jaxgen/name; it need not exist.

    Args:
        name: of the directory.
        contents: what lies there, for the error, for example "LPIPS's weights".

    Raises:
        FileNotFoundError: no variable, and the user has no home directory.
    """
    chosen = os.environ.get("JAXGEN_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen)) / name
    try:
        return Path.home() / ".cache" / "jaxgen" / name
    except RuntimeError as error:
        raise FileNotFoundError(f"this user has no home directory in which {contents} could lie (HOME is not set): "
                                "set the environment variable JAXGEN_CACHE to a directory, or pass a path") from error
