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
    return home_directory("JAXGEN_CACHE", contents, "a path") / ".cache" / "jaxgen" / name


def home_directory(variable: str, contents: str, argument: str) -> Path:
    """The user's home directory.

    Args:
        variable: of the environment, that names another place.
        contents: what would lie there, for the error.
        argument: that names another place, for the error.

    Raises:
        FileNotFoundError: the user has none.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(f"this user has no home directory in which {contents} could lie (HOME is not set): set "
                                f"the environment variable {variable} to a directory, or pass {argument}") from error
